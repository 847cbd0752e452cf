"""The GAN that is to be cured: its run, how it was started, and what such trainings cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from gan_lab.comparison.collect import Record, as_number, read_record
from gan_lab.config.experiment_file import key_of_override
from gan_lab.config.schema import scope_of
from gan_lab.config.targets import harmless_overrides
from gan_lab.core.errors import LabError
from gan_lab.core.run_folder import Run
from gan_lab.cure.plan import Cost
from gan_lab.cure.request import OF_ALL, REFUSED

# The cure decides these of each training, or they describe no training.
LEFT_OUT = (*REFUSED, "run", "seed", "steps", "force", "preflight", "objective", "debug")
# Of what is shown, measured or written, these may matter to the primary metric.
MEASURED = ("features", "metrics")
# Building a training, and its pictures and its page at the end.
START_SECONDS = 3.0
# The seconds of a step of a run that doesn't say.
UNKNOWN_STEP = 0.002


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
        """The names of its remedies."""
        names = self.record.summary.get("remedy")
        return [str(name) for name in names] if isinstance(names, list) else []

    @property
    def seed(self) -> int:
        """The seed of its training; 0 where that is unknown."""
        return int(self.record.seed) if self.record.seed.isdecimal() else 0

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
        if training > 0 and self.record.steps:
            step_seconds = training / self.record.steps / members
        return Cost(self.steps, step_seconds, START_SECONDS + measuring / members, workers)


def open_patient(folder: str, further: Sequence[str]) -> Patient:
    """Opens the run that is to be cured.

    Args:
        folder: of the run.
        further: overrides that count more than those of the run.

    Raises:
        LabError: if it is no run, or doesn't say how it was started.
    """
    run = Run.existing(folder)
    if not (run.folder / ".hydra" / "overrides.yaml").is_file():
        raise LabError(
            f"{run.folder} doesn't say how it was started: it has no .hydra/overrides.yaml.",
            "Name the settings instead of the run: dataset=… loss=… and what else differs from the default.",
            code="missing",
            key="run",
        )
    return patient_of(run, [*harmless_overrides(run.overrides()), *further])


def patient_of(run: Run, overrides: Sequence[str]) -> Patient:
    """Returns the patient that a run is.

    Args:
        run: which has ended.
        overrides: by which it was started.
    """
    record = read_record(run)
    kept = [override for override in overrides if _describes(override)]
    return Patient(record, kept, int(as_number(record.settings.get("steps", record.steps))))


def _describes(override: str) -> bool:
    """Returns whether an override describes what is trained."""
    key = key_of_override(override)
    is_shown = scope_of(key) == "record" and key not in MEASURED
    return key not in LEFT_OUT and not is_shown and not key.startswith(OF_ALL)
