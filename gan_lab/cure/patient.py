"""The GAN that is to be cured: its run, how it was started, and what such trainings cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from gan_lab.comparison.collect import Record, as_number, read_record
from gan_lab.config.experiment_file import STRENGTHS, experiment_text, key_of_override
from gan_lab.config.schema import scope_of
from gan_lab.config.targets import harmless_overrides
from gan_lab.core.errors import LabError
from gan_lab.core.io import read_text
from gan_lab.core.run_folder import Run
from gan_lab.cure.plan import Cost
from gan_lab.cure.request import OF_ALL, REFUSED

# The cure decides these of each training, or they describe no training.
LEFT_OUT = (*REFUSED, "run", "seed", "steps", "force", "preflight", "objective", "debug")
# Of what is shown, measured or written, these may matter to the primary metric.
MEASURED = ("features", "metrics")
# Building a training, and its pictures and its page at the end.
START_SECONDS = 3.0
# The seconds of a step of a run that doesn't say, or ended before so many steps that it could.
UNKNOWN_STEP = 0.002
TIMED_STEPS = 100


@dataclass(frozen=True)
class Patient:
    """The training that is to be cured.

    Attributes:
        record: its run.
        overrides: that describe it, without steps and seed.
        steps: of its training.
    """

    record: Record
    overrides: list[str]
    steps: int

    @property
    def remedies(self) -> list[str]:
        """The names of its remedies, and their strength if it isn't the published one."""
        names = self.record.summary.get("remedy")
        if not isinstance(names, list) or not names:
            return []
        strength = self.record.settings.get("strength")
        return [*map(str, names), *([strength] if strength in STRENGTHS else [])]

    @property
    def seeds(self) -> list[int]:
        """The seeds of its training, one for each replica, as far as they are known."""
        return [int(seed) for seed in self.record.seeds if seed.isdecimal()]

    def cost(self, workers: int) -> Cost:
        """Returns what such trainings cost, by what this one took.

        Args:
            workers: trainings at the same time.
        """
        summary = self.record.summary
        members = len(self.record.seeds)
        measuring = as_number(summary.get("measuring_seconds"))
        measuring = measuring if measuring > 0 else 0.0
        training = as_number(summary.get("seconds")) - measuring
        step_seconds = UNKNOWN_STEP
        trained = self.record.steps or 0
        if training > 0 and trained >= min(TIMED_STEPS, self.steps):
            step_seconds = training / trained / members
        return Cost(self.steps, step_seconds, START_SECONDS + measuring / members, workers)


def open_patient(folder: str, further: Sequence[str]) -> Patient:
    """Opens the run that is to be cured.

    Args:
        folder: of the run.
        further: overrides that count more than those of the run.

    Raises:
        LabError: if it is no run, is damaged, or doesn't say how it was started.
    """
    run = Run.existing(folder)
    started_by = run.overrides()
    described = [override for override in started_by if not override.startswith(OF_ALL)]
    harmless = harmless_overrides(started_by)
    # A file that is damaged or missing is read as no overrides, too.
    is_default = (run.folder / ".hydra" / "overrides.yaml").is_file() and _is_empty(run)
    if len(harmless) < len(described) or not (harmless or is_default):
        raise LabError(
            f"{run.folder} doesn't say how it was started, or in a way that can't be repeated here.",
            "Name the settings instead of the run: dataset=… loss=… and what else differs from the default.",
            code="missing",
            key="run",
        )
    patient = patient_of(run, [*harmless, *further])
    experiment_text(patient.overrides, "patient")
    return patient


def _is_empty(run: Run) -> bool:
    """Returns whether Hydra stored that a run was started without any override."""
    return read_text(run.folder / ".hydra" / "overrides.yaml").strip() in ("[]", "")


def patient_of(run: Run, overrides: Sequence[str]) -> Patient:
    """Returns the patient that a run is.

    Args:
        run: which has ended.
        overrides: by which it was started.

    Raises:
        LabError: if its configuration can't be read.
    """
    record = read_record(run)
    steps = as_number(record.settings.get("steps"))
    if not steps >= 1:
        reason = record.reason or "its config.yaml doesn't say how many steps it has"
        raise LabError(f"{run.folder} can't be read: {reason}.", code="damaged", key="run")
    return Patient(record, [override for override in overrides if _describes(override)], int(steps))


def _describes(override: str) -> bool:
    """Returns whether an override describes what is trained."""
    key = key_of_override(override)
    is_shown = scope_of(key) == "record" and key not in MEASURED
    return key not in LEFT_OUT and not is_shown and not key.startswith(OF_ALL)
