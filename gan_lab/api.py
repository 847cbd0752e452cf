"""gan_lab from Python: `import gan_lab; run = gan_lab.train("loss=mse", steps=500)`.

Each function runs the command of the same name, with the same checks, messages and files; a mistake raises a LabError
with the words that the command prints. Settings are overrides as on the command line (`"optim.lr=0.001"`), or keywords
(`steps=500`, `remedy=["r1", "ema"]`).
"""

import functools
import html
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from gan_lab.assembly import build
from gan_lab.commands.export import ExportSettings, export
from gan_lab.commands.sample import SampleSettings, latent_batches
from gan_lab.comparison.pages import data_uri, read_picture
from gan_lab.config.cli import Command
from gan_lab.core.command_line import hydra_text
from gan_lab.core.errors import LabError
from gan_lab.core.installation import script
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import in_notebook, printable, say
from gan_lab.data.dataset import Dataset
from gan_lab.training.callbacks.loggers import read_table
from gan_lab.training.gan_module import GANModule
from gan_lab.training.sampling import sampling_network, score_batch

if TYPE_CHECKING:
    import pandas as pd

    from gan_lab.comparison.findings import Findings

# Of pictures in a notebook. They are drawn on white, and a notebook may be dark.
PICTURE_STYLE = "max-width: 100%; background: white"
# Variables of the environment that a command sets for its own process.
_OF_COMMANDS = ("MPLBACKEND", "HYDRA_FULL_ERROR")


def train(*overrides: str, **settings: Any) -> "TrainedRun":
    """Trains a GAN, like `train.py`; with `resume=<run folder>` continues one.

    Args:
        overrides: `"loss=mse"`, `"optim.lr=0.001"`, …
        settings: the same as keywords, for keys without a dot.

    Returns:
        The run, whose folder lies below outputs/.

    Raises:
        LabError: for a setting that is wrong, and when a run ends by NaN, a full disk or too little memory.
        KeyboardInterrupt: if it was interrupted; its checkpoint stays.
    """
    return TrainedRun(_call("train", overrides, settings))


def load(folder: str | Path) -> "TrainedRun":
    """Opens a run.

    Args:
        folder: of the run.

    Raises:
        LabError: if it is no run folder.
    """
    return TrainedRun(folder)


def sweep(*overrides: str, **settings: Any) -> "Comparison":
    """Trains one run for each combination of values, like `train.py -m`, and compares them.

    Args:
        overrides: `"loss=mse,bce"`, …
        settings: the same as keywords; a list has the values: `seed=[0, 1, 2]`.

    Raises:
        LabError: for a setting that is wrong; if no job has finished.
    """
    swept = {}
    for key, value in settings.items():
        values = value if isinstance(value, list | tuple | range) else [value]
        swept[key] = ",".join(map(hydra_text, values))
    arguments = [*overrides, *(f"{key}={text}" for key, text in swept.items())]
    return Comparison(_call("train", ["-m", *arguments], {}))


def compare(*folders: str | Path) -> "Comparison":
    """Compares finished runs, like `compare.py`.

    Args:
        folders: where the runs are, at any depth.

    Raises:
        LabError: if there are no runs to compare.
    """
    from gan_lab.comparison.comparison import common_folder

    _call("compare", [], {"runs": [str(folder) for folder in folders]})
    return Comparison(Path(common_folder(folders)), folders)


def pack_images(source: str | Path, target: str | Path, *overrides: str, **settings: Any) -> Path:
    """Packs images into one HDF5 file for `dataset=images`, like `pack.py`.

    Args:
        source: a folder, an archive, or the book's HDF5 file.
        target: the file to write.
        overrides, settings: `size=32`, `labels="folders"`, …

    Returns:
        The file, for `data.path=`.

    Raises:
        LabError: if images can't be read, or the file can't be written.
    """
    _call("pack", overrides, {"source": str(source), "target": str(target), **settings})
    return Path(target).expanduser()


def evaluate(
    generated: "np.ndarray | Tensor | str | Path",
    *overrides: str,
    real: "np.ndarray | Tensor | str | Path | None" = None,
    **settings: Any,
) -> dict[str, Any]:
    """Judges samples of any program, like `evaluate.py generated=…`.

    Args:
        generated: images `(n, C, H, W)` or `(n, H, W, C)`, uint8 or in [0, 1], points `(n, dims)`; or a path.
        overrides, settings: `"dataset=digits"`, `samples=2000`, …
        real: real samples of the same form, or a path; None if `dataset=` says which data they are compared with.

    Returns:
        What `evaluation.json` holds: `verdicts`, `mean` and `spread` of each metric, …

    Raises:
        LabError: if the samples can't be read or are too few.
    """
    with tempfile.TemporaryDirectory() as folder:
        samples = {"generated": _as_path(generated, Path(folder) / "generated.npy")}
        if real is not None:
            samples["real"] = _as_path(real, Path(folder) / "real.npy")
        return _evaluation_in(_call("evaluate", overrides, {**samples, **settings}))


