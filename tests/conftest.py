"""What all tests share: composed configurations, tiny trainings, commands, and real MNIST where there is some."""

import copy
import dataclasses
import functools
import gc
import http.server
import importlib.util
import io
import json
import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import h5py
import hydra
import numpy as np
import pytest
import torch
from filelock import FileLock
from hydra._internal.sources_registry import SourcesRegistry
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from PIL import Image

from gan_lab.assembly.build import Training, build, prepare_libraries
from gan_lab.commands import train
from gan_lab.config.arguments import refuse_arguments
from gan_lab.config.check import check
from gan_lab.config.config_files import register_config_files
from gan_lab.config.refusals import explain
from gan_lab.config.resume import resolve_defaults
from gan_lab.config.targets import CONF, groups
from gan_lab.core import interrupts
from gan_lab.core.errors import LabError
from gan_lab.core.io import atomic
from gan_lab.core.run_folder import Run
from gan_lab.data import color, images
from gan_lab.data.dataset import Dataset, Part
from gan_lab.data.layout import FORMAT, VERSION
from gan_lab.evaluation import readers, verdict
from gan_lab.plotting.style import Figure
from gan_lab.training.callbacks import loss_curves, sample_grids
from gan_lab.training.compiled.engine import compile_step
from gan_lab.training.gan_module import GANModule

ROOT = Path(__file__).resolve().parent.parent
prepare_libraries()


def _parse_hydra_conf_once() -> None:
    """Lets Hydra parse each of its own YAML files once per process, as gan_lab does with those of conf/."""
    register_config_files()
    source = SourcesRegistry.instance().resolve("pkg")
    parse = source.load_config
    files: dict[tuple[str, str], ConfigResult] = {}

    def load_config(self: ConfigSource, config_path: str) -> ConfigResult:
        key = (self.path, config_path)
        if key not in files:
            files[key] = parse(self, config_path)
        # Hydra changes what it gets.
        return copy.deepcopy(files[key])

    source.load_config = load_config


_parse_hydra_conf_once()


def pytest_collection_finish() -> None:
    """Compiles the step, unless that was done before, so that no test has to wait for it; the other process waits here.

    Then takes what has been imported out of the garbage collector's sight: it would look at all of it many times.
    """
    cache = ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    with FileLock(cache / "compile.lock"):
        compile_step(torch.float32)
    gc.collect()
    gc.freeze()


def _options() -> list[tuple[str, str]]:
    options = []
    for group in sorted(groups()):
        for file in sorted((CONF / group).rglob("*.yaml")):
            options.append((group, file.relative_to(CONF / group).with_suffix("").as_posix()))
    return options


# Every option of every group of conf/: (group, option).
OPTIONS = _options()
# Options of the group remedy that set the others, and those others.
STRENGTHS = ("weak", "strong")
REMEDIES = [option for group, option in OPTIONS if group == "remedy" and option not in STRENGTHS]
# Remedies that can't be combined with each other.
CONFLICTING_REMEDIES = [
    ("minibatch_discrimination", "minibatch_stddev"),
    ("decay", "exponential_decay"),
    ("feature_matching", "top_k"),
    ("feature_matching", "unrolled"),
]
# Options of the group logger that need further packages; tests/training/test_trackers.py trains with them.
TRACKERS = ("wandb", "mlflow", "trackio")
# Packed files that stand in for CelebA and the like; made by `little_images`.
LITTLE = ROOT / ".cache" / "tests" / f"little_images.{VERSION}.h5"
FACES = ROOT / ".cache" / "tests" / f"little_faces.{VERSION}.h5"
# Further overrides that an option needs.
PARTNERS = {
    "conv": ["dataset=mnist"],
    "dcgan": ["dataset=mnist"],
    "instance": ["dataset=mnist", "model=conv"],
    "images": [f"data.path={LITTLE}"],
    "celeba": [f"data.path={LITTLE}"],
    "conv_book": ["dataset=images", f"data.path={FACES}"],
    "book/faces_conv": [f"data.path={FACES}", "model.channels=8"],
    "book/faces_mlp": [f"data.path={FACES}"],
    "best/stacked_mnist": ["dataset.samples=300", "batch_size=4", "callbacks.verdict.quick_samples=60"],
    "paper/veegan_stacked_mnist": ["dataset.samples=300", "model.channels=4"],
    "best/stacked_digits": ["dataset.samples=300"],
    "paper/r3gan_stacked_mnist": ["dataset.samples=300", "batch_size=4", "model.channels=4"],
}


CONVOLUTIONAL = {"conv", "conv_book", "dcgan", "resnet"}

# Overrides for a tiny training that neither draws nor evaluates.
BARE = (
    "logger=table",
    "~callbacks.verdict",
    "~callbacks.pictures",
    "~callbacks.curves",
    "batch_size=4",
    "latent_dim=3",
)


