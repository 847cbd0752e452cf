"""What G makes, seen again and again from the same latent vectors."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from gan_lab.core.io import atomic
from gan_lab.core.rng import make_generator
from gan_lab.core.run_folder import Run
from gan_lab.data.dataset import Samples, choose
from gan_lab.gan.latent import set_labels
from gan_lab.plotting import plots
from gan_lab.plotting.style import Figure
from gan_lab.training.gan_module import GANModule

ROW = 12  # images of one of several replicas
MEMBERS = 15  # replicas in a picture, at most
NAMED, FIRST = 20, 10  # of more classes a grid of images shows the first
SEARCHED = 2**17  # samples at most among which those of a class are looked for


class SampleGrids(pl.Callback):
    """Draws G's samples for one fixed set of latent vectors beside real samples, in `images/` and in TensorBoard.

    For vectors that are neither images nor points in the plane, a heat map shows, at the end, G's first output at every
    picture step (the book's picture of the 1010 pattern, S9).

    Of replicas each has a row of ROW images, or a panel, with samples of the latent vectors that it would have alone.

    Of a conditional GAN a grid of images has a row a class, in each of which the same vectors ask for that class; a row
    of replicas has a class a column. Points are coloured by the class that they were to be of.

    Args:
        every: steps between two pictures; there is one at step 0 and one at the end as well.
        images: how many samples a grid of images shows.
        points: how many samples a scatter shows.
    """

    def __init__(self, run: Run, every: int, images: int, points: int):
        self.run, self.every = run, every
        self.images, self.points = images, points
        self._history: dict[int, Tensor] = {}  # step → G's first output, of each replica, for the heat map

    def on_train_start(self, trainer: pl.Trainer, module: GANModule) -> None:  # type: ignore[override]
        dataset = self._dataset = trainer.datamodule.dataset  # type: ignore[attr-defined]
        images = len(dataset.shape) == 3
        number = self.points if dataset.shape == (2,) else self.images
        z = [
            module.latent((number, module.latent_dim), make_generator(module.seed + i, "pictures/latent"))
            for i in range(module.replicas)
        ]
        self._z = torch.stack(z) if module.replica_dims else z[0]
        chosen = choose(dataset.train, number, make_generator(module.seed, "pictures/real"))
        if module.replica_dims and images:
            self._z, chosen = self._z[:, :ROW], chosen[:ROW]
        self._real, self._classes = dataset.train[chosen], None
        if module.classes and images:
            self._ask_for_rows(module)
        elif module.classes:
            self._classes = dataset.train.labels_of(chosen)
        if module.step == 0:
            if images:
                for board in _boards(trainer):
                    board.add_image(
                        "real", plots.tile(self._real, classes=None if module.replica_dims else self._classes), 0
                    )
            self._draw(trainer, module)

    def _ask_for_rows(self, module: GANModule) -> None:
        """Puts classes in rows, or of replicas in columns, in the place of those drawn; real samples likewise."""
        shown = torch.tensor(in_rows(module))
        if module.replica_dims:
            self._classes = shown[:ROW]
            self._z = self._z[:, : len(self._classes)]
            labels = self._classes.expand(self._z.shape[:-1])
        else:
            across = max(1, self.images // len(shown))
            labels = self._classes = shown.repeat_interleave(across)
            self._z = self._z[:across].repeat(len(shown), 1)
        self._z = set_labels(self._z, labels, module.classes)
        self._real = _of_classes(self._dataset.train, self._classes, make_generator(module.seed, "pictures/real"))

    def on_train_batch_end(self, trainer: pl.Trainer, module: GANModule, *_: Any) -> None:  # type: ignore[override]
        if module.step % self.every == 0 or module.step == module.steps:
            self._draw(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: GANModule) -> None:  # type: ignore[override]
        if self._history:
            outputs = torch.stack(list(self._history.values()))  # (pictures, …, dims)
            shown = (
                {"": outputs} if not module.replica_dims else {f"_{i}": outputs[:, i] for i in self._members(module)}
            )
            for which, of_one in shown.items():
                heatmap = plots.heatmap(list(self._history), of_one)
                self._save(heatmap, f"heatmap{which}.png")
                for board in _boards(trainer):
                    board.add_figure(f"G's output over the steps{which}", heatmap, module.step)

    def _draw(self, trainer: pl.Trainer, module: GANModule) -> None:
        fake, wanted = module.sample(self._z).float().cpu(), module.labels_of(self._z)
        title = f"generated, step {module.step:,}"
        if module.replica_dims:
            shown = self._members(module)
            names = [f"member {i}{' (blown up)' * (i in module.failed)}" for i in shown]
            asked = [None if wanted is None else wanted[i] for i in shown]
            classes = [*asked, self._classes]
            figure = plots.members([fake[i] for i in shown], names, self._real, self._dataset, title, classes)
        else:
            figure = plots.samples(fake, self._real, self._dataset, title, (wanted, self._classes))
        self._save(figure, f"samples_{module.step:07d}.png")
        for board in _boards(trainer):
            if len(self._dataset.shape) == 3 and not module.replica_dims:
                board.add_image("samples", plots.tile(fake, classes=wanted), module.step)
            else:
                board.add_figure("samples", figure, module.step)
        if len(self._dataset.shape) == 1 and self._dataset.shape != (2,):
            self._history[module.step] = fake[..., 0, :].contiguous()

    @staticmethod
    def _members(module: GANModule) -> range:
        return range(min(module.replicas, MEMBERS))

    def _save(self, figure: Figure, name: str) -> None:
        with atomic(self.run.images / name) as path:
            figure.savefig(path)

    def state_dict(self) -> dict[str, Any]:
        return {"history": self._history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._history = {int(step): output.float() for step, output in state["history"].items()}


def in_rows(module: GANModule) -> range:
    """The classes of a conditional GAN that a grid of images shows, a row each."""
    return range(module.classes if module.classes <= NAMED else FIRST)


def _of_classes(samples: Samples, labels: Tensor, generator: torch.Generator) -> Tensor:
    """A sample of each of these classes `(n,)`, another one each time, `(n, *shape)`; zeros where none is found."""
    order = choose(samples, SEARCHED, generator)
    classes, found = samples.labels_of(order), torch.zeros(len(labels), *samples.shape)
    for label in labels.unique().tolist():
        places, own = torch.where(labels == label)[0], order[classes == label]
        number = min(len(places), len(own))
        found[places[:number]] = samples[own[:number]]
    return found


def _boards(trainer: pl.Trainer) -> list[Any]:
    """TensorBoard's writers, if any."""
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
