"""scripts/evaluate.py as a user runs it."""

import json
import re
import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import classifier_cache, command_here, make_packed_file, refused, training

from gan_lab.assembly.build import load
from gan_lab.commands.train import fit
from gan_lab.core.run_folder import Run
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
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    completed = command_here(
        "scripts/evaluate.py", f"run={run.folder}", "samples=400", "seeds=2", CACHE, cwd=run.folder.parent
    )
    assert completed.returncode == 0, completed.stderr
    result = json.loads((run.folder / "evaluation.json").read_text())
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
        result["verdicts"][0]["sentence"],
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
    completed = command_here("scripts/evaluate.py", *(places.get(a, a) for a in arguments), CACHE, cwd=tmp_path)
    assert completed.returncode == 2, completed.stderr
    assert phrase in completed.stderr
    assert "Traceback" not in completed.stderr
    assert [Path(p).name for p in tmp_path.iterdir()] == ["empty"]


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
