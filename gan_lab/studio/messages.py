"""What a training's process and the server tell each other, through a pipe.

The server sends an `Order`, the worker all other messages. All are small: a picture, or a few hundred points.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Array = np.ndarray  # of float32 unless another type is named


@dataclass(frozen=True)
class Order:
    """What the training is to do.

    Attributes:
        action: pause after the present block of steps; go on; play one phase, while paused; stop with a checkpoint and
            a summary; change the speed.
        steps_per_second: of the speed; None: as fast as possible.
    """

    action: Literal["pause", "go", "phase", "stop", "speed"]
    steps_per_second: float | None = None


@dataclass(frozen=True)
class Opened:
    """Says what is about to be trained.

    Attributes:
        folder: of the run.
        step, steps: done so far, and in all.
        kind: of the samples: points in the plane, images, or other vectors.
        modes: how many the data have; 0 for data without modes.
        real: real samples: points `(n, 2)`, vectors `(n, d)`, or a PNG file of images.
        window: left, right, bottom, top of the plane; () for other data.
        ideal_d, ideal_g: values of D's terms and of G's loss when D can't tell real from fake; None without such.
        ideal_answer: D's answer then; None without such.
        is_probability: whether D's answers are probabilities.
    """

    folder: str
    step: int
    steps: int
    kind: Literal["points", "images", "vectors"]
    modes: int
    real: "Array | bytes"
    window: tuple[float, ...]
    ideal_d: float | None
    ideal_g: float | None
    ideal_answer: float | None
    is_probability: bool


@dataclass(frozen=True)
class Glance:
    """Says how a training stands.

    Attributes:
        step: steps done.
        rows: steps and rows of the log since the last glance, by column.
        fake: G's samples of the same latent vectors each time: points `(n, 2)`, vectors `(n, d)`, or a PNG file.
        modes_made: modes that G makes; None for data without modes.
        collapse: the verdict's word: covered, partial, collapsed or unknown.
        surface: D's answers over the plane in colours, a PNG file; b"" where there is none.
        arrows: where D pulls G's samples, `(m, 4)` of x, y, dx, dy; None where there are none.
        seconds: of training so far, without pauses.
    """

    step: int
    rows: list[tuple[int, dict[str, float]]]
    fake: "Array | bytes"
    modes_made: int | None
    collapse: str
    surface: bytes = b""
    arrows: "Array | None" = None
    seconds: float = 0.0


@dataclass(frozen=True)
class PhaseReport:
    """Says what one phase of a step has changed.

    Attributes:
        step: the number of the step, from 1.
        name: of the phase.
        moved_d, moved_g: the Euclidean norm of the change of all weights of D and of G.
        real_before, real_after: D's mean answer to the same real samples.
        fake_before, fake_after: D's mean answer to G's samples of the same latent vectors.
    """

    step: int
    name: str
    moved_d: float
    moved_g: float
    real_before: float
    real_after: float
    fake_before: float
    fake_after: float


@dataclass(frozen=True)
class Paused:
    """Says whether the training waits for an order."""

    is_paused: bool


@dataclass(frozen=True)
class Said:
    """A line that the command line would have printed."""

    text: str
    is_error: bool = False


@dataclass(frozen=True)
class Ended:
    """Says how the training ended.

    Attributes:
        exit_status: that of the command line: 0, or 2 for a user's mistake, or others.
        status: finished, interrupted or failed; "" if it never began.
        verdict: `verdict` of summary.json; {} without one.
        metrics: `metrics` of summary.json.
    """

    exit_status: int
    status: str = ""
    verdict: dict[str, object] = field(default_factory=dict)
    metrics: dict[str, object] = field(default_factory=dict)


Message = Opened | Glance | PhaseReport | Paused | Said | Ended
