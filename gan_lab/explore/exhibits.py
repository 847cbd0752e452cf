"""A latent vector experiment as files: a picture that explains itself, a GIF of a path, tables, TensorBoard."""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from gan_lab.core.csv_table import csv_text
from gan_lab.core.io import atomic
from gan_lab.core.run_folder import Run
from gan_lab.explore import figures
from gan_lab.explore.animation import frames, gif
from gan_lab.explore.reading import Count, Reader
from gan_lab.plotting.style import Figure

SHOWN = {"grid": 90, "interpolate": 90, "walk": 12}  # rows of a picture, at most
PAIRS = 6  # of pairs
NUMBERS = 4  # of a vector's numbers, at most so many are written below it


@dataclass
class Exhibit:
    """What an experiment made; all lists and tensors are equally long.

    Attributes:
        op: as in the request.
        names: what each vector is, e.g. `a`, `a + b`.
        numbers: those of numbered vectors; None for what was made of them.
        z: `(N, latent_dim)`.
        samples: `(N, *shape)`, G's.
        labels, confidences: `(N,)`, see `Reader`.
        columns: so many make a row of the picture.
        classes: of a conditional GAN; so many of a vector's last numbers are its class.
        rows: names of the picture's rows, if it has any.
        name: of the files.
        counts: of several pairs, by what was counted.
    """

    op: str
    names: list[str]
    numbers: list[int | None]
    z: Tensor
    samples: Tensor
    labels: Tensor
    confidences: Tensor
    columns: int
    classes: int = 0
    rows: Sequence[str] = ()
    name: str = ""
    title: str = ""
    counts: dict[str, list[Count]] = field(default_factory=dict)

    @property
    def lengths(self) -> list[float]:
        """Of the vectors, their class aside."""
        return self.z[:, : self.z.shape[1] - self.classes].norm(dim=1).tolist()

    @property
    def path(self) -> list[int] | None:
        """Of vectors that lie on a path, which comes after which until it closes: to and fro, or around; else None."""
        there = list(range(len(self.names)))
        return {"interpolate": there + there[-2:0:-1], "walk": there}.get(self.op)


def readings(show: Exhibit, reader: Reader) -> list[str]:
    """Each sample in a few words: its class and how sure that is, or, where samples can't be read, its numbers."""
    if reader.label_classifier:
        return [
            f"{reader.name(label)} ({sure:.0%})" if label >= 0 else reader.unread
            for label, sure in zip(show.labels.tolist(), show.confidences.tolist(), strict=True)
        ]
    if reader.able:
        return [reader.name(label) for label in show.labels.tolist()]
    if show.samples.ndim > 2:
        return [""] * len(show.names)
    return [
        " ".join(f"{value:.2f}" for value in sample[:NUMBERS]) + " …" * (len(sample) > NUMBERS)
        for sample in show.samples.tolist()
    ]


def table(show: Exhibit, reader: Reader) -> list[str]:
    """The same as lines of text."""
    known = [
        f"vector {number}" if name in ("a", "b") else "" for name, number in zip(show.names, show.numbers, strict=True)
    ]
    return [
        f"  {name:<20}{number:<16}length {length:<8.2f}{reading}"
        for name, number, length, reading in zip(show.names, known, show.lengths, readings(show, reader), strict=True)
    ]


def write(show: Exhibit, run: Run, reader: Reader, step: int, text: str) -> list[Path]:
    """Writes everything; each file becomes whole at once.

    Returns:
        The files, TensorBoard's aside.
    """
    said = readings(show, reader)
    files = {".png": _picture(show, reader, said)}
    if show.path:
        files[".gif"] = _film(show, reader, said)
    files[".csv"] = csv_text(_vectors(show, reader), float_format="%.9g").encode()
    if show.counts:
        rows = [{"result": name, **asdict(each)} for name, counts in show.counts.items() for each in counts]
        files["_counts.csv"] = csv_text(pd.DataFrame(rows)).encode()
        groups = {
            f"{name} ({counts[0].total:,})": [(c.reading, c.count / c.total, c.low, c.high) for c in counts]
            for name, counts in show.counts.items()
        }
        files["_counts.png"] = _png(figures.shares(groups, show.title))
    for ending, content in files.items():
        with atomic(run.explore / f"{show.name}{ending}") as path:
            path.write_bytes(content)
    _to_tensorboard(show, run, files, step, text)
    return [run.explore / f"{show.name}{ending}" for ending in files]


