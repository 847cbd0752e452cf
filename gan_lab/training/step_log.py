"""What a training records of each step, and the rows of its log."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from gan_lab.core.errors import RunError
from gan_lab.gan.losses import Loss

RECORDED = ("loss/d_real", "loss/d_fake", "loss/g", "score/real", "score/fake")
LOSSES = 3  # the first of RECORDED; the others are D's mean answers, computed from its scores


class NotFiniteError(RunError):
    """NaN or infinity in one of the RECORDED values or elsewhere.

    Attributes:
        step: the step in which it was noticed.

    Args:
        description: which value it is.
        key: the name of the value, if it is one of RECORDED.
    """

    def __init__(self, step: int, description: str, key: str = ""):
        super().__init__(f"NaN or infinity at step {step:,}: {description}.", code="not_finite", key=key)
        self.step = step


class Failure(NamedTuple):
    """When a member produced NaN or infinity, and in which value it showed."""

    step: int
    description: str


class StepLog:
    """Records losses and scores of each step and logs their means.

    Values are buffered on their device, because reading them would make the CPU wait; a row is computed when it is due.

    Args:
        loss: turns D's scores into its answers.
        replicas: number of members.

    Attributes:
        failed: the members that produced NaN or infinity.
        last_row: the means over all members in the last row of the log; empty before the first.
        row_steps: over how many steps these are the mean.
        unlogged: the RECORDED values `(5, …)` of each step since the last row.
    """

    def __init__(self, loss: Loss, replicas: int):
        self.loss = loss
        self.replicas = replicas
        self.replica_dims = (replicas,) if replicas > 1 else ()
        self.failed: dict[int, Failure] = {}
        self.last_row: dict[str, float] = {}
        self.row_steps = 0
        self.unlogged: list[Tensor] = []
        # Of the steps since the last `gather`: three losses and two batches of scores each.
        self._losses: list[Tensor] = []
        self._scores: list[Tensor] = []

    def record(
        self, real_scores: Tensor, fake_scores: Tensor, loss_real: Tensor, loss_fake: Tensor, loss_g: Tensor
    ) -> None:
        """Records one step: D's scores `(…, B)` and the losses `(…)`."""
        self._scores += (real_scores.detach(), fake_scores.detach())
        self._losses += (loss_real.detach(), loss_fake.detach(), loss_g.detach())

    def gather(self) -> None:
        """Computes the RECORDED values of the steps recorded so far; for several steps together this is cheaper."""
        if not self._losses:
            return
        losses = torch.stack(self._losses).unflatten(0, (-1, LOSSES))
        # Step by step: how a processor computes a sigmoid's last bit can depend on how many elements there are in
        # all, and so on how many steps were gathered together, which differs once a run was interrupted.
        pairs = torch.stack(self._scores).unflatten(0, (-1, 2)).unbind()
        answers = torch.stack([self.loss.d_output(pair) for pair in pairs]).mean(-1)
        self.unlogged += torch.cat([losses, answers], 1).unbind()
        self._losses = []
        self._scores = []

    def end_block(self, trainer: pl.Trainer, steps: int, last_step: int, log_every: int) -> None:
        """Checks the values of a block of steps for NaN and inf, and logs the rows that are due in it.

        Args:
            steps: length of the block.
            last_step: number of its last step.
            log_every: a row is due after every step whose number is a multiple of this.

        Raises:
            NotFiniteError: if all members have failed.
        """
        self.gather()
        block = torch.stack(self.unlogged[-steps:])  # (steps, 5, …)
        values = trainer.strategy.reduce(block, reduce_op="mean")
        assert isinstance(values, Tensor)
        if trainer.world_size > 1:  # the mean over all processes
            self.unlogged[-steps:] = values.unbind()
        values = values.view(steps, len(RECORDED), self.replicas)
        first_step = last_step - steps + 1
        is_finite = values.isfinite().all(-1).all(-1).tolist()
        for offset, step in enumerate(range(first_step, last_step + 1)):
            if not is_finite[offset]:
                self._find_failed(values[offset], step)
            if step % log_every == 0:
                self.log_row(trainer, step, len(self.unlogged) - (last_step - step))

    def log_row(self, trainer: pl.Trainer, step: int, steps: int) -> None:
        """Logs the means over the first so many steps that are not logged yet, as the row of the last of them."""
        if not steps:
            return
        row = self._end_row(steps)
        for logger in trainer.loggers:
            logger.log_metrics(row, step)

    def _end_row(self, steps: int) -> dict[str, float]:
        """Returns the means of a row: over the members, and with replicas `<name>/<i>` for each member."""
        means = torch.stack(self.unlogged[:steps]).mean(0)  # (5, …)
        self.row_steps = steps
        del self.unlogged[:steps]
        if not self.replica_dims:
            self.last_row = dict(zip(RECORDED, means.tolist(), strict=True))
            return self.last_row
        means[:, list(self.failed)] = torch.nan
        self.last_row = dict(zip(RECORDED, means.nanmean(-1).tolist(), strict=True))
        row = dict(self.last_row)
        for name, values in zip(RECORDED, means.tolist(), strict=True):
            for i, value in enumerate(values):
                row[f"{name}/{i}"] = value
        return row

    def _find_failed(self, values: Tensor, step: int) -> None:
        """Marks the members that have NaN or inf among their values of a step, `(5, K)`."""
        for member in range(self.replicas):
            broken = (~values[:, member].isfinite()).nonzero().flatten().tolist()
            if broken and member not in self.failed:
                column = broken[0]
                value = values[column, member].item()
                self.fail(member, step, f"{RECORDED[column]} is {value}", RECORDED[column])

    def fail(self, member: int, step: int, description: str, key: str = "") -> None:
        """Marks a member as failed.

        Raises:
            NotFiniteError: if no member is left.
        """
        self.failed[member] = Failure(step, description)
        if len(self.failed) == self.replicas:
            suffix = ", in the last of the replicas" if self.replica_dims else ""
            raise NotFiniteError(step, description + suffix, key)

    def move_to(self, device: torch.device) -> None:
        """Moves values that a checkpoint brought to the device of the training."""
        self.unlogged = [values.to(device) for values in self.unlogged]

    def state(self) -> dict[str, Any]:
        """Returns what `load_state` needs to continue."""
        self.gather()
        return {
            "unlogged": [values.cpu() for values in self.unlogged],
            "last_row": self.last_row,
            "row_steps": self.row_steps,
            "failed": {i: list(failure) for i, failure in self.failed.items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continues from the state in a checkpoint.

        Raises:
            ValueError: if the state does not fit this training.
        """
        self.row_steps = int(state["row_steps"])
        self._losses = []
        self._scores = []
        stored_row = state["last_row"]
        self.last_row = {name: float(stored_row[name]) for name in RECORDED} if stored_row else {}
        self.unlogged = [values.float().view(len(RECORDED), *self.replica_dims) for values in state["unlogged"]]
        self.load_failed(state.get("failed", {}))

    def load_failed(self, failed: dict[int, Sequence[Any]]) -> None:
        """Takes over which members had failed when a checkpoint was made.

        Raises:
            ValueError: if it names other members, or leaves none.
        """
        self.failed = {int(i): Failure(int(step), str(description)) for i, (step, description) in failed.items()}
        if not self.failed.keys() <= set(range(self.replicas)) or len(self.failed) == self.replicas:
            raise ValueError("it has other members, or none that has not failed")
