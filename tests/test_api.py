"""gan_lab from Python: the same runs, words and files as by the command line."""

import html
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import ROOT, classifier_cache, command_here
from PIL import Image
from test_compare import made_up

import gan_lab
from gan_lab.core.errors import LabError

TINY = ("model.generator.hidden=[16]", "model.discriminator.hidden=[16]", "callbacks.verdict.samples=200")
CACHE = classifier_cache()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("api"))
        patch.setenv("MPLBACKEND", "module://inline")
        arguments = list(sys.argv)
        trained = gan_lab.train(*TINY, steps=20, batch_size=8, remedy=["r1", "ema"], cache_dir=CACHE)
        assert (sys.argv, os.environ["MPLBACKEND"]) == (arguments, "module://inline")
        return trained


def test_training_gives_the_run_of_the_command_line(run, tmp_path):
    arguments = (*TINY, "steps=20", "batch_size=8", "remedy=[r1,ema]", f"cache_dir={CACHE}", "hydra.run.dir=run")
    completed = command_here("train.py", *arguments, cwd=tmp_path)
    assert completed.returncode == 0, completed.stderr
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == (run.folder / "metrics.csv").read_bytes()
    assert run.verdict == json.loads((tmp_path / "run" / "summary.json").read_text())["verdict"]
    assert run.verdict["sentence"].splitlines()[0] in repr(run)
    assert run.metrics["step"].iloc[-1] == 20


def test_samples_are_those_of_the_command(run, tmp_path):
    completed = command_here("scripts/sample.py", f"run={run.folder}", "n=7", "to=x.npz", cwd=tmp_path)
    assert completed.returncode == 0, completed.stderr
    with np.load(tmp_path / "x.npz") as arrays:
        assert np.array_equal(arrays["x"], (run.samples(7) * 255).round().byte().numpy())
    with torch.no_grad():
        z = torch.randn(3, 32)
        assert torch.equal(run.generator(z), run.module.sample(z)), "the average, as in the verdict"


def test_scores_have_a_gradient_with_respect_to_the_samples(run):
    samples = run.samples(4).double().float().requires_grad_()
    run.scores(samples)[0].backward()
    assert samples.grad is not None
    assert samples.grad[0].abs().sum() > 0
    assert samples.grad[1:].abs().sum() == 0, "each sample is scored by itself"
    step = 1e-3 * samples.grad[:1]
    with torch.no_grad():
        difference = run.scores(samples[:1] + step) - run.scores(samples[:1] - step)
    assert difference.item() == pytest.approx(2e-3 * samples.grad[0].square().sum().item(), rel=0.05)


def test_a_notebook_shows_verdict_and_pictures_and_names_as_text(run):
    shown = run._repr_html_()
    assert run.verdict["sentence"].splitlines()[0] in shown
    assert "data:image/png;base64," in shown
    other = gan_lab.load(run.folder)
    other.summary["verdict"] = {"sentence": "<script>x</script>"}
    assert "&lt;script&gt;x&lt;/script&gt;" in other._repr_html_()


def test_mistakes_are_exceptions_with_the_words_of_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LabError) as error:
        gan_lab.train(loss="bec")
    completed = command_here("train.py", "loss=bec", cwd=tmp_path)
    assert f"{error.value}\n" == completed.stderr
    with pytest.raises(LabError) as error:
        gan_lab.load("nowhere")
    assert error.value.code == "missing"
    assert not list(tmp_path.iterdir())


def test_samples_of_any_program_are_evaluated(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    real = run.dataset.heldout[torch.arange(150)]
    result = gan_lab.evaluate(real.numpy(), "dataset=digits", seeds=1, cache_dir=CACHE)
    assert result["verdicts"][0]["collapse"] == "covered", "real digits"
    same = gan_lab.evaluate(torch.zeros(150, 1, 8, 8), real=real, seeds=1, cache_dir=CACHE)
    assert same["verdicts"][0]["collapse"] == "collapsed", "a single image"


@pytest.mark.slow
def test_a_sweep_and_its_comparison(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = gan_lab.sweep(*TINY, loss=["mse", "bce"], seed=[0, 1], steps=5, cache_dir=CACHE)
    assert sorted(zip(result.runs["loss"], result.runs["seed"], strict=True)) == [
        ("BCE", 0),
        ("BCE", 1),
        ("MSE", 0),
        ("MSE", 1),
    ]
    assert result.report.is_file()
    again = gan_lab.compare(result.folder)
    assert again.effects.equals(result.effects)
    shown = again._repr_html_()
    primary = again.effects["sentence"].iloc[0]
    assert html.escape(f"{primary}.") in shown
    assert shown.count("data:image/svg+xml;base64,") == 2, "an effect in coverage, and one in modes"
    assert shown.count("data:image/gif;base64,") == 1, "a film of both variants"


@pytest.mark.slow
def test_a_comparison_shows_its_answers_and_only_the_runs_that_were_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        made_up(tmp_path / f"sgd_{seed}", "optim=sgd", seed, modes=2 + seed)
        made_up(tmp_path / f"adam_{seed}", "optim=adam", seed, modes=8)
    found = gan_lab.compare("sgd_0", "sgd_1", "adam_0", "adam_1")
    shown = found._repr_html_()
    assert sorted(found.runs["run"]) == ["adam_0", "adam_1", "sgd_0", "sgd_1"]
    assert "+5.5" in shown, "8 instead of the mean of 2 and 3"
    assert "data:image/svg+xml;base64," in shown


def test_images_are_packed(tmp_path):
    folder = tmp_path / "some images"
    folder.mkdir()
    for n in range(12):
        Image.new("RGB", (9, 9), (20 * n, 0, 0)).save(folder / f"{n}.png")
    packed = gan_lab.pack_images(folder, tmp_path / "packed.h5", "size=8", holdout=0.25)
    with h5py.File(packed) as file:
        assert file["train/images"].shape == (9, 8, 8, 3)
        assert file["holdout/images"].shape == (3, 8, 8, 3)
    with pytest.raises(LabError):
        gan_lab.pack_images(tmp_path / "nowhere", tmp_path / "other.h5")


def test_importing_gan_lab_does_not_import_torch():
    code = "import sys, gan_lab; print(gan_lab.__version__, 'torch' in sys.modules)"
    completed = _python("-c", code, cwd=ROOT)
    assert completed.stdout.split() == [gan_lab.__version__, "False"]


def test_the_command_gan_lab_names_the_scripts(tmp_path):
    listed = _python("-m", "gan_lab", cwd=tmp_path)
    scripts = {path.stem for path in (ROOT / "scripts").glob("*.py")} | {"train"}
    assert scripts <= set(listed.stdout.split())
    unknown = _python("-m", "gan_lab", "trian", cwd=tmp_path)
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "train" in unknown.stderr


@pytest.mark.slow
def test_the_command_gan_lab_runs_a_script(tmp_path):
    refused = _python("-m", "gan_lab", "explore", "run=nowhere", cwd=tmp_path)
    first_line = refused.stderr.splitlines()[0]
    assert (refused.returncode, first_line) == (2, "nowhere is not a run folder: it has no config.yaml.")


def _python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=cwd)