def _picture(show: Exhibit, reader: Reader, said: Sequence[str]) -> bytes:
    if show.samples.shape[1:] == (2,):
        line = show.samples[[*show.path, 0]] if show.path else None
        figure = figures.path(show.samples, _marks(show), line, reader.dataset, show.title)
    else:
        lengths = [f"length {length:.1f}" for length in show.lengths]
        below = [f"{reading}\n{length}".lstrip() for reading, length in zip(said, lengths, strict=True)]
        above = [
            f"{name}: vector {number}" if name in ("a", "b") and number is not None else name
            for name, number in zip(show.names, show.numbers, strict=True)
        ]
        most = SHOWN.get(show.op, PAIRS) * show.columns
        starts = range(0, min(len(show.names), most), show.columns)
        title = show.title + (f". The first {len(starts)} rows" if most < len(show.names) else "")
        parts = [slice(start, start + show.columns) for start in starts]
        figure = figures.captioned(
            [show.samples[part] for part in parts],
            [above[part] for part in parts],
            [below[part] for part in parts],
            title,
        )
    return _png(figure)


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def _marks(show: Exhibit) -> list[tuple[str, Sequence[int]]]:
    """Which points of a picture in the plane get a colour and a name."""
    everything = range(len(show.names))
    if show.rows:
        return [(name, everything[row * show.columns :][: show.columns]) for row, name in enumerate(show.rows)]
    if show.op == "grid":
        return [("samples", everything)]
    if show.op == "walk":
        return [("the vectors", everything[:: show.columns])]
    if show.op == "interpolate":
        return [("a", everything[:1]), ("b", everything[-1:])]
    return [(name, everything[column :: show.columns]) for column, name in enumerate(show.names[: show.columns])]


def _film(show: Exhibit, reader: Reader, said: Sequence[str]) -> bytes:
    captions = [f"{name}\n{reading}".rstrip() for name, reading in zip(show.names, said, strict=True)]
    made = frames(show.samples, captions, reader.dataset)
    return gif([made[index] for index in show.path or []], 100 if show.op == "walk" else 200)


def _vectors(show: Exhibit, reader: Reader) -> pd.DataFrame:
    """A row per vector: what it is, what its sample is read as, the sample if it is no image, the vector."""
    columns = {
        "row": [index // show.columns + 1 for index in range(len(show.names))],
        "name": show.names,
        "number": pd.array(show.numbers, dtype="Int64"),
        "reading": [reader.name(label) if reader.able else "" for label in show.labels.tolist()],
        "confidence": show.confidences.numpy() if reader.able else "",
    }
    values = {"x": show.samples, "z": show.z} if show.samples.ndim == 2 else {"z": show.z}
    numbers = {f"{name}_{i + 1}": each.numpy() for name, part in values.items() for i, each in enumerate(part.T)}
    return pd.DataFrame({**columns, **numbers})


def _to_tensorboard(show: Exhibit, run: Run, files: dict[str, bytes], step: int, text: str) -> None:
    """One event file per experiment, beside the other files; the images are the files themselves, the GIF moves."""
    for before in run.explore.glob(f"events.out.tfevents.*.{show.name}"):
        before.unlink()
    writer = SummaryWriter(str(run.explore), filename_suffix=f".{show.name}")
    try:
        for ending in files:
            if ending.endswith((".png", ".gif")):
                width, height = Image.open(io.BytesIO(files[ending])).size
                image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=files[ending])
                value = Summary.Value(tag=f"explore/{show.name}{ending}", image=image)
                writer._get_file_writer().add_summary(Summary(value=[value]), step)
        writer.add_text(f"explore/{show.name}", f"```\n{text}\n```", step)
    finally:
        writer.close()
