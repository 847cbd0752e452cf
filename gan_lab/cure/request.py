"""What the user of scripts/cure.py asks for."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gan_lab.config.experiment_file import key_of_override
from gan_lab.config.launchers import available_cores
from gan_lab.core.command_line import setting
from gan_lab.core.errors import LabError
from gan_lab.core.run_folder import OUTPUTS
from gan_lab.cure.plan import MIN_SEEDS

BUDGET = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)")
UNITS = {"s": 1, "m": 60, "h": 3600}
# The cure decides these for each training.
REFUSED = ("replicas", "name", "resume", "hydra.run.dir", "hydra.sweep.dir", "hydra.mode")
# Arguments that belong to every training, and don't describe one.
OF_ALL = ("hydra", "trust")
LAUNCHER = "hydra/launcher="
# Launchers of this machine; that of a cluster runs as many jobs as it has room for.
LOCAL = ("local", "joblib")
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
        LabError: for a budget that is no time, too few seeds for a proof, and an override that the cure decides itself.
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
            if key_of_override(override) in REFUSED:
                raise LabError(
                    f"{override}: the cure decides this for each training.", "Leave it out.", code="conflict"
                )

    @property
    def seconds(self) -> float:
        """The budget in seconds."""
        match = BUDGET.fullmatch(self.budget)
        assert match
        return float(match[1]) * UNITS[match[2]]

    @property
    def arguments(self) -> list[str]:
        """The command line that describes the cure, as cure.json keeps it."""
        run = [] if self.run is None else [setting("run", self.run)]
        return [*run, *self.overrides, f"budget={self.budget}", f"seeds={self.seeds or 'auto'}"]

    @property
    def folder(self) -> Path:
        """Where everything goes; the same command finds it again."""
        if self.target:
            return Path(self.target)
        digest = hashlib.sha256("\n".join(self.arguments).encode(errors="surrogateescape")).hexdigest()[:6]
        if self.run:
            run = Path(self.run)
            return run.parent / f"cure_{run.name}_{digest}"
        chosen = dict(override.partition("=")[::2] for override in self.overrides)
        name = chosen.get("experiment") or chosen.get("dataset") or "digits"
        return Path(OUTPUTS) / re.sub(r"[^\w.-]+", "-", name).strip("-") / f"cure_{digest}"

    @property
    def patient_overrides(self) -> list[str]:
        """Those overrides that describe the patient."""
        return [override for override in self.overrides if not override.startswith(OF_ALL)]

    @property
    def common_arguments(self) -> list[str]:
        """Arguments of all trainings: `--config-dir`, launcher, trust."""
        arguments = []
        if self.config_folder is not None:
            arguments += ["--config-dir", str(self.config_folder)]
        arguments += [override for override in self.overrides if override.startswith(OF_ALL)]
        if not _launcher(self.overrides):
            arguments.append(f"{LAUNCHER}{LOCAL[0]}")
        return arguments

    @property
    def workers(self) -> int:
        """How many trainings run at the same time; of a cluster a guess."""
        launcher = _launcher(self.overrides) or LOCAL[0]
        if launcher in LOCAL:
            return available_cores()
        return 1 if launcher in ONE_BY_ONE else CLUSTER_WORKERS


def _launcher(overrides: Sequence[str]) -> str:
    """Returns the name of the launcher that overrides choose; "" if they choose none."""
    names = [override.removeprefix(LAUNCHER) for override in overrides if override.startswith(LAUNCHER)]
    return names[-1] if names else ""
