"""One step of the training, watched by its optimisers' hooks: which weights each phase reaches and moves."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_lab.gan.losses import Loss
from gan_lab.preflight.inspection import Check, joined
from gan_lab.training.gan_module import GANModule

PLAYERS = {"D": "discriminator", "G": "generator"}
# What each remedy of the notes takes the place of (S12).
REMEDIES = {"loss": "MSE", "activation": "Sigmoid", "optim": "SGD", "norm": "NoNorm"}


@dataclass
class Update:
    """What one step of an optimiser saw and did.

    Attributes:
        player: whose optimiser it was, "D" or "G".
        gradients: per weight tensor the largest gradient, absolute; None where there was none.
        moved: the weight tensors that it changed.
    """

    player: str
    gradients: dict[str, float | None]
    moved: set[str]


class OptimizerProbe:
    """Watches a module's optimisers: hooks tell what is there before each of their steps, and what has changed."""

    def __init__(self, module: GANModule):
        self.module, self.updates = module, list[Update]()
        self._before: dict[str, Tensor] = {}
        module.optim_d, module.optim_g = self._watched(module.optim_d, "D"), self._watched(module.optim_g, "G")

    def _watched(self, make: Callable[..., Optimizer], player: str) -> Callable[[Iterable[nn.Parameter]], Optimizer]:
        def made(parameters: Iterable[nn.Parameter]) -> Optimizer:
            optimiser = make(parameters)
            optimiser.register_step_pre_hook(lambda *_: self._look_before(player))
            optimiser.register_step_post_hook(lambda *_: self._look_behind())
            return optimiser

        return made

    def _look_before(self, player: str) -> None:
        named = dict(self.module.named_parameters(remove_duplicate=False))
        gradients = {name: None if p.grad is None else p.grad.abs().max().item() for name, p in named.items()}
        self._before = {name: p.detach().clone() for name, p in named.items()}
        self.updates.append(Update(player, gradients, set()))

    def _look_behind(self) -> None:
        now = dict(self.module.named_parameters(remove_duplicate=False))
        self.updates[-1].moved = {name for name, p in self._before.items() if not torch.equal(p, now[name])}


def phases(module: GANModule) -> list[tuple[str, str]]:
    """The updates of a step in order: a phase's name, and the player whose turn it is."""
    of_d = ["(1+2) D on real and fakes"] if module.joint else ["(1) D on real", "(2) D on fakes"]
    turns = [(f"{name}{_turn(n)}", "D") for n in range(module.n_critic) for name in of_d]
    return [*turns, *((f"(3) G{_turn(n)}", "G") for n in range(module.n_generator))]


def _turn(n: int) -> str:
    return f", turn {n + 1}" if n else ""


def check_objective(module: GANModule, updates: list[Update], trouble: str | None, parts: dict[str, str]) -> Check:
    """Judges what a `Witness` saw of one step (S4), the loss at its ideal (S10), and lists the remedies (S12).

    Args:
        trouble: what ended the step early, if something did.
        parts: what was chosen in each group, e.g. `{"loss": "BCE", …}`.
    """
    check = Check("objective", "the objective, in one step of the training")
    if trouble:
        check.failures.append(trouble)
    _judge_owners(check, module)
    wrong: dict[str, tuple[list[str], list[str]]] = {}  # what: where it belongs, in which phases it was seen
    for (phase, player), update in zip(phases(module), updates, strict=False):
        level_free = module.joint and player == "D" and module.loss.d_output_at_optimum is None
        for told, what in _judge_update(check, phase, player, update, level_free):
            wrong.setdefault(what, (told, []))[1].append(phase)
    for what, (told, seen) in wrong.items():
        told.append(f"In {' and '.join(seen)}, {what}")
    _judge_loss(check, module.loss)
    in_force = [f"{parts[group]} for {plain}" for group, plain in REMEDIES.items() if parts.get(group) != plain]
    without = [plain for group, plain in REMEDIES.items() if parts.get(group) == plain]
    shown = ", ".join(in_force).replace("for NoNorm", "for no normalisation") or "none"
    rest = ", ".join(without).replace("NoNorm", "no normalisation")
    check.facts["remedies"] = f"in force: {shown}" + (f"; as in the first recipe: {rest}" if rest else "")
    check.numbers["remedies"] = {group: parts.get(group) for group in REMEDIES}
    return check


def _judge_owners(check: Check, module: GANModule) -> None:
    networks = {player: dict(getattr(module, name).named_parameters()) for player, name in PLAYERS.items()}
    of_g = {id(p): name for name, p in networks["G"].items()}
    shared = [f"D's {name} is G's {of_g[id(p)]}" for name, p in networks["D"].items() if id(p) in of_g]
    if shared:
        check.failures.append(
            f"D and G share weights ({joined(shared)}): each undoes what the other learns. Give each its own layers."
        )
    sizes = {player: sum(p.numel() for p in own.values()) for player, own in networks.items()}
    told = ", ".join(f"{player} {sizes[player]:,} in {len(own)} tensors" for player, own in networks.items())
    check.facts["weights"] = f"{told}; {len(shared) or 'none'} shared"
    check.numbers |= {"weights": sizes, "tensors": {p: len(own) for p, own in networks.items()}, "shared": len(shared)}