class TrainedRun:
    """A run and what it has learnt.

    Args:
        folder: of the run.
        member: of replicas: which one samples and scores come from.

    Attributes:
        folder: of the run.
        summary: what summary.json holds.

    Raises:
        LabError: if it is no run folder.
    """

    def __init__(self, folder: str | Path, member: int = 0):
        self._run = Run.existing(folder)
        self._member = member
        self.folder = self._run.folder
        self.summary: dict[str, Any] = self._run.read_summary() or {}

    @property
    def verdict(self) -> dict[str, Any]:
        """The verdict: `collapse`, `within_modes`, `likeness`, `copies`, `balance`, and the `sentence` for a reader."""
        return self.summary.get("verdict", {})

    @property
    def metrics(self) -> "pd.DataFrame":
        """A row for each logged step: losses, scores and metrics (metrics.csv)."""
        return read_table(self._run.metrics)

    @property
    def module(self) -> GANModule:
        """The GAN of the newest checkpoint; of replicas, this member."""
        return self._loaded[0].member(self._member)

    @property
    def dataset(self) -> Dataset:
        """The data that it was trained on."""
        return self._loaded[1]

    @property
    def generator(self) -> nn.Module:
        """G, `(n, latent_dim)` → `(n, *shape)`; with `remedy=[ema]`, the one with averaged weights."""
        return sampling_network(self.module).eval()

    @functools.cached_property
    def _loaded(self) -> tuple[GANModule, Dataset]:
        build.prepare_libraries()
        return build.load(self._run)

    def member(self, i: int) -> "TrainedRun":
        """Returns the same run with another of its replicas."""
        run = TrainedRun(self.folder, i)
        run.__dict__["_loaded"] = self._loaded
        return run

    def samples(
        self,
        n: int = 64,
        seed: int = 0,
        classes: Sequence[str] | None = None,
        truncation: float | None = None,
    ) -> Tensor:
        """Returns samples of G, the same as `sample.py` writes, `(n, *shape)`; images are in [0, 1].

        Args:
            n: how many.
            seed: of the latent vectors.
            classes: of a conditional GAN, the classes to make, equally many of each.
            truncation: largest size of a latent vector's component.

        Raises:
            LabError: if classes or truncation don't go with the GAN.
        """
        names = None if classes is None else list(map(str, classes))
        settings = SampleSettings("", n, seed, names, truncation, self._member, ema=True)
        module = self.module
        batches = [module.sample(z).float().cpu() for z in latent_batches(module, self.dataset, settings)]
        return torch.cat(batches)

    def export(self, to: str | Path) -> Path:
        """Writes G as a file for other programs, and a model card beside it, like `export.py`.

        Args:
            to: the file: `.safetensors`, `.onnx` or `.pt2`.

        Returns:
            The file.

        Raises:
            LabError: if it exists, a package is missing, or the network can't be written in this form.
        """
        export(*self._loaded, self._run, ExportSettings(str(to), self._member, True, ()))
        return Path(to)

    def scores(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        """Returns D's raw scores `(n,)` of samples `(n, *shape)`, with a gradient with respect to the samples.

        The remedies transform the samples as in training. `loss.d_output` of `module` turns scores into D's answers.

        Args:
            samples: images in [0, 1], or points.
            labels: `(n,)`, for a conditional GAN.
        """
        return score_batch(self.module, samples, labels)

    def evaluate(self, *overrides: str, **settings: Any) -> dict[str, Any]:
        """Evaluates the run again, like `evaluate.py`, and returns what evaluation.json holds.

        Args:
            overrides, settings: `samples=26000`, `seeds=5`, …
        """
        _call("evaluate", overrides, {"run": str(self.folder), **settings})
        return _evaluation_in(self.folder)

    def show(self) -> None:
        """Shows verdict, film, losses and modes in a notebook; elsewhere says where the page is."""
        _show(self, self._run.page)

    def _repr_html_(self) -> str:
        """Returns what a notebook shows for a run: the verdict and its pictures."""
        sentence = self.verdict.get("sentence", "not judged yet")
        parts = [f"<p><b>{_text(line)}</b></p>" for line in sentence.splitlines()]
        for path in (self._run.film, self._run.plots / "losses.png", self._run.plots / "modes.png"):
            picture = read_picture(path, ("PNG", "GIF"))
            if not picture.gap:
                parts.append(f'<img src="{data_uri(picture.content, picture.kind)}" style="{PICTURE_STYLE}">')
        return "\n".join(parts)

    def __repr__(self) -> str:
        sentence = self.verdict.get("sentence", "not judged yet").splitlines()[0]
        return f"{type(self).__name__}({str(self.folder)!r}): {sentence}"


class Comparison:
    """The comparison of some runs.

    Args:
        folder: where comparison.csv, effects.csv and report.html are.
        compared: the folders whose runs are compared; None: `folder`.

    Attributes:
        folder: where they are.
        report: the page.
    """

    def __init__(self, folder: Path, compared: Sequence[str | Path] | None = None):
        self.folder = folder
        self.report = folder / "report.html"
        self._compared = compared or [folder]

    @property
    def runs(self) -> "pd.DataFrame":
        """A row for each run: its variant, seed, verdict and metrics (comparison.csv)."""
        return self._table("comparison.csv")

    @property
    def effects(self) -> "pd.DataFrame":
        """A row for each comparison and metric: difference, interval and p (effects.csv)."""
        return self._table("effects.csv")

    def _table(self, name: str) -> "pd.DataFrame":
        import pandas as pd

        return pd.read_csv(self.folder / name)

    def show(self) -> None:
        """Shows answers, effects and film in a notebook; elsewhere says where the report is."""
        _show(self, self.report)

    @functools.cached_property
    def _findings(self) -> "Findings":
        from gan_lab.comparison import comparison

        return comparison.compare(self._compared)

    def _repr_html_(self) -> str:
        """Returns what a notebook shows for a comparison: its answers, charts of the effects, and a film."""
        from gan_lab.comparison.panels import film_cards, forest_cards

        findings = self._findings
        parts = [f"<p><b>{_text(findings.title)}</b></p>"]
        for metric in findings.headline:
            heading = f"{findings.measures[metric].label} ({findings.role(metric)} metric)"
            sentences = [f"<li>{_text(sentence)}.</li>" for _, sentence in findings.answers_in(metric)]
            parts.append(f"<p>{_text(heading)}</p><ul>{''.join(sentences)}</ul>")
        for card in [*forest_cards(findings), *film_cards(findings)]:
            parts.append(f'<img src="{card.picture}" alt="{_text(card.alt)}" style="{PICTURE_STYLE}">')
        return "\n".join(parts)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r})"


