"""What callbacks of a GAN training share."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary

from gan_lab.core.run_folder import Run
from gan_lab.data.datamodule import GANDataModule
from gan_lab.plotting.style import Figure
from gan_lab.training.callbacks.trackers import Tracker
from gan_lab.training.gan_module import GANModule

# Most changes, and many a collapse, happen early: within the first period there are pictures and counts after these
# parts of it. Short periods have none.
EARLY_PARTS = (20, 5, 2)
SHORTEST_PERIOD = 500

CallbackType = TypeVar("CallbackType", bound=pl.Callback)


class GANCallback(pl.Callback):
    """A callback of a GAN training: its hooks get a `GANModule`, and are called at blocks of steps.

    Lightning's hooks, which know only LightningModules and batches, call the hooks below; subclasses override these.

    Attributes:
        every: steps between two actions; a block of steps ends at each of them. None: it acts at other times.
        early_steps: further steps at which it acts.
    """

    every: int | None = None
    early_steps: Sequence[int] = ()

    def on_training_start(self, trainer: pl.Trainer, module: GANModule) -> None:
        """Called before the first step."""

    def on_block_start(self, trainer: pl.Trainer, module: GANModule) -> None:
        """Called before each block of steps."""

    def on_block_end(self, trainer: pl.Trainer, module: GANModule) -> None:
        """Called after each block of steps."""

    def on_training_end(self, trainer: pl.Trainer, module: GANModule) -> None:
        """Called after the last step."""

    def on_training_failure(self, trainer: pl.Trainer, module: GANModule, exception: BaseException) -> None:
        """Called when training ends with an exception."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_training_start(trainer, cast(GANModule, pl_module))

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.on_block_start(trainer, cast(GANModule, pl_module))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.on_block_end(trainer, cast(GANModule, pl_module))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_training_end(trainer, cast(GANModule, pl_module))

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.on_training_failure(trainer, cast(GANModule, pl_module), exception)


def early_steps(every: int) -> list[int]:
    """Returns the steps within the first period of so many steps after which there are pictures and counts as well."""
    if every < SHORTEST_PERIOD:
        return []
    return [every // part for part in EARLY_PARTS]


def datamodule_of(trainer: pl.Trainer) -> GANDataModule:
    """Returns the data that a trainer trains on; Lightning's types do not know of the attribute."""
    return cast(Any, trainer).datamodule


def find_callback(trainer: pl.Trainer, kind: type[CallbackType]) -> CallbackType | None:
    """Returns the trainer's first callback of a kind; None if there is none."""
    for callback in cast(Any, trainer).callbacks:
        if isinstance(callback, kind):
            return callback
    return None


def save_figure(run: Run, figure: Figure | Image.Image, picture: Path, keep: bool = False) -> None:
    """Writes a figure or an image into a run's folder; a figure is then emptied, unless it is to be kept.

    A figure and its renderer refer to each other: unless emptied, their 10 to 20 MB are freed much later.
    """
    if isinstance(figure, Image.Image):
        with run.atomic(picture) as path:
            figure.save(path, "png")
        return
    with run.atomic(picture) as path:
        figure.savefig(path)
    if not keep:
        figure.clear()


def log_picture(trainer: pl.Trainer, name: str, picture: Path, step: int) -> None:
    """Writes a picture file to the trainer's TensorBoard loggers and trackers."""
    track_picture(trainer, name, picture, step)
    summary = picture_summary(name, picture.read_bytes())
    for logger in tensorboards(trainer):
        logger.experiment._get_file_writer().add_summary(summary, step)


def track_picture(trainer: pl.Trainer, name: str, picture: Path, step: int) -> None:
    """Sends a picture file to the trainer's trackers, such as that of W&B."""
    for logger in trainer.loggers:
        if isinstance(logger, Tracker):
            logger.log_picture(name, picture, step)


def picture_summary(name: str, content: bytes) -> Summary:
    """Returns a PNG or GIF file as it is, as a value for TensorBoard.

    SummaryWriter's add_figure and add_image would draw and encode it a second time, and could not animate it.
    """
    width, height = Image.open(io.BytesIO(content)).size
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
    return Summary(value=[Summary.Value(tag=name, image=image)])


def tensorboards(trainer: pl.Trainer) -> list[TensorBoardLogger]:
    """Returns the trainer's TensorBoard loggers, none, one or more."""
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
