"""The result of an experiment and its files: captioned picture, animation of a path, tables, TensorBoard events."""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from gan_lab.core.csv_table import csv_text
from gan_lab.core.io import atomic
from gan_lab.core.run_folder import Run
from gan_lab.explore import figures
from gan_lab.explore.animation import frames
from gan_lab.explore.predictions import LabelPredictor, PredictionCount
from gan_lab.plotting.film import gif
from gan_lab.plotting.style import Figure
from gan_lab.training.callbacks.base import picture_summary

# Rows of a picture by `op`; in arithmetic each pair has a row.
MAX_ROWS = {"grid": 90, "interpolate": 90, "walk": 12}
MAX_PAIRS = 6
# A grid of more samples has no captions; what they would say is in the CSV file.
MAX_CAPTIONED = 120
# Numbers of a vector that a caption quotes.
MAX_NUMBERS = 4
FRAME_MILLISECONDS = {"walk": 100, "interpolate": 200}


@dataclass
class ExperimentResult:
    """The N latent vectors of an experiment with their samples, row by row as the picture shows them.

    Attributes:
        op: as in the request.
        names: N names of the vectors, e.g. `a` or `a + b`.
        seeds: N seeds; None for vectors that were computed from others.
        z: `(N, latent_dim)`.
        samples: G's samples `(N, *shape)`.
        labels, confidences: predicted labels and their confidences `(N,)`, see `LabelPredictor`.
        columns: the number of samples in a row of the picture.
        classes: the number of classes of a conditional GAN, else 0; the last so many components of a latent vector are
            the target class, one-hot.
        row_names: the names of the picture's rows, if they have any.
        file_stem: the name of the files without their endings.
        title: the title of the pictures.
        counts: how often each label is predicted for the results of several pairs, by the name of the result.
    """

    op: str
    names: list[str]
    seeds: list[int | None]
    z: Tensor
    samples: Tensor
    labels: Tensor
    confidences: Tensor
    columns: int
    classes: int = 0
    row_names: Sequence[str] = ()
    file_stem: str = ""
    title: str = ""
    counts: dict[str, list[PredictionCount]] = field(default_factory=dict)

    @property
    def lengths(self) -> list[float]:
        """The Euclidean norms of the latent vectors, without their target class."""
        noise_dim = self.z.shape[1] - self.classes
        return self.z[:, :noise_dim].norm(dim=1).tolist()

    @property
    def path(self) -> list[int] | None:
        """The indices along the closed path (an interpolation goes forth and back); None if there is no path."""
        forward = list(range(len(self.names)))
        if self.op == "walk":
            return forward
        if self.op == "interpolate":
            return forward + forward[-2:0:-1]
        return None


def describe_samples(result: ExperimentResult, predictor: LabelPredictor) -> list[str]:
    """Describes each sample in a few words.

    Returns:
        The predicted class and, for images, its confidence; where labels cannot be predicted, the first numbers of
        vectors, or empty strings for images.
    """
    if predictor.classifier is not None:
        return _describe_classified_images(result, predictor)
    if predictor.can_predict:
        return [predictor.class_name(label) for label in result.labels.tolist()]
    if result.samples.ndim > 2:
        return [""] * len(result.names)
    return [_describe_numbers(sample) for sample in result.samples.tolist()]


def _describe_classified_images(result: ExperimentResult, predictor: LabelPredictor) -> list[str]:
    """Returns the class and its confidence for each image, e.g. `five (98%)`."""
    descriptions = []
    for label, confidence in zip(result.labels.tolist(), result.confidences.tolist(), strict=True):
        description = predictor.class_name(label)
        if label >= 0:
            description += f" ({confidence:.0%})"
        descriptions.append(description)
    return descriptions


def _describe_numbers(sample: Sequence[float]) -> str:
    """Returns the first numbers of a vector."""
    text = " ".join(f"{value:.2f}" for value in sample[:MAX_NUMBERS])
    if len(sample) > MAX_NUMBERS:
        text += " …"
    return text


def table(result: ExperimentResult, predictor: LabelPredictor) -> list[str]:
    """Returns a line of text per sample: its name, its seed, the length of its latent vector, and its description."""
    descriptions = describe_samples(result, predictor)
    lines = []
    for name, seed, length, description in zip(result.names, result.seeds, result.lengths, descriptions, strict=True):
        # The names of all other vectors say where they come from.
        vector = f"vector {seed}" if name in ("a", "b") else ""
        lines.append(f"  {name:<20}{vector:<16}length {length:<8.2f}{description}")
    return lines


def write(result: ExperimentResult, run: Run, predictor: LabelPredictor, step: int, text: str) -> list[Path]:
    """Writes all files into the run's `explore` folder, each one atomically, and TensorBoard events next to them.

    Args:
        step: the training step of the checkpoint.
        text: a description of the experiment for TensorBoard.

    Returns:
        The paths of all files except TensorBoard's.
    """
    descriptions = describe_samples(result, predictor)
    contents = {".png": _picture(result, predictor, descriptions)}
    if result.path:
        contents[".gif"] = _animation(result, result.path, predictor, descriptions)
    contents[".csv"] = csv_text(_vector_table(result, predictor), float_format="%.9g").encode()
    if result.counts:
        contents["_counts.csv"] = csv_text(_count_table(result)).encode()
        contents["_counts.png"] = _png(figures.fractions(result.counts, result.title))
    paths = []
    for ending, content in contents.items():
        path = run.explore / f"{result.file_stem}{ending}"
        with atomic(path) as temporary:
            temporary.write_bytes(content)
        paths.append(path)
    _write_tensorboard(result, run, contents, step, text)
    return paths


