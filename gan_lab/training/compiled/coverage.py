"""What the compiled step covers. Imports no numba, so that a training of something else doesn't wait for it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from gan_lab.gan import losses
from gan_lab.gan.networks import mlp
from gan_lab.gan.networks.replicated import BatchedLayerNorm, BatchedLinear, Replicated
from gan_lab.gan.remedies.averaging import AveragedNetwork, WeightAnchor
from gan_lab.gan.remedies.generator_losses import TopK
from gan_lab.gan.remedies.input_transforms import InstanceNoise, Pack
from gan_lab.gan.remedies.penalties import R1, R2, LeCam

if TYPE_CHECKING:
    from gan_lab.training.gan_state import GANState

# Everything is compared by exact type: a class derived from one of these can do anything.

# In the order of the numbers in `gan_lab.training.compiled.step`, where 0 is no activation.
ACTIVATIONS = (nn.Identity, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.SiLU)
LOSSES = (
    losses.MSE,
    losses.BCE,
    losses.Saturating,
    losses.LSGAN,
    losses.Hinge,
    losses.Wasserstein,
    losses.Relativistic,
    losses.RelativisticAverage,
)
OPTIMIZERS = (Adam, AdamW, SGD, RMSprop)

LINEAR = (nn.Linear, BatchedLinear)
NORMS = (nn.LayerNorm, BatchedLayerNorm)
# ReLU is LeakyReLU with the slope 0.
NONLINEAR = (*ACTIVATIONS[1:], nn.ReLU)
TRANSFORMS_AND_PENALTIES = (InstanceNoise, Pack, R1, R2, LeCam)
# Of each there is one or none. Those that only set learning rates are called by the compiled step, whatever they are.
OTHERS = (TopK, AveragedNetwork, WeightAnchor)
# Options of optimizers that have to be off.
OPTIONS_NOT_COVERED = ("amsgrad", "maximize", "capturable", "differentiable", "nesterov", "dampening", "centered")


def not_covered(module: "GANState") -> list[str]:
    """Names the parts of a GAN that the compiled step does not cover; [] if it covers all of them."""
    names = []
    for role, network in (("G", module.generator), ("D", module.discriminator)):
        names += [f"{role}'s {name}" for name in _layers_not_covered(network)]
    loss = module.loss.loss if type(module.loss) is losses.LabelSmoothing else module.loss
    if type(loss) not in LOSSES:
        names.append(f"the loss {type(loss).__name__}")
    names += _remedies_not_covered(module)
    for optimizer in module.configure_optimizers()[0]:
        names += _options_not_covered(optimizer)
    return list(dict.fromkeys(names))


def layers_of(network: nn.Module) -> Iterable[Any] | None:
    """Returns the layers of a fully connected network, in order; None for another network."""
    if isinstance(network, Replicated):
        network = network.networks
    if type(network) in (mlp.Generator, mlp.Discriminator) and type(network.layers) is nn.Sequential:
        return network.layers
    return None


def _layers_not_covered(network: nn.Module) -> list[str]:
    """Names the layers of a network that don't follow the order linear layer, activation, layer normalisation."""
    layers = layers_of(network)
    if layers is None:
        # Networks of several modules have the same name.
        return [f"network {type(network).__module__.rpartition('.')[2]}.{type(network).__name__}"]
    names = []
    expected: tuple[type, ...] = LINEAR
    previous = "input"
    for layer in layers:
        kind = type(layer)
        if kind is nn.Identity:
            continue
        if kind not in (*LINEAR, *NONLINEAR, *NORMS):
            names.append(f"layer {kind.__name__}")
        elif kind not in expected and kind not in LINEAR:
            names.append(f"layer {kind.__name__} after the {previous}")
        elif kind in LINEAR:
            expected = (*NONLINEAR, *NORMS)
        elif kind in NONLINEAR:
            expected = NORMS
        else:
            expected = ()
        # A linear layer without bias, a normalisation without scale and shift, or over several axes.
        if kind in (*LINEAR, *NORMS) and layer.bias is None:
            names.append(f"layer {kind.__name__} without bias")
        if kind in NORMS and (layer.weight is None or len(layer.normalized_shape) > 1):
            names.append(f"layer {kind.__name__} of another form")
        previous = kind.__name__
    return names


def _remedies_not_covered(module: "GANState") -> list[str]:
    """Names the remedies that the compiled step does not have, and those that it can't combine."""
    remedies = module.remedies
    parts = [*remedies.input_transforms, *remedies.penalties]
    kinds = [type(part) for part in parts]
    names = []
    for kind in kinds:
        if kind not in TRANSFORMS_AND_PENALTIES:
            names.append(kind.__name__)
        elif kinds.count(kind) > 1:
            names.append(f"{kind.__name__} twice")
    if InstanceNoise in kinds and (R1 in kinds or R2 in kinds):
        names.append("InstanceNoise together with R1 or R2, which draw noise of their own")
    others: list[Any] = [remedies.top_k, module.averaged, module.anchor_d, module.anchor_g]
    others += [*remedies.generator_losses, remedies.unrolled, remedies.update_gate]
    for other in others:
        if other is not None and type(other) not in OTHERS:
            names.append(type(other).__name__)
    return names


def _options_not_covered(optimizer: Optimizer) -> list[str]:
    """Names the optimizer, or those of its options, that the compiled step does not have."""
    name = type(optimizer).__name__
    if type(optimizer) not in OPTIMIZERS:
        return [f"the optimizer {name}"]
    group, *others = optimizer.param_groups
    names = [f"{name}'s {option}" for option in OPTIONS_NOT_COVERED if group.get(option)]
    if type(optimizer) is RMSprop and group["momentum"]:
        names.append("RMSprop's momentum")
    # AdamW is Adam with this option.
    if type(optimizer) is Adam and group["decoupled_weight_decay"]:
        names.append("Adam's decoupled_weight_decay")
    if others:
        names.append(f"{name} with several groups of parameters")
    return names
