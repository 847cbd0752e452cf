"""The generator of a run that a command writes to a file, or whose samples it writes: which one, and whether it may."""

from pathlib import Path

from torch import Tensor

from gan_lab.core.errors import LabError
from gan_lab.core.run_folder import Run
from gan_lab.training.gan_module import GANModule


def choose_gan(module: GANModule, run: Run, member: int | None, ema: bool) -> GANModule:
    """Returns the single GAN that the settings `member` and `ema` choose.

    Args:
        module: the run's, as `gan_lab.assembly.build.load` gives it.
        run: where it comes from.
        member: of replicas, which one; None for the first, or for a single GAN.
        ema: whether to sample from the average of G's weights, if there is one.

    Raises:
        LabError: if there is no such member, or with ema=False no average.
    """
    if not ema:
        leave_out_average(module, run)
    return module.member(member or 0)


def leave_out_average(module: GANModule, run: Run) -> None:
    """Makes the module sample from G's weights instead of their average.

    Raises:
        LabError: if there is no average.
    """
    if module.averaged is None:
        raise LabError(
            f"{run.folder} has no average of G's weights, so ema=false changes nothing.",
            "Leave ema=false out.",
            code="conflict",
            key="ema",
        )
    module.averaged = None


def describe_gan(module: GANModule, run: Run, member: int | None) -> str:
    """Returns which GAN it is, in words: run, step, member and weights; see `choose_gan`."""
    words = [str(run.folder), f"step {module.step:,}"]
    if module.replica_dims:
        words.append(f"member {member or 0}")
    if module.averaged is not None:
        words.append("moving average of G's weights")
    return ", ".join(words)


def refuse_existing(path: Path) -> None:
    """Refuses a file or folder `to=` that is there already."""
    if path.exists() or path.is_symlink():
        raise LabError(f"{path} is there already.", "Remove it, or choose another name.", code="exists", key="to")


def refuse_not_finite(samples: Tensor) -> None:
    """Refuses a generator one of whose samples is NaN or infinite."""
    if not samples.isfinite().all():
        raise LabError(
            "G makes samples that are not finite numbers.",
            "Its training has failed; take another member or run.",
            code="not_finite",
            key="run",
        )
