"""One member of K GANs that are trained together."""

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from torch import Tensor, nn

from gan_lab.core.errors import LabError
from gan_lab.gan.networks.replicated import Replicated
from gan_lab.gan.remedies.penalties import Penalty

if TYPE_CHECKING:
    from gan_lab.training.gan_state import GANState

GAN = TypeVar("GAN", bound="GANState")

SHARED_BUFFER = "calls"  # name of the buffers that all members share; every other tensor has a leading axis K


def member_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Returns the tensors of a module's `state_dict` whose first axis counts the members."""
    return {name: tensor for name, tensor in module.state_dict().items() if name.split(".")[-1] != SHARED_BUFFER}


def member(module: GAN, i: int) -> GAN:
    """Builds member i as a GAN of its own, from the same parts, with copies of its weights and averages.

    Returns:
        The member at the module's step, on the module's device; the module itself if it is a single GAN.

    Raises:
        LabError: if there is no member i.
    """
    if not 0 <= i < module.replicas:
        valid = "0" if module.replicas == 1 else f"0 to {module.replicas - 1}"
        raise LabError(
            f"There is no member {i}: the run has replicas={module.replicas}.",
            f"Valid members: {valid}.",
            code="unknown",
            key="member",
        )
    if not (isinstance(module.generator, Replicated) and isinstance(module.discriminator, Replicated)):
        return module
    penalties = tuple(_member_of_penalty(penalty, i) for penalty in module.remedies.penalties)
    remedies = replace(copy.deepcopy(module.remedies), penalties=penalties)
    settings = replace(module.settings, seed=module.seed + i, remedies=remedies)
    single = type(module)(module.generator.member(i), module.discriminator.member(i), settings)
    if module.averaged is None:
        single.averaged = None
    elif single.averaged is not None and isinstance(module.averaged.network, Replicated):
        single.averaged.network.load_state_dict(module.averaged.network.member(i).state_dict())
    for anchor, anchors in ((single.anchor_d, module.anchor_d), (single.anchor_g, module.anchor_g)):
        if anchor is not None and anchors is not None:
            anchor.load_state_dict(_state_of_member(anchors, i))
    single.step = module.step
    return single.to(module.device)


def _state_of_member(module: nn.Module, i: int) -> dict[str, Tensor]:
    state = module.state_dict()
    for name, tensor in member_tensors(module).items():
        state[name] = tensor[i]
    return state


def _member_of_penalty(penalty: Penalty, i: int) -> Penalty:
    """Returns a copy of a penalty whose buffers are those of member i."""
    single = copy.deepcopy(penalty)
    if isinstance(single, nn.Module):
        for submodule in single.modules():
            for name, buffer in list(submodule.named_buffers(recurse=False)):
                if name != SHARED_BUFFER:
                    submodule.register_buffer(name, buffer[i].clone())
    return single
