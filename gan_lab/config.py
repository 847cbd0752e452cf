"""The configuration, checked before anything heavy is imported; where a run goes; what a resumed run goes on with."""

import datetime
import fnmatch
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from gan_lab.errors import LabError
from gan_lab.runs import OUTPUTS, Run

CONF = Path(__file__).resolve().parent.parent / "conf"

RESUMABLE = {"resume", "steps", "threads"}  # what may change when a run goes on: it alters no step taken so far


@dataclass(frozen=True)
class Is:
    """What a value has to be: a `kind`, within bounds for numbers and for the entries of lists."""

    kind: type
    low: float | None = None
    high: float | None = None
    below: float | None = None
    length: int | None = None
    none: bool = False
    among: tuple[str, ...] = ()

    def fits(self, value: Any) -> bool:
        if value is None:
            return self.none
        if self.kind is list:
            return isinstance(value, list) and self.length in (None, len(value)) and all(map(self._entry().fits, value))
        if self.kind is bool or isinstance(value, bool):
            return isinstance(value, bool) and self.kind is bool
        if self.kind is str:
            return isinstance(value, str) and (not self.among or value in self.among)
        if not isinstance(value, int if self.kind is int else (int, float)):
            return False
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.below is None or value < self.below)
        )

    def _entry(self) -> "Is":
        return Is(int if self.length is None else float, self.low, self.high, self.below)

    def __str__(self) -> str:
        if self.kind is list:
            return f"a list of {f'{self.length} ' if self.length else ''}numbers, each {self._entry()}"
        name = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[self.kind]
        if self.among:
            return f"one of {', '.join(self.among)}"
        bounds = [
            f"{sign} {bound:g}"
            for sign, bound in (("≥", self.low), ("≤", self.high), ("<", self.below))
            if bound is not None
        ]
        return " ".join([name, " and ".join(bounds)]).strip() + (" or null" if self.none else "")


COUNT = Is(int, low=1)
SHARE = Is(float, low=0, below=1)

# Every value of conf/ finds its first matching pattern here (a test sees to it); other parts' keys pass.
RULES = {
    "steps": COUNT,
    "batch_size": COUNT,
    "seed": Is(int, low=0, high=2**32 - 1),
    "latent_dim": COUNT,
    "log_every": COUNT,
    "joint_d_update": Is(bool),
    "threads": COUNT,
    "data_dir": Is(str),
    "cache_dir": Is(str),
    "name": Is(str, none=True),
    "resume": Is(str, none=True),
    "run": Is(str),
    "samples": Is(int, low=1, none=True),
    "seeds": COUNT,
    "dataset.samples": Is(int, low=1, none=True),
    "dataset.modes": COUNT,
    "dataset.side": COUNT,
    "dataset.heldout": Is(float, low=0.01, high=0.9),
    "dataset.std": Is(float, low=1e-9),
    "dataset.radius": Is(float, low=0),
    "dataset.spacing": Is(float, low=0),
    "dataset.data_dir": Is(str),
    "model.channels": COUNT,
    "model.*.hidden": Is(list, low=1),
    "model.*.channels": COUNT,
    "latent.*": Is(float),
    "*negative_slope": Is(float, low=0, high=1),
    "*norm.groups": COUNT,
    "optim*.lr": Is(float, low=0),
    "optim*.betas": Is(list, low=0, below=1, length=2),
    "optim*.momentum": SHARE,
    "optim*.alpha": SHARE,
    "optim*.weight_decay": Is(float, low=0),
    "optim*.fused": Is(bool),
    "trainer.accelerator": Is(str, among=("cpu", "gpu", "cuda", "mps")),
    "trainer.devices": Is(int, low=1, high=1),
    "trainer.precision": Is(str, among=("32-true", "bf16-mixed")),
    "callbacks.*.every": COUNT,
    "callbacks.*.images": COUNT,
    "callbacks.verdict.samples": Is(int, low=1, none=True),
    "callbacks.verdict.cache_dir": Is(str),
    "callbacks.*.points": COUNT,
}


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each value of a nested dict with its dotted key, Hydra's own keys (`_target_` …) left out."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        elif not key.startswith("_"):
            yield prefix + key, value


