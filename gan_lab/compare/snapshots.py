"""What compared runs made last: the pictures of samples that they kept, each alone or all in one picture."""

import io
import math
from contextlib import suppress
from typing import NamedTuple

from PIL import Image

from gan_lab.compare import charts
from gan_lab.compare.findings import Findings
from gan_lab.core.errors import LabError
from gan_lab.core.io import read_bytes
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import printable

PANELS = 24  # so many variants have pictures
PIXELS = 20_000_000  # of a picture that is read, at most
MOST_BYTES = 4 * PIXELS  # of such a file
BYTES = 200_000  # of a picture that is kept, at most: 25 of them and all else of a report stay below 9 MB
SHEET = 500_000  # of one with all variants


class Snapshot(NamedTuple):
    """A variant's last samples, of the first of its runs that has a picture; `run` and `seed` are that one's."""

    name: str
    image: Image.Image | None
    run: str | None
    seed: str | None
    gaps: list[str]


def snapshots(findings: Findings) -> tuple[list[Snapshot], Image.Image | None]:
    """Each variant's, at most `PANELS`; and real samples, where a run has drawn some beside."""
    taken, real = [], None
    for variant in findings.variants[:PANELS]:
        shot = Snapshot(findings.names[variant], None, None, None, [])
        for run in findings.runs_of(variant).drop_duplicates("run").itertuples():
            folder = Run(findings.folder / str(run.run))
            image, beside, gap = _halves(folder, _replicated(folder))
            if image is not None:
                shot = shot._replace(image=image, run=str(run.run), seed=str(run.seed))
                real = real or beside
                break
            shot.gaps.append(f"seed {run.seed}: {gap}")
        taken.append(shot)
    return taken, real


def sheet_png(findings: Findings) -> bytes | None:
    """All of them and real samples in one picture, with their names, of `SHEET` bytes at most; None without any."""
    taken, real = snapshots(findings)
    pictures = [(shot.name, shot.image) for shot in taken if shot.image is not None]
    if not pictures:
        return None
    pictures += [("real data", real)] if real is not None else []
    return small_png(Image.open(io.BytesIO(charts.png(charts.sheet(pictures)))).convert("RGB"), SHEET)


def _replicated(run: Run) -> bool:
    with suppress(LabError, OSError):
        return run.read_summary().get("replicas", 1) != 1
    return False


def _halves(run: Run, whole_only: bool) -> tuple[Image.Image | None, Image.Image | None, str]:
    """The two halves of a run's last picture, generated and real, as `gan_lab.plotting.samples.compare_samples` draws
    them; or why there are none.

    Args:
        whole_only: leave it whole, as `compare_members` draws it.
    """
    whole, gap = last_samples(run)
    if whole is None or whole_only or whole.width < 1.5 * whole.height:
        return whole, None, gap
    middle = whole.width // 2
    return whole.crop((0, 0, middle, whole.height)), whole.crop((middle, 0, whole.width, whole.height)), ""


def last_samples(run: Run) -> tuple[Image.Image | None, str]:
    """The last picture of samples that a run kept, or why there is none."""
    paths = sorted(run.images.glob("samples_*.png"))
    if not paths:
        return None, "no picture of samples"
    name = printable(paths[-1].name)
    try:
        content = io.BytesIO(read_bytes(paths[-1], MOST_BYTES))
        with Image.open(content, formats=("PNG",)) as image:  # for others PIL starts other programs
            if image.width * image.height > PIXELS:
                return None, f"{name} is too large"
            return image.convert("RGB"), ""
    except Exception:  # PIL tells damage by errors of many types
        return None, f"{name} is damaged"


def small_png(image: Image.Image, most: int = BYTES) -> bytes:
    """With 256 colours, and as large as so many bytes allow."""
    while True:
        content = io.BytesIO()
        image.quantize(256).save(content, "PNG")
        if content.tell() <= most or min(image.size) < 64:
            return content.getvalue()
        shrink = 0.9 * math.sqrt(most / content.tell())
        image = image.resize((int(image.width * shrink), int(image.height * shrink)), Image.Resampling.LANCZOS)