def _text(text: str) -> str:
    """Returns a text, which may be a stranger's, for a page."""
    return html.escape(printable(text))


def _show(shown: "TrainedRun | Comparison", page: Path) -> None:
    """Shows a run or a comparison in a notebook; elsewhere prints a line about it and where its page is."""
    if not in_notebook():
        say(f"{shown!r}\n{page}")
        return
    from IPython.display import HTML, display

    display(HTML(shown._repr_html_()))


def _call(command: str, overrides: Sequence[str], settings: dict[str, Any]) -> Path:
    """Runs a command in this process, which stays as it was, and returns the folder of its files.

    Raises:
        LabError, KeyboardInterrupt: see `train`.
    """
    arguments = [*overrides, *(f"{key}={hydra_text(value)}" for key, value in settings.items())]
    with _unchanged_process():
        try:
            outcome = _command(command).call(arguments)
        except SystemExit as end:
            # A training says itself how it was stopped.
            raise KeyboardInterrupt from end
    if outcome.status:
        raise LabError(f"Some jobs of the sweep in {outcome.folder} have failed.", code="failed")
    assert outcome.folder is not None
    return outcome.folder


@functools.cache
def _command(name: str) -> Command:
    """Returns the `main` of a script."""
    path = script(name)
    spec = importlib.util.spec_from_file_location(f"gan_lab_script_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@contextmanager
def _unchanged_process() -> Iterator[None]:
    """Restores arguments and environment of the process, which a command changes."""
    arguments = list(sys.argv)
    environment = {name: os.environ.get(name) for name in _OF_COMMANDS}
    try:
        yield
    finally:
        sys.argv[:] = arguments
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _as_path(samples: "np.ndarray | Tensor | str | Path", path: Path) -> str:
    """Returns where samples are; arrays are written to `path` first."""
    if isinstance(samples, str | Path):
        return str(samples)
    if isinstance(samples, Tensor):
        samples = samples.detach().cpu().numpy()
    np.save(path, samples)
    return str(path)


def _evaluation_in(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
