"""Unrolled GANs: training G against D as it will be some updates later."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gan_lab.core.declare import declares
from gan_lab.core.errors import LabError
from gan_lab.gan.losses import Loss


@declares(
    settings={
        "k": {"type": "int", "low": 0, "high": 100, "help": "updates of D ahead"},
        "lr": {"type": "float", "low": 1e-12, "help": "learning rate of these updates"},
    },
    weak={"k": 1},
    strong={"k": 10},
)
class Unrolled:
    """Computes G's loss with D unrolled k steps ahead (Metz et al. 2017, arXiv:1611.02163).

    θᵢ₊₁ = θᵢ − lr · ∇θ L_D(θᵢ) for i = 0 … k − 1, where θ₀ are D's weights now. G's gradient goes through all k steps:
    G takes into account how its samples would have trained D. D itself does not change.

    As in the authors' notebook, every step uses the same two batches. They take about k more forward passes and 2k more
    backward passes, and memory for all of them.

    The steps are plain gradient descent on D's loss, as in the paper's formula, whatever D's optimiser is, and without
    penalties. The authors' notebook unrolls Adam: that would tie this remedy to one optimiser, and the root in Adam has
    no finite derivative for a weight that has never had a gradient, as behind an inactive ReLU. Paper and notebook
    minimise the negative of D's loss; here it is G's own loss under that D, so that unrolling changes D and nothing
    else of the recipe.

    Args:
        k: number of steps: 5 for points in the plane, and 1, 5 and 10 on images in the paper; 0 uses D as it is.
        lr: learning rate of these steps; one with which D moves about as far as with its own optimiser.

    Raises:
        LabError: if a value is out of bounds.
    """

    def __init__(self, k: int = 5, lr: float = 0.01):
        if k < 0 or lr <= 0:
            raise LabError(
                f"D can't be unrolled for k={k} steps with lr={lr}.",
                "Choose k ≥ 0 and lr > 0.",
                code="invalid",
                key="remedy.unrolled",
            )
        self.k = k
        self.lr = lr

    def __call__(self, discriminator: nn.Module, loss: Loss, real: Tensor, fake: Tensor) -> Callable[[Tensor], Tensor]:
        """Returns D as it would be k steps later, a function from samples `(…, B, *shape)` to raw scores `(…, B)`.

        With `unrolled_critic` for it, G's loss is `loss.g(unrolled_critic(fake), unrolled_critic(real))`.

        D's weights may be frozen. Neither they nor D's buffers (running statistics, the vectors of spectral
        normalisation) change. With K replicas each one is unrolled independently of the others.

        Args:
            discriminator: D.
            loss: gives L_D, the sum of D's two terms.
            real: D's input for real samples, `(…, B, *shape)`.
            fake: D's input for fakes, `(…, B, *shape)`, with its graph to G.
        """
        if self.k == 0:
            return discriminator
        weights = {name: parameter.detach().requires_grad_() for name, parameter in discriminator.named_parameters()}
        buffers = {name: buffer.clone() for name, buffer in discriminator.named_buffers()}

        # Reads `weights` when it is called: after the loop below these are the unrolled ones.
        def unrolled_critic(samples: Tensor) -> Tensor:
            return functional_call(discriminator, (weights, buffers), samples)

        for _ in range(self.k):
            d_real, d_fake = loss.d(unrolled_critic(real), unrolled_critic(fake))
            # Replicas share no weights: the gradient of the sum holds each one's own gradient.
            total = (d_real.mean(-1) + d_fake.mean(-1)).sum()
            gradients = torch.autograd.grad(total, list(weights.values()), create_graph=True, materialize_grads=True)
            stepped = {}
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
                stepped[name] = weight - self.lr * gradient
            weights = stepped
        return unrolled_critic
