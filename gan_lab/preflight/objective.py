"""Check 4 (S4): which weights each phase of one training step reaches and moves; the loss at its optimum (S10)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_lab.gan.losses import Loss
from gan_lab.preflight.inspection import first_names
from gan_lab.preflight.report import Check
from gan_lab.training.callbacks.base import GANCallback
from gan_lab.training.gan_module import GANModule

# Prefixes of parameter names in GANModule.
NETWORKS = {"D": "discriminator", "G": "generator"}
# The parts of the book's first GAN, which the notes replace by remedies (S12).
FIRST_RECIPE = {"loss": "MSE", "activation": "Sigmoid", "optim": "SGD", "norm": "NoNorm"}
# Of a loss at its optimum.
TOLERANCE = 1e-5


@dataclass
class Update:
    """What one optimizer step saw and changed.

    Attributes:
        network: whose optimizer it was, "D" or "G".
        gradients: the largest absolute gradient in each weight tensor of both networks; None without gradient.
        moved: the names of the weight tensors that the step changed.
    """

    network: str
    gradients: dict[str, float | None]
    moved: set[str]


class OptimizerProbe(GANCallback):
    """Records every optimizer step, by hooks before and after it.

    Attributes:
        updates: in the order of the steps.
    """

    def __init__(self) -> None:
        self.updates: list[Update] = []
        self._weights: dict[str, Tensor] = {}

    def on_training_start(self, trainer: pl.Trainer, module: GANModule) -> None:
        for network, optimizer in zip(NETWORKS, trainer.optimizers, strict=True):
            optimizer.register_step_pre_hook(self._before_step(module, network))
            optimizer.register_step_post_hook(self._after_step(module))

    def _before_step(self, module: nn.Module, network: str) -> Callable[[Optimizer, Any, Any], None]:
        def hook(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            gradients: dict[str, float | None] = {}
            # A weight that D and G share has two names, and both are needed.
            for name, parameter in module.named_parameters(remove_duplicate=False):
                gradients[name] = None
                if parameter.grad is not None:
                    gradients[name] = parameter.grad.abs().max().item()
                self._weights[name] = parameter.detach().clone()
            self.updates.append(Update(network, gradients, set()))

        return hook

    def _after_step(self, module: nn.Module) -> Callable[[Optimizer, Any, Any], None]:
        def hook(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            for name, parameter in module.named_parameters(remove_duplicate=False):
                if not torch.equal(self._weights[name], parameter):
                    self.updates[-1].moved.add(name)

        return hook


def phases(module: GANModule) -> list[tuple[str, str]]:
    """Returns the updates of one step in order: the phase's name, and the network it trains, "D" or "G"."""
    d_phases = ["(1) D on real", "(2) D on fakes"]
    if module.joint:
        d_phases = ["(1+2) D on real and fakes"]
    updates = []
    for turn in range(module.n_critic):
        for phase in d_phases:
            updates.append((f"{phase}{_turn_suffix(turn)}", "D"))
    for turn in range(module.n_generator):
        updates.append((f"(3) G{_turn_suffix(turn)}", "G"))
    return updates


def _turn_suffix(turn: int) -> str:
    """Returns the end of a phase's name in a repetition; the first turn has none."""
    if turn == 0:
        return ""
    return f", turn {turn + 1}"


class _Finding(NamedTuple):
    """Something wrong in a phase; equal findings of several phases become one message."""

    severity: Literal["failure", "warning"]
    text: str


