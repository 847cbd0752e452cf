"""Backquery (S1): its two methods by hand, what is measured of them, and the command as a user runs it."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import classifier_cache, command_here, command_main, refused, training

from gan_lab.commands import backquery, sigmoid_classifier
from gan_lab.commands.backquery import class_numbers, conclusion, gradient, inverse, measure, rescale
from gan_lab.commands.sigmoid_classifier import SigmoidNetwork, sigmoid_network, targets
from gan_lab.commands.train import fit
from gan_lab.core.run_folder import Run
from gan_lab.data import images
from gan_lab.data.dataset import Dataset, Part
from gan_lab.evaluation.classifier import Classifier, LabelClassifier, label_classifier
from gan_lab.evaluation.metrics.pixels import correlations, variety

CACHE = f"cache_dir={classifier_cache()}"
FILES = {"backquery.png", "backquery.csv", "backquery.json"}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return images.digits()


@pytest.fixture(scope="module")
def classifier(digits) -> LabelClassifier:
    return label_classifier(digits, classifier_cache())


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    size = ("model.generator.hidden=[16]", "model.discriminator.hidden=[16]", "batch_size=8")
    built, run = training(tmp_path_factory.mktemp("run") / "run", *size, "steps=4", "callbacks.verdict.samples=50")
    fit(built, run)
    return run


def two_classes(labelled: bool = True) -> Dataset:
    """Two classes of 1×1×2 images: the left or the right pixel is bright."""
    labels = torch.arange(40) % 2
    values = torch.nn.functional.one_hot(labels, 2).float().view(-1, 1, 1, 2) * 0.8
    part = Part(values, labels if labelled else None)
    return Dataset(part, part, classes=["left", "right"])


def test_inverse_by_hand():
    """With l = ln 99: logit(0.99) = l, logit(0.01) = −l."""
    network = SigmoidNetwork(pixels=3, classes=2, hidden=2)
    network.second.data = torch.tensor([[2.0, 0.0], [1.0, 3.0]])  # (classes, hidden)
    network.first.data = torch.tensor([[1.0, 0.0, 0.5], [0.0, 2.0, 0.0]])  # (hidden, pixels)
    # answers (0.99, 0.01) → logits (l, −l) → hidden (2l − l, 0 − 3l) = (l, −3l) → rescaled (0.99, 0.01) → (l, −l)
    # → pixels (l, −2l, l/2) → shares of the span 3l: (1, 0, 2.5/3) → 0.01 + 0.98 · share
    image = inverse(network, torch.tensor([[0.99, 0.01]]))
    assert image[0].tolist() == pytest.approx([0.99, 0.01, 0.01 + 0.98 * 2.5 / 3], abs=1e-5)
    # answers (0.01, 0.99) → (−l, l) → hidden (−l, 3l) → (0.01, 0.99) → (−l, l) → pixels (−l, 2l, −l/2)
    image = inverse(network, torch.tensor([[0.01, 0.99]]))
    assert image[0].tolist() == pytest.approx([0.01, 0.99, 0.01 + 0.98 * 0.5 / 3], abs=1e-5)


def test_rescaling():
    values = torch.tensor([[-1.0, 0.0, 3.0], [7.0, 7.0, 7.0]])
    assert rescale(values).tolist() == [pytest.approx([0.01, 0.255, 0.99]), pytest.approx([0.5] * 3)]


def test_the_sigmoid_network_answers_as_by_hand():
    network = SigmoidNetwork(pixels=2, classes=1, hidden=1)
    network.first.data, network.second.data = torch.tensor([[1.0, -2.0]]), torch.tensor([[4.0]])
    hidden = 1 / (1 + math.exp(-(1.0 - 2 * 0.505)))  # pixels 1 and 0.5 are seen as 1 and 0.505
    answer = network(torch.tensor([[[[1.0, 0.5]]]])).item()
    assert answer == pytest.approx(1 / (1 + math.exp(-4 * hidden)))


def test_its_weights_start_as_the_books():
    network = SigmoidNetwork(784, 10)
    assert network.first.std().item() == pytest.approx(1 / 28, rel=0.02)
    assert network.second.std().item() == pytest.approx(200**-0.5, rel=0.1)
    assert sum(p.numel() for p in network.parameters()) == 784 * 200 + 200 * 10, "no biases"


def test_targets_are_within_a_sigmoids_reach():
    assert targets(torch.tensor([1, 0]), 3).tolist() == [
        pytest.approx(row) for row in ([0.01, 0.99, 0.01], [0.99, 0.01, 0.01])
    ]


def test_correlations_of_known_images():
    ramp, up, down = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([5.0, 7.0, 9.0]), torch.tensor([2.0, 1.0, 0.0])
    bump, flat = torch.tensor([0.0, 3.0, 0.0]), torch.full((3,), 0.5)
    others = torch.stack([up, down, bump, flat]).view(4, 1, 1, 3)
    r = correlations(ramp.view(1, 1, 1, 3), others)[0]
    assert r[:3].tolist() == pytest.approx([1, -1, 0])
    assert r[3].isnan()
    assert correlations(torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([[1.0, 1, 0, 0]])).item() == pytest.approx(3**-0.5)


def test_variety_is_the_mean_distance_of_all_pairs():
    corners = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]).view(3, 1, 1, 2)
    assert variety(corners) == (pytest.approx((3 + 4 + 5) / 3), 3)
    assert variety(corners[:1].expand(4, -1, -1, -1)) == (0, 6)
    assert variety(corners[:1]) == (None, 0)


def sure_of(label: int) -> LabelClassifier:
    """Reads every image as that one of two classes, with three quarters of confidence."""
    network = Classifier((1, 8, 8), 2)
    network.head.weight.data.zero_()
    network.head.bias.data = torch.tensor([0.0, 0.0]).index_fill(0, torch.tensor(label), math.log(3))
    return LabelClassifier(network, 2, 0.9)


def test_measured_against_the_right_means():
    half = torch.zeros(1, 8, 8)
    half[:, :4] = 1
    means = torch.stack([1 - half, half * 0.7])
    row = measure([half, half], 1, means, sure_of(0), ["under", "over"])
    assert row["correlation"] == pytest.approx(1)
    assert row["correlation_other"] == pytest.approx(-1)
    assert (row["same_bits"], row["likest_other"], row["read_as"]) == (True, "under", "under")
    assert row["confidence"] == pytest.approx(0.75)
    assert (row["variety"], row["pairs"]) == (0, 1)
    other = measure([half, half + 1e-6], 0, means, sure_of(1), ["under", "over"])
    assert not other["same_bits"]
    assert (other["correlation"], other["correlation_other"]) == (pytest.approx(-1), pytest.approx(1))
    assert other["variety"] > 0
    flat = measure([torch.full((1, 8, 8), 0.5)], 0, means, sure_of(1), ["under", "over"])
    assert (flat["correlation"], flat["correlation_other"], flat["variety"]) == (None, None, None)


ROW = {
    "label": 0, "class": "a", "method": "inverse", "same_bits": True, "correlation": 0.5, "correlation_other": 0.4,
    "read_as": "a", "variety": 0.0, "data_variety": 2.0,
}  # fmt: skip


def test_the_conclusion_follows_the_numbers():
    further = ROW | {"label": 1, "class": "b", "correlation": 0.3, "data_variety": 3.0}
    text = conclusion([ROW, further, ROW | {"label": 2, "class": "c", "data_variety": 4.0}])
    assert "inverse gives one image per label; for 2 of 3 labels it is most like" in text
    assert "own class (correlation 0.30 to 0.50), and for 1 the classifier recognises the label" in text
    assert text.endswith("The variety within a label is 0, against 3 in the data.")
    text = conclusion([ROW | {"same_bits": False, "variety": 0.25, "correlation": None, "gan_variety": None}])
    assert "not always the same image" in text
    assert "for 0 of 1 labels it is most like the mean image of its own class, and" in text
    assert text.endswith("is 0.25, against 2 in the data and no measurable one in the GAN's samples.")


@pytest.mark.parametrize(
    ("label", "numbers"), [("all", [0, 1, 2]), ("2", [2]), ("Boot", [1]), ("boot", [1]), ("7", [0])]
)
def test_labels_by_number_and_name(label, numbers):
    assert class_numbers(label, ["7", "Boot", "x"]) == numbers, "a name counts before a number"


@pytest.mark.parametrize("label", ["3", "-1", "1.0", "shoe", "", "None", "²"])
def test_unknown_labels(label):
    with refused("unknown", "label"):
        class_numbers(label, ["7", "1", "x"])


def test_the_networks_ideals_are_averages(digits):
    """The inverse method on 8×8 digits: most images are most like their own class's mean."""
    network, accuracy = sigmoid_network(digits, classifier_cache())
    assert accuracy > 0.85
    check_averages(digits, network)


