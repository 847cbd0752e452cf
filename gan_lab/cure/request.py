"""What the user of scripts/cure.py asks for."""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gan_lab.config.experiment_file import experiment_text, key_of_override
from gan_lab.config.launchers import available_cores
from gan_lab.config.schema import scope_of
from gan_lab.core.command_line import hydra_text
from gan_lab.core.errors import LabError
from gan_lab.core.io import relative_path
from gan_lab.core.run_folder import OUTPUTS
from gan_lab.cure.plan import MIN_SEEDS

BUDGET = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)")
UNITS = {"s": 1, "m": 60, "h": 3600}
# The cure decides these for each training.
REFUSED = (
    *("replicas", "name", "resume"),
    *("hydra.run.dir", "hydra.sweep.dir", "hydra.mode", "hydra.searchpath", "hydra/sweeper", "hydra.sweeper"),
)
# Arguments that belong to every training, and don't describe one.
OF_ALL = ("hydra", "trust")
LAUNCHER = "hydra/launcher="
# What may be said beside run=: where things lie and what computes them. What is trained, the run says.
BESIDE_RUN = ("place", "machine")
# Launchers that use this machine's cores, as Ray does without the address of a cluster; others run as many jobs as a
# cluster has room for.
LOCAL = ("local", "joblib")
RAY = "ray"
RAY_ADDRESS = "hydra.launcher.ray.init.address="
ONE_BY_ONE = ("basic",)
CLUSTER_WORKERS = 32


@dataclass(frozen=True)
class Request:
    """What is to be cured, in which time.

    Attributes:
        run: the folder of the patient; None if it is yet to be trained.
        overrides: of the patient's training; with `run`, further arguments.
        budget: '30m'.
        seeds: of each arm of the proof; None: as many as the budget allows.
        target: the folder of the cure; None: beside the run, or below outputs/.
        config_folder: that the command line adds to conf/; None without one.

    Raises:
        LabError: for a budget that is no time, too few seeds for a proof, an override that the cure decides itself, one
            that can't be part of an experiment, and another setting of a run that is trained already.
    """

    run: str | None
    overrides: list[str]
    budget: str
    seeds: int | None
    target: str | None
    config_folder: Path | None = None

    def __post_init__(self) -> None:
        match = BUDGET.fullmatch(self.budget)
        if match is None or not float(match[1]):
            raise LabError(f"budget={self.budget} is no time.", "Say budget=10m, 90s or 1.5h.", key="budget")
        if self.seeds is not None and self.seeds < MIN_SEEDS:
            raise LabError(
                f"seeds={self.seeds} can't prove anything: the smallest possible p of so few is above 0.05.",
                f"Say seeds={MIN_SEEDS} or more.",
                key="seeds",
            )
        for override in self.overrides:
            key = key_of_override(override)
            if key in REFUSED:
                raise LabError(f"{override}: the cure decides this.", "Leave it out.", code="conflict", key=key)
            if self.run is not None and not key.startswith(OF_ALL) and scope_of(key) not in BESIDE_RUN:
                raise LabError(
                    f"{override}: a run has its own settings.",
                    "Leave it out, or leave run=… out and name all settings.",
                    code="conflict",
                    key=key,
                )
        # Refuses now what can't be part of an experiment.
        experiment_text(self.patient_overrides, "patient")

    @property
    def seconds(self) -> float:
        """The budget in seconds."""
        match = BUDGET.fullmatch(self.budget)
        assert match
        return float(match[1]) * UNITS[match[2]]

    @property
    def arguments(self) -> list[str]:
        """The command line of the cure, as cure.json keeps it."""
        arguments = []
        if self.config_folder is not None:
            arguments.append(f"--config-dir={self.config_folder}")
        if self.run is not None:
            arguments.append(f"run={hydra_text(self.run)}")
        arguments += [*self.overrides, f"budget={self.budget}", f"seeds={self.seeds or 'auto'}"]
        if self.target is not None:
            arguments.append(f"target={hydra_text(self.target)}")
        return arguments

    @property
    def digest(self) -> int:
        """A number that tells this cure from others."""
        run = os.path.abspath(self.run) if self.run else ""
        parts = [run, *self.overrides, self.budget, str(self.seeds)]
        content = "\n".join(parts).encode(errors="surrogateescape")
        return int(hashlib.sha256(content).hexdigest()[:6], 16)

    @property
    def folder(self) -> Path:
        """Where everything goes; the same command finds it again."""
        if self.target:
            return Path(self.target)
        if self.run:
            run = Path(os.path.abspath(self.run))
            return relative_path(run.parent / f"cure_{run.name}_{self.digest:06x}")
        chosen = dict(override.partition("=")[::2] for override in self.overrides)
        name = chosen.get("experiment") or chosen.get("dataset") or "digits"
        return Path(OUTPUTS) / re.sub(r"[^\w.-]+", "-", name).strip("-") / f"cure_{self.digest:06x}"

    @property
    def patient_overrides(self) -> list[str]:
        """Those overrides that describe the patient."""
        return [override for override in self.overrides if not override.startswith(OF_ALL)]

    @property
    def options_of_train(self) -> list[str]:
        """What a training needs besides its settings to find and trust the user's own parts."""
        folder = [] if self.config_folder is None else [f"--config-dir={self.config_folder}"]
        return [*folder, *(override for override in self.overrides if override.startswith("trust"))]

    @property
    def common_arguments(self) -> list[str]:
        """Arguments of all trainings: `--config-dir`, launcher, trust."""
        arguments = self.options_of_train
        arguments += [override for override in self.overrides if override.startswith("hydra")]
        if not _launcher(self.overrides):
            arguments.append(f"{LAUNCHER}{LOCAL[0]}")
        return arguments

    @property
    def workers(self) -> int:
        """How many trainings run at the same time; of a cluster a guess."""
        launcher = _launcher(self.overrides) or LOCAL[0]
        is_elsewhere = any(override.startswith(RAY_ADDRESS) for override in self.overrides)
        if launcher in LOCAL or (launcher == RAY and not is_elsewhere):
            return min(available_cores(), _number_of_jobs(self.overrides))
        return 1 if launcher in ONE_BY_ONE else CLUSTER_WORKERS


def _launcher(overrides: Sequence[str]) -> str:
    """Returns the name of the launcher that overrides choose; "" if they choose none."""
    names = [override.removeprefix(LAUNCHER) for override in overrides if override.startswith(LAUNCHER)]
    return names[-1] if names else ""


def _number_of_jobs(overrides: Sequence[str]) -> int:
    """Returns how many jobs the local launcher may run at once; without a number as many as a cluster."""
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "hydra.launcher.n_jobs" and value.isdecimal() and int(value):
            return int(value)
    return CLUSTER_WORKERS
