"""scripts/evaluate.py as a user runs it."""

import json
import statistics
from pathlib import Path

import pytest
import torch
from conftest import ROOT, classifier_cache, command, command_here, training

from gan_lab.assembly.build import load
from gan_lab.commands.train import fit
from gan_lab.core.errors import LabError
from gan_lab.core.run_folder import Run
from gan_lab.training.callbacks.evaluation import draw, latents

SIZE = ("model.generator.hidden=[16]", "model.discriminator.hidden=[16]", "batch_size=8")
CACHE = f"cache_dir={classifier_cache()}"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    made, run = training(tmp_path_factory.mktemp("run") / "run", *SIZE, "steps=30", "callbacks.verdict.samples=200")
    fit(made, run)
    return run


def test_mean_and_spread_over_seeds(run):
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    done = command_here(
        "scripts/evaluate.py", f"run={run.folder}", "samples=400", "seeds=2", CACHE, cwd=run.folder.parent
    )
    assert done.returncode == 0, done.stderr
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
        assert part in done.stdout
    assert all(path.read_bytes() == content for path, content in before.items()), "nothing else is touched"
    assert [path.name for path in run.folder.parent.iterdir()] == [run.folder.name], "and nothing beside it"


def test_the_spread_is_the_standard_deviation(run):
    from gan_lab.commands.evaluate import evaluate

    result = evaluate(run, 300, 3, 1, None, classifier_cache())
    singles = [evaluate(run, 300, n, 1, None, classifier_cache())["mean"]["kl_data"] * n for n in (1, 2, 3)]
    each = [singles[0], singles[1] - singles[0], singles[2] - singles[1]]
    assert result["spread"]["kl_data"] == pytest.approx(statistics.stdev(each), rel=1e-6)


@pytest.fixture(scope="module")
def averaged(tmp_path_factory) -> Run:
    """A run whose samples an average makes that has hardly left the first weights."""
    settings = ("steps=20", "optim.lr=0.01", "remedy=[ema,r1]", "remedy.ema.decay=0.99999", "~callbacks.verdict")
    made, run = training(tmp_path_factory.mktemp("averaged") / "run", *SIZE, *settings)
    fit(made, run)
    return run


@pytest.mark.parametrize("ema", [True, False])
def test_a_run_with_an_average_is_judged_with_it_or_without(averaged, ema, monkeypatch):
    from gan_lab.commands import evaluate

    seen = []
    module, _ = load(averaged)
    z = torch.cat(list(latents(module, 50, "evaluate")))
    own, average = module.generator(z), module.averaged.network(z)
    assert not torch.allclose(own, average, atol=0.01)
    monkeypatch.setattr(evaluate, "draw", lambda *args: seen.append(draw(*args)) or seen[-1])
    told = evaluate.evaluate(averaged, 50, 1, 1, None, classifier_cache(), ema=ema)
    torch.testing.assert_close(seen[0], average if ema else own)
    assert told["weights"] == ("average" if ema else "own")
    assert ("moving average of G's weights" in evaluate.describe(told)) == ema


def test_a_run_without_an_average_has_none_to_leave_out(run):
    from gan_lab.commands.evaluate import evaluate

    with pytest.raises(LabError, match="has no average of G's weights: ema=false changes nothing.\nLeave it out"):
        evaluate(run, 50, 1, 1, None, classifier_cache(), ema=False)
    assert evaluate(run, 50, 1, 1, None, classifier_cache())["weights"] == "own"


def test_loading_gives_the_trained_generator(run):
    module, dataset = load(run)
    assert module.step == 30
    assert dataset.shape == (1, 8, 8)
    kept = run.load_checkpoint()["state_dict"]
    assert all(torch.equal(kept[name], value) for name, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "run is missing"),
        (["run=nowhere"], "nowhere is not a run folder"),
        (["run=RUN", "samples=0"], "samples has to be a whole number ≥ 1"),
        (["run=RUN", "sample=10"], "Did you mean 'samples'?"),
        (["run=EMPTY"], "no checkpoint"),
    ],
)
def test_mistakes(run, tmp_path, arguments, told):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.yaml").write_text(run.config.read_text())
    places = {"run=RUN": f"run={run.folder}", "run=EMPTY": f"run={tmp_path / 'empty'}"}
    done = command_here("scripts/evaluate.py", *(places.get(a, a) for a in arguments), CACHE, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert [Path(p).name for p in tmp_path.iterdir()] == ["empty"]


def test_help_names_every_key():
    import yaml

    done = command("scripts/evaluate.py", "--help", cwd=ROOT)
    for key in yaml.safe_load((ROOT / "conf" / "evaluate.yaml").read_text()).keys() - {"defaults", "hydra"}:
        assert key in done.stdout
