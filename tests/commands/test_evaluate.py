"""scripts/evaluate.py as a user runs it."""

import json
import re
import shutil
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import classifier_cache, command_here, make_packed_file, refused, training
from omegaconf import OmegaConf
from PIL import Image

from gan_lab.assembly.build import load
from gan_lab.commands.train import fit
from gan_lab.config.check import check_evaluation
from gan_lab.core.run_folder import Run
from gan_lab.data.dataset import Dataset
from gan_lab.data.images import digits
from gan_lab.data.synthetic import grid, ring
from gan_lab.pack.sample_request import SampleRequest
from gan_lab.pack.samples import read_real
from gan_lab.training.sampling import fresh_latents, fresh_samples

pytestmark = pytest.mark.usefixtures("undrawn")

SIZE = ("model.generator.hidden=[16]", "model.discriminator.hidden=[16]", "batch_size=8")
CACHE = f"cache_dir={classifier_cache()}"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    built, run = training(tmp_path_factory.mktemp("run") / "run", *SIZE, "steps=30", "callbacks.verdict.samples=200")
    fit(built, run)
    return run


def test_mean_and_spread_over_seeds(run):
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file() and path != run.page}
    completed = command_here(
        "scripts/evaluate.py", f"run={run.folder}", "samples=400", "seeds=2", CACHE, cwd=run.folder.parent
    )
    assert completed.returncode == 0, completed.stderr
    result = json.loads((run.folder / "evaluation.json").read_text())
    assert "Evaluated again" in run.page.read_text(encoding="utf-8")
    assert (result["samples"], result["seeds"], result["step"]) == (400, 2, 30)
    assert result["mean"]["samples"] == 400
    assert result["spread"]["pairwise_ratio"] > 0, "other latent vectors each time"
    assert result["spread"]["samples"] == 0
    assert len(result["verdicts"]) == 2
    for part in (
        "400 samples, mean and standard deviation over 2",
        "± spread",
        "fresh real",
        "kl_data",
        *result["verdicts"][0]["sentence"].splitlines(),
    ):
        assert part in completed.stdout
    assert all(path.read_bytes() == content for path, content in before.items()), "nothing else is touched"
    assert [path.name for path in run.folder.parent.iterdir()] == [run.folder.name], "and nothing beside it"


def test_the_spread_is_the_standard_deviation(run):
    from gan_lab.commands.evaluate import evaluate

    result = evaluate(run, 300, 3, 1, None, classifier_cache())
    sums = [evaluate(run, 300, n, 1, None, classifier_cache())["mean"]["kl_data"] * n for n in (1, 2, 3)]
    values = [sums[0], sums[1] - sums[0], sums[2] - sums[1]]
    assert result["spread"]["kl_data"] == pytest.approx(statistics.stdev(values), rel=1e-6)


@pytest.fixture(scope="module")
def averaged(tmp_path_factory) -> Run:
    """A run whose samples an average makes that has hardly left the first weights."""
    settings = ("steps=20", "optim.lr=0.01", "remedy=[ema,r1]", "remedy.ema.decay=0.99999", "~callbacks.verdict")
    built, run = training(tmp_path_factory.mktemp("averaged") / "run", *SIZE, *settings)
    fit(built, run)
    return run


@pytest.mark.parametrize("ema", [True, False])
def test_a_run_with_an_average_is_evaluated_with_it_or_without(averaged, ema, monkeypatch):
    from gan_lab.commands import evaluate

    drawn = []
    module, _ = load(averaged)
    z = torch.cat(list(fresh_latents(module, 50, "evaluate")))
    expected = {True: module.averaged.network(z), False: module.generator(z)}
    assert not torch.allclose(expected[True], expected[False], atol=0.01)

    def draw_and_keep(*arguments):
        drawn.append(fresh_samples(*arguments))
        return drawn[-1]

    monkeypatch.setattr(evaluate, "fresh_samples", draw_and_keep)
    evaluation = evaluate.evaluate(averaged, 50, 1, 1, None, classifier_cache(), ema=ema)
    torch.testing.assert_close(drawn[0], expected[ema])
    assert evaluation["weights"] == ("average" if ema else "own")
    assert ("moving average of G's weights" in evaluate.describe(evaluation)) == ema


