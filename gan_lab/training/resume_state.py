"""What a checkpoint stores besides weights and optimizer states, so that training continues exactly as if it had not
been interrupted."""

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from gan_lab.training.gan_state import GANState

KEY = "gan_lab"  # of a checkpoint, where this state lies


def save(module: "GANState", checkpoint: dict[str, Any]) -> None:
    """Puts the state of a training into a checkpoint."""
    checkpoint[KEY] = {
        "step": module.step,
        "engine": module.engine,
        **module.step_log.state(),
        "latent_stream": module.latents.state(),
        "torch_rng": torch.get_rng_state(),
        "optimizers": [type(optimizer).__name__ for optimizer in module.trainer.optimizers],
    }
    checkpoint.pop("loops", None)  # Lightning's own position in the data; `step` is ours


def load(module: "GANState", checkpoint: dict[str, Any]) -> None:
    """Takes the state of a training from a checkpoint.

    The settings of the optimizers are those of the configuration, which may have changed. What an optimizer remembers
    is dropped if the configuration names another kind of optimizer now.
    """
    state = checkpoint[KEY]
    module.step = int(state["step"])
    module.step_log.load_state(state)
    module.latents.stored_state = state["latent_stream"]
    torch.set_rng_state(state["torch_rng"])
    optimizers, _ = module.configure_optimizers()
    names = state["optimizers"]
    for stored, name, optimizer in zip(checkpoint["optimizer_states"], names, optimizers, strict=True):
        stored["param_groups"] = optimizer.state_dict()["param_groups"]
        if name != type(optimizer).__name__:
            stored["state"] = {}