def groups() -> set[str]:
    """The groups of conf/, Hydra's own aside."""
    return {path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra"}


def rule_of(key: str) -> Is | None:
    return next((rule for pattern, rule in RULES.items() if fnmatch.fnmatchcase(key, pattern)), None)


def check(cfg: DictConfig) -> None:
    """Refuses keys that nobody reads, values of the wrong type or out of bounds, and combinations that can't work.

    Raises:
        LabError: naming each key, its value and what it has to be.
    """
    values: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]
    if missing := [key for key, value in values.items() if value == "???"]:
        raise LabError(f"{missing[0]} is missing.", f"Say {missing[0]}=…; --help lists the keys.")
    if unknown := sorted(values.keys() - {pattern.partition(".")[0] for pattern in RULES} - groups()):
        raise LabError(f"Nothing reads the key {', '.join(unknown)}.", "python train.py --help lists the keys.")
    if "steps" in values:
        _check_parts(values)
    wrong = [
        f"{key}={'null' if value is None else value} won't do: {key} has to be {rule}."
        for key, value in leaves(values)
        if (rule := rule_of(key))
        and not OmegaConf.is_interpolation(OmegaConf.create({"v": value}), "v")
        and not rule.fits(value)
    ]
    if wrong:
        raise LabError("\n".join(wrong))
    if values.get("norm", {}).get("_target_", "").endswith(".BatchNorm") and values["batch_size"] == 1:
        raise LabError(
            "norm=batch can't work with batch_size=1: the statistics of a batch of one are the sample itself.",
            "Take batch_size=2 or more, or norm=layer, which looks at each sample alone.",
        )
    latent = values.get("latent", {})
    low, high = latent.get("low", 0), latent.get("high", 1)
    if low >= high:
        raise LabError(f"latent.low={low} has to be below latent.high={high}.")


def _check_parts(values: dict[str, Any]) -> None:
    """Every group of a training is there, and every callback and logger can be made."""
    for group in sorted(groups() - {"experiment"}):
        if not isinstance(values.get(group), dict):
            raise LabError(
                f"{group} is left out, but a training needs it.", "python train.py --help lists its options."
            )
    for group in ("callbacks", "logger"):
        for name, entry in values[group].items():
            if not isinstance(entry, dict) or "_target_" not in entry:
                raise LabError(f"{group}.{name} names nothing that can be made.", f"Leave it out with ~{group}.{name}.")


@contextmanager
def starting(cfg: DictConfig) -> Iterator[tuple[DictConfig, Run]]:
    """Checks a command's configuration and gives it with the run's folder; if starting fails, nothing of it is left.

    With `resume` the configuration is the run's own, and the folder keeps whatever it held.

    Raises:
        LabError: see `check`; for overrides that would make a resumed run another one; for a folder in use.
    """
    hydra = HydraConfig.get()
    if cfg.resume:
        check(cfg)
        cfg, run = _of_run(cfg, hydra.overrides.task), Run.existing(cfg.resume)
        yield cfg, run
        run.write_config(OmegaConf.to_yaml(cfg))
        return
    run = Run.new(hydra.runtime.output_dir, OmegaConf.to_yaml(cfg))
    try:
        check(cfg)
        yield cfg, run
    except BaseException:
        run.discard()
        raise


def refuse_taken_folder(arguments: Sequence[str]) -> None:
    """Refuses `hydra.run.dir=<a run>` before Hydra writes there.

    Raises:
        LabError: if that folder holds a run.
    """
    for argument in arguments:
        if argument.startswith("hydra.run.dir="):
            Run(argument.partition("=")[2]).refuse_if_taken()


def _of_run(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    stored = OmegaConf.load(Run.existing(cfg.resume).config)
    assert isinstance(stored, DictConfig)
    for override in overrides:
        key = override.split("=")[0].lstrip("+~")
        if key not in RESUMABLE:
            raise LabError(
                f"A resumed run goes on with its own settings; {override} would change them.",
                f"Leave it out (only {', '.join(sorted(RESUMABLE - {'resume'}))} may change), or start a new run.",
            )
        if key != "resume":
            stored[key] = cfg[key]
    return stored


# hydra.run.dir and its kin: where a run goes is said in conf/train.yaml by these names.

_STARTED = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S") + "_" + secrets.token_hex(3)  # unique in any second


def _label(name: str | None, experiment: str | None, dataset: str) -> Path:
    return Path(OUTPUTS) / (name or experiment or dataset)


def _run_folder(resume: str | None, name: str | None, experiment: str | None, dataset: str) -> str:
    return str(Run.existing(resume).folder if resume else _label(name, experiment, dataset) / _STARTED)


def _sweep_folder(name: str | None, experiment: str | None, dataset: str) -> str:
    return str(_label(name, experiment, dataset) / f"sweep_{_STARTED}")


def register_resolvers() -> None:
    OmegaConf.register_new_resolver("run_folder", _run_folder, replace=True)
    OmegaConf.register_new_resolver("sweep_folder", _sweep_folder, replace=True)
    OmegaConf.register_new_resolver("config_folder", lambda resume: None if resume else ".hydra", replace=True)