def test_a_run_without_an_average_has_none_to_leave_out(run):
    from gan_lab.commands.evaluate import evaluate

    with refused("conflict", "ema"):
        evaluate(run, 50, 1, 1, None, classifier_cache(), ema=False)
    assert evaluate(run, 50, 1, 1, None, classifier_cache())["weights"] == "own"


def test_loading_gives_the_trained_generator(run):
    module, dataset = load(run)
    assert module.step == 30
    assert dataset.shape == (1, 8, 8)
    state = run.load_checkpoint()["state_dict"]
    assert all(torch.equal(state[name], value) for name, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        ([], "run is missing"),
        (["generated=EMPTY"], "generated= needs real data"),
        (["generated=EMPTY", "dataset=digits"], "There is no image in generated="),
        (["generated=nowhere", "real=nowhere.npy"], "real=nowhere.npy is no file and no folder"),
        (["generated=nowhere", "dataset=digit"], "digits"),
        (["generated=EMPTY", "dataset=digits", "labels=some.csv"], "labels"),
        (["run=nowhere"], "nowhere is not a run folder"),
        (["run=RUN", "samples=0"], "samples has to be a whole number ≥ 1"),
        (["run=RUN", "sample=10"], "Did you mean 'samples'?"),
        (["run=EMPTY"], "no checkpoint"),
    ],
)
def test_mistakes(run, tmp_path, arguments, phrase):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.yaml").write_text(run.config.read_text())
    places = {"run=RUN": f"run={run.folder}", "run=EMPTY": f"run={tmp_path / 'empty'}"}
    places["generated=EMPTY"] = f"generated={tmp_path / 'empty'}"
    completed = command_here("scripts/evaluate.py", *(places.get(a, a) for a in arguments), CACHE, cwd=tmp_path)
    assert completed.returncode == 2, completed.stderr
    assert phrase in completed.stderr
    assert "Traceback" not in completed.stderr
    assert [Path(p).name for p in tmp_path.iterdir()] == ["empty"]


