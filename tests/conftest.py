"""Fixtures: composed configurations, tiny trainings, and real MNIST where there is some."""

import functools
import io
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import h5py
import hydra
import numpy as np
import pytest
import torch
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_lab.assembly.build import Training, build, prepare_libraries
from gan_lab.config.arguments import refuse_arguments
from gan_lab.config.check import check
from gan_lab.config.refusals import explain
from gan_lab.config.resume import resolve_defaults
from gan_lab.config.targets import CONF, groups
from gan_lab.core.errors import LabError
from gan_lab.core.io import atomic
from gan_lab.core.run_folder import Run
from gan_lab.data import color, images
from gan_lab.data.dataset import Dataset, Part
from gan_lab.data.layout import FORMAT, VERSION

ROOT = Path(__file__).resolve().parent.parent
prepare_libraries()

OPTIONS = [
    (group, file.relative_to(CONF / group).with_suffix("").as_posix())
    for group in sorted(groups())
    for file in sorted((CONF / group).rglob("*.yaml"))
]
LITTLE, FACES = (ROOT / ".cache" / "tests" / f"little_{name}.{VERSION}.h5" for name in ("images", "faces"))
PARTNERS = {  # what an option needs beside it
    "conv": ["dataset=mnist"],
    "dcgan": ["dataset=mnist"],
    "instance": ["dataset=mnist", "model=conv"],
    "images": [f"data.path={LITTLE}"],
    "celeba": [f"data.path={LITTLE}"],
    "conv_book": ["dataset=images", f"data.path={FACES}"],
    "book/faces_conv": [f"data.path={FACES}", "model.channels=8"],
    "book/faces_mlp": [f"data.path={FACES}"],
    "best/stacked_mnist": ["dataset.samples=300", "batch_size=4", "model.channels=4"],
    "paper/veegan_stacked_mnist": ["dataset.samples=300", "model.channels=4"],
    "best/stacked_digits": ["dataset.samples=300"],
    "paper/r3gan_stacked_mnist": ["dataset.samples=300", "batch_size=4", "model.channels=4"],
}


def small(group: str, option: str) -> list[str]:
    """Overrides that choose an option, and what it needs, for a tiny training, of `little_images`."""
    overrides = ["batch_size=4", "callbacks.pictures.points=20", "callbacks.verdict.samples=200"]
    overrides += [*PARTNERS.get(option, ()), f"{group}={option}"]
    if {f"model={network}" for network in ("conv", "conv_book", "dcgan", "resnet", "resnet_r3gan")} & set(overrides):
        overrides += ["model.channels=8", "callbacks.verdict.samples=50"]
    else:
        overrides += ["model.generator.hidden=[16]", "model.discriminator.hidden=[16]"]
    return overrides + ["dataset.samples=300"] * option.startswith(("stacked", "patches"))


def compose(*overrides: str) -> DictConfig:
    """train.yaml with overrides, as the command line would give it, checked."""
    return _composed(overrides)[1].copy()


def config_yaml(*overrides: str) -> str:
    """The config.yaml of a run that was started with these overrides."""
    return OmegaConf.to_yaml(_composed(overrides)[0])


@functools.cache
def _composed(overrides: tuple[str, ...]) -> tuple[DictConfig, DictConfig]:
    """The same with its references, as a run keeps it, and with what they stand for, as a training is built from it."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("train", list(overrides))
    resolve_defaults(cfg, overrides)
    return cfg, check(cfg)


@contextmanager
def refused(code: str, key: str = "") -> Iterator[pytest.ExceptionInfo[LabError]]:
    """Expects a LabError of this code about this key; tests/test_messages.py looks at the words."""
    with pytest.raises(LabError) as error:
        yield error
    assert (error.value.code, error.value.key) == (code, key), error.value


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
    """A cache_dir that the tests share, so that each evaluator is trained once."""
    return str(ROOT / ".cache" / "tests")


def training(folder: Path, *overrides: str) -> tuple[Training, Run]:
    """What `train.py` builds for these overrides, without a terminal; in the folder of a run, what goes on with it."""
    kept, cfg = _composed((f"cache_dir={classifier_cache()}", *overrides, "~callbacks.progress"))
    run = Run(folder)
    if run.config.exists():
        run.claim()
    else:
        run = Run.new(folder, OmegaConf.to_yaml(kept))
    return build(cfg.copy(), run), run


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
    """Runs a script of the repository in this process, which has loaded torch already; its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HYDRA_FULL_ERROR", raising=False)
        patch.setattr(sys, "argv", [str(ROOT / script), *arguments])
        patch.setattr("urllib.request._opener", None)  # it keeps the proxies of the first download
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0)
        finally:
            os.environ.pop("HYDRA_FULL_ERROR", None)  # the command sets it
    return 0