def _judge_update(
    check: Check, phase: str, player: str, update: Update, level_free: bool
) -> Iterator[tuple[list[str], str]]:
    """One optimiser step: the player's weights have a gradient and move, the other's have none and stay.

    Gives what is wrong, and to which of the check's lists it belongs.

    Args:
        level_free: whether the level of D's scores cancels out, and with it the gradient of what only shifts them.
    """
    other = "G" if player == "D" else "D"
    mine, theirs = (
        {name: size for name, size in update.gradients.items() if name.startswith(f"{PLAYERS[each]}.")}
        for each in (player, other)
    )
    without = [name for name, size in mine.items() if size is None]
    zero = [name for name, size in mine.items() if size == 0]
    reached = len(mine) - len(without) - len(zero)
    dead = [name for name in zero if not (level_free and name.endswith("bias"))]
    leaked = [name for name, size in theirs.items() if size is not None]
    moved = [sum(name in update.moved for name in names) for names in (mine, theirs)]
    check.facts[phase] = (
        f"gradients reach {reached} of {len(mine)} tensors of {player}, {len(leaked)} of {len(theirs)} of {other}; "
        f"moved: {moved[0]} of {player}, {moved[1]} of {other}"
    )
    row = {"reached": reached, "of": len(mine), "leaked": len(leaked), "moved": moved[0], "moved_other": moved[1]}
    check.numbers.setdefault("phases", {})[phase] = row
    if update.player != player:
        yield check.failures, f"{update.player}'s optimiser steps in the place of {player}'s."
    elif reached == 0:
        why = "D's answer doesn't depend on what G makes" if player == "G" else "D's error doesn't depend on them"
        yield (
            check.failures,
            f"no weight of {player} gets a gradient: {why}. Does D's forward use its input, is anything detached?",
        )
    elif without:
        yield check.failures, f"{joined(without)} get no gradient and will never learn: is the layer used?"
    elif dead:
        yield (
            check.warnings,
            f"the gradient of {joined(dead)} is 0 all over: dead or saturated units. If that stays, other activations"
            " help (activation=leaky_relu).",
        )
    if reached and not moved[0]:
        yield (
            check.failures,
            f"no weight of {player} moves, although gradients are there: is its learning rate 0? Set optim.lr (or"
            f" optim_{player.lower()}.lr) above 0, for example optim.lr=0.0005.",
        )
    if leaked or moved[1]:
        names = joined(leaked) or f"{moved[1]} tensors moved"
        yield check.failures, f"{other}, whose turn it isn't, is reached as well ({names}): each has its turn alone."


def _judge_loss(check: Check, loss: Loss) -> None:
    """Where D can't tell real from fake, all terms have the values that the loss states as ideal.

    Then D gives every sample the same score, the one that costs it least.
    """
    scores = torch.linspace(-4, 4, 801, dtype=torch.float64)[:, None]  # as many batches of one sample
    terms = torch.stack([*loss.d(scores, scores), loss.g(scores, scores), loss.d_output(scores)])[..., 0]
    d_real, d_fake, g, answer = terms[:, (terms[0] + terms[1]).argmin()].tolist()
    ideal, ideal_g = loss.loss_at_optimum, loss.g_loss_at_optimum
    check.numbers |= {"answer": answer, "d_real": d_real, "d_fake": d_fake, "g": g}
    check.numbers |= {"equilibrium": ideal, "equilibrium_g": ideal_g}
    if ideal is None or ideal_g is None:
        check.facts["ideal loss"] = "this loss has none: its value doesn't tell how well D and G are matched"
        return
    neutral = answer if loss.d_output_at_optimum is None else loss.d_output_at_optimum  # a level of its own, or any
    where = "at any equal scores" if loss.d_output_at_optimum is None else f"at D = {answer:.4g}"
    found = f"{d_real:.4f} on real, {d_fake:.4f} on fakes, {g:.4f} for G"
    stated = f"{ideal:.4f} for D, {ideal_g:.4f} for G"
    check.facts["ideal loss"] = f"{where} it is {found}; stated as ideal: {stated}"
    if max(abs(d_real - ideal), abs(d_fake - ideal), abs(g - ideal_g), abs(answer - neutral)) > 1e-5:
        check.failures.append(
            f"Where D can't tell real from fake ({where}), the loss is {found}, but it states {stated} as ideal"
            f"{'' if loss.d_output_at_optimum is None else f' (at D = {neutral:.4g})'}: its charts would show a wrong line."
        )
