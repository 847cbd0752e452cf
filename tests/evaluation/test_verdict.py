"""The verdict catches what it is for, and lets fresh real data pass."""

import pytest
import torch
from conftest import classifier_cache

from gan_lab.core.rng import make_generator
from gan_lab.data import images, synthetic
from gan_lab.data.dataset import Dataset, Part
from gan_lab.evaluation.verdict import VerdictEvaluator, evaluator_for, protocol_samples, too_few_samples


@pytest.fixture(scope="module")
def grid() -> VerdictEvaluator:
    return evaluator_for(synthetic.grid(samples=5_000), classifier_cache())


@pytest.fixture(scope="module")
def digits() -> VerdictEvaluator:
    return evaluator_for(images.digits(), classifier_cache())


def _points(evaluator: VerdictEvaluator, number: int, modes, purpose: str = "test/points") -> torch.Tensor:
    """Fresh points of the mixture, from the given modes only."""
    generator, modes = make_generator(0, purpose), torch.tensor(list(modes))
    centres = evaluator.dataset.centres[modes[torch.randint(len(modes), (number,), generator=generator)]]
    return centres + evaluator.dataset.std * torch.randn(number, 2, generator=generator)


def _words(evaluator: VerdictEvaluator, samples: torch.Tensor) -> tuple[str, bool, str]:
    verdict = evaluator.evaluate(samples).verdict
    return verdict["collapse"], verdict["copies"], verdict["likeness"]


def test_in_the_plane(grid):
    train = grid.dataset.train.values
    fresh = _points(grid, 2_500, range(25))
    junk = torch.rand(1_250, 2, generator=make_generator(0, "test/junk")) * 10 - 5
    assert _words(grid, fresh) == ("covered", False, "good")
    assert _words(grid, grid.dataset.heldout.values[-2_500:]) == ("covered", False, "good")
    assert _words(grid, _points(grid, 2_500, [7])) == ("collapsed", False, "good")
    assert _words(grid, _points(grid, 2_500, range(12))) == ("collapsed", False, "good")
    assert _words(grid, _points(grid, 2_500, range(24))) == ("partial", False, "good")
    uneven = torch.cat([_points(grid, 1_900, [0]), _points(grid, 600, range(25), "test/rest")])
    assert _words(grid, uneven)[0] == "collapsed", "one mode with 76 % of the samples, although all 25 are seen"
    assert _words(grid, torch.cat([fresh[:1_250], junk])) == ("covered", False, "poor")
    assert _words(grid, train[:2_500]) == ("covered", True, "good"), "a copier"
    assert _words(grid, train[:2_500] + 1e-4) == ("covered", True, "good"), "a copier with a little noise"


def test_labelled_points_without_centres_are_compared_by_coverage(tmp_path):
    """The labels change nothing: the same metrics and verdict as for the same points without labels."""
    generator = make_generator(0, "test/labelled")
    train = torch.rand(300, 3, generator=generator)
    heldout = torch.rand(100, 3, generator=generator)
    samples = torch.rand(100, 3, generator=generator)
    train_part = Part(train, torch.arange(300) % 2)
    heldout_part = Part(heldout, torch.arange(100) % 2)
    labelled = evaluator_for(Dataset(train_part, heldout_part, classes=["a", "b"]), tmp_path)
    plain = evaluator_for(Dataset(Part(train), Part(heldout)), tmp_path)
    result = labelled.evaluate(samples, torch.zeros(100, dtype=torch.int64))
    expected = plain.evaluate(samples)
    assert len(result.counts) == 0
    assert result.metrics["coverage"] is not None
    assert result.metrics == expected.metrics
    assert result.verdict == expected.verdict
    assert labelled.mode_metrics(samples)[0] == plain.mode_metrics(samples)[0]


def test_junk_makes_no_mode(grid):
    result = grid.evaluate(torch.full((100, 2), 9.0) + torch.rand(100, 2, generator=make_generator(0, "test/far")))
    assert result.metrics["modes_robust"] == 0
    sentence = result.verdict["sentence"]
    assert sentence.startswith("Junk: 100% of the samples lie outside the data, so it makes none of the 25 modes. ")
    assert "\n0 of 25 modes in 100 samples (0 occur); " in sentence