def command_here(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`command` in this process: seconds less."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
        patch.chdir(cwd)
        for name, value in environment.items():
            patch.setenv(name, value)
        status = run_here(*arguments)
    return subprocess.CompletedProcess(arguments, status, stdout.getvalue(), stderr.getvalue())


def mnist_folder() -> Path | None:
    """A data_dir that holds real MNIST, if there is one."""
    places = [Path(os.environ.get("GAN_LAB_DATA", "data")), ROOT / "data", ROOT.parent / "shared" / "data" / "mnist"]
    return next((place for place in places if (place / "MNIST" / "raw").is_dir()), None)


@pytest.fixture(scope="session")
def mnist_dir() -> str:
    """A data_dir that holds real MNIST."""
    folder = mnist_folder()
    if folder is None:
        pytest.skip("no MNIST here: put it into data/MNIST/raw or name its data_dir in GAN_LAB_DATA")
    return str(folder.resolve())


@pytest.fixture
def little_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for what is downloaded or packed: its shape, a few samples, the same each time."""

    def few(*shape: int) -> Dataset:
        pixels = torch.randint(256, (30, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        part = Part(pixels, torch.arange(30) % 10)
        return Dataset(part, part, classes=list("0123456789"))

    monkeypatch.setattr(images, "mnist_like", lambda *_: few(1, 28, 28))
    monkeypatch.setattr(color, "cifar_like", lambda *_: few(3, 32, 32))
    for path, side in ((LITTLE, 8), (FACES, 50)):
        if not path.is_file():
            pack(path, np.random.default_rng(0).integers(256, size=(30, side, side, 3), dtype=np.uint8))


def pack(path: Path, train: np.ndarray, holdout: np.ndarray | None = None, **options: Any) -> Path:
    """A packed file of images `(N, H, W, C)`; without `holdout` the same ones are held out, too.

    Args:
        options: `labels=…` for both, `classes=[…]`, and what `h5py.Group.create_dataset` takes for the images.
    """
    labels, classes = options.pop("labels", None), options.pop("classes", [])
    with atomic(path) as half, h5py.File(half, "w") as file:
        file.attrs.update({"format": FORMAT, "format_version": VERSION, "classes": json.dumps(classes)})
        for name, values in (("train", train), ("holdout", train if holdout is None else holdout)):
            file.create_dataset(f"{name}/images", data=values, **options)
            if labels is not None:
                file[f"{name}/labels"] = labels
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Makes a file system of its own, of so many KiB: `small_disk(200)` gives its folder."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(kib: int, *options: str) -> Path:
        size = ",".join([f"size={kib}k", *options])
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"can't mount a small file system here: {done.stderr.strip()}")
        return folder

    if os.name != "posix" or not Path("/bin/mount").exists():
        pytest.skip("needs mount")
    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True)


@pytest.fixture
def optimiser_steps() -> Callable[[Training], list[tuple[str, dict[str, torch.Tensor], dict[str, torch.Tensor]]]]:
    """Makes a training keep D's and G's weights after each optimiser step: a list of (whose step, D's, G's)."""

    def watch(made: Training) -> list[tuple[str, dict[str, torch.Tensor], dict[str, torch.Tensor]]]:
        module, seen = made.module, []

        def weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
            return {name: p.detach().clone() for name, p in network.named_parameters()}

        def watched(make: Callable, name: str) -> Callable:
            def made_optimiser(parameters):
                optimiser = make(parameters)
                optimiser.register_step_post_hook(
                    lambda *_: seen.append((name, weights(module.discriminator), weights(module.generator)))
                )
                return optimiser

            return made_optimiser

        seen.append(("start", weights(module.discriminator), weights(module.generator)))
        module.optim_d, module.optim_g = watched(module.optim_d, "D"), watched(module.optim_g, "G")
        return seen

    return watch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups, which one worker plays alone, come first: at the end the other worker would wait for them."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)
