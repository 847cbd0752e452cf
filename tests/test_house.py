"""Rules of the design, as code: imports run downward, Hydra stays at the edge, few modules step a network."""

from pathlib import Path

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).resolve().parent.parent


def test_imports_run_downward():
    """The contracts are in pyproject.toml."""
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == EXIT_STATUS_SUCCESS


def test_only_a_few_modules_step_a_network():
    """Losses return tensors; modules step. (The checkpoint callback lets an optimiser step on zeros.)"""
    signs = (".backward(", "manual_backward(", "optimizer.step(")
    stepping = set()
    for file in (ROOT / "gan_lab").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if any(sign in text for sign in signs):
            stepping.add(file.relative_to(ROOT).as_posix())
    assert stepping == {
        "gan_lab/benchmark/step.py",
        "gan_lab/commands/backquery.py",
        "gan_lab/commands/sigmoid_classifier.py",
        "gan_lab/evaluation/classifier.py",
        "gan_lab/training/callbacks/checkpoints.py",
        "gan_lab/training/gan_module.py",
    }