@pytest.mark.slow
def test_the_networks_ideals_are_averages_on_mnist(mnist_dir):
    dataset = images.mnist(mnist_dir)
    network, accuracy = sigmoid_network(dataset, classifier_cache())
    assert accuracy > 0.85
    check_averages(dataset, network)


def check_averages(dataset: Dataset, network: SigmoidNetwork) -> None:
    """Of ten ideal images, at least nine are most like the mean of their own class."""
    means = torch.stack([dataset.train[torch.where(dataset.train.labels == n)[0]].mean(0) for n in range(10)])
    ideals = inverse(network, targets(torch.arange(10), 10)).view_as(means)
    for_their_class = 0
    for number, ideal in enumerate(ideals):
        r = [torch.corrcoef(torch.stack([ideal.flatten(), mean.flatten()]))[0, 1] for mean in means]
        for_their_class += int(torch.stack(r).argmax()) == number
    assert for_their_class >= 9
    assert ideals.min() >= 0.01 - 1e-6
    assert ideals.max() <= 0.99 + 1e-6


def test_the_gradient_method_climbs(digits, classifier):
    def log_likelihood(x):
        return classifier.network(x).log_softmax(1).diagonal()

    torch.manual_seed(1)
    ideals = gradient(classifier, digits.shape, steps=15)
    torch.manual_seed(2)
    assert torch.equal(ideals, gradient(classifier, digits.shape, steps=15))
    start = torch.full((10, 1, 8, 8), 0.5)
    assert torch.equal(gradient(classifier, digits.shape, steps=0), start)
    already = log_likelihood(start) > math.log(0.9)  # grey looks like some digit: there is nothing to climb
    assert already.sum() <= 1
    assert (log_likelihood(ideals) > log_likelihood(start))[~already].all()
    assert (log_likelihood(ideals) > math.log(0.9)).all()
    assert 0 <= ideals.min() < ideals.max() <= 1
    assert all(p.grad is None for p in classifier.network.parameters())


