"""What users read when something is wrong: the phrases that they need to understand and solve the problem.

All other tests look only at an error's code and key. Append sparingly: an argument of train.py to `ARGUMENTS`, anything
else as a function with `@message`.
"""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, compose, make_packed_file, refusal, refused
from PIL import Image

from gan_lab.assembly.instantiate import build_module
from gan_lab.commands import backquery
from gan_lab.core.rng import StepRNG
from gan_lab.core.run_folder import Run
from gan_lab.data import color, hdf5, images, synthetic
from gan_lab.data.dataset import Dataset, Part
from gan_lab.evaluation.classifier import label_classifier
from gan_lab.evaluation.feature_spaces import features_of
from gan_lab.gan.losses import Hinge, LabelSmoothing
from gan_lab.gan.networks.norms import GroupNorm
from gan_lab.gan.networks.shape_checks import halved_sides
from gan_lab.gan.remedies.input_transforms import Pack
from gan_lab.pack.archives import open_source
from gan_lab.pack.packer import PackSettings, pack
from gan_lab.training.callbacks.loggers import read_table
from gan_lab.training.cpu_threads import set_threads
from gan_lab.training.ddp import ProcessGroup

ARGUMENTS = [
    ("steps=-1", "steps=-1 is not allowed: steps has to be a whole number ≥ 1"),
    ("optim.betas=[0.5,1.5]", "a list of 2 numbers, each ≥ 0 and < 1"),
    ("name=5", "name has to be text (where it looks like a number in quotes"),
    ("loss=bse", "Did you mean 'mse'?"),
    ("loss=bse", "Choose from: bce, hinge"),
    ("norm=null", "norm=null: a group takes one of its options"),
    ("norm", "Can't read 'norm': a setting is key=value"),
    ("gpu", "for example steps=3000.\nSay trainer=gpu."),
    ("WGAN", "Say loss=wasserstein."),
    ("loss=[mse,bce]", "-m loss=mse,bce trains with each."),
    ("remedy=[r1,weak,strong]", "the remedies are either weak or strong"),
    ("+loss=mse", "Say loss=…, without the +."),
    ("stepz=10", "There is no key 'stepz'. Did you mean 'steps'?"),
    ("activation.negative_slop=1", "Did you mean 'activation.negative_slope'?"),
    ("activation=gelu activation.negative_slope=0.2", "activation has: nothing to set"),
    ("callbacks.pictures=null", "Leave it out with ~callbacks.pictures."),
    ("trainer.precision=16-mixed", "one of 32-true, bf16-mixed"),
    ("trainer.devices=2", "Say trainer=ddp."),
    ("data=mnist", "dataset=… chooses the data, data.path=… names a packed file."),
    ("remedy=[balance] replicas=2", "remedy=[balance] can't be combined with replicas=2: it decides for one GAN"),
    ("remedy=[balance] replicas=2", "Train seeds one by one instead: -m seed=0,1,2"),
    (
        "remedy=[mode_seeking] latent=constant",
        "combined with latent=constant: it needs different latent vectors",
    ),
    ("norm=batch batch_size=1", "norm=batch can't be combined with batch_size=1: the statistics of a batch of one"),
    ("norm=batch trainer=ddp devices=2", "norm=layer, group or instance normalise each sample by itself."),
    ("norm=spectral replicas=2", "norm=spectral can't be combined with replicas=2"),
    ("replicas=0", "replicas=0 is not allowed: replicas has to be a whole number ≥ 1 and ≤ 1,024"),
    ("replicas=2 optim._target_=torch.optim.Adafactor", "optim: torch.optim.Adafactor would mix"),
    ("replicas=2 optim._target_=torch.optim.Adafactor", "-m seed=0,1"),
    ("replicas=2 seed=4294967295", "replicas=2 would need the seeds up to 4294967296"),
    ("experiment=book/patern", "Did you mean 'book/pattern'?"),
]


@pytest.mark.parametrize(("overrides", "phrase"), ARGUMENTS)
def test_an_argument_that_is_refused(overrides, phrase):
    assert phrase in str(refusal(*overrides.split()))


PIXELS = np.zeros((3, 5, 4, 3), np.uint8)
MESSAGES: list = []


def message(code: str, key: str, *phrases: str) -> Callable:
    """Registers a function that provokes a message; it is called with an empty folder."""

    def register(provoke: Callable[[Path], object]) -> Callable[[Path], object]:
        MESSAGES.append(pytest.param(provoke, code, key, phrases, id=provoke.__name__))
        return provoke

    return register


