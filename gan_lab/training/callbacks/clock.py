"""The time that a training takes."""

import math
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Timer


class Clock(Timer):
    """Counts the seconds of a training, and those of the processor, over all parts of an interrupted run.

    Processor time is that of all threads of this process. On a shared machine it says more than the time on the wall.
    The evaluation after the last step isn't counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self._processor_offset: float | None = 0.0  # None: a part was trained before processor time was counted
        self._processor_start: float | None = None
        self._processor_end: float | None = None

    @property
    def state_key(self) -> str:
        # That of checkpoints of earlier versions, in which there was only Lightning's class.
        return Timer.__qualname__

    def processor_seconds(self) -> float | None:
        """Returns the processor time of the training so far, in seconds; None if it is unknown of an earlier part."""
        if self._processor_start is None or self._processor_offset is None:
            return self._processor_offset
        end = time.process_time() if self._processor_end is None else self._processor_end
        return self._processor_offset + end - self._processor_start

    def is_valid(self) -> bool:
        """Tells whether both times are finite and not negative, which those of a damaged checkpoint may not be."""
        times = [self.time_elapsed("train"), self.processor_seconds()]
        return all(seconds is None or 0 <= seconds < math.inf for seconds in times)

    def leave_out(self, seconds: float) -> None:
        """Takes seconds on the wall, such as those of a pause, out of the training's time."""
        self._offset = self._offset - seconds  # type: ignore[assignment]  # Lightning annotates it as int

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._processor_start = time.process_time()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        self._processor_end = time.process_time()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "processor_seconds": self.processor_seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        processor_seconds = state_dict.get("processor_seconds")
        self._processor_offset = None if processor_seconds is None else float(processor_seconds)
