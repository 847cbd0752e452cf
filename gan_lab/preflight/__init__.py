"""The four checks before a training, for exactly its configuration (S6–S9): look at the data, see whether D can tell
them from noise, look at what the untrained G makes, and watch one step of the training itself.

They train networks of their own and draw from streams of their own: the training after them is the same as without.
"""

import dataclasses
import json
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from gan_lab.assembly.build import DryRun
from gan_lab.core.errors import LabError
from gan_lab.core.io import atomic
from gan_lab.core.rng import make_generator
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import join_lines
from gan_lab.data.dataset import choose
from gan_lab.plotting.style import Figure
from gan_lab.preflight import previews
from gan_lab.preflight.inspection import Check, Survey, check_data, check_generator, noise, right_order, survey
from gan_lab.preflight.objective import OptimizerProbe, check_objective, phases
from gan_lab.training.callbacks.progress import Progress
from gan_lab.training.gan_module import GANModule
from gan_lab.training.step_log import NotFiniteError

SHOWN = 64  # samples in a picture of images
COMPARED = 1_000  # samples of each side in numbers and scatters
MARKS = {"pass": "✓", "warning": "!", "failure": "✗"}
COLOURS = {"pass": "C2", "warning": "darkorange", "failure": "C3"}

# How long D is trained against noise, and what makes it a failure; judgements of ours, the numbers stand beside.
LEAST_STEPS, MOST_STEPS = 300, 3_000
MOST_SINGLE = 10_000  # with so few samples a step that this many are needed: the book's number
LOOK_EVERY = 100
LOSSES = {"on real": "loss/d_real", "on noise": "loss/d_fake"}
CLEAR, CLEAR_GAP = 0.95, 0.25  # share of pairs in the right order, and distance of the mean answers, that suffice
APART, HARDLY = 0.75, 0.6  # below: a warning, a failure; chance is 0.5

Result = tuple[Check, Figure]


class Noise(nn.Module):
    """In the place of G: uniform noise, whatever the latent vectors. Its one weight changes nothing, and is there so
    that the step can play all of its phases."""

    def __init__(self, train: Survey, bounded: bool, seed: int):
        super().__init__()
        self.train_survey, self.bounded = train, bounded
        self.drawn = make_generator(seed, "preflight/noise")
        self.still = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> Tensor:  # (B, latent_dim) → (B, *shape)
        return noise(len(z), self.train_survey, self.bounded, self.drawn).to(z.device) + 0 * self.still


class DiscriminatorProbe(pl.Callback):
    """Keeps D's losses, step by step, and ends its training when it tells real samples from noise clearly.

    Args:
        real, fake: `(n, *shape)`, samples that D is not trained on.
        labels: the classes `(n,)` that both are told to have, of a conditional GAN.
    """

    def __init__(self, real: Tensor, fake: Tensor, labels: Tensor | None = None):
        self.sets, self.labels, self.rows = (real, fake), labels, list[dict[str, float]]()
        self._start: dict[str, Tensor] = {}

    def on_train_start(self, trainer: pl.Trainer, module: GANModule) -> None:  # type: ignore[override]
        self._start = {name: p.detach().clone() for name, p in module.discriminator.named_parameters()}

    def moved(self, module: GANModule) -> int:
        """How many of D's weight tensors differ from what they were."""
        now = dict(module.discriminator.named_parameters())
        return sum(not torch.equal(was.cpu(), now[name].cpu()) for name, was in self._start.items())

    def on_train_batch_end(self, trainer: pl.Trainer, module: GANModule, *_: Any) -> None:  # type: ignore[override]
        self.rows.append(module.last_row)
        if module.step >= LEAST_STEPS and module.step % LOOK_EVERY == 0:
            answers, order = self.look(module)
            gap = answers[0].mean() - answers[1].mean()
            clear = order >= CLEAR and (not module.loss.d_output_is_probability or bool(gap >= CLEAR_GAP))
            trainer.should_stop = clear or not self.moved(module)

    @torch.no_grad()
    def look(self, module: GANModule) -> tuple[tuple[Tensor, Tensor], float]:
        """D's answers on both sets, and how often the real one of a pair has the higher score.

        D is asked as the training asks it: in batches that are all real or all noise, which is what batch normalisation
        sees there.
        """
        real, fake = (module.scores(part, self.labels).float().cpu() for part in self.sets)
        return (module.loss.d_output(real), module.loss.d_output(fake)), right_order(real, fake)