def check_objective(module: GANModule, updates: list[Update], problem: str | None, parts: dict[str, str]) -> Check:
    """Check 4: does each phase train its own network only, and does the loss have its stated optimum?

    Args:
        module: the GAN that played one step.
        updates: what an `OptimizerProbe` recorded.
        problem: what stopped the step, if anything did.
        parts: the class that is chosen in each configuration group, e.g. `{"loss": "BCE", …}`.
    """
    check = Check("objective", "the objective, in one step of the training")
    if problem:
        check.failures.append(problem)
    _check_shared_weights(check, module)
    phases_by_finding: dict[_Finding, list[str]] = {}
    for (phase, network), update in zip(phases(module), updates, strict=False):
        # Paired losses only see differences of scores, so what shifts all scores of D alike has no gradient.
        level_is_arbitrary = module.joint and network == "D" and module.loss.d_output_at_optimum is None
        for finding in _check_update(check, phase, network, update, level_is_arbitrary):
            phases_by_finding.setdefault(finding, []).append(phase)
    for finding, finding_phases in phases_by_finding.items():
        messages = check.failures if finding.severity == "failure" else check.warnings
        messages.append(f"In {' and '.join(finding_phases)}, {finding.text}")
    check_optimum(check, module.loss)
    _describe_remedies(check, parts)
    return check


def _describe_remedies(check: Check, parts: dict[str, str]) -> None:
    """Lists which parts of the first recipe are replaced by remedies, and which are not."""
    replaced = []
    unchanged = []
    for group, original in FIRST_RECIPE.items():
        name = "no normalisation" if original == "NoNorm" else original
        if parts.get(group) == original:
            unchanged.append(name)
        else:
            replaced.append(f"{parts[group]} instead of {name}")
    text = ", ".join(replaced) or "none"
    if unchanged:
        text += f"; as in the book's first GAN: {', '.join(unchanged)}"
    check.facts["remedies"] = text
    check.numbers["remedies"] = {group: parts.get(group) for group in FIRST_RECIPE}


def _check_shared_weights(check: Check, module: GANModule) -> None:
    """Counts the weights of both networks, and fails if a weight belongs to both."""
    d_weights = dict(module.discriminator.named_parameters())
    g_weights = dict(module.generator.named_parameters())
    # By identity: == on tensors compares their values.
    g_names = {id(parameter): name for name, parameter in g_weights.items()}
    shared = []
    for name, parameter in d_weights.items():
        if id(parameter) in g_names:
            shared.append(f"D's {name} is G's {g_names[id(parameter)]}")
    if shared:
        check.failures.append(
            f"D and G share weights ({first_names(shared)}): each of them undoes what the other learns. Give each of"
            " them layers of its own."
        )
    sizes = {}
    tensors = {}
    counts = []
    for network, weights in (("D", d_weights), ("G", g_weights)):
        sizes[network] = sum(parameter.numel() for parameter in weights.values())
        tensors[network] = len(weights)
        counts.append(f"{network} {sizes[network]:,} in {len(weights)} tensors")
    check.facts["weights"] = f"{', '.join(counts)}; {len(shared) or 'none'} shared"
    check.numbers |= {"weights": sizes, "tensors": tensors, "shared": len(shared)}


