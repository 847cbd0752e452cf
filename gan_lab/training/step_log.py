"""What a training notes of each step, and the rows of its log."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from gan_lab.core.errors import RunError
from gan_lab.gan.losses import Loss

RECORDED = ("loss/d_real", "loss/d_fake", "loss/g", "score/real", "score/fake")


class NotFiniteError(RunError):
    """NaN or infinity, in one of the RECORDED values or elsewhere.

    Attributes:
        step: the step in which it was noticed.
    """

    def __init__(self, step: int, what: str):
        super().__init__(f"The numbers blew up at step {step:,}: {what}.")
        self.step = step


class Recorder(pl.LightningModule):
    """Gathers the RECORDED values of each step on their device and logs their means, no sooner than a row is due.

    Args:
        steps: length of the training; the last step is logged, whatever `log_every`.
        log_every: each row of the log is the mean over this many steps.
        replicas: K members that are trained at once.

    Attributes:
        lead: the axes that stand before the batch: `(K,)`, or `()` for one GAN.
        failed: the members whose numbers blew up: in which step, and what showed it.
        step: how many have been played.
        last_row: of the log.
        row_steps: over how many steps it is the mean.
        unlogged: the RECORDED values `(5, …)` of each step since then, up to the last that was gathered.
        loss: tells what D's scores answer.
    """

    loss: Loss

    def __init__(self, steps: int, log_every: int, replicas: int):
        super().__init__()
        self.steps, self.log_every, self.replicas = steps, log_every, replicas
        self.replica_dims = (replicas,) if replicas > 1 else ()
        self.failed: dict[int, tuple[int, str]] = {}
        self.step = 0
        self.last_row: dict[str, float] = {}
        self.row_steps = 0
        self.unlogged: list[Tensor] = []
        self._losses: list[Tensor] = []  # three, and two batches of scores, of each step that isn't gathered yet
        self._scores: list[Tensor] = []
        self._rank, self._ranks = 0, 1  # of the processes that train it together

    def record(self, real_scores: Tensor, fake_scores: Tensor, *losses: Tensor) -> None:
        """Notes D's scores `(…, B)` and the three losses `(…)` of a step, for `gather`, which is cheaper for many."""
        self.step += 1
        self._scores += (real_scores.detach(), fake_scores.detach())
        self._losses += [each.detach() for each in losses]

    def gather(self) -> None:
        """Makes the RECORDED values of what was noted."""
        if self._losses:
            losses = torch.stack(self._losses).unflatten(0, (-1, 3))
            # Step by step: how a processor computes a sigmoid's last bit can depend on how many elements there are in
            # all, and so on how many steps were gathered at once, which differs once a run was interrupted.
            pairs = torch.stack(self._scores).unflatten(0, (-1, 2)).unbind()
            answers = torch.stack([self.loss.d_output(pair) for pair in pairs]).mean(-1)
            self.unlogged += torch.cat([losses, answers], 1).unbind()
            self._losses, self._scores = [], []

    def end_chunk(self, steps: int) -> None:
        """Looks at the values of these steps and writes a row when it is due: no sooner does anything wait."""
        self.gather()
        values = self.trainer.strategy.reduce(torch.stack(self.unlogged[-steps:]), reduce_op="mean")  # (S, 5, …)
        if self._ranks > 1:  # what all processes saw together
            self.unlogged[-steps:] = values.unbind()
        if not values.isfinite().all():
            self._find_failed(values.view(steps, len(RECORDED), self.replicas))
        if self.step % self.log_every == 0 or self.step == self.steps:
            self.row_steps = len(self.unlogged)
            row = self._row(torch.stack(self.unlogged).mean(0))
            self.unlogged.clear()
            for logger in self.loggers:
                logger.log_metrics(row, self.step)

    def _row(self, means: Tensor) -> dict[str, float]:
        """A row of the log, and `last_row` of it; of replicas their mean, and behind it `<name>/<i>` for each."""
        if not self.replica_dims:
            self.last_row = dict(zip(RECORDED, means.tolist(), strict=True))
            return self.last_row
        means[:, list(self.failed)] = torch.nan
        self.last_row = dict(zip(RECORDED, means.nanmean(-1).tolist(), strict=True))
        each = zip(RECORDED, means.tolist(), strict=True)
        return self.last_row | {f"{name}/{i}": value for name, values in each for i, value in enumerate(values)}

    def _find_failed(self, values: Tensor) -> None:  # (S, 5, K)
        for i in range(self.replicas):
            broken = (~values[..., i].isfinite()).nonzero()
            if len(broken) and i not in self.failed:
                which, what = broken[0].tolist()
                step = self.step - len(values) + 1 + which
                self.fail(i, step, f"{RECORDED[what]} is {values[which, what, i].item()}")

    def fail(self, member: int, step: int, what: str) -> None:
        """Notes that a member's numbers blew up.

        Raises:
            NotFiniteError: if none is left whose didn't.
        """
        self.failed[member] = (step, what)
        if len(self.failed) == self.replicas:
            raise NotFiniteError(step, f"{what}{', in the last of the replicas' if self.replica_dims else ''}")

    def stacked(self) -> dict[str, Tensor]:
        """The tensors of `state_dict` of which each replica has its own, behind a leading axis K."""
        return {name: tensor for name, tensor in self.state_dict().items() if not name.endswith(".calls")}

    # What a checkpoint keeps of it.

    def on_train_start(self) -> None:
        self._rank, self._ranks = self.trainer.global_rank, self.trainer.world_size
        self.unlogged = [values.to(self.device) for values in self.unlogged]

    def records(self) -> dict[str, Any]:
        """What `take_over` needs to go on."""
        self.gather()
        return {
            "step": self.step,
            "unlogged": [values.cpu() for values in self.unlogged],
            "last_row": self.last_row,
            "row_steps": self.row_steps,
            "failed": {i: list(how) for i, how in self.failed.items()},
        }

    def take_over(self, state: dict[str, Any]) -> None:
        self.step, self.row_steps = int(state["step"]), int(state["row_steps"])
        self._losses, self._scores = [], []
        self.last_row = {name: float(state["last_row"][name]) for name in RECORDED if state["last_row"]}
        self.unlogged = [values.float().view(len(RECORDED), *self.replica_dims) for values in state["unlogged"]]
        self.note_failed(state)

    def note_failed(self, state: dict[str, Any]) -> None:
        """Takes over which members had failed when a checkpoint was made."""
        self.failed = {int(i): (int(step), str(what)) for i, (step, what) in state.get("failed", {}).items()}
        if not self.failed.keys() <= set(range(self.replicas)) or len(self.failed) == self.replicas:
            raise ValueError("it has other members, or none that goes on")