def test_images_stay_in_their_range(classifier):
    far = gradient(classifier, (1, 8, 8), steps=12)  # 12 steps of 0.05 pass the bounds from 0.5
    assert far.min() == 0 or far.max() == 1
    assert far.min() >= 0
    assert far.max() <= 1


def test_regularised_images_are_smoother(classifier, monkeypatch):
    def roughness(x):
        return (x.diff(dim=-1).abs().mean() + x.diff(dim=-2).abs().mean()).item()

    smooth = gradient(classifier, (1, 8, 8), steps=15)
    monkeypatch.setattr(backquery, "VARIATION", 0.0)
    assert roughness(smooth) < roughness(gradient(classifier, (1, 8, 8), steps=15))


def test_the_network_is_kept_and_a_damaged_file_made_again(tmp_path, monkeypatch, capsys):
    first, accuracy = sigmoid_network(two_classes(), tmp_path)
    assert accuracy == 1
    assert not any(p.requires_grad for p in first.parameters())
    (file,) = tmp_path.glob("sigmoid_*.pt")
    file.write_bytes(file.read_bytes()[:500])
    again, _ = sigmoid_network(two_classes(), tmp_path)
    assert f"{file} is damaged" in capsys.readouterr().err
    # From here on nothing can be trained: the file has to do.
    monkeypatch.setattr(sigmoid_classifier, "train_network", lambda _: pytest.fail("trained a second time"))
    loaded, accuracy = sigmoid_network(two_classes(), tmp_path)
    assert accuracy == 1
    assert torch.equal(first.first, again.first)
    assert torch.equal(first.second, loaded.second)


def test_other_settings_get_another_file(tmp_path, monkeypatch):
    sigmoid_network(two_classes(), tmp_path)
    monkeypatch.setattr(sigmoid_classifier, "RATE", 0.2)
    sigmoid_network(two_classes(), tmp_path)
    assert len(list(tmp_path.glob("sigmoid_*.pt"))) == 2


