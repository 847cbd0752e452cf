"""Skipping updates of the discriminator while it is winning."""

from torch import Tensor

from gan_lab.core.declare import declares


@declares(
    conflicts={
        "replicas": (
            "it decides for one GAN whether D is updated, and replicas are updated together",
            "Train seeds one by one instead: -m seed=0,1,2",
        ),
    },
    settings={
        "max_auc": {
            "type": "float",
            "low": 0.5,
            "high": 1,
            "help": "share of pairs ranked correctly (AUC) above which D isn't updated",
        }
    },
    weak={"max_auc": 0.97},
    strong={"max_auc": 0.75},
)
class UpdateGate:
    """Updates D only in steps in which its AUC is at most `max_auc`, so that D and G stay at a similar level.

    The AUC, the area under the ROC curve (Hanley & McNeil 1982), is the fraction of all pairs of a real sample and a
    fake in which the real one has the higher score; ties count one half. It is ½ for a D that can't tell real from fake
    and 1 for a D that tells every pair apart, and doesn't depend on the loss.

    That D and G should stay balanced is statement S5 of the course notes. The update schedules of Goodfellow and others
    have the same purpose; this one has a stated threshold.

    Args:
        max_auc: the threshold, in [½, 1].
    """

    def __init__(self, max_auc: float = 0.9):
        self.max_auc = max_auc

    def should_update(self, real_scores: Tensor, fake_scores: Tensor) -> bool:
        """Returns whether D, which gave these raw scores `(B,)`, should be updated in this step."""
        differences = real_scores.detach()[:, None] - fake_scores.detach()  # (B, B), all pairs
        # sign is 1, 0 or −1: a pair in the right order counts 1, a tie ½, a pair in the wrong order 0.
        auc = ((differences.sign() + 1) / 2).mean()
        return bool(auc <= self.max_auc)
