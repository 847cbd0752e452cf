"""Pictures of G's samples for the same latent vectors throughout the training."""

from typing import Any

import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor

from gan_lab.core.rng import make_generator
from gan_lab.core.run_folder import Run
from gan_lab.data.dataset import Dataset, Samples, choose
from gan_lab.gan.latent import set_labels
from gan_lab.plotting.film import evenly
from gan_lab.plotting.samples import (
    Comparison,
    compare_images,
    compare_members,
    image_grid,
    output_history,
    window_of,
)
from gan_lab.plotting.style import Figure
from gan_lab.plotting.surfaces import SurfaceFigure, SurfacePanels, Window, draw_answers
from gan_lab.training.callbacks.base import (
    GANCallback,
    datamodule_of,
    early_steps,
    log_picture,
    save_figure,
    tensorboards,
    track_picture,
)
from gan_lab.training.gan_module import GANModule
from gan_lab.training.landscape import compute_answers, compute_landscape, refusal

ROW_IMAGES = 12  # images of each of several replicas
MAX_MEMBERS = 15  # replicas in a picture
MAX_CLASS_ROWS = 20  # if there are more classes, a grid of images shows only the first ones
FIRST_CLASSES = 10  # how many of them
REAL_POINTS = 1_000  # real points over D's answer
ANSWERED_SAMPLES = 12  # samples under which D's answers stand
SEARCHED_SAMPLES = 2**17  # among how many samples those of a class are searched at most


