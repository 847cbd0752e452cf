"""What the training of a GAN is made of, apart from the two networks."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from gan_lab.gan.latent import Latent
from gan_lab.gan.losses import Loss
from gan_lab.gan.remedies import Remedies

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]


@dataclass(frozen=True)
class GANSettings:
    """The parts and numbers of a training. To change one, use `dataclasses.replace` and `GANModule.apply_settings`.

    Attributes:
        loss: see `gan_lab.gan.losses`.
        latent: draws latent vectors, see `gan_lab.gan.latent`.
        latent_dim: length of a latent vector, including the one-hot label of a conditional GAN.
        optim_d, optim_g: make an optimizer from D's or G's parameters.
        steps: length of the training.
        seed: of the latent vectors and the remedies; member i uses `seed + i`.
        log_every: a row of the log is the mean over this many steps; the last step is logged in any case.
        joint_d_update: False: D is updated on real data, then on fakes, as in the book. True: once, on the sum of both.
            A loss or a remedy that needs both together makes the update joint in any case, see `joint_causes`.
        n_critic: updates of D per step, each on another batch.
        n_generator: updates of G per step.
        remedies: see `gan_lab.gan.remedies`.
        classes: number of classes of a conditional GAN, whose latent vectors end with a one-hot label; 0: not
            conditional.
        flat: whether D takes vectors, see `gan_lab.gan.networks.conditional`.
    """

    loss: Loss
    latent: Latent
    latent_dim: int
    optim_d: MakeOptimizer
    optim_g: MakeOptimizer
    steps: int
    seed: int
    log_every: int
    joint_d_update: bool = False
    n_critic: int = 1
    n_generator: int = 1
    remedies: Remedies = Remedies()  # noqa: RUF009, it is frozen
    classes: int = 0
    flat: bool = False

    @property
    def joint_causes(self) -> list[str]:
        """The classes of the loss and the remedies that need real samples and fakes in one update of D."""
        parts: list[object] = [*self.remedies.penalties, self.remedies.update_gate, self.remedies.historical_averaging]
        if self.loss.paired:
            parts.insert(0, self.loss)
        return [type(part).__name__ for part in parts if part is not None]

    @property
    def updates_d_jointly(self) -> bool:
        """Whether D is updated once on real data and fakes together."""
        return self.joint_d_update or bool(self.joint_causes)
