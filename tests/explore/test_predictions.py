"""Label predictions and their counts, by hand."""

import pytest
import torch
from conftest import classifier_cache

from gan_lab.data import images, synthetic
from gan_lab.evaluation.classifier import label_classifier
from gan_lab.explore.predictions import LabelPredictor, PredictionCount, compare_counts, count_predictions


def test_exact_intervals():
    labels = torch.tensor([5] * 10)
    five, three, either, neither = count_predictions(labels, torch.full((10,), 0.75), [5, 3], ["5", "3"])
    assert (five.count, three.count, either.count, neither.count) == (10, 0, 10, 0)
    assert (five.low, five.high) == (pytest.approx(0.025**0.1), 1)  # Clopper and Pearson: (α/2)^(1/n)
    assert (three.low, three.high) == (0, pytest.approx(1 - 0.025**0.1))
    assert (five.confidence, three.confidence) == (0.75, None)
    one_target = count_predictions(labels, None, [5], ["5"])
    assert [count.prediction for count in one_target] == ["5", "another or none"]


@pytest.mark.parametrize(
    ("hits", "fresh_hits", "comparison"),
    [
        # The intervals of 35 of 100 (26 to 45 %) and of 233 of 1,000 (21 to 26 %) overlap, and yet it is no chance.
        (35, 233, "more often than fresh vectors (35% of 100, 23% of 1,000; p = 0.014)"),
        (30, 233, "about as often as fresh vectors (30% of 100, 23% of 1,000; p = "),
        (5, 233, "less often than fresh vectors (5% of 100, 23% of 1,000; p < 0.001)"),
    ],
)
def test_counts_are_compared_by_fishers_exact_test(hits, fresh_hits, comparison):
    def count(hits: int, total: int) -> PredictionCount:
        return PredictionCount("5 or 3", hits, total, 0, 1, None)

    text = compare_counts("a - b", count(hits, 100), count(fresh_hits, 1_000))
    assert text.startswith(f"a - b is classified as 5 or 3 {comparison}")


def test_fishers_test_worked_by_hand():
    """Fisher's tea: 3 of 4 against 1 of 4 has p = (16 + 1 + 16 + 1) / 70; 4 of 4 against 0 of 4 has 2 / 70."""
    three, one = PredictionCount("5", 3, 4, 0, 1, None), PredictionCount("5", 1, 4, 0, 1, None)
    four, none = PredictionCount("5", 4, 4, 0, 1, None), PredictionCount("5", 0, 4, 0, 1, None)
    assert "about as often as fresh vectors (75% of 4, 25% of 4; p = 0.486)" in compare_counts("a + b", three, one)
    assert "more often than fresh vectors (100% of 4, 0% of 4; p = 0.029)" in compare_counts("a + b", four, none)


def test_points_have_the_label_of_the_nearest_mode_within_three_sigma():
    dataset = synthetic.ring(std=0.1, samples=100)
    points = torch.tensor([[1.0, 0.0], [0.0, 0.0], [float("nan"), 0.0], [0.0, -1.29], [0.0, -1.31]])
    predictor = LabelPredictor(dataset, "")
    labels, confidences = predictor(points)
    assert labels.tolist() == [0, -1, -1, 6, -1]
    assert confidences.tolist() == [1, 0, 0, 1, 0]
    assert predictor(points[2:3])[0].tolist() == [-1]
    assert predictor.class_name(-1) == "no mode"


def test_images_that_are_not_finite_have_no_label():
    predictor = LabelPredictor(images.digits(), classifier_cache())
    real = predictor.dataset.heldout[torch.arange(4)]
    labels = predictor.dataset.heldout.labels[:4].tolist()
    assert predictor(real)[0].tolist() == labels
    broken = real.clone()
    broken[1, 0, 3, 3] = float("inf")
    assert predictor(broken)[0].tolist() == [labels[0], -1, labels[2], labels[3]]


def test_predictions_for_stacked_images_multiply_the_channels():
    dataset = images.stacked_digits(samples=50)
    colours = dataset.heldout[torch.arange(3)]
    labels, confidences = label_classifier(dataset, classifier_cache()).labels_and_confidences(colours)
    single = label_classifier(dataset.base, classifier_cache())
    for colour, label, confidence in zip(colours, labels.tolist(), confidences.tolist(), strict=True):
        digits, channel_confidences = single.labels_and_confidences(colour.unsqueeze(1))
        assert label == digits[0] * 100 + digits[1] * 10 + digits[2]
        assert confidence == pytest.approx(channel_confidences.prod().item(), rel=1e-5)
