"""The house's rules, as code: imports run downward, Hydra stays at the edge, only a few modules step a network."""

from pathlib import Path

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).resolve().parent.parent


def test_imports_run_downward():
    """The contracts stand in pyproject.toml."""
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == EXIT_STATUS_SUCCESS


def test_only_a_few_modules_step_a_network():
    """Losses return tensors; modules step. (What keeps checkpoints lets an optimiser step on zeros.)"""
    signs = (".backward(", "manual_backward(", "optimizer.step(")
    stepping = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "gan_lab").rglob("*.py")
        if any(sign in file.read_text(encoding="utf-8") for sign in signs)
    }
    assert stepping == {
        "gan_lab/benchmark/step.py",
        "gan_lab/commands/backquery.py",
        "gan_lab/commands/sigmoid_classifier.py",
        "gan_lab/evaluation/classifier.py",
        "gan_lab/training/callbacks/checkpoints.py",
        "gan_lab/training/gan_module.py",
    }
