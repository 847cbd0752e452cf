"""Films of what G made during a training, from the pictures and the log in run folders: so they also show what came
before an interruption. Neither pandas nor torch is imported, as every run ends with this.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from gan_lab.comparison.pages import read_picture
from gan_lab.core.errors import LabError
from gan_lab.core.io import MAX_TABLE, read_bytes
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import printable
from gan_lab.plotting.film import (
    MAX_BYTES,
    MAX_FRAMES,
    Panel,
    Shot,
    evenly,
    film_frames,
    film_gif,
    film_mp4,
    side_by_side,
)

PICTURE = re.compile(r"samples_([0-9]{7,12})\.png")
MAX_SIDE = 1_200  # pixels of a frame's picture
# Pictures that are read for films side by side, at most.
MAX_SHEET_PICTURES = 200

# The columns of metrics.csv that count modes.
MADE = "metric/modes_valid"
TOTAL = "metric/modes_total"


class ModeCount(NamedTuple):
    """How many modes G made at a step, of how many; of several replicas the mean."""

    made: float
    total: int

    def __str__(self) -> str:
        if self.made == int(self.made):
            return f"{self.made:,.0f} of {self.total:,}"
        return f"on average {self.made:,.1f} of {self.total:,}"


def write_film(run: Run, summary: Mapping[str, Any], noun: str) -> list[Path]:
    """Writes `training.gif` and, with an encoder, `training.mp4` into a run's folder.

    Args:
        run: its pictures are in `images/`, its counts in metrics.csv.
        summary: of the run, as in summary.json: how many steps it had, how it ended, and the verdict.
        noun: what its modes are called, in the plural.

    Returns:
        What was written; nothing if there are fewer than two pictures.

    Raises:
        OSError: if it can't be written.
    """
    steps = [step for step in picture_steps(run) if step <= summary["steps"]]
    steps = [steps[i] for i in evenly(len(steps), MAX_FRAMES)]
    counts = mode_counts(run)
    shots = []
    for step in steps:
        picture, _ = decode_picture(picture_path(run, step))
        if picture is not None:
            # So that all frames fit into memory, whatever size pictures have.
            picture.thumbnail((MAX_SIDE, MAX_SIDE))
            caption = f"step {step:,}"
            if step in counts:
                caption += f" · {counts[step]} {noun}"
            shots.append(Shot(picture, caption, step / max(1, steps[-1])))
    if len(shots) < 2:
        return []
    frames = film_frames(shots, _words(summary))
    contents = {run.film: film_gif(frames), run.film.with_suffix(".mp4"): film_mp4(frames)}
    paths = []
    for path, content in contents.items():
        if content is not None:
            with run.atomic(path) as temporary:
                temporary.write_bytes(content)
            paths.append(path)
    return paths


def picture_steps(run: Run) -> list[int]:
    """Returns the steps of which a run has a picture of samples, in ascending order."""
    matches = [PICTURE.fullmatch(path.name) for path in run.images.glob("samples_*.png")]
    return sorted(int(match[1]) for match in matches if match)


def picture_path(run: Run, step: int) -> Path:
    """Returns where a run's picture of samples at a step is."""
    return run.images / f"samples_{step:07d}.png"


def decode_picture(path: Path) -> tuple[Image.Image | None, str]:
    """Reads a picture of a run, in grey or in colour.

    Returns:
        The picture; or None, and what is wrong with the file.
    """
    file = read_picture(path)
    if file.gap:
        return None, file.gap
    try:
        with Image.open(io.BytesIO(file.content), formats=("PNG",)) as image:
            return image.convert("L" if image.mode == "L" else "RGB"), ""
    except Exception:
        # PIL raises errors of many types for damaged files.
        return None, f"{printable(path.name)} is damaged"


def mode_counts(run: Run) -> dict[int, ModeCount]:
    """Reads from metrics.csv, by step, how many modes were counted; {} where none were, or it can't be read."""
    counts = {}
    try:
        text = read_bytes(run.metrics, MAX_TABLE).decode("utf-8")
        for row in csv.DictReader(io.StringIO(text, newline="")):
            if row.get(MADE) and row.get(TOTAL):
                count = ModeCount(float(row[MADE]), int(float(row[TOTAL])))
                # One mode is no count: every sample is of it.
                if count.total > 1:
                    counts[int(row["step"])] = count
    except (OSError, LabError, ValueError, LookupError, TypeError, OverflowError, csv.Error):
        return {}
    return counts


def sheet_film(runs: Sequence[tuple[str, Run]], max_bytes: int = MAX_BYTES) -> bytes | None:
    """Returns the films of several runs side by side as GIF, each at the same step.

    Args:
        runs: by name, which is drawn above.
        max_bytes: of the GIF.

    Returns:
        None if there are fewer than two steps at which all of them have a picture.
    """
    if not runs:
        return None
    common = set.intersection(*(set(picture_steps(run)) for _, run in runs))
    most = max(2, min(MAX_FRAMES, MAX_SHEET_PICTURES // len(runs)))
    steps = [sorted(common)[i] for i in evenly(len(common), most)]
    counts = [mode_counts(run) for _, run in runs]
    shots = []
    for step in steps:
        panels = []
        for (name, run), run_counts in zip(runs, counts, strict=True):
            picture, _ = decode_picture(picture_path(run, step))
            if picture is not None:
                count = f"{run_counts[step]} modes" if step in run_counts else ""
                panels.append(Panel(generated_part(run, picture), name, count))
        if len(panels) == len(runs):
            shots.append(Shot(side_by_side(panels), f"step {step:,}", step / max(1, steps[-1])))
    if len(shots) < 2:
        return None
    return film_gif(film_frames(shots, ""), max_bytes)


def generated_part(run: Run, picture: Image.Image) -> Image.Image:
    """Returns the part of a picture that shows generated samples: the left half if real ones are on the right."""
    if has_replicas(run) or picture.width < 1.5 * picture.height:
        # A picture of several replicas has no such halves, see `plotting.samples.compare_members`.
        return picture
    return picture.crop((0, 0, picture.width // 2, picture.height))


def has_replicas(run: Run) -> bool:
    """Whether a run trained several GANs together; False where its summary cannot be read."""
    try:
        return bool(run.read_summary().get("replicas", 1) != 1)
    except (LabError, OSError):
        return False


def _words(summary: Mapping[str, Any]) -> str:
    """Returns the verdict's first sentence; without a verdict, why the run failed, or "" """
    sentence = str(summary.get("verdict", {}).get("sentence") or "").partition("\n")[0]
    if sentence:
        return sentence.partition(". ")[0].removesuffix(".") + "."
    error = str(summary.get("error") or "").partition("\n")[0]
    return f"Failed: {error}" if error else ""
