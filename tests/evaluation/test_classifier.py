"""The label classifier: correct on real data, trained once, without any effect on other random numbers."""

import random
import time

import numpy as np
import pytest
import torch
from conftest import classifier_cache, refused
from fuzzing import BOMBS, CASES, flip

from gan_lab.data import images, synthetic
from gan_lab.data.dataset import Dataset, Part, StackedPart
from gan_lab.evaluation import classifier
from gan_lab.evaluation.classifier import Classifier, LabelClassifier, label_classifier


@pytest.fixture(scope="session")
def cache() -> str:
    return classifier_cache()


@pytest.fixture(scope="session")
def digits(cache) -> LabelClassifier:
    return label_classifier(images.digits(), cache)


def _few(n: int = 100, classes: int = 4, size: int = 8) -> Dataset:
    """Returns a dataset that is learned in a second: an image's class is the quarter that is bright."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 4
    values = torch.rand(n, 1, size, size, generator=generator) * 0.2
    half = size // 2
    for image, label in zip(values, labels.tolist(), strict=True):
        image[0, label // 2 * half :, label % 2 * half :][:half, :half] += 0.8
    return Dataset(Part(values, labels), Part(values[:20].clone(), labels[:20].clone()), classes=list("abcd")[:classes])


def _no_training(*_):
    raise AssertionError("trained again")


def test_digits_are_labelled_correctly(digits):
    heldout = images.digits().heldout
    assert digits.accuracy >= 0.97
    accuracy = (digits.labels(heldout.values) == heldout.labels).float().mean().item()
    assert accuracy == pytest.approx(digits.accuracy)
    assert digits.classes == 10


@pytest.mark.slow
def test_mnist_is_labelled_correctly(mnist_dir, cache):
    dataset = images.mnist(mnist_dir)
    classifier = label_classifier(dataset, cache)
    assert classifier.accuracy >= 0.97
    pictures = dataset.heldout[torch.arange(10_000)]
    start = time.perf_counter()
    classifier.labels(pictures)
    assert time.perf_counter() - start < 10, "about 0.3 s when measured"
    stacked = label_classifier(images.stacked_mnist(mnist_dir), cache)
    assert stacked.accuracy == pytest.approx(classifier.accuracy**3, abs=0.01)


def test_features_separate_classes(digits):
    dataset = images.digits()
    features = digits.features(dataset.heldout.values)
    assert features.shape == (360, classifier.FEATURES)
    assert features.dtype == torch.float32
    assert features.min() >= 0
    train_features = digits.features(dataset.train.values)
    nearest = dataset.train.labels[torch.cdist(features, train_features).argmin(1)]
    assert (nearest == dataset.heldout.labels).float().mean() >= 0.97


def test_features_do_not_depend_on_the_batch(digits):
    values = images.digits().heldout.values
    torch.testing.assert_close(digits.features(values)[:3], digits.features(values[:3]))
    assert digits.features(values[:0]).shape == (0, classifier.FEATURES)
    assert digits.labels(values[:0]).shape == (0,)


def test_stacked_images_are_labelled_channel_by_channel(digits, cache, monkeypatch):
    monkeypatch.setattr(classifier, "train_network", _no_training)  # the base's network does it
    dataset = images.stacked_digits()
    stacked = label_classifier(dataset, cache)
    samples, indices = dataset.heldout[torch.arange(500)], torch.arange(500)
    labels = stacked.labels(samples)
    by_hand = [digits.labels(samples[:, channel, None]) for channel in range(3)]
    assert torch.equal(labels, 100 * by_hand[0] + 10 * by_hand[1] + by_hand[2])
    assert (labels == dataset.heldout.labels_of(indices)).float().mean() >= 0.97**3
    assert stacked.accuracy >= 0.97**3
    assert stacked.classes == 1000
    features = stacked.features(samples)
    assert features.shape == (500, 3 * classifier.FEATURES)
    torch.testing.assert_close(features[:, 64:128], digits.features(samples[:, 1, None]))


def test_stacked_accuracy_counts_a_sample_right_only_if_all_channels_are(tmp_path):
    """fabricated: of twenty held-out images two are labelled wrongly; 0.9³ of all their triples are right."""
    base = _few()
    base.heldout.labels[:2] = (base.heldout.labels[:2] + 1) % 4
    assert label_classifier(base, tmp_path).accuracy == pytest.approx(0.9)
    names = [str(n) for n in range(1000)]
    stacked = Dataset(StackedPart(base.train), StackedPart(base.heldout), classes=names, base=base)
    assert label_classifier(stacked, tmp_path).accuracy == pytest.approx(0.9**3)
    assert len(list(tmp_path.glob("*.pt"))) == 1, "one network for both"


def test_trained_once(tmp_path, monkeypatch):
    first = label_classifier(_few(), tmp_path / "deep" / "cache")
    (file,) = (tmp_path / "deep" / "cache").glob("*.pt")
    assert file.name.startswith("evaluator_")
    assert torch.load(file, weights_only=True).keys() == {"state_dict", "accuracy"}
    monkeypatch.setattr(classifier, "train_network", _no_training)
    second = label_classifier(_few(), tmp_path / "deep" / "cache")
    values = torch.rand(5, 1, 8, 8)
    assert torch.equal(first.features(values), second.features(values))
    assert first.accuracy == second.accuracy


@pytest.mark.parametrize("change", ["pixel", "label", "heldout", "classes", "version"])
def test_other_data_or_settings_get_another_file(monkeypatch, change):
    before, dataset = classifier.cache_key(_few()), _few()
    if change == "pixel":
        dataset.train.values[7, 0, 3, 3] += 0.01
    elif change == "label":
        dataset.train.labels[7] = 0
    elif change == "heldout":
        dataset.heldout.labels[3] = 1
    elif change == "classes":
        dataset.classes.append("e")
    else:
        monkeypatch.setattr(classifier, "VERSION", 999)
    assert classifier.cache_key(dataset) != before
    assert classifier.cache_key(_few()) == before or change == "version"


def test_same_bits_twice_whatever_the_global_stream(tmp_path):
    torch.manual_seed(1)
    first = label_classifier(_few(), tmp_path / "1").network.state_dict()
    torch.manual_seed(2)
    second = label_classifier(_few(), tmp_path / "2").network.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_other_random_numbers_stay_as_they_were(tmp_path):
    def states():
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002

    torch.manual_seed(7)  # not what a label classifier, or another test, may have left
    before = states()
    label_classifier(_few(), tmp_path)  # trained
    assert states() == before
    label_classifier(_few(), tmp_path)  # loaded
    assert states() == before


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other network", "other content", "a number"])
def test_a_damaged_file_is_replaced(tmp_path, capsys, monkeypatch, damage):
    whole = label_classifier(_few(), tmp_path)
    capsys.readouterr()
    (file,) = tmp_path.glob("*.pt")
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:1000])
    elif damage in ("empty", "text"):
        file.write_text("" if damage == "empty" else "not a network")
    elif damage == "other network":
        torch.save({"state_dict": Classifier((1, 28, 28), 3).state_dict(), "accuracy": 1.0}, file)
    else:
        torch.save({} if damage == "other content" else 3, file)
    again = label_classifier(_few(), tmp_path)
    note, progress = capsys.readouterr().err.splitlines()
    assert str(file) in note
    assert "50 epochs of 100 samples" in progress
    values = torch.rand(5, 1, 8, 8)
    assert torch.equal(whole.features(values), again.features(values))
    monkeypatch.setattr(classifier, "train_network", _no_training)
    assert label_classifier(_few(), tmp_path).accuracy == whole.accuracy, "and the file is whole again"


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert label_classifier(_few(), tmp_path / "file").accuracy == 1
    assert "cannot be stored" in capsys.readouterr().err


@pytest.mark.parametrize("side", [8, 9, 16, 28, 32, 64])
def test_images_of_any_size_and_colour(side):
    network = Classifier((3, side, side), 7)
    images = torch.rand(2, 3, side, side)
    assert network.features(images).shape == (2, classifier.FEATURES)
    assert network(images).shape == (2, 7)


def test_larger_images_are_learned(tmp_path):
    assert label_classifier(_few(size=32), tmp_path).accuracy == 1


def test_gradients_reach_the_image_but_not_the_network(digits):
    image = torch.rand(1, 1, 8, 8, requires_grad=True)
    digits.network(image).sum().backward()
    assert image.grad.abs().sum() > 0
    assert all(p.grad is None for p in digits.network.parameters())
    assert not digits.features(image).requires_grad


def test_shifted_images_keep_their_pixels():
    values = torch.zeros(50, 2, 8, 8)
    values[:, :, 3, 4] = torch.rand(50, 2) + 0.1
    shifted = classifier.shift_randomly(values, torch.Generator().manual_seed(0))
    assert torch.equal(shifted.sum((2, 3)), values.sum((2, 3)))
    places = {divmod(image[0].argmax().item(), 8) for image in shifted}
    assert places == {(row, column) for row in (2, 3, 4) for column in (3, 4, 5)}


@pytest.mark.parametrize("kind", ["no labels", "vectors", "held-out without labels"])
def test_data_without_labelled_images_are_refused(tmp_path, kind):
    values, labels = torch.rand(20, 1, 8, 8), torch.arange(20) % 2
    dataset = {
        "no labels": Dataset(Part(values), Part(values)),
        "held-out without labels": Dataset(Part(values, labels), Part(values)),
        "vectors": synthetic.ring(samples=10),
    }[kind]
    with refused("unsupported", "dataset"):
        label_classifier(dataset, tmp_path)
    assert not list(tmp_path.glob("*.pt"))


def test_a_damaged_classifier_is_trained_again_and_a_pickle_in_its_place_is_not_executed(tmp_path, monkeypatch, capsys):
    generator = torch.Generator().manual_seed(0)
    part = Part(torch.rand(20, 1, 8, 8, generator=generator), torch.arange(20) % 2)
    dataset = Dataset(part, part, classes=["a", "b"])
    monkeypatch.setattr(classifier, "EPOCHS", (1, 1))
    monkeypatch.chdir(tmp_path)
    expected = label_classifier(dataset, tmp_path).network.state_dict()
    (file,) = tmp_path.glob("evaluator_*.pt")
    original = file.read_bytes()
    middle = len(original) // 2
    contents = [original[:middle], b"", flip(original, [8 * middle]), *BOMBS[:3]]
    for content in contents[: CASES["cache"]]:
        file.write_bytes(content)
        weights = label_classifier(dataset, tmp_path).network.state_dict()
        assert "is trained again" in capsys.readouterr().err
        assert all(torch.equal(weights[name], expected[name]) for name in expected)
        assert not list(tmp_path.glob("canary*"))