# Losses, networks and remedies.


@message("conflict", "remedy.label_smoothing", "with Hinge D's output is no probability", "loss=bce or loss=mse")
def label_smoothing_of_a_critic(folder: Path) -> None:
    LabelSmoothing(Hinge())


@message("conflict", "remedy.pac.m", "7 samples can't be divided into packs of m=3", "such as 9.")
def batch_that_packs_do_not_fill(folder: Path) -> None:
    Pack(3)(torch.zeros(7, 2), 0, StepRNG([0], (), "test", 0, torch.device("cpu")))


@message("conflict", "model", "model=resnet takes square images of 8 to 128 pixels", "shape (1, 7, 7)", "model=mlp")
def image_that_a_network_cannot_make(folder: Path) -> None:
    halved_sides((1, 7, 7), "resnet", 8)


@message("conflict", "norm.groups", "norm.groups=3 does not divide a layer's 10 features", "divisors of 10")
def groups_that_do_not_divide_the_features(folder: Path) -> None:
    GroupNorm(3).after_layer((10,))


# Run folders.


@message("exists", "hydra.run.dir", "already holds a run", "resume=", "hydra.run.dir=")
def run_folder_is_taken(folder: Path) -> None:
    Run.new(folder, "")
    Run.new(folder, "")


@message("missing", "outputs", "outputs is not a run folder: it has no config.yaml", "below outputs/")
def run_folder_is_none(folder: Path) -> None:
    Run.existing("outputs")


@message("missing", "", "null is not a run folder")
def run_folder_is_null(folder: Path) -> None:
    Run.existing(None)


@message("busy", "run", "is being trained by another process", "Wait")
def run_folder_is_in_use(folder: Path) -> None:
    run = Run.new(folder / "run", "")
    Run(run.folder).claim()


@message("missing", "last.ckpt", "has no checkpoint", "resume=", "from step 0")
def checkpoint_is_missing(folder: Path) -> None:
    Run.new(folder, "").load_checkpoint()


@message("damaged", "last.ckpt", "last.ckpt is damaged", "previous.ckpt is damaged", "Delete")
def checkpoints_are_damaged(folder: Path) -> None:
    run = Run.new(folder, "")
    run.checkpoint.parent.mkdir()
    run.checkpoint.write_bytes(b"PK\x03\x04 not really")
    run.previous_checkpoint.write_bytes(b"")
    run.load_checkpoint()


@message("damaged", "last.ckpt", "is not a checkpoint of gan_lab", "its entry gan_lab is missing")
def checkpoint_is_foreign(folder: Path) -> None:
    run = Run.new(folder, "")
    run.checkpoint.parent.mkdir()
    torch.save({"weight": torch.ones(2)}, run.checkpoint)
    run.load_checkpoint()


@message("damaged", "summary.json", "summary.json is damaged", "it holds no summary")
def summary_is_damaged(folder: Path) -> None:
    run = Run.new(folder, "")
    run.summary.write_text("[]")
    run.read_summary()


# Data.


@message("missing", "data_dir", "MNIST is not in", "could not be downloaded", "train-images-idx3-ubyte.gz", "data_dir=")
def mnist_is_missing(folder: Path) -> None:
    (folder / "MNIST").write_text("a file in the place of the folder: nothing is downloaded")
    images.mnist(str(folder))


@message("invalid", "dataset.samples", "only 357,880 places", "fewer samples")
def patches_are_too_many(folder: Path) -> None:
    color.patches(samples=10**6)


@message("missing", "data.path", "none is named", "scripts/pack.py", "data.path=")
def packed_file_is_not_named(folder: Path) -> None:
    hdf5.images(None)


@message("missing", "nowhere.h5", "There is no file nowhere.h5", "scripts/pack.py")
def packed_file_is_missing(folder: Path) -> None:
    hdf5.images("nowhere.h5")


@message("missing", "data.path", "CelebA isn't packed", "celeba.h5", "scripts/pack.py", "crop=128x128 size=64")
def celeba_is_not_packed(folder: Path) -> None:
    hdf5.celeba(str(folder))


@message("damaged", "a.h5", "is not an HDF5 file", "data.path")
def packed_file_is_a_zip(folder: Path) -> None:
    (folder / "a.h5").write_bytes(b"PK\3\4 a zip")
    hdf5.images(str(folder / "a.h5"))


@message("format", "book.h5", "not as gan_lab packs images", "scripts/pack.py source=", "book.h5 target=")
def packed_file_is_the_books(folder: Path) -> None:
    with h5py.File(folder / "book.h5", "w") as file:
        file["img_align_celeba/1.jpg"] = PIXELS[0]
    hdf5.images(str(folder / "book.h5"))