def small(group: str, option: str) -> list[str]:
    """Returns overrides for a tiny training that uses an option; its data are those of `little_images`."""
    overrides = ["batch_size=4", "callbacks.pictures.points=20", "callbacks.verdict.samples=200"]
    overrides += [*PARTNERS.get(option, ()), f"{group}={option}"]
    if any(f"model={network}" in overrides for network in CONVOLUTIONAL):
        overrides += ["model.channels=8", "callbacks.verdict.samples=50"]
    else:
        overrides += ["model.generator.hidden=[16]", "model.discriminator.hidden=[16]"]
    if option.startswith(("stacked", "patches")):
        overrides.append("dataset.samples=300")
    return overrides


def compose(*overrides: str) -> DictConfig:
    """Composes train.yaml with overrides as the command line would, and checks it."""
    _, resolved = _composed(overrides)
    return resolved.copy()


def config_yaml(*overrides: str) -> str:
    """Returns the config.yaml of a run that was started with these overrides."""
    with_references, _ = _composed(overrides)
    return OmegaConf.to_yaml(with_references)


@functools.cache
def _composed(overrides: tuple[str, ...]) -> tuple[DictConfig, DictConfig]:
    """Returns the configuration with its references, as config.yaml has it, and resolved, as training needs it."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("train", list(overrides))
    resolve_defaults(cfg, overrides)
    return cfg, check(cfg)


@contextmanager
def refused(code: str, key: str = "") -> Iterator[pytest.ExceptionInfo[LabError]]:
    """Expects a LabError with this code and key; tests/test_messages.py looks at the wording."""
    with pytest.raises(LabError) as error:
        yield error
    assert (error.value.code, error.value.key) == (code, key), error.value


@pytest.fixture(scope="module")
def undrawn() -> Iterator[None]:
    """Writes an image of one pixel in place of every figure, and no film and no page: for tests that look at none.

    Drawing takes most of the time of a tiny training.
    """
    content = io.BytesIO()
    Image.new("L", (1, 1)).save(content, "png")

    def write(_: Figure, file: Path | io.BytesIO, **__: object) -> None:
        write_bytes = file.write_bytes if isinstance(file, Path) else file.write
        write_bytes(content.getvalue())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", write)
        patch.setattr(loss_curves, "loss_curves", lambda *_: Figure())
        patch.setattr(loss_curves, "score_curves", lambda *_: Figure())
        patch.setattr(loss_curves, "mode_curves", lambda *_: Figure())
        patch.setattr(sample_grids, "draw_answers", lambda *_: Figure())
        patch.setattr(train, "write_film", lambda *_: None)
        patch.setattr(train, "write_run_page", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def quick_verdict() -> Iterator[None]:
    """Lets the verdict compare few samples, for tests that don't look at its numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verdict, "MAX_COMPARED", 100)
        patch.setattr(verdict, "MAX_TRAIN_IMAGES", 500)
        patch.setattr(verdict, "MAX_SHUFFLED", 500)
        patch.setattr(readers, "MAX_TRAIN", 500)
        patch.setattr(readers, "MAX_HELDOUT", 100)
        yield


def refusal(*overrides: str) -> LabError:
    """Returns what `train.py` answers to overrides that it refuses before it builds anything."""
    try:
        refuse_arguments(overrides)
        compose(*overrides)
    except (LabError, HydraException, OmegaConfBaseException) as error:
        explanation = explain(error, "train", overrides)
        assert explanation is not None
        return explanation
    pytest.fail(f"{' '.join(overrides)} is accepted")


def classifier_cache() -> str:
    """Returns a cache_dir that all tests share, so that each label classifier is trained once."""
    return str(ROOT / ".cache" / "tests")


def training(folder: Path, *overrides: str) -> tuple[Training, Run]:
    """Builds what `train.py` builds for these overrides, without a progress bar.

    In the folder of a run it builds what resumes that run.
    """
    cfg, resolved = _composed((f"cache_dir={classifier_cache()}", *overrides, "~callbacks.progress"))
    run = Run(folder)
    if run.config.exists():
        run.claim()
    else:
        run = Run.new(folder, OmegaConf.to_yaml(cfg))
    return build(resolved.copy(), run), run


def command(*arguments: str, cwd: Path, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a script of the repository as a user would, e.g. `command("train.py", "steps=3", cwd=tmp_path)`."""
    script, *rest = arguments
    return subprocess.run(
        [sys.executable, str(ROOT / script), *rest],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **environment},
    )


def run_here(script: str, *arguments: str) -> int:
    """Runs a script of the repository in this process, which has imported torch already; returns its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HYDRA_FULL_ERROR", raising=False)
        patch.setattr(sys, "argv", [str(ROOT / script), *arguments])
        # urllib stores the proxies of the first download here.
        patch.setattr("urllib.request._opener", None)
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0)
        finally:
            # The command sets it, and watches for signals.
            os.environ.pop("HYDRA_FULL_ERROR", None)
            interrupts.forget()
    return 0