def test_the_sentence_names_the_modes_that_are_made_or_those_that_are_missing(grid):
    one = grid.evaluate(_points(grid, 2_500, [24])).verdict["sentence"]
    assert one.startswith("Collapsed: it makes only (4, 4). ")
    assert "\n1 of 25 modes in 2,500 samples (1 occur); " in one
    most = grid.evaluate(_points(grid, 2_500, range(1, 25))).verdict["sentence"]
    assert most.startswith("Partial: it makes 24 of the 25 modes; missing or rare: (-4, -4). ")
    every = grid.evaluate(_points(grid, 2_500, range(25))).verdict["sentence"]
    assert every.startswith("Covered: it makes all 25 modes, as varied as the data. ")


def test_on_real_images(digits):
    dataset = digits.dataset
    fresh = dataset.heldout.values
    assert _words(digits, fresh)[0] == "covered"
    assert not _words(digits, fresh)[1]
    assert _words(digits, fresh)[2] == "good"
    fives = dataset.heldout.values[dataset.heldout.labels == 5]
    result = digits.evaluate(fives.repeat(20, 1, 1, 1))
    assert result.verdict["collapse"] == "collapsed"
    assert result.counts.argmax() == 5
    assert result.metrics["modes_robust"] == 1
    assert result.verdict["sentence"].startswith("Collapsed: it makes only the 5. ")
    assert _words(digits, dataset.train.values[:360])[1], "copies of training images"
    noise = torch.rand(500, 1, 8, 8, generator=make_generator(0, "test/noise"))
    assert _words(digits, noise)[2] == "poor"
    mean = dataset.train.values.mean(0, keepdim=True).repeat(500, 1, 1, 1)
    assert _words(digits, mean)[0] == "collapsed", "S2: a blurred average"


def test_fresh_real_data_are_measured_as_a_reference(digits, grid):
    for evaluator in (digits, grid):
        assert evaluator.real["coverage"] > 0.75
        assert abs(evaluator.real["ct"]) < 4
        assert 0.3 < evaluator.real["authenticity"] < 0.8
    assert grid.real["high_quality"] == pytest.approx(0.989, abs=0.006)


@pytest.mark.parametrize("case", ["constant", "nan", "some nan", "infinite", "three", "one"])
@pytest.mark.parametrize("which", ["grid", "digits"])
def test_degenerate_generators_get_numbers_or_reasons(request, which, case):
    evaluator = request.getfixturevalue(which)
    samples = evaluator.dataset.heldout.values[:3_000].clone()
    if case == "constant":
        samples[:] = samples[0].clone()
    elif case == "some nan":
        samples[::3] = float("nan")
    elif case in ("nan", "infinite"):
        samples[:] = float("nan") if case == "nan" else float("inf")
    else:
        samples = samples[: 3 if case == "three" else 1]
    result = evaluator.evaluate(samples)
    for name, value in result.metrics.items():
        assert (value is None) == (name in result.undefined), name
        assert value is None or torch.isfinite(torch.tensor(float(value))), name
    assert all(result.undefined.values())
    expected = {"some nan": "covered", "three": "unknown", "one": "unknown"}
    assert result.verdict["collapse"] == expected.get(case, "collapsed")
    assert not result.verdict["copies"]
    assert result.metrics["finite"] == pytest.approx(
        {"some nan": 2 / 3, "nan": 0, "infinite": 0}.get(case, 1), abs=0.01
    )


def test_data_without_labels_are_evaluated_by_coverage_and_bins():
    generator = make_generator(0, "test/cube")
    dataset = Dataset(Part(torch.rand(3_000, 4, generator=generator)), Part(torch.rand(2_000, 4, generator=generator)))
    evaluator = evaluator_for(dataset, classifier_cache())
    fresh = evaluator.evaluate(torch.rand(2_500, 4, generator=generator))
    assert (fresh.verdict["collapse"], fresh.verdict["within_modes"]) == ("covered", "varied")
    assert fresh.metrics["ndb"] < 0.15
    assert "modes" not in fresh.metrics
    one = evaluator.evaluate(torch.full((2_500, 4), 0.5))
    assert one.verdict["collapse"] == "collapsed"
    assert one.metrics["ndb"] > 0.5


