"""The house's rules, as code: imports run downward, Hydra stays at the edge, files and functions stay short."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "gan_lab").rglob("*.py"))
MODULES = {".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): f for f in FILES}

# A module imports from its own floor or below. First match counts.
FLOORS = [
    ("gan_lab.core.errors", 0),
    ("gan_lab.core.rng", 0),
    ("gan_lab.gan.latent", 0),
    ("gan_lab.gan.losses", 0),
    ("gan_lab.gan.remedies", 0),
    ("gan_lab.gan.networks", 0),
    ("gan_lab.data.dataset", 0),
    ("gan_lab.evaluation.metrics.registry", 0),
    ("gan_lab.core.io", 0),
    ("gan_lab.core.terminal", 0),
    ("gan_lab.core.csv_table", 0),
    ("gan_lab.plotting.style", 0),
    ("gan_lab.core.checkpoint_file", 0),
    ("gan_lab.config.references", 0),
    ("gan_lab.config.targets", 0),
    ("gan_lab.pack.decoding", 0),
    ("gan_lab.pack.archives", 0),
    ("gan_lab.pack.labelling", 0),
    ("gan_lab.core.run_folder", 0),
    ("gan_lab.commands.published", 0),
    ("gan_lab.compare.factors", 0),
    ("gan_lab.compare.questions", 0),
    ("gan_lab.compare.resampling", 0),
    ("gan_lab.compare.effects", 0),
    ("gan_lab.compare.sentences", 0),
    ("gan_lab.plotting.plots", 1),
    ("gan_lab.compare.charts", 1),
    ("gan_lab.explore.figures", 1),
    ("gan_lab.explore.animation", 1),
    ("gan_lab.explore.reading", 1),
    ("gan_lab.explore.exhibits", 1),
    ("gan_lab.explore.vectors", 1),
    ("gan_lab.explore.request", 1),
    ("gan_lab.evaluation.classifier", 1),
    ("gan_lab.evaluation.feature_spaces", 1),
    ("gan_lab.commands.sigmoid_classifier", 1),
    ("gan_lab.preflight.inspection", 1),
    ("gan_lab.preflight.objective", 1),
    ("gan_lab.preflight.previews", 1),
    ("gan_lab.evaluation.verdict", 1),
    ("gan_lab.evaluation.aggregate", 1),
    ("gan_lab.training.cpu_threads", 1),
    ("gan_lab.training.gan_module", 1),
    ("gan_lab.training.step_log", 1),
    ("gan_lab.training.callbacks", 2),
    ("gan_lab.config.types", 3),
    ("gan_lab.config.compatibility", 3),
    ("gan_lab.config.schema", 3),
    ("gan_lab.config.launchers", 3),
    ("gan_lab.config.search", 3),
    ("gan_lab.config.sweep", 3),
    ("gan_lab.config.resume", 3),
    ("gan_lab.config.folders", 3),
    ("gan_lab.config.cli", 3),
    ("gan_lab.assembly.instantiate", 3),
    ("gan_lab.training.ddp", 3),
    ("gan_lab.assembly.build", 3),
    ("gan_lab.commands.summary", 4),
    ("gan_lab.commands.train", 4),
    ("gan_lab.commands.ddp_worker", 4),
    ("gan_lab.commands.evaluate", 4),
    ("gan_lab.preflight", 4),
    ("gan_lab.explore", 4),
    ("gan_lab.commands.backquery", 4),
    ("gan_lab.pack", 4),
    ("gan_lab.compare", 4),
    ("gan_lab.commands.results", 4),
    ("gan_lab.benchmark", 4),
    ("gan_lab", 0),
]
EDGE = ("rules", "engines", "search", "sweep", "config", "folders", "command", "parts", "build", "benchmark.step")
HYDRA = {f"gan_lab.{name}" for name in EDGE}


def _floor(module: str) -> int:
    return next(floor for prefix, floor in FLOORS if module == prefix or module.startswith(prefix + "."))


def _imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names if names <= MODULES.keys() else names | {node.module}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downward(module):
    ours = {name for name in _imports(MODULES[module]) if name in MODULES}
    assert all(_floor(name) <= _floor(module) for name in ours), ours


@pytest.mark.parametrize("module", MODULES)
def test_hydra_stays_at_the_edge(module):
    uses = any(name.split(".")[0] in {"hydra", "omegaconf"} for name in _imports(MODULES[module]))
    assert not uses or module in HYDRA


def test_every_module_stands_on_a_floor():
    assert all(any(m == p or m.startswith(p + ".") for p, _ in FLOORS[:-1]) for m in MODULES if m != "gan_lab")


@pytest.mark.parametrize(
    "file", [*FILES, ROOT / "train.py", *(ROOT / "scripts").glob("*.py")], ids=lambda file: file.name
)
def test_files_and_functions_stay_short(file):
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name


def test_only_the_gan_the_classifier_and_backquery_step():
    """Losses return tensors; modules step. (What keeps checkpoints lets an optimiser step on zeros.)"""
    signs = (".backward(", "manual_backward(", "optimizer.step(")
    stepping = {module for module, file in MODULES.items() if any(sign in file.read_text() for sign in signs)}
    assert stepping == {
        f"gan_lab.{name}"
        for name in ("gan", "classifier", "backquery", "sigmoid", "benchmark.step", "callbacks.checkpoints")
    }