@message("format", "a.h5", "older gan_lab", "version 1, not 2", "Pack it anew: python scripts/pack.py")
def packed_file_is_older(folder: Path) -> None:
    with h5py.File(make_packed_file(folder / "a.h5", PIXELS), "r+") as file:
        file.attrs["format_version"] = 1
    hdf5.images(str(folder / "a.h5"))


@message("format", "a.h5", "newer gan_lab", "version 3", "Update gan_lab")
def packed_file_is_newer(folder: Path) -> None:
    with h5py.File(make_packed_file(folder / "a.h5", PIXELS), "r+") as file:
        file.attrs["format_version"] = 3
    hdf5.images(str(folder / "a.h5"))


@message("damaged", "a.h5", "nothing in holdout/images", "holdout=0.1")
def packed_file_has_no_held_out_images(folder: Path) -> None:
    hdf5.images(str(make_packed_file(folder / "a.h5", PIXELS, PIXELS[:0])))


# scripts/pack.py


def pack_keys(**keys: object) -> PackSettings:
    """The defaults of conf/pack.yaml, changed."""
    defaults = yaml.safe_load((ROOT / "conf" / "pack.yaml").read_text())
    defaults = {key: value for key, value in defaults.items() if key in PackSettings._fields}
    return PackSettings(**{**defaults, "size": 2, "workers": 0, **keys})


def make_zip(folder: Path, **contents: bytes) -> str:
    with zipfile.ZipFile(folder / "z.zip", "w") as archive:
        for name, content in contents.items():
            archive.writestr(f"{name}.png", content)
    return str(folder / "z.zip")


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


@message("missing", "source", "no file and no folder", "archive")
def source_is_missing(folder: Path) -> None:
    open_source(folder / "z.zip")


@message("damaged", "source", "can't be read", "Zip, tar, folder and HDF5 can be read")
def source_is_a_text(folder: Path) -> None:
    (folder / "a.zip").write_bytes(b"hello" * 500)
    open_source(folder / "a.zip")


@message("exists", "source", "packed already", "dataset=images data.path=")
def source_is_packed(folder: Path) -> None:
    open_source(make_packed_file(folder / "a.h5", PIXELS))


@message("missing", "source", "There is no image", "1 .txt", ".jpg", ".png")
def source_has_no_images(folder: Path) -> None:
    with zipfile.ZipFile(folder / "z.zip", "w") as archive:
        archive.writestr("a.txt", b"")
    pack(pack_keys(source=str(folder / "z.zip"), target=str(folder / "t.h5")))


@message("damaged", "source", "None of 1 images can be read", "a.png")
def source_has_only_bad_images(folder: Path) -> None:
    pack(pack_keys(source=make_zip(folder, a=b"x"), target=str(folder / "t.h5"), max_bad=1.0))


@message(
    "damaged", "max_bad", "More than max_bad=0.1 of 2 images can't be read", "a.png: it is empty", "a larger max_bad"
)
def source_has_too_many_bad_images(folder: Path) -> None:
    pack(pack_keys(source=make_zip(folder, a=b"", b=png(3, 2)), target=str(folder / "t.h5"), max_bad=0.1))


@message("conflict", "size", "2 × 3 and 3 × 3", "size=64")
def images_have_different_sizes(folder: Path) -> None:
    source = make_zip(folder, a=png(3, 2), b=png(3, 3))
    pack(pack_keys(source=source, target=str(folder / "t.h5"), size=None, crop="none"))


@message("conflict", "holdout", "None can be held out", "no class has two images", "labels=none")
def no_image_can_be_held_out(folder: Path) -> None:
    pack(pack_keys(source=make_zip(folder, a=png(3, 2)), target=str(folder / "t.h5")))


@message("exists", "target", "t.h5 is there already", "another name")
def target_exists(folder: Path) -> None:
    (folder / "t.h5").write_text("mine")
    pack(pack_keys(source=make_zip(folder, a=png(3, 2)), target=str(folder / "t.h5")))


@message("invalid", "crop", "crop=round", "center, none, or height x width")
def crop_is_unknown(folder: Path) -> None:
    pack(pack_keys(source="z.zip", target="t.h5", crop="round"))


@message("invalid", "background", "background=whitish", "a name (white), or '#ff8000'")
def background_is_unknown(folder: Path) -> None:
    pack(pack_keys(source="z.zip", target="t.h5", background="whitish"))