class SampleGrids(GANCallback):
    """Draws G's samples for one fixed set of latent vectors next to real samples, in `images/` and in TensorBoard.

    Points in the plane are drawn over D's answer, with the directions in which D pulls them, see
    `gan_lab.training.landscape`; of a conditional GAN, and where D scores no single samples, next to real ones.

    For other data than points a picture at the end shows D's answers for some samples, and what D would change in them.

    For vectors that are neither images nor points in the plane, a heat map at the end shows G's first output at each
    picture step (the book's picture of the 1010 pattern).

    Each of several replicas has a row of ROW_IMAGES images, or a panel, with samples of the latent vectors that it
    would have as a single GAN.

    For a conditional GAN a grid of images has a row for each class, and the rows differ only by the label in the latent
    vectors; a row of replicas has a class in each column. Points are coloured by the class that was asked for.

    Args:
        every: steps between two pictures; there is also one at step 0, one at the end, and a few early ones, see
            `base.early_steps`.
        images: number of samples in a grid of images.
        points: number of samples in a scatter plot.

    Attributes:
        z: the latent vectors `(…, n, latent_dim)`.
        real: the real samples `(n, *shape)` next to which G's are drawn.
        real_labels: their labels `(n,)`; None without classes.
    """

    dataset: Dataset
    z: Tensor
    real: Tensor
    real_labels: Tensor | None
    _window: Window

    def __init__(self, run: Run, every: int, images: int, points: int):
        self.run = run
        self.every: int = every
        self.early_steps = early_steps(every)
        self.images = images
        self.points = points
        self._history: dict[int, Tensor] = {}  # by step: G's first output (…, dims), for the heat map

    def on_training_start(self, trainer: pl.Trainer, module: GANModule) -> None:
        self.dataset = datamodule_of(trainer).dataset
        self._comparison: Comparison | None = None
        # The figure of D's answer; None where samples are drawn next to real ones.
        self._surface: SurfaceFigure | SurfacePanels | None = None
        if self.dataset.shape == (2,) and not module.classes and not refusal(module):
            self._window = window_of(self.dataset)
            is_single = not module.replica_dims
            self._surface = SurfaceFigure() if is_single else SurfacePanels(len(self._members(module)))
        shows_images = len(self.dataset.shape) == 3
        number = self.points if self.dataset.shape == (2,) else self.images
        latents = []
        for i in range(module.replicas):
            rng = make_generator(module.seed + i, "pictures/latent")
            latents.append(module.latent((number, module.latent_dim), rng))
        self.z = torch.stack(latents) if module.replica_dims else latents[0]
        indices = choose(self.dataset.train, number, make_generator(module.seed, "pictures/real"))
        if module.replica_dims and shows_images:
            self.z = self.z[:, :ROW_IMAGES]
            indices = indices[:ROW_IMAGES]
        self.real = self.dataset.train[indices]
        self.real_labels = None
        if module.classes and shows_images:
            self._arrange_by_class(module)
        elif module.classes:
            self.real_labels = self.dataset.train.labels_of(indices)
        if module.step == 0:
            if shows_images:
                real = image_grid(self.real, classes=None if module.replica_dims else self.real_labels)
                for logger in tensorboards(trainer):
                    logger.experiment.add_image("samples/real", real, 0)
            self._draw(trainer, module)

    def _arrange_by_class(self, module: GANModule) -> None:
        """Replaces the drawn labels and real samples so that each row, or with replicas each column, has one class."""
        classes = torch.tensor(shown_classes(module))
        if module.replica_dims:
            # A row has at most ROW_IMAGES images, and fewer if `images` says so: the first classes then.
            columns = min(len(classes), self.z.shape[1])
            self.real_labels = classes[:columns]
            self.z = self.z[:, :columns]
            labels = self.real_labels.expand(self.z.shape[:-1])
        else:
            columns = max(1, self.images // len(classes))
            labels = classes.repeat_interleave(columns)
            self.real_labels = labels
            self.z = self.z[:columns].repeat(len(classes), 1)
        self.z = set_labels(self.z, labels, module.classes)
        rng = make_generator(module.seed, "pictures/real")
        self.real = samples_of_classes(self.dataset.train, self.real_labels, rng)

    def on_block_end(self, trainer: pl.Trainer, module: GANModule) -> None:
        is_due = module.step % self.every == 0 or module.step in self.early_steps
        if is_due or module.step == module.steps:
            self._draw(trainer, module)

    def on_training_end(self, trainer: pl.Trainer, module: GANModule) -> None:
        if self.dataset.shape != (2,) and not module.replica_dims and not refusal(module):
            self._draw_answers(trainer, module)
        if not self._history:
            return
        outputs = torch.stack(list(self._history.values()))  # (pictures, …, dims)
        if module.replica_dims:
            for i in self._members(module):
                self._draw_heatmap(trainer, module, outputs[:, i], f"_{i}")
        else:
            self._draw_heatmap(trainer, module, outputs, "")

    def _draw_answers(self, trainer: pl.Trainer, module: GANModule) -> None:
        """Draws D's answers for some of the samples, and what D would change in them."""
        # At equal distances, so that a conditional GAN's are of different classes.
        chosen = evenly(min(len(self.z), len(self.real)), ANSWERED_SAMPLES)
        labels = None if self.real_labels is None else self.real_labels[chosen]
        answers = compute_answers(module, self.z[chosen], self.real[chosen], labels)
        picture = self.run.plots / "answers.png"
        save_figure(self.run, draw_answers(answers, f"step {module.step:,}"), picture)
        log_picture(trainer, "answers", picture, module.step)

    def _draw_heatmap(self, trainer: pl.Trainer, module: GANModule, outputs: Tensor, suffix: str) -> None:
        heatmap = output_history(list(self._history), outputs)
        picture = self.run.images / f"heatmap{suffix}.png"
        save_figure(self.run, heatmap, picture)
        log_picture(trainer, f"samples/heatmap{suffix}", picture, module.step)

    def _draw(self, trainer: pl.Trainer, module: GANModule) -> None:
        fake = module.sample(self.z).float().cpu()
        fake_labels = module.target_labels(self.z)
        title = f"generated, step {module.step:,}"
        shows_images = len(self.dataset.shape) == 3
        figure: Figure | Image.Image
        if self._surface is not None:
            figure = self._draw_surface(module, self._surface)
        elif module.replica_dims:
            figure = self._draw_members(module, fake, fake_labels, title)
        elif shows_images and fake_labels is None:
            figure = compare_images(fake, self.real, title)
        else:
            if self._comparison is None:
                self._comparison = Comparison(self.real, self.dataset, self.real_labels)
            figure = self._comparison.show(fake, title, fake_labels)
        picture = self.run.images / f"samples_{module.step:07d}.png"
        save_figure(self.run, figure, picture, keep=self._comparison is not None or self._surface is not None)
        if shows_images and not module.replica_dims:
            track_picture(trainer, "samples", picture, module.step)
            for logger in tensorboards(trainer):
                logger.experiment.add_image("samples", image_grid(fake, classes=fake_labels), module.step)
        else:
            log_picture(trainer, "samples", picture, module.step)
        # The columns of the heat map have equal distances, so it leaves out the early steps.
        is_vector = len(self.dataset.shape) == 1 and self.dataset.shape != (2,)
        if is_vector and (module.step not in self.early_steps or module.step == module.steps):
            self._history[module.step] = fake[..., 0, :].contiguous()

    def _draw_surface(self, module: GANModule, surface: SurfaceFigure | SurfacePanels) -> Figure:
        """Draws points over D's answer, of several members in a panel each."""
        real = self.real[:REAL_POINTS]
        title = f"step {module.step:,}"
        if isinstance(surface, SurfaceFigure):
            return surface.show(compute_landscape(module, self._window, self.z, real), title)
        landscapes = []
        names = []
        for i in self._members(module):
            landscapes.append(compute_landscape(module.member(i), self._window, self.z[i], real))
            names.append(self._member_name(module, i))
        return surface.show(landscapes, names, title)

    def _draw_members(self, module: GANModule, fake: Tensor, fake_labels: Tensor | None, title: str) -> Figure:
        """Draws the samples `(K, n, *shape)` of several members."""
        samples = []
        names = []
        labels: list[Tensor | None] = []
        for i in self._members(module):
            samples.append(fake[i])
            names.append(self._member_name(module, i))
            labels.append(None if fake_labels is None else fake_labels[i])
        labels.append(self.real_labels)
        return compare_members(samples, names, self.real, self.dataset, title, labels)

    @staticmethod
    def _member_name(module: GANModule, i: int) -> str:
        return f"member {i} (failed)" if i in module.step_log.failed else f"member {i}"

    @staticmethod
    def _members(module: GANModule) -> range:
        return range(min(module.replicas, MAX_MEMBERS))

    def state_dict(self) -> dict[str, Any]:
        return {"history": self._history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._history = {int(step): output.float() for step, output in state["history"].items()}


def shown_classes(module: GANModule) -> range:
    """Returns the classes of a conditional GAN that a grid of images shows, one in each row."""
    return range(module.classes if module.classes <= MAX_CLASS_ROWS else FIRST_CLASSES)


def samples_of_classes(samples: Samples, labels: Tensor, rng: torch.Generator) -> Tensor:
    """Returns a different sample for each of the labels `(n,)`: `(n, *shape)`; zeros if there is none of a class."""
    order = choose(samples, SEARCHED_SAMPLES, rng)
    order_labels = samples.labels_of(order)
    result = torch.zeros(len(labels), *samples.shape)
    for label in labels.unique().tolist():
        positions = torch.where(labels == label)[0]
        candidates = order[order_labels == label]
        number = min(len(positions), len(candidates))
        result[positions[:number]] = samples[candidates[:number]]
    return result