def run_checks(stage: DryRun) -> list[Result]:
    """All four, with a picture each; networks are trained, but none of the training's own."""
    train = survey(stage.dataset.train, stage.seed)
    return [
        _data(stage, train),
        _against_noise(stage, train),
        _untrained_generator(stage, train),
        _objective(stage),
    ]


def _data(stage: DryRun, train: Survey) -> Result:
    check = check_data(stage.dataset, train, stage.batch_size, stage.seed)
    return check, previews.data(_real(stage), stage.dataset)


def _real(stage: DryRun) -> Tensor:
    train = stage.dataset.train
    number = COMPARED if stage.dataset.shape == (2,) else SHOWN
    return train[choose(train, number, make_generator(stage.seed, "preflight/real"))]


def _against_noise(stage: DryRun, train: Survey) -> Result:
    """Check 2 (S7): the training's own step, with noise in the place of G."""
    dataset, seed = stage.dataset, stage.seed
    check = Check("noise", "D against noise")
    chosen, module = choose(dataset.heldout, COMPARED, make_generator(seed, "preflight/heldout")), _learning(stage)
    real, labels = dataset.heldout[chosen], dataset.heldout.labels_of(chosen) if module.classes else None
    fake = noise(len(real), train, dataset.bounded, make_generator(seed, "preflight/heldout noise"))
    lesson = DiscriminatorProbe(real, fake, labels)
    module.generator = Noise(train, dataset.bounded, seed)
    before, _ = lesson.look(module)
    most = max(MOST_STEPS, MOST_SINGLE // stage.batch_size)
    trouble = _played(stage, module, most, lesson, Progress(f"{check.title}, at most", LOSSES))
    after, order = lesson.look(module)
    moved = lesson.moved(module)
    what = "torch.rand, 0 to 1" if dataset.bounded else "uniform over the data's range"
    means = [tuple(side.mean().item() for side in answers) for answers in (before, after)]
    check.facts = {
        "training": f"{len(lesson.rows):,} steps with batch_size {stage.batch_size}, on real samples and noise: {what}",
        "on real": f"{means[0][0]:.3f} → {means[1][0]:.3f}, D's mean answer on {len(real):,} held-out samples",
        "on noise": f"{means[0][1]:.3f} → {means[1][1]:.3f}, on {len(fake):,} fresh ones",
        "told apart": f"{order:.1%} of pairs in the right order (chance: 50 %)",
    }
    names = ("real_before", "noise_before"), ("real_after", "noise_after")
    check.numbers = {"steps": len(lesson.rows), "samples": len(real), "right_order": order, "tensors_moved": moved}
    check.numbers |= {
        name: mean for each, own in zip(names, means, strict=True) for name, mean in zip(each, own, strict=True)
    }
    _judge_separation(check, trouble, moved, order, constant=bool(torch.cat(after).unique().numel() == 1))
    return check, previews.against_noise(lesson.rows, (before, after), module.loss, what)


def _judge_separation(check: Check, trouble: str | None, moved: int, order: float, constant: bool) -> None:
    help_d = "a larger optim.lr, optim=adam, or a wider model.discriminator"
    if trouble:
        check.failures.append(trouble)
    elif moved == 0:
        check.failures.append(
            "No weight of D has moved: it learns nothing. Is the learning rate 0? Set optim.lr (or optim_d.lr) above 0,"
            " for example optim.lr=0.0005."
        )
    elif constant:
        check.failures.append(
            "D gives every sample the same answer, real or noise: it ignores its input. Does its forward use it, does a"
            " layer wipe it out?"
        )
    elif not order >= HARDLY:
        check.failures.append(
            f"D can't tell real samples from noise ({order:.0%} of pairs in the right order), so it could teach G"
            f" nothing. It learns too slowly or is too small: try {help_d}."
        )
    elif order < APART:
        check.warnings.append(
            f"D hardly tells real samples from noise ({order:.0%} of pairs in the right order): it will be a weak"
            f" teacher. What helps: {help_d}."
        )


def _played(stage: DryRun, module: GANModule, steps: int, *callbacks: pl.Callback) -> str | None:
    """Plays steps of the training; what stopped it, in words, if it is a fault of the configuration."""
    try:
        stage.play(module, steps, *callbacks)
    except NotFiniteError as error:
        return f"{error} Look at check 1; a smaller optim.lr or norm=layer help against numbers that grow."
    except RuntimeError as error:
        if "does not require grad" not in str(error):
            raise
        return "The error finds no way back: D's answer doesn't depend on its input. Does D's forward use it?"
    return None


def _untrained_generator(stage: DryRun, train: Survey) -> Result:
    module, dataset = stage.module(), stage.dataset
    z = module.latent((COMPARED, module.latent_dim), make_generator(stage.seed, "preflight/latent"))
    fake = module.sample(z).float()
    check = check_generator(module.generator, fake, z, dataset, train, stage.seed)
    return check, previews.generator(fake, z, _real(stage), dataset, (check.numbers["spread"], train.spread))


def _learning(stage: DryRun) -> GANModule:
    """The GAN, whose D is to show what it learns: it doesn't wait, even if it wins."""
    module = stage.module()
    module.remedies = dataclasses.replace(module.remedies, update_gate=None)
    return module


def _objective(stage: DryRun) -> Result:
    """Check 4: one step, played by the training's own code."""
    module = _learning(stage)
    witness = OptimizerProbe(module)
    trouble = _played(stage, module, 1)
    check = check_objective(module, witness.updates, trouble, stage.parts)
    return check, previews.objective(witness.updates, phases(module), module.loss)


def preflight(stage: DryRun, run: Run) -> str:
    """Checks what a run is about to train, and keeps what was seen in the run folder; what to print.

    Raises:
        LabError: for a failure, before anything is written.
    """
    results = run_checks(stage)
    if any(check.failures for check, _ in results):
        told = [f"Pre-flight check failed ({check.title}): {each}" for check, _ in results for each in check.failures]
        raise LabError(
            join_lines(told),
            "Nothing was trained. scripts/check.py shows pictures of it; preflight=false trains all the same.",
        )
    write(results, run.preflight)
    return describe(results, run.preflight)


def write(results: Sequence[Result], folder: Path) -> None:
    """A picture a check, and checks.json."""
    content = []
    for number, (check, figure) in enumerate(results, start=1):
        with atomic(folder / picture(number, check)) as path:
            title = textwrap.fill(
                " ".join([f"Check {number}, {check.title}: {check.status}.", *check.failures, *check.warnings]), 150
            )
            figure.suptitle(title, color=COLOURS[check.status], weight="bold")
            figure.savefig(path, dpi=90)
        told = {"name": check.name, "status": check.status, "failures": check.failures, "warnings": check.warnings}
        content.append({**told, "numbers": _finite(check.numbers), "picture": picture(number, check)})
    with atomic(folder / "checks.json") as path:
        whole = {"status": worst(results), "checks": content}
        path.write_text(json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def picture(number: int, check: Check) -> str:
    return f"{number}_{check.name}.png"


def worst(results: Sequence[Result]) -> str:
    """`failure` if one failed, else `warning` if one warns, else `pass`."""
    found = {check.status for check, _ in results}
    return next(status for status in ("failure", "warning", "pass") if status in found)


def describe(results: Sequence[Result], folder: Path) -> str:
    """A block for each check, for the terminal."""
    lines = []
    for number, (check, _) in enumerate(results, start=1):
        lines += ["", f"{MARKS[check.status]} {number} {check.title}: {check.status}"]
        told = [*check.facts.items(), *(("failure", each) for each in check.failures)]
        told += [*(("warning", each) for each in check.warnings), ("picture", str(folder / picture(number, check)))]
        width = max(len(label) for label, _ in told) + 2
        for label, words in told:
            indent = " " * (4 + width)
            lines += textwrap.wrap(words, 112, initial_indent=f"    {label:<{width}}", subsequent_indent=indent)
    counts = {status: sum(check.status == status for check, _ in results) for status in MARKS}
    words = ", ".join(f"{n} × {status}" for status, n in counts.items() if n)
    return join_lines([*lines, "", f"{len(results)} checks: {words} ({folder / 'checks.json'})"])


def _finite(value: Any) -> Any:
    """JSON has no NaN: None in its place."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