def _picture(result: ExperimentResult, predictor: LabelPredictor, descriptions: Sequence[str]) -> bytes:
    """Draws points in the plane, or a grid of images or vectors with captions, as PNG."""
    if result.samples.shape[1:] == (2,):
        line = None
        if result.path:
            # The line returns to the first point.
            line = result.samples[[*result.path, 0]]
        return _png(figures.scatter(result.samples, _groups(result), line, predictor.dataset, result.title))
    if result.op == "grid" and not result.row_names and len(result.names) > MAX_CAPTIONED:
        return _png(figures.sheet(result.samples, result.names, result.title))
    captions_above = []
    for name, seed in zip(result.names, result.seeds, strict=True):
        if name in ("a", "b") and seed is not None:
            captions_above.append(f"{name}: vector {seed}")
        else:
            captions_above.append(name)
    captions_below = []
    for description, length in zip(descriptions, result.lengths, strict=True):
        # Images of data without classes have no description.
        captions_below.append(f"{description}\nlength {length:.1f}".lstrip())
    title = result.title
    max_samples = MAX_ROWS.get(result.op, MAX_PAIRS) * result.columns
    row_starts = range(0, min(len(result.names), max_samples), result.columns)
    if max_samples < len(result.names):
        title += f". The first {len(row_starts)} rows"
    rows = []
    rows_above = []
    rows_below = []
    for start in row_starts:
        row = slice(start, start + result.columns)
        rows.append(result.samples[row])
        rows_above.append(captions_above[row])
        rows_below.append(captions_below[row])
    return _png(figures.captioned_grid(rows, rows_above, rows_below, title))


def _png(figure: Figure) -> bytes:
    """Returns a figure as PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def _groups(result: ExperimentResult) -> list[tuple[str, Sequence[int]]]:
    """Returns names and indices of the points that share a colour in a picture of the plane."""
    indices = range(len(result.names))
    groups: list[tuple[str, Sequence[int]]] = []
    if result.row_names:
        for row, name in enumerate(result.row_names):
            start = row * result.columns
            groups.append((name, indices[start : start + result.columns]))
        return groups
    if result.op == "grid":
        return [("samples", indices)]
    if result.op == "walk":
        return [("the vectors", indices[:: result.columns])]
    if result.op == "interpolate":
        return [("a", indices[:1]), ("b", indices[-1:])]
    # Arithmetic: a column of a's, one of b's, and one or two of results.
    for column in range(result.columns):
        groups.append((result.names[column], indices[column :: result.columns]))
    return groups


def _animation(
    result: ExperimentResult, path: Sequence[int], predictor: LabelPredictor, descriptions: Sequence[str]
) -> bytes:
    """Returns a GIF that follows a path through the samples, given by their indices."""
    captions = []
    for name, description in zip(result.names, descriptions, strict=True):
        captions.append(f"{name}\n{description}".rstrip())
    pictures = frames(result.samples, captions, predictor.dataset)
    return gif([pictures[index] for index in path], FRAME_MILLISECONDS[result.op])


def _vector_table(result: ExperimentResult, predictor: LabelPredictor) -> pd.DataFrame:
    """Returns a row per latent vector: its name and seed, the prediction, its sample unless an image, the vector."""
    columns = {
        "row": [index // result.columns + 1 for index in range(len(result.names))],
        "name": result.names,
        "seed": pd.array(result.seeds, dtype="Int64"),
        "prediction": "",
        "confidence": "",
    }
    if predictor.can_predict:
        columns["prediction"] = [predictor.class_name(label) for label in result.labels.tolist()]
        columns["confidence"] = result.confidences.numpy()
    if result.samples.ndim == 2:
        columns |= _component_columns("x", result.samples)
    columns |= _component_columns("z", result.z)
    return pd.DataFrame(columns)


def _component_columns(name: str, vectors: Tensor) -> dict[str, object]:
    """Returns the components of vectors `(N, d)` as columns `<name>_1` … `<name>_d` of N numbers."""
    columns: dict[str, object] = {}
    for number, component in enumerate(vectors.T, start=1):
        columns[f"{name}_{number}"] = component.numpy()
    return columns


def _count_table(result: ExperimentResult) -> pd.DataFrame:
    """Returns a row per result and label: how often the label was predicted, with its interval."""
    rows = []
    for name, counts in result.counts.items():
        for count in counts:
            rows.append({"result": name, **asdict(count)})
    return pd.DataFrame(rows)


def _write_tensorboard(result: ExperimentResult, run: Run, contents: dict[str, bytes], step: int, text: str) -> None:
    """Writes one event file per experiment, with the text and the images; the GIF is animated there, too."""
    # TensorBoard would show the events of an earlier call, too.
    for outdated in run.explore.glob(f"events.out.tfevents.*.{result.file_stem}"):
        outdated.unlink()
    writer = SummaryWriter(str(run.explore), filename_suffix=f".{result.file_stem}")
    try:
        for ending, content in contents.items():
            if ending.endswith((".png", ".gif")):
                summary = picture_summary(f"explore/{result.file_stem}{ending}", content)
                writer._get_file_writer().add_summary(summary, step)
        writer.add_text(f"explore/{result.file_stem}", f"```\n{text}\n```", step)
    finally:
        writer.close()