@message("invalid", "labels", "row 2: 3 columns, where two filled ones have to be", "quotation marks")
def label_contains_a_comma(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,label\na.png,cat, black\n")
    source = make_zip(folder, a=png(3, 2))
    pack(pack_keys(source=source, target=str(folder / "t.h5"), labels=str(folder / "labels.csv")))


@message("missing", "column", "labels.csv has 2 columns that may be the labels: kind, colour", "column=kind")
def column_of_labels_is_not_named(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,kind,colour\na.png,cat,black\n")
    source = make_zip(folder, a=png(3, 2))
    pack(pack_keys(source=source, target=str(folder / "t.h5"), labels=str(folder / "labels.csv")))


# scripts/backquery.py


@message("unknown", "label", "no label=3", "Choose from: all, 0 (7), 1, 2 (x)")
def label_is_unknown(folder: Path) -> None:
    backquery.class_numbers("3", ["7", "1", "x"])


@message("unsupported", "dataset", "a stacked image has three", "dataset=mnist")
def backquery_of_stacked_images(folder: Path) -> None:
    backquery.backquery(images.stacked_digits(samples=20), "all", ["inverse"], str(folder))


@message("unsupported", "dataset", "images with labels")
def backquery_of_images_without_labels(folder: Path) -> None:
    part = Part(torch.zeros(4, 1, 2, 2))
    backquery.backquery(Dataset(part, part), "all", ["inverse"], str(folder))


@message("unsupported", "dataset", "no image of middle")
def backquery_of_a_class_without_images(folder: Path) -> None:
    part = Part(torch.zeros(4, 1, 2, 2), torch.tensor([0, 1, 0, 1]))
    dataset = Dataset(part, part, classes=["left", "right", "middle"])
    backquery.backquery(dataset, "all", ["inverse"], str(folder))


@message("unsupported", "features", "features=evaluator needs images with labels", "features=random")
def features_without_labels(folder: Path) -> None:
    image = Part(torch.zeros(3, 1, 8, 8))
    features_of(Dataset(image, image), None, "evaluator")


@message("unsupported", "features", "features=pca is for images", "Leave it out")
def features_of_points(folder: Path) -> None:
    features_of(synthetic.ring(samples=10), None, "pca")


@message("unsupported", "dataset", "A label classifier needs images with labels", "dataset=digits")
def label_classifier_without_labels(folder: Path) -> None:
    label_classifier(synthetic.ring(samples=10), folder)


# Training.


@message("unknown", "member", "There is no member 2", "replicas=2", "0 to 1")
def member_beyond_the_last(folder: Path) -> None:
    build_module(compose("replicas=2", "dataset=ring"), synthetic.ring(samples=10)).member(2)


@message("unsupported", "replicas", "can't be trained with replicas=2", "rrelu", "-m seed=0,1,2")
def networks_that_cannot_be_replicated(folder: Path) -> None:
    activation = ("activation._target_=torch.nn.RReLU", "~activation.negative_slope")
    build_module(compose("replicas=2", "dataset=ring", *activation), synthetic.ring(samples=10))


@message("conflict", "threads", "threads=tune works only for training", "threads=auto")
def threads_are_tuned_outside_a_training(folder: Path) -> None:
    set_threads("tune")


@message("missing", "MASTER_ADDR", "num_nodes=2", "Set MASTER_ADDR", "MASTER_PORT")
def nodes_cannot_find_each_other(folder: Path) -> None:
    ProcessGroup(2, nodes=2)


@message("conflict", "NODE_RANK", "train.py is for node 0", "python -m gan_lab.commands.ddp_worker")
def train_is_started_on_the_second_node(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NODE_RANK", "1")
        ProcessGroup(2)


@message("conflict", "devices", "train.py starts its processes itself", "without torchrun")
def train_is_started_by_torchrun(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHELASTIC_RUN_ID", "x")
        ProcessGroup(2)


@message("damaged", "metrics.csv", "metrics.csv is damaged", "Move it away")
def table_is_damaged(folder: Path) -> None:
    (folder / "metrics.csv").write_text("loss/g\n1")
    read_table(folder / "metrics.csv")


@pytest.mark.parametrize(("provoke", "code", "key", "phrases"), MESSAGES)
def test_the_message_says_what_is_wrong_and_how_to_mend_it(tmp_path, provoke, code, key, phrases):
    with refused(code, key) as error:
        provoke(tmp_path)
    text = str(error.value)
    for phrase in phrases:
        assert phrase in text
