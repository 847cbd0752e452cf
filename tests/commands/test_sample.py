"""scripts/sample.py as a user runs it."""

import csv
import json
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import command, command_here, refused, training
from PIL import Image

from gan_lab.assembly.build import load
from gan_lab.commands.sample import SampleSettings, write_samples
from gan_lab.commands.train import fit
from gan_lab.core.run_folder import Run
from gan_lab.evaluation.verdict import evaluator_for
from gan_lab.gan.latent import LabelledLatent, Normal, Truncated
from gan_lab.pack.sample_request import SampleRequest
from gan_lab.pack.samples import read_real, read_samples
from gan_lab.training.sampling import fresh_latents

pytestmark = pytest.mark.usefixtures("undrawn")

DEFAULTS = SampleSettings(to="x.npz", n=5, seed=0, classes=None, truncation=None, member=None, ema=True)
SIZE = ("model.generator.hidden=[16]", "model.discriminator.hidden=[16]", "batch_size=8", "steps=2")


def _trained(folder: Path, *settings: str) -> Run:
    built, run = training(folder / "run", *SIZE, *settings, "~callbacks.verdict")
    fit(built, run)
    return run


@pytest.fixture(scope="module")
def conditional(tmp_path_factory) -> Run:
    return _trained(tmp_path_factory.mktemp("conditional"), "conditional=true")


@pytest.fixture(scope="module")
def points(tmp_path_factory) -> Run:
    return _trained(tmp_path_factory.mktemp("points"), "dataset=ring", "replicas=2")