def test_data_without_a_label_for_each_image_are_refused(tmp_path):
    unlabelled, gap = two_classes(labelled=False), two_classes()
    gap.classes.append("middle")
    for dataset in (unlabelled, images.stacked_digits(samples=20), gap):
        with refused("unsupported", "dataset"):
            backquery.backquery(dataset, "all", ["inverse"], str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_one_label(tmp_path):
    completed = command_here("scripts/backquery.py", "dataset=digits", "label=5", "method=inverse", CACHE, cwd=tmp_path)
    assert completed.returncode == 0, completed.stderr
    (folder,) = (tmp_path / "outputs" / "digits").iterdir()
    assert folder.name.startswith("backquery_")
    assert {path.name for path in folder.iterdir()} == FILES
    content = json.loads((folder / "backquery.json").read_text())
    (row,) = content["rows"]
    assert (row["label"], row["method"], row["same_bits"], row["variety"]) == (5, "inverse", True, 0)
    assert row["data_variety"] > 0
    assert content["dataset"] == "digits"
    assert content["conclusion"] in completed.stdout
    assert pd.read_csv(folder / "backquery.csv")["correlation"].item() == pytest.approx(row["correlation"])


@pytest.mark.slow
def test_compared_with_a_gan(run, monkeypatch, tmp_path):
    """In this process, with a shorter climb: two methods × ten labels, and the GAN's samples in the same measure."""
    from gan_lab.assembly.build import load

    monkeypatch.setattr(backquery, "STEPS", 2)
    monkeypatch.setattr(backquery, "GAN_SAMPLES", 200)
    module, dataset = load(run)
    findings = backquery.backquery(dataset, "all", backquery.METHODS, classifier_cache(), module)
    assert [(row["label"], row["method"]) for row in findings.rows] == [
        (n, method) for n in range(10) for method in ("inverse", "gradient")
    ]
    assert sum(len(samples) for samples in findings.samples) == 200
    classifier = label_classifier(dataset, classifier_cache())
    for row, samples in zip(findings.rows[::2], findings.samples, strict=True):
        assert (classifier.labels(samples) == row["label"]).all()
        n = min(len(samples), backquery.MAX_COMPARED)
        assert row["gan_pairs"] == n * (n - 1) // 2
        assert (row["gan_variety"] is None) == (n < 2)
        assert row["data_pairs"] == 4950
        expected = correlations(findings.images["inverse"][row["label"], None], findings.means[row["label"], None])
        assert row["correlation"] == pytest.approx(expected.item())
    one_label = backquery.backquery(dataset, "3", ["inverse"], classifier_cache())
    assert torch.equal(one_label.images["inverse"][0], findings.images["inverse"][3]), "whichever labels are asked for"
    assert {path.name for path in backquery.write(findings, tmp_path, {})} == FILES
    assert "GAN" in backquery.describe(findings)


def test_a_run_gets_a_folder(run):
    completed = command_here(
        "scripts/backquery.py", "dataset=digits", "label=1", "method=inverse", f"run={run.folder}", CACHE,
        cwd=run.folder.parent,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr
    assert {path.name for path in (run.folder / "backquery").iterdir()} == FILES
    assert [path.name for path in run.folder.parent.iterdir()] == [run.folder.name]


MISTAKES = [
    (["dataset=digits", "label=10"], "There is no label=10.\nChoose from: all, 0, 1"),
    (["dataset=digits", "method=magic"], "method has to be one of both, inverse, gradient"),
    (["dataset=ring"], "images with labels"),
    (["dataset=pattern1010"], "images with labels"),
    (["dataset=stacked_digits"], "a stacked image has three"),
    (["dataset=digits", "run=nowhere"], "nowhere is not a run folder"),
    (["dataset=ring", "run=RUN"], "is a run of digits(heldout=0.2), not of ring("),
    (["dataset=digits", "dataset.heldout=0.3", "run=RUN"], "digits(heldout=0.2), not of digits(heldout=0.3)"),
    (["dataset=digits", "run=BROKEN"], "can't be used"),
    (["dataset=digits", "run=EMPTY"], "no checkpoint"),
    (["dataset=digits", "lable=3"], "Did you mean 'label'?"),
]


@pytest.mark.parametrize(("arguments", "phrase"), MISTAKES, ids=[" ".join(arguments) for arguments, _ in MISTAKES])
def test_mistakes(run, tmp_path, monkeypatch, capsys, arguments, phrase):
    """In this process, as the command's own test shows that it works as one of its own."""
    for name, text in {"EMPTY": run.config.read_text(), "BROKEN": "steps: [1"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    overrides = [argument.replace("RUN", str(run.folder)) for argument in arguments]
    monkeypatch.setattr("sys.argv", ["backquery.py", *overrides, CACHE])
    main = command_main("scripts/backquery.py")
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert phrase in err
    assert "Traceback" not in err
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {
        str(Path(name) / "config.yaml") for name in ("EMPTY", "BROKEN")
    }
    assert not (tmp_path / "outputs").exists(), "nothing half-made is left"
    assert not list(tmp_path.rglob("backquery"))
    assert not (run.folder / "backquery").exists() or list((run.folder / "backquery").iterdir())


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_run_is_no_run_folder(nothing, tmp_path, monkeypatch):
    (tmp_path / "config.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    with refused("missing"):
        Run.existing(nothing)
