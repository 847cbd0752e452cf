"""The last samples of compared runs: the pictures in their folders, one by one or all in one picture."""

import io
import math
from dataclasses import dataclass, field

from PIL import Image

from gan_lab.comparison import charts
from gan_lab.comparison.films import decode_picture, generated_part, picture_path, picture_steps
from gan_lab.comparison.findings import Findings
from gan_lab.comparison.questions import Variant
from gan_lab.core.run_folder import Run

# So many variants have pictures in a report.
MAX_PANELS = 24
# A picture in a report: with 25 of them and everything else the report stays below 9 MB.
MAX_PICTURE_BYTES = 200_000
# The picture of all variants in a document.
MAX_SHEET_BYTES = 500_000


@dataclass
class Snapshot:
    """A variant's last samples.

    Attributes:
        name: the variant's.
        image: of the first of its runs that has a picture; None if none has.
        run: this run's path, as `Findings.runs` has it.
        seed: this run's seed.
        gaps: why the runs before it have no picture.
    """

    name: str
    image: Image.Image | None = None
    run: str | None = None
    seed: str | None = None
    gaps: list[str] = field(default_factory=list)


@dataclass
class LastPicture:
    """The last picture of samples in a run folder.

    Attributes:
        generated: generated samples; None if there is no picture.
        real: real samples, where the picture has some.
        gap: why there is no picture; '' if there is one.
    """

    generated: Image.Image | None
    real: Image.Image | None = None
    gap: str = ""


def snapshots(findings: Findings) -> tuple[list[Snapshot], Image.Image | None]:
    """Returns the snapshots of at most `MAX_PANELS` variants, and real samples where a run has drawn some."""
    shots = []
    real = None
    for variant in findings.variants[:MAX_PANELS]:
        shot, real_samples = _snapshot(findings, variant)
        shots.append(shot)
        real = real or real_samples
    return shots, real


def sheet_png(findings: Findings) -> bytes | None:
    """Returns all snapshots and real samples in one PNG of at most `MAX_SHEET_BYTES`; None if there is no picture."""
    shots, real = snapshots(findings)
    pictures = [(shot.name, shot.image) for shot in shots if shot.image is not None]
    if not pictures:
        return None
    if real is not None:
        pictures.append(("real data", real))
    sheet = Image.open(io.BytesIO(charts.png(charts.sheet(pictures))))
    return small_png(sheet.convert("RGB"), MAX_SHEET_BYTES)


def last_samples(run: Run) -> tuple[Image.Image | None, str]:
    """Returns the last picture of samples in a run folder, or why there is none."""
    steps = picture_steps(run)
    if not steps:
        return None, "no picture of samples"
    picture, gap = decode_picture(picture_path(run, steps[-1]))
    return (picture.convert("RGB") if picture else None), gap


def small_png(image: Image.Image, max_bytes: int = MAX_PICTURE_BYTES) -> bytes:
    """Returns a PNG with 256 colours, shrunk until it has at most so many bytes."""
    while True:
        content = io.BytesIO()
        image.quantize(256).save(content, "PNG")
        if content.tell() <= max_bytes or min(image.size) < 64:
            return content.getvalue()
        # Bytes grow with the area; a little less makes up for what a PNG takes whatever its size.
        shrink = 0.9 * math.sqrt(max_bytes / content.tell())
        image = image.resize((int(image.width * shrink), int(image.height * shrink)), Image.Resampling.LANCZOS)


def _snapshot(findings: Findings, variant: Variant) -> tuple[Snapshot, Image.Image | None]:
    """Returns the picture of the first of a variant's runs that has one, and the real samples in it."""
    shot = Snapshot(findings.names[variant])
    runs = findings.runs_of(variant).drop_duplicates("run")
    for path, seed in zip(runs["run"], runs["seed"], strict=True):
        picture = last_picture(Run(findings.folder / str(path)))
        if picture.generated is not None:
            shot.image = picture.generated
            shot.run = str(path)
            shot.seed = str(seed)
            return shot, picture.real
        shot.gaps.append(f"seed {seed}: {picture.gap}")
    return shot, None


def last_picture(run: Run) -> LastPicture:
    """Returns a run's last picture, cut where it has generated samples on the left and real ones on the right."""
    picture, gap = last_samples(run)
    if picture is None:
        return LastPicture(None, gap=gap)
    generated = generated_part(run, picture)
    if generated.width == picture.width:
        return LastPicture(picture)
    return LastPicture(generated, picture.crop((generated.width, 0, picture.width, picture.height)))