@pytest.mark.slow
def test_a_run_whose_packed_file_has_moved_says_where_to_name_it(tmp_path):
    """Evaluating, resuming and asking the classifier: with the file's new place, whatever it is called there."""
    pixels = np.random.default_rng(0).integers(256, size=(40, 8, 8, 3), dtype=np.uint8)
    make_packed_file(tmp_path / "faces.h5", pixels, labels=np.arange(40) % 2, classes=["a", "b"])
    tiny = ("steps=2", "batch_size=4", "model.generator.hidden=[8]", "model.discriminator.hidden=[8]", "features=pca")
    rest = ("~callbacks.verdict", "~callbacks.pictures", "~callbacks.curves", "~callbacks.progress", "logger=table")
    data = ("dataset=images", "data.path=~/faces.h5", "hydra.run.dir=run")
    trained = command_here("train.py", *tiny, *rest, *data, cwd=tmp_path, HOME=str(tmp_path))
    assert trained.returncode == 0, trained.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert re.fullmatch("[0-9a-f]{32}", summary["data_digest"])
    (tmp_path / "faces.h5").rename(tmp_path / "renamed (1).h5")
    evaluate = ("scripts/evaluate.py", "run=run", "samples=20", "seeds=1")
    for arguments in (evaluate, ("train.py", "resume=run", "steps=3"), ("scripts/explore.py", "run=run")):
        lost = command_here(*arguments, cwd=tmp_path)
        assert lost.returncode == 2
        assert "data.path=<file.h5>" in lost.stderr
    here = 'data.path="renamed (1).h5"'
    assert command_here(*evaluate, here, cwd=tmp_path).returncode == 0
    resumed = command_here("train.py", "resume=run", "steps=3", here, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    # From now on the run knows it.
    assert command_here(*evaluate, cwd=tmp_path).returncode == 0
    make_packed_file(tmp_path / "other.h5", 255 - pixels, labels=np.arange(40) % 2, classes=["a", "b"])
    assert "other data" in command_here(*evaluate, "data.path=other.h5", cwd=tmp_path).stderr


@pytest.mark.parametrize(
    ("settings", "code", "key"),
    [
        ({}, "missing", "run"),
        ({"run": "a", "real": "b"}, "conflict", "real"),
        ({"run": "a", "dataset": {}}, "conflict", "dataset"),
        ({"run": "a", "size": 8}, "conflict", "size"),
        ({"run": "a", "labels": "none"}, "conflict", "labels"),
        ({"generated": "a"}, "missing", "dataset"),
        ({"generated": "a", "real": "b", "dataset": {}}, "conflict", "real"),
        ({"generated": "a", "real": "b", "run": "c"}, "conflict", "run"),
        ({"generated": "a", "real": "b", "member": 0}, "conflict", "member"),
        ({"generated": "a", "real": "b", "ema": False}, "conflict", "ema"),
        ({"generated": "a", "real": "b", "labels": "some.csv"}, "invalid", "labels"),
    ],
)
def test_keys_that_do_not_go_together(settings, code, key):
    defaults = {"run": None, "generated": None, "real": None, "size": None, "labels": "auto", "member": None}
    with refused(code, key):
        check_evaluation(OmegaConf.create({**defaults, "ema": True, **settings}))


def evaluated(path: Path, dataset: Dataset, folder: Path, samples: int | None = None, **settings: Any) -> dict:
    from gan_lab.commands.evaluate import evaluate_samples

    request = SampleRequest(path, "generated", **settings)
    return evaluate_samples(request, dataset, samples, 3, classifier_cache(), None, lambda _: {}, folder)


def test_samples_of_a_run_get_the_verdict_of_the_run(run, tmp_path):
    module, dataset = load(run)
    np.save(tmp_path / "exported.npy", fresh_samples(module, 200, "verdict/end").numpy())
    evaluation = evaluated(tmp_path / "exported.npy", dataset, tmp_path)
    summary = json.loads((run.folder / "summary.json").read_text())
    assert evaluation["mean"] == {name: summary["metrics"][name] for name in evaluation["mean"]}
    assert len(evaluation["mean"]) >= 15
    for word in ("collapse", "copies", "likeness"):
        assert evaluation["verdicts"][0][word] == summary["verdict"][word]
    assert evaluation["real_data"] == summary["real_data"]


def write_images(folder: Path, images: np.ndarray, labels: np.ndarray | None = None) -> Path:
    for i, image in enumerate(images):
        path = folder / (f"{labels[i]}/{i}.png" if labels is not None else f"{i}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def heldout_digits(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    indices = torch.arange(len(dataset.heldout))
    pixels = (dataset.heldout[indices] * 255).round().to(torch.uint8)
    return pixels[:, 0].numpy(), dataset.heldout.labels_of(indices).numpy()


def test_real_images_that_were_held_out_are_covered(tmp_path):
    """As class folders, which are sorted by class, and as StudioGAN and the like store them."""
    dataset = digits()
    pixels, labels = heldout_digits(dataset)
    np.savez(tmp_path / "a.npz", np.repeat(pixels[..., None], 3, -1), labels)
    folder = write_images(tmp_path / "folder", pixels, labels)
    for path in (tmp_path / "a.npz", folder):
        evaluation = evaluated(path, dataset, tmp_path)
        verdict = evaluation["verdicts"][0]
        assert (verdict["collapse"], verdict["likeness"], verdict["copies"]) == ("covered", "good", False), verdict
        assert evaluation["mean"]["class_accuracy"] > 0.97
    for name in ("samples.png", "labels.png", "neighbours.png", "evaluation.json"):
        assert (tmp_path / name).is_file()


@pytest.mark.parametrize("make", [ring, grid])
def test_real_points_that_were_held_out_are_covered(tmp_path, make):
    dataset = make(samples=5_000)
    np.save(tmp_path / "a.npy", dataset.heldout[torch.arange(2_000)].double())
    verdict = evaluated(tmp_path / "a.npy", dataset, tmp_path)["verdicts"][0]
    assert (verdict["collapse"], verdict["likeness"], verdict["copies"]) == ("covered", "good", False), verdict
    assert (tmp_path / "samples.png").is_file()


def emoji_like(number: int) -> np.ndarray:
    """Returns coloured discs on white, `(number, 24, 24, 3)` uint8."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:24, :24]
    images = np.full((number, 24, 24, 3), 255, np.uint8)
    for image in images:
        for _ in range(rng.integers(2, 6)):
            row, column, radius = rng.integers(2, 22, size=3)
            image[(rows - row) ** 2 + (columns - column) ** 2 < (radius / 2 + 1) ** 2] = rng.integers(256, size=3)
    return images


@pytest.mark.parametrize("number", [500, pytest.param(2_000, marks=pytest.mark.slow)])
def test_images_compared_with_themselves_are_copies(tmp_path, number):
    folder = write_images(tmp_path / "emoji", emoji_like(number))
    dataset, notes = read_real(SampleRequest(folder, "real"))
    assert f"{number // 5} are held out" in notes[-1]
    verdict = evaluated(folder, dataset, tmp_path)["verdicts"][0]
    assert verdict["copies"] is True, verdict


def test_a_large_file_is_evaluated_in_parts(tmp_path):
    dataset = ring(samples=5_000)
    # Sorted by class: the first 300 would all be of one mode.
    order = dataset.train.labels.argsort()
    np.save(tmp_path / "a.npy", dataset.train[order].numpy())
    evaluation = evaluated(tmp_path / "a.npy", dataset, tmp_path, samples=300)
    assert (evaluation["samples"], evaluation["seeds"], evaluation["total"]) == (300, 3, 5_000)
    assert evaluation["spread"]["kl_data"] > 0
    assert evaluation["mean"]["modes"] == 8
    with refused("conflict", "samples"):
        evaluated(tmp_path / "a.npy", dataset, tmp_path, samples=5_001)


def test_samples_that_are_not_finite_are_counted(tmp_path):
    values = np.full((50, 1, 8, 8), np.nan, np.float32)
    np.save(tmp_path / "a.npy", values)
    verdict = evaluated(tmp_path / "a.npy", digits(), tmp_path)["verdicts"][0]
    assert verdict["collapse"] == "collapsed"


def test_generated_and_real_samples_on_the_command_line(tmp_path):
    images = emoji_like(60)
    write_images(tmp_path / "fakes", images[:30])
    make_packed_file(tmp_path / "real.h5", images[:40], images[40:])
    arguments = ("generated=fakes", "real=real.h5", "samples=20", "seeds=2", f"cache_dir={tmp_path / 'cache'}")
    completed = command_here("scripts/evaluate.py", *arguments, cwd=tmp_path)
    assert completed.returncode == 0, completed.stderr
    (folder,) = (tmp_path / "outputs" / "real").iterdir()
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert (evaluation["generated"], evaluation["samples"], evaluation["total"]) == ("fakes", 20, 30)
    assert sorted(path.name for path in folder.iterdir()) == ["evaluation.json", "neighbours.png", "samples.png"]
    for part in ("fakes: 20 of 30 samples", folder.name, *evaluation["verdicts"][0]["sentence"].splitlines()):
        assert part in completed.stdout
    shutil.rmtree(tmp_path / "outputs")
    refusal = command_here("scripts/evaluate.py", "generated=fakes", "dataset=digits", cwd=tmp_path)
    assert refusal.returncode == 2
    assert "size=8" in refusal.stderr
    assert not (tmp_path / "outputs").exists()