def test_the_book_aims_at_the_pattern_not_at_its_variety():
    dataset = synthetic.pattern1010(3_000)
    evaluator = evaluator_for(dataset, classifier_cache())
    fresh = evaluator.evaluate(dataset.heldout.values[5_000:7_500]).verdict
    assert (fresh["collapse"], fresh["within_modes"], fresh["likeness"]) == ("covered", "varied", "good")
    one = torch.tensor([[0.9, 0.1, 0.9, 0.1]]) + 0.001 * torch.randn(2_500, 4, generator=make_generator(0, "test/one"))
    verdict = evaluator.evaluate(one).verdict
    assert (verdict["collapse"], verdict["within_modes"], verdict["likeness"]) == ("covered", "collapsed", "good")
    assert verdict["sentence"].startswith("Covered: it makes the 1010 pattern, always nearly the same. ")
    noise = evaluator.evaluate(torch.rand(2_500, 4, generator=make_generator(0, "test/noise"))).verdict
    assert noise["collapse"] == "collapsed"


def test_too_few_samples_are_named_before_they_are_measured():
    ring = synthetic.ring(samples=10)
    assert too_few_samples(None, ring) == too_few_samples(107, ring) == ""
    assert "107 are needed" in too_few_samples(106, ring)
    unlabelled = Dataset(Part(torch.zeros(2, 2)), Part(torch.zeros(2, 2)))
    assert too_few_samples(5, unlabelled) == ""


def test_sample_sizes_are_the_protocols():
    assert protocol_samples(synthetic.ring(samples=10)) == 2_500
    assert protocol_samples(images.digits()) == 10_000
    assert protocol_samples(images.stacked_digits(samples=10)) == 26_000
    assert protocol_samples(synthetic.grid(side=20, samples=10)) == 8_478, "of 400 modes 2,500 would say nothing"


@pytest.mark.slow
def test_a_perfect_generator_of_1000_modes_is_covered_although_chance_leaves_some_short(monkeypatch):
    monkeypatch.setattr("gan_lab.evaluation.verdict.MAX_TRAIN_IMAGES", 2_000)
    monkeypatch.setattr("gan_lab.evaluation.verdict.MAX_COMPARED", 200)  # here the modes alone count
    dataset = images.stacked_digits(samples=None)
    evaluator = evaluator_for(dataset, classifier_cache())
    fresh = dataset.train[torch.randint(len(dataset.train), (26_000,), generator=make_generator(0, "test/stacked"))]
    result = evaluator.evaluate(fresh)
    assert result.metrics["modes"] == 1_000
    assert 985 <= result.metrics["modes_robust"] <= 1_000
    assert 0.015 < result.metrics["kl_uniform"] < 0.025, "the sampling floor of real stacked digits"
    assert result.verdict["collapse"] == "covered"
    labels = evaluator.label_classifier.labels(fresh)
    assert evaluator.evaluate(fresh[labels < 950]).verdict["collapse"] == "partial"
    assert evaluator.evaluate(fresh[labels < 400]).verdict["collapse"] == "collapsed"


def test_the_shares_of_virtual_stacked_data_are_products(monkeypatch):
    monkeypatch.setattr("gan_lab.evaluation.verdict.MAX_TRAIN_IMAGES", 500)
    stacked = images.stacked_digits(samples=None)
    base = torch.bincount(images.digits().train.labels).double() / 1437
    shares = evaluator_for(stacked, classifier_cache()).shares
    assert shares.sum().item() == pytest.approx(1)
    assert shares[472].item() == pytest.approx((base[4] * base[7] * base[2]).item())


def test_nearest_originals_are_training_images(digits):
    train = digits.dataset.train.values
    originals = digits.nearest_originals(train[100:104])
    assert torch.equal(originals, train[100:104])
    assert isinstance(digits.dataset, Dataset)
