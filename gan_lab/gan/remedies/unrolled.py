"""Looking ahead: the discriminator as it would be after some steps of its own."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gan_lab.core.errors import LabError
from gan_lab.gan.losses import Loss


class Unrolled:
    """G is judged by the D of k steps later, and knows how its samples would have taught that D (Metz et al. 2017,
    arXiv:1611.02163): θᵢ₊₁ = θᵢ − lr · ∇θ L_D(θᵢ), with gradients through all steps. D itself doesn't change.

    Every step uses the same two batches, as in the authors' notebook. It costs about k more passes forward and two
    k more backward, with memory for all of them. The steps are of plain gradient descent, whatever D's optimiser, on
    the loss alone, without penalties.

    Args:
        k: steps ahead; 5 for points in the plane, 1, 5 and 10 on images in the paper. 0: the present D.
        lr: of these steps, about what moves D as its optimiser does.
    """

    def __init__(self, k: int = 5, lr: float = 0.01):
        if k < 0 or lr <= 0:
            raise LabError(f"Unrolling k={k} steps of lr={lr} makes no sense.", "k ≥ 0 and lr > 0.")
        self.k, self.lr = k, lr

    def __call__(self, discriminator: nn.Module, loss: Loss, real: Tensor, fake: Tensor) -> Callable[[Tensor], Tensor]:
        """The D of k steps later, a function from samples to scores: G's loss is `loss.g(later(fake), later(real))`.

        Works whether or not D's weights are frozen. Neither they nor D's buffers (running statistics, spectral norm's
        vectors) are touched; replicas each go their own way.

        Args:
            real, fake: `(…, B, *shape)` as D is shown them, `fake` with its graph to G.
        """
        if self.k == 0:
            return discriminator
        weights = {name: p.detach().requires_grad_() for name, p in discriminator.named_parameters()}
        buffers = {name: buffer.clone() for name, buffer in discriminator.named_buffers()}

        def scores(x: Tensor) -> Tensor:
            return functional_call(discriminator, (weights, buffers), x)

        for _ in range(self.k):
            d_real, d_fake = loss.d(scores(real), scores(fake))
            total = (d_real.mean(-1) + d_fake.mean(-1)).sum()  # a replica's weights move by its own share
            slopes = torch.autograd.grad(total, list(weights.values()), create_graph=True, materialize_grads=True)
            weights = {name: w - self.lr * slope for (name, w), slope in zip(weights.items(), slopes, strict=True)}
        return scores