def _check_update(check: Check, phase: str, network: str, update: Update, level_is_arbitrary: bool) -> list[_Finding]:
    """Checks one optimizer step: the trained network's weights have gradients and move, the other network's do not.

    Args:
        check: gets facts and numbers.
        phase: its name.
        network: the network that this phase trains, "D" or "G".
        update: what its optimizer step saw and changed.
        level_is_arbitrary: whether adding a constant to all of D's scores changes nothing; then biases that only do so
            have the gradient 0.

    Returns:
        What is wrong.
    """
    other = "G" if network == "D" else "D"
    trained = _gradients_of(network, update)
    frozen = _gradients_of(other, update)
    without_gradient = [name for name, size in trained.items() if size is None]
    zero = [name for name, size in trained.items() if size == 0]
    reached = len(trained) - len(without_gradient) - len(zero)
    leaked = [name for name, size in frozen.items() if size is not None]
    moved = len(update.moved & trained.keys())
    other_moved = len(update.moved & frozen.keys())
    check.facts[phase] = (
        f"gradients reach {reached} of {len(trained)} tensors of {network}, {len(leaked)} of {len(frozen)} of {other}; "
        f"moved: {moved} of {network}, {other_moved} of {other}"
    )
    check.numbers.setdefault("phases", {})[phase] = {
        "reached": reached,
        "tensors": len(trained),
        "leaked": len(leaked),
        "moved": moved,
        "other_moved": other_moved,
    }
    findings = []
    if level_is_arbitrary:
        zero = [name for name in zero if not name.endswith("bias")]
    # The first cause that applies explains the ones below it.
    if update.network != network:
        findings.append(_Finding("failure", f"{update.network}'s optimizer is called instead of {network}'s."))
    elif reached == 0:
        cause = "D's loss doesn't depend on them"
        if network == "G":
            cause = "D's output doesn't depend on what G generates"
        text = f"no weight of {network} has a gradient: {cause}. Does D's forward use its input, is anything detached?"
        findings.append(_Finding("failure", text))
    elif without_gradient:
        text = f"{first_names(without_gradient)} have no gradient and will never be trained: is the layer used?"
        findings.append(_Finding("failure", text))
    elif zero:
        text = (
            f"all gradients of {first_names(zero)} are 0: the units are dead or saturated. If that stays so, other"
            " activations help (activation=leaky_relu)."
        )
        findings.append(_Finding("warning", text))
    if reached and not moved:
        text = (
            f"no weight of {network} moves although it has gradients: is its learning rate 0? Set optim.lr (or"
            f" optim_{network.lower()}.lr) above 0, for example optim.lr=0.0005."
        )
        findings.append(_Finding("failure", text))
    if leaked or other_moved:
        names = first_names(leaked) or f"{other_moved} tensors moved"
        text = f"the update also reaches {other}, which must stay as it is in this phase ({names})."
        findings.append(_Finding("failure", text))
    return findings


def _gradients_of(network: str, update: Update) -> dict[str, float | None]:
    """Returns the entries of `update.gradients` that belong to one network."""
    prefix = f"{NETWORKS[network]}."
    return {name: size for name, size in update.gradients.items() if name.startswith(prefix)}


def check_optimum(check: Check, loss: Loss) -> None:
    """Checks that the loss has its stated values where D cannot tell real from fake.

    D then gives real samples and fakes the same score, the one with the smallest loss for D; it is searched on a grid.

    Args:
        check: gets facts, numbers and failures.
        loss: any loss.
    """
    # 801 batches of one sample.
    scores = torch.linspace(-4, 4, 801, dtype=torch.float64)[:, None]
    d_terms = loss.d(scores, scores)
    # D's loss on real samples and on fakes, G's loss, D's output: (4, 801).
    terms = torch.stack([*d_terms, loss.g(scores, scores), loss.d_output(scores)])[..., 0]
    best = (terms[0] + terms[1]).argmin()
    d_real, d_fake, g, d_output = terms[:, best].tolist()
    stated_d = loss.loss_at_optimum
    stated_g = loss.g_loss_at_optimum
    check.numbers |= {"d_output": d_output, "d_real": d_real, "d_fake": d_fake, "g": g}
    check.numbers |= {"equilibrium": stated_d, "equilibrium_g": stated_g}
    if stated_d is None or stated_g is None:
        check.facts["optimum"] = "this loss has none: its value doesn't show how well D and G are matched"
        return
    errors = [abs(d_real - stated_d), abs(d_fake - stated_d), abs(g - stated_g)]
    where = "for any equal scores"
    stated = f"{stated_d:.4f} for D, {stated_g:.4f} for G"
    stated_where = ""
    if loss.d_output_at_optimum is not None:
        errors.append(abs(d_output - loss.d_output_at_optimum))
        where = f"at D = {d_output:.4g}"
        stated_where = f" (at D = {loss.d_output_at_optimum:.4g})"
    values = f"{d_real:.4f} on real, {d_fake:.4f} on fakes, {g:.4f} for G"
    check.facts["optimum"] = f"{where} the loss is {values}; stated: {stated}"
    if max(errors) > TOLERANCE:
        check.failures.append(
            f"Where D cannot tell real from fake ({where}), the loss is {values}, but it states {stated} as its"
            f" optimum{stated_where}: the charts would show a wrong line."
        )
