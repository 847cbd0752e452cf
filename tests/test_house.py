"""Rules of the design, as code: imports run downward, Hydra stays at the edge, few modules step a network."""

import ast
import re
from pathlib import Path

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).resolve().parent.parent


def test_imports_run_downward():
    """The contracts are in pyproject.toml."""
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == EXIT_STATUS_SUCCESS


def test_only_a_few_modules_step_a_network():
    """Losses return tensors; modules step. (The checkpoint callback lets an optimiser step on zeros.)"""
    signs = (".backward(", "manual_backward(", "optimizer.step(", " step(optimizer)")
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
        "gan_lab/training/step_context.py",
    }


def test_no_message_writes_a_command_by_hand():
    """`gan_lab.core.command_line` quotes values for Hydra and the shell, so that a command can be pasted."""
    by_hand = []
    for file in [ROOT / "train.py", *(ROOT / "scripts").glob("*.py"), *(ROOT / "gan_lab").rglob("*.py")]:
        for text in _templates(file):
            is_command = re.search(r"(train|scripts/\w+)\.py\b.*\{\}", text)
            is_setting = re.search(r"(?<!\w)(run|runs|resume|data\.path|\w+_dir|(run|sweep)\.dir)=\{\}", text)
            if is_command or is_setting:
                by_hand.append(f"{file.relative_to(ROOT)}: {text}")
    assert not by_hand


def _templates(file: Path) -> list[str]:
    """Returns the f-strings of a module; `{}` stands for each value that isn't quoted for Hydra."""
    templates = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            pieces = []
            for piece in node.values:
                if isinstance(piece, ast.Constant):
                    pieces.append(piece.value)
                elif not ast.unparse(piece.value).startswith("hydra_text("):
                    pieces.append("{}")
            templates.append("".join(pieces))
    return templates