def _write(run: Run, target: Path, *arguments: str) -> str:
    completed = command_here("scripts/sample.py", f"run={run.folder}", f"to={target}", *arguments, cwd=target.parent)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def _expected(run: Run, n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the images that G makes, rounded to 256 values, and their labels."""
    module, _ = load(run)
    z = torch.cat(list(fresh_latents(module, n, "sample", seed)))
    with torch.no_grad():
        samples = module.generator.eval()(z)
    return (samples * 255).round().to(torch.uint8), z[:, -10:].argmax(1)


def test_all_formats_hold_the_same_images(conditional, tmp_path):
    images, labels = _expected(conditional, 12)
    for name in ("samples.npz", "samples.h5", "samples"):
        _write(conditional, tmp_path / name, "n=12")
    with np.load(tmp_path / "samples.npz") as arrays:
        assert sorted(arrays) == ["x", "y"], "the names of BigGAN and StudioGAN"
        assert np.array_equal(arrays["x"], images.numpy())
        assert np.array_equal(arrays["y"], labels.numpy())
    pngs = sorted((tmp_path / "samples").glob("*.png"))
    assert np.array_equal([np.asarray(Image.open(path)) for path in pngs], images[:, 0].numpy())
    with (tmp_path / "samples" / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["file", "class"],
        *([path.name, str(label)] for path, label in zip(pngs, labels.tolist(), strict=True)),
    ]
    packed = read_samples(SampleRequest(tmp_path / "samples.h5", "generated"))
    assert torch.equal(packed.values, images)
    assert packed.labels == [str(label) for label in labels.tolist()]
    assert not list(tmp_path.glob(".*")), "nothing is left beside them"
    (tmp_path / "new").mkdir()
    assert (tmp_path / "samples").stat().st_mode == (tmp_path / "new").stat().st_mode


def test_another_seed_gives_other_samples(conditional, tmp_path):
    _write(conditional, tmp_path / "other.npz", "n=12", "seed=3")
    with np.load(tmp_path / "other.npz") as arrays:
        assert np.array_equal(arrays["x"], _expected(conditional, 12, seed=3)[0].numpy())
        assert not np.array_equal(arrays["x"], _expected(conditional, 12)[0].numpy())


def test_classes_get_equal_shares(conditional, tmp_path):
    _write(conditional, tmp_path / "some.npz", "n=7", "classes=[three,8]")
    with np.load(tmp_path / "some.npz") as arrays:
        assert arrays["y"].tolist() == [3, 3, 3, 3, 8, 8, 8]


def test_a_member_of_replicas_as_points(points, tmp_path):
    text = _write(points, tmp_path / "points.npz", "n=9", "member=1", "truncation=1")
    assert "member 1" in text
    module, _ = load(points)
    single = module.member(1)
    with np.load(tmp_path / "points.npz") as arrays:
        assert list(arrays) == ["x"]
        assert (arrays["x"].shape, arrays["x"].dtype) == ((9, 2), np.float32)
        z = torch.cat(list(fresh_latents(single, 9, "sample")))
        fitting = z.abs().max(1).values <= 1
        assert fitting.sum() < 9
        same = np.isclose(arrays["x"], single.sample(z).numpy()).all(1)
        assert np.array_equal(same, fitting.numpy()), "vectors without a large component are those without truncation"


def test_truncated_vectors_keep_their_labels():
    latent = Truncated(LabelledLatent(Normal(), (0.5, 0.5)), 0.3)
    z = latent((500, 12), torch.Generator().manual_seed(0))
    assert z[:, :10].abs().max() <= 0.3
    assert torch.equal(z[:, 10:].sum(1), torch.ones(500))
    # Of a normal variable cut off at ±0.3 the variance is 1 − 2·0.3·φ(0.3) / (2Φ(0.3) − 1) = 0.02946.
    assert z[:, :10].var().item() == pytest.approx(0.02946, rel=0.05)


REFUSALS = {
    "images": ({"to": "images"}, "unsupported", "to"),
    "classes": ({"classes": ["1"]}, "unsupported", "classes"),
    "average": ({"ema": False}, "conflict", "ema"),
    "member": ({"member": 2}, "unknown", "member"),
    "target": ({"to": "there"}, "exists", "to"),
    "memory": ({"n": 10**9}, "conflict", "to"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(points, tmp_path, monkeypatch, name):
    settings, code, key = REFUSALS[name]
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    module, dataset = load(points)
    with refused(code, key):
        write_samples(module, dataset, points, DEFAULTS._replace(**settings))
    assert os.listdir() == ["there"]


def test_samples_that_are_not_finite_leave_nothing(conditional, tmp_path):
    module, dataset = load(conditional)
    torch.nn.init.constant_(next(module.generator.parameters()), torch.nan)
    with refused("not_finite", "run"):
        write_samples(module, dataset, conditional, DEFAULTS._replace(to=str(tmp_path / "images")))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["images", "images.npz", "images.h5"])
def test_a_full_disk_is_named_and_left_as_it_was(conditional, tmp_path, small_disk, name):
    folder = small_disk(100)
    to = folder / name
    done = command_here("scripts/sample.py", f"run={conditional.folder}", f"to={to}", "n=3000", cwd=tmp_path)
    assert done.returncode != 0
    assert str(folder) in done.stderr
    assert not list(folder.iterdir())


# torch-fidelity's command line, with the network of features=random as one of its feature extractors.
FIDELITY = """
from gan_lab.evaluation.feature_spaces import RandomNetwork
from torch_fidelity import FeatureExtractorBase, register_feature_extractor
from torch_fidelity.fidelity import main

class Random(FeatureExtractorBase):
    def __init__(self, name, features_list, **kwargs):
        super().__init__(name, features_list)
        self.network = RandomNetwork((1, 8, 8))

    @staticmethod
    def get_provided_features_list():
        return ("random",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric):
        return "random"

    def forward(self, images):  # uint8 RGB
        return (self.network(images[:, :1] / 255),)

register_feature_extractor("random", Random)
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torch_fidelity") is None, reason="needs the package torch-fidelity")
def test_torch_fidelitys_command_gives_our_numbers_for_a_folder_of_samples(conditional, tmp_path):
    _write(conditional, tmp_path / "samples", "n=2000", "seed=1", "truncation=0.2")
    _write(conditional, tmp_path / "real.h5", "n=40000")  # 4,000 of them are held out, and half of these compared
    evaluation = ("generated=samples", "real=real.h5", "labels=none", "features=random", "samples=2000")
    done = command("scripts/evaluate.py", *evaluation, "hydra.run.dir=ours", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ours = json.loads((tmp_path / "ours" / "evaluation.json").read_text(encoding="utf-8"))["mean"]
    assert ours["compared"] == 2000
    dataset, _ = read_real(SampleRequest(tmp_path / "real.h5", "real", labels="none"))
    (tmp_path / "real").mkdir()
    for i, image in enumerate(evaluator_for(dataset, tmp_path, "random").heldout_samples[:2000]):
        Image.fromarray((image[0] * 255).round().byte().numpy()).save(tmp_path / "real" / f"{i}.png")
    inputs = ("--input1", "samples", "--input2", "real", "--feature-extractor", "random")
    (tmp_path / "fidelity_command.py").write_text(FIDELITY, encoding="utf-8")
    done = command(
        f"{tmp_path}/fidelity_command.py", *inputs, "--fid", "--prc", "--cpu", "--json", "--no-cache", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout[done.stdout.index("{") :])
    assert ours["frechet_distance"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-5)
    # Their distances are float32, so one sample in 2,000 may change sides.
    assert ours["precision"] == pytest.approx(theirs["precision"], abs=0.001)
    assert ours["recall"] == pytest.approx(theirs["recall"], abs=0.001)
    assert ours["recall"] < 0.8 < ours["precision"], "truncated: the two can be told apart"
