"""`op=surface`: what D answers, over the plane or under single samples, and where it pulls G's samples."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from torch.utils.tensorboard import SummaryWriter

from gan_lab.core.io import atomic
from gan_lab.core.rng import make_generator
from gan_lab.core.run_folder import Run
from gan_lab.data.dataset import Dataset, choose
from gan_lab.plotting.samples import window_of
from gan_lab.plotting.surfaces import SurfaceFigure, draw_answers
from gan_lab.training.callbacks.base import picture_summary
from gan_lab.training.landscape import compute_answers, compute_landscape

if TYPE_CHECKING:
    from gan_lab.training.gan_module import GANModule

POINTS = 1_000  # real and generated points over the surface


def write_surface(run: Run, module: "GANModule", dataset: Dataset, n: int, member: int, title: str) -> Path:
    """Draws the surface of one GAN, or n samples with D's answers, into the run's `explore` folder.

    Returns:
        The path of the picture, which TensorBoard shows as well.

    Raises:
        LabError: if D scores no single samples, or the file can't be written.
    """
    is_plane = dataset.shape == (2,)
    number = POINTS if is_plane else n
    z = module.latent((number, module.latent_dim), make_generator(module.seed, "pictures/latent"))
    indices = choose(dataset.train, number, make_generator(module.seed, "pictures/real"))
    real = dataset.train[indices]
    if is_plane:
        figure = SurfaceFigure().show(compute_landscape(module, window_of(dataset), z, real), title)
    else:
        labels = dataset.train.labels_of(indices) if module.classes else None
        # Data may have fewer samples.
        figure = draw_answers(compute_answers(module, z[: len(real)], real, labels), title)
    stem = f"surface_step{module.step}" if is_plane else f"surface_n{n}_step{module.step}"
    if member:
        stem += f"_member{member}"
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    path = run.explore / f"{stem}.png"
    with atomic(path) as temporary:
        temporary.write_bytes(content.getvalue())
    for outdated in run.explore.glob(f"events.out.tfevents.*.{stem}"):
        outdated.unlink()
    writer = SummaryWriter(str(run.explore), filename_suffix=f".{stem}")
    try:
        summary = picture_summary(f"explore/{stem}", content.getvalue())
        writer._get_file_writer().add_summary(summary, module.step)
    finally:
        writer.close()
    return path