def command_here(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Does the same as `command`, but in this process, which takes seconds less."""
    stdout = io.StringIO()
    stderr = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
        patch.chdir(cwd)
        for name, value in environment.items():
            patch.setenv(name, value)
        status = run_here(*arguments)
    return subprocess.CompletedProcess(arguments, status, stdout.getvalue(), stderr.getvalue())


def command_main(script: str) -> Callable[[], None]:
    """Returns the `main` of a script of the repository, e.g. "scripts/pack.py"; it reads `sys.argv`."""
    path = ROOT / script
    spec = importlib.util.spec_from_file_location(f"command_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def mnist_folder() -> Path | None:
    """Returns a data_dir that holds real MNIST, if there is one."""
    candidates = [
        Path(os.environ.get("GAN_LAB_DATA", "data")),
        ROOT / "data",
        ROOT.parent / "shared" / "data" / "mnist",
    ]
    for folder in candidates:
        if (folder / "MNIST" / "raw").is_dir():
            return folder
    return None


@pytest.fixture(scope="session")
def mnist_dir() -> str:
    """A data_dir that holds real MNIST."""
    folder = mnist_folder()
    if folder is None:
        pytest.skip("no MNIST here: put it into data/MNIST/raw or name its data_dir in GAN_LAB_DATA")
    return str(folder.resolve())


@pytest.fixture
def little_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces data that are downloaded or packed by 30 random images of the same shape, the same each time."""

    def few(*shape: int) -> Dataset:
        pixels = torch.randint(256, (30, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        part = Part(pixels, torch.arange(30) % 10)
        return Dataset(part, part, classes=list("0123456789"))

    monkeypatch.setattr(images, "mnist_like", lambda *_: few(1, 28, 28))
    monkeypatch.setattr(color, "cifar_like", lambda *_: few(3, 32, 32))
    for path, side in ((LITTLE, 8), (FACES, 50)):
        if not path.is_file():
            random = np.random.default_rng(0)
            make_packed_file(path, random.integers(256, size=(30, side, side, 3), dtype=np.uint8))


def make_packed_file(
    path: Path,
    train: np.ndarray,
    holdout: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    classes: Sequence[str] = (),
    **storage: Any,
) -> Path:
    """Writes a packed file.

    Args:
        path: where.
        train: images `(N, H, W, C)`.
        holdout: images; None for the same as `train`.
        labels: `(N,)`, the same for both parts.
        classes: names.
        storage: what `h5py.Group.create_dataset` takes for the images.
    """
    parts = {"train": train, "holdout": train if holdout is None else holdout}
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update({"format": FORMAT, "format_version": VERSION, "classes": json.dumps(list(classes))})
        for name, values in parts.items():
            file.create_dataset(f"{name}/images", data=values, **storage)
            if labels is not None:
                file[f"{name}/labels"] = labels
    return path


class _SilentHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """Serves a folder on this machine, and gives its address, with a / at the end."""
    handler = functools.partial(_SilentHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a file system of so many KiB: `small_disk(200)` returns its folder."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(kib: int, *options: str) -> Path:
        all_options = ",".join([f"size={kib}k", *options])
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", all_options, "tmpfs", str(folder)], capture_output=True, text=True
        )
        if mounted.returncode:
            pytest.skip(f"can't mount a small file system here: {mounted.stderr.strip()}")
        return folder

    if os.name != "posix" or not Path("/bin/mount").exists():
        pytest.skip("needs mount")
    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True)


Weights = dict[str, torch.Tensor]


def use_loss(module: GANModule, loss: Any) -> None:
    """Trains a module with another loss from now on."""
    module.apply_settings(dataclasses.replace(module.settings, loss=loss))


@pytest.fixture
def optimiser_steps() -> Callable[[Training], list[tuple[str, Weights, Weights]]]:
    """Makes a training record D's and G's weights at the start and after each optimiser step.

    `optimiser_steps(training)` returns a list that grows; an entry is "start", "D" or "G", and D's and G's weights.
    """

    def weights(network: torch.nn.Module) -> Weights:
        return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}

    def record(built: Training) -> list[tuple[str, Weights, Weights]]:
        module = built.module
        steps: list[tuple[str, Weights, Weights]] = []

        def append(name: str) -> None:
            steps.append((name, weights(module.discriminator), weights(module.generator)))

        def recording(make_optimiser: Callable, name: str) -> Callable:
            def make(parameters):
                optimiser = make_optimiser(parameters)
                optimiser.register_step_post_hook(lambda *_: append(name))
                return optimiser

            return make

        append("start")
        optim_d = recording(module.settings.optim_d, "D")
        optim_g = recording(module.settings.optim_g, "G")
        module.apply_settings(dataclasses.replace(module.settings, optim_d=optim_d, optim_g=optim_g))
        return steps

    return record


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts groups, which only one worker runs, first: at the end the other worker would wait for them."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)
