"""Every key of the configuration, declared once: its values, one line of help, and what it is for.

Whatever depends on a key is derived from here: the checks before torch is imported (`gan_lab.config.check`), what may
change when a run is resumed (`gan_lab.config.resume`), what comparisons take for a factor
(`gan_lab.comparison.factors`), which overrides say where a run was computed (`gan_lab.comparison.origin`), the HPARAMS
of TensorBoard (`gan_lab.assembly.build`), and `--help` (`gan_lab.config.help`).

This module is pure: it imports neither torch nor Hydra nor OmegaConf.
"""

import fnmatch
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gan_lab.config.types import ValueSpec
from gan_lab.core.run_folder import FORMAT

# What a setting belongs to. Comparisons take only settings of the experiment for factors.
Scope = Literal[
    "experiment",  # what is trained, and on which data
    "repetition",  # one more run of the same experiment
    "machine",  # what computes it: it changes rounding at most
    "place",  # where files lie and how a machine reads them: it changes no number
    "record",  # what is shown, measured or written
]


@dataclass(frozen=True)
class Key:
    """A key of the configuration.

    Attributes:
        name: the dotted key, or a pattern of several (`optim*.lr`). The first matching declaration counts.
        spec: the values it may have.
        help: one line for `--help`.
        scope: what it belongs to.
        resumable: whether it may change when a run is resumed. The others need `force=true`.
        help_for: another line of help for the commands where the key means something else, by command.
    """

    name: str
    spec: ValueSpec
    help: str
    scope: Scope = "experiment"
    resumable: bool = False
    help_for: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """A group of options, a folder of conf/.

    Attributes:
        name: of the folder.
        help: one line for `--help`.
        scope: what its settings belong to, unless their own declaration says otherwise.
        resumable: whether all of it may change when a run is resumed.
        recipe: whether its options only choose among those of other groups.
        several: whether options of it can be combined; else the last of several would count.
    """

    name: str
    help: str
    scope: Scope = "experiment"
    resumable: bool = False
    recipe: bool = False
    several: bool = False


COUNT = ValueSpec(int, low=1, high=10**9)
FLAG = ValueSpec(bool)
TEXT = ValueSpec(str)
TEXT_OR_NULL = ValueSpec(str, none=True)
PATH = ValueSpec(str, path=True)
PATH_OR_NULL = ValueSpec(str, none=True, path=True)
SEED = ValueSpec(int, low=0, high=2**32 - 1)
WIDTH = ValueSpec(int, low=1, high=10**4)
WIDTHS = ValueSpec(list, low=1, high=10**6, none=True)
DEPTH = ValueSpec(int, low=0, high=100, none=True)
NOT_NEGATIVE = ValueSpec(float, low=0)
FRACTION_BELOW_1 = ValueSpec(float, low=0, below=1)
PROCESSES = ValueSpec(int, low=1, high=1024)
HELDOUT = ValueSpec(float, low=0.01, high=0.9)
SAMPLES_OR_NULL = ValueSpec(int, low=1, high=10**9, none=True)
FEATURES = ValueSpec(str, among=("evaluator", "random", "pca", "inception"), none=True)
# The data of the verdict's trial (gan_lab/benchmark/verdict.py).
VERDICT_DATASETS = (
    *("digits", "mnist", "patches", "stacked_digits", "ring", "grid"),
    *("unlabelled_digits", "unlabelled_mnist", "unlabelled_patches"),
)

# The commands that open a finished run.
_OPEN_A_RUN = ("evaluate", "explore", "sample", "export")
_THREADS_OF_THE_RUN = "CPU threads; auto: as many as the run had"
_DATA_OF_THE_RUN = "folder with the data of the run, if they have moved"

GROUPS = (
    Group("dataset", "the data"),
    Group("model", "the networks"),
    Group("latent", "the distribution of latent vectors"),
    Group("loss", "the adversarial loss"),
    Group("activation", "between hidden layers"),
    Group("norm", "normalisation in G and D"),
    Group("optim", "the optimiser of both networks"),
    Group("optim_d", "another optimiser or other values for D"),
    Group("optim_g", "another optimiser or other values for G"),
    Group("remedy", "against mode collapse, any number: remedy=[r1,ema]", several=True),
    Group(
        "metrics",
        "your own metrics, in addition to gan_lab's (docs/architecture.md)",
        "record",
        resumable=True,
        several=True,
    ),
    Group("trainer", "what computes the training", "machine"),
    Group("logger", "where metrics are written", "record", several=True),
    Group("callbacks", "what happens during the training", "record", several=True),
    Group("experiment", "a complete recipe: it chooses options of the other groups", recipe=True, several=True),
    Group("debug", "a short run to try a configuration", recipe=True, several=True),
)

_TRAINING = (
    Key("format", ValueSpec(int, low=FORMAT, high=FORMAT), "format of the run folder; not a setting", "place"),
    Key(
        "steps",
        COUNT,
        "length of the training; a step updates D on real samples, D on generated ones, and G",
        resumable=True,
    ),
    Key("batch_size", ValueSpec(int, low=1, high=10**6), "samples in a batch; with remedy=[pac], packs"),
    Key(
        "seed",
        SEED,
        "of initial weights, data order and latent vectors: same seed, same run",
        "repetition",
        help_for={
            "explore": "where a or b is a class: seed of the first latent vector that is tried",
            "sample": "of the latent vectors: same seed, same samples",
        },
    ),
    Key(
        "replicas",
        ValueSpec(int, low=1, high=1024),
        "independent GANs trained together, with the seeds seed, seed + 1, …",
        "repetition",
    ),
    Key("latent_dim", ValueSpec(int, low=1, high=10**6), "length of a latent vector"),
    Key("log_every", COUNT, "steps whose mean is a row of metrics.csv", "record"),
    Key(
        "joint_d_update",
        FLAG,
        "true: one update of D on real samples and fakes together; false: one on each, as in the book, unless a loss"
        " or a remedy needs both together",
    ),
    Key("n_critic", ValueSpec(int, low=1, high=1000), "updates of D in a step, each on another batch"),
    Key("n_generator", ValueSpec(int, low=1, high=1000), "updates of G in a step"),
    Key(
        "strength",
        ValueSpec(str, none=True, among=("weak", "strong")),
        "weak or strong instead of published settings of the remedies, as each declares them; null: published",
    ),
    Key("conditional", FLAG, "true: G and D also get the class of each sample"),
    Key(
        "engine",
        ValueSpec(str, among=("auto", "autograd", "compiled")),
        "compiled: the step of fully connected networks in one function, several times as fast on a CPU; auto: that"
        " where it can, else autograd (docs/performance.md)",
        "machine",
        resumable=True,
    ),
    Key(
        "threads",
        ValueSpec(int, low=1, high=1024, among=("auto", "tune")),
        "CPU threads; auto: by the work of a step, but for replicas in the compiled step one per member, as far as"
        " there are cores; tune: the fastest in trials (docs/performance.md)",
        "place",
        resumable=True,
        help_for={
            **dict.fromkeys(_OPEN_A_RUN, _THREADS_OF_THE_RUN),
            "backquery": "CPU threads; auto: as many as the run had, without a run 1",
            "benchmark": "CPU threads; what=replicas compares them with one",
        },
    ),
    Key(
        "devices",
        PROCESSES,
        "processes on each machine that train one GAN; more than 1 needs trainer=ddp",
        "machine",
        resumable=True,
    ),
    Key("num_nodes", PROCESSES, "machines, each with that many processes", "machine", resumable=True),
    Key(
        "compile",
        FLAG,
        "true: torch.compile for both networks (G only, with gradient penalties): minutes at the start, then faster on"
        " a GPU",
        "machine",
        resumable=True,
    ),
    Key(
        "workers",
        ValueSpec(int, low=0, high=1024),
        "processes that load data in advance; 0: none",
        "place",
        resumable=True,
        help_for={"pack": "processes that decode images; 0 or 1: only this one"},
    ),
    Key(
        "data_dir",
        PATH,
        "folder for downloaded data",
        "place",
        resumable=True,
        help_for={
            **dict.fromkeys(_OPEN_A_RUN, _DATA_OF_THE_RUN),
            "benchmark": "folder with MNIST, for the nets book and dcgan and the data mnist",
        },
    ),
    Key(
        "data.path",
        PATH_OR_NULL,
        "the packed file (scripts/pack.py) of dataset=images or celeba; null: celeba.h5 in data_dir",
        "place",
        resumable=True,
        help_for=dict.fromkeys(_OPEN_A_RUN, "the packed file of dataset=images or celeba, if it has moved"),
    ),
    Key(
        "features",
        FEATURES,
        "feature space of the metrics; evaluator: learnt from labels; null: the first that these data have",
        "record",
        help_for={"evaluate": "feature space of the metrics; evaluator: learnt from labels; null: as in the run"},
    ),
    Key("cache_dir", PATH, "folder for trained label classifiers", "place", resumable=True),
    Key("name", TEXT_OR_NULL, "folder below outputs/; null: the name of the experiment or dataset", "place"),
    Key("resume", PATH_OR_NULL, "a run folder whose training continues", "place"),
    Key("force", FLAG, "true: continue it with other settings", "place"),
    Key(
        "preflight",
        FLAG,
        "true: run the checks of scripts/check.py first; no training if one fails",
        "record",
        resumable=True,
    ),
    Key(
        "objective",
        TEXT,
        "the metric of summary.json that a search (hydra/sweeper=optuna) optimises",
        "record",
        resumable=True,
    ),
    Key(
        "trust",
        ValueSpec(list, entries=str),
        "packages besides gan_lab and torch whose code the configuration may name",
        "place",
    ),
)

_COMMANDS = (
    Key(
        "run",
        PATH_OR_NULL,
        "the run folder",
        help_for={
            "backquery": "a run folder whose samples are shown as well",
            "cure": "the folder of the run that is to be cured; null: it is trained first, with the other arguments",
        },
    ),
    Key(
        "generated",
        PATH_OR_NULL,
        "samples of any program: a folder or archive of images, .npy, .npz, or HDF5 that gan_lab or the book packed",
    ),
    Key("real", PATH_OR_NULL, "generated: real samples of the same kinds, instead of a dataset; a fifth is held out"),
    Key(
        "folder",
        PATH,
        "the folder whose runs and reports the page opens",
        help_for={"atlas": "folder of the atlas, in which its stages lie"},
    ),
    Key("port", ValueSpec(int, low=1, high=65535), "on which the page is served, at 127.0.0.1 only"),
    Key("open", FLAG, "true: open the page in the browser"),
    Key("runs", ValueSpec(list, entries=str, path=True), "a folder with runs at any depth, or [several]"),
    Key(
        "target",
        PATH_OR_NULL,
        "folder for the report; null: the folder that all runs have in common",
        help_for={
            "results": "the document; its pictures go to pictures/ next to it",
            "pack": "the HDF5 file to write",
            "cure": "folder for everything; null: cure_<name> beside the run, or below outputs/",
        },
    ),
    Key(
        "member",
        ValueSpec(int, low=0, high=1023, none=True),
        "of a run with replicas: which one, from 0; null: all",
        help_for=dict.fromkeys(
            ("explore", "sample", "export"), "of a run with replicas: which one, from 0; null: the first"
        ),
    ),
    Key("label", TEXT, "number or name of a class, or all"),
    Key("method", ValueSpec(str, among=("both", "inverse", "gradient")), "how the image is found"),
    Key("ema", FLAG, "of a run with remedy=[ema]: samples of the average (true) or of G itself (false)"),
    Key(
        "to",
        PATH,
        "a new folder for PNG files, a new .npz file, or a new .h5 file in the layout of pack.py",
        help_for={"export": "a new file: .safetensors (weights), .onnx or .pt2 (weights and network)"},
    ),
    Key(
        "classes",
        ValueSpec(list, entries=str, none=True),
        "of a conditional GAN: the classes to make, equally many of each; null: as often as in the data",
    ),
    Key(
        "truncation",
        ValueSpec(float, low=1e-3, none=True),
        "largest size of a latent vector's component; larger ones are drawn again; null: no limit",
    ),
    Key("samples", SAMPLES_OR_NULL, "samples per evaluation; null: as many as papers take"),
    Key(
        "seeds",
        ValueSpec(int, low=1, high=10**9, among=("auto",)),
        "evaluations with other latent vectors, or, as far as they last, other samples of generated",
        help_for={
            "cure": "trainings with and without the winner, 4 or more of each; auto: as the budget allows, 4 to 10"
        },
    ),
    Key(
        "overrides",
        ValueSpec(list, entries=str),
        "settings of the GAN that is to be cured: all arguments that are no key of this command go there",
        help_for={"atlas": "of train.py, for all trainings: all arguments that are no key of this command go there"},
    ),
    Key("budget", TEXT, "time for all: the patient's training, the race and the proof; 90s, 30m or 1.5h"),
    Key(
        "op",
        ValueSpec(str, among=("grid", "interpolate", "add", "subtract", "multiply", "walk", "surface")),
        "the experiment",
    ),
    Key("a", TEXT, "a latent vector: its number, or a class that its sample shows (a=five)"),
    Key("b", TEXT, "another latent vector"),
    Key("by", ValueSpec(str, among=("seed", "class")), "what a whole number means: RNG seed of a vector, or class"),
    Key(
        "n",
        COUNT,
        "samples in the picture, 2 to 1000; of a walk, latent vectors",
        help_for={"sample": "how many samples"},
    ),
    Key(
        "mode",
        ValueSpec(str, among=("linear", "slerp")),
        "interpolate: in a straight line, as in the notes, or along the arc",
    ),
    Key(
        "normalize",
        ValueSpec(str, among=("false", "true", "both")),
        "add, subtract, multiply: true scales the result to the usual length; both shows both",
    ),
    Key("pairs", ValueSpec(int, low=1, high=10**5), "add, subtract, multiply: repeat with so many pairs of a and b"),
    Key("confidence", ValueSpec(float, low=0, high=1), "with a class: lowest probability that the classifier gives it"),
    Key("tries", ValueSpec(int, low=1, high=10**7), "with a class: latent vectors that are tried at most"),
    Key(
        "what",
        ValueSpec(
            str,
            among=("step", "replicas", "storage", "startup", "sweep", "all", "remedies", "verdict", "statistics"),
        ),
        "what is measured; remedies: what a step with each treatment of the atlas costs",
    ),
    Key(
        "stage",
        ValueSpec(str, among=("tuning", "time", "steps", "films")),
        "tuning: chooses strengths; time, steps: what is reported, at equal time and at equal steps; films: one each",
    ),
    Key("costs", PATH, "what benchmark.py what=remedies has measured"),
    Key(
        "rounds",
        ValueSpec(int, low=1, high=1000),
        "rounds, each with one turn of every candidate; verdict: draws of real data; statistics: 500 draws each",
    ),
    Key("seconds", ValueSpec(float, low=0.01), "step, replicas, remedies: length of a turn"),
    Key(
        "nets",
        ValueSpec(list, entries=str, among=("default", "ring", "digits", "book", "dcgan")),
        "step, replicas: networks",
    ),
    Key("images", ValueSpec(int, low=100, high=10**5), "storage: how many images"),
    Key("datasets", ValueSpec(list, entries=str, among=VERDICT_DATASETS), "verdict, remedies: the data"),
    Key("table", PATH_OR_NULL, "verdict: a CSV file of draws, to which this trial adds those that it lacks"),
    Key("source", PATH, "a .zip, a .tar (.gz, .bz2, .xz), a folder, or an HDF5 file with a dataset per image"),
    Key(
        "size",
        ValueSpec(int, low=1, high=4096, none=True),
        "pixels per side of the square images; null: unchanged, then all need the same size",
        help_for={"evaluate": "generated, real: pixels per side to which images are resized; null: unchanged"},
    ),
    Key("crop", TEXT, "center: the largest centred square; none: squeezed; 128x128: a centred height x width"),
    Key("limit", SAMPLES_OR_NULL, "the first so many images by name; null: all"),
    Key("color", ValueSpec(str, among=("rgb", "gray")), "colours of the packed images"),
    Key("background", TEXT, "colour behind transparent images: a name or '#ff8000'"),
    Key(
        "labels",
        PATH,
        "none; folders: the name of each image's folder; or a table of file names and labels, as CSV",
        help_for={
            "evaluate": "generated, real: none; folders; auto: class folders or arrays of labels, if there are some"
        },
    ),
    Key(
        "column",
        TEXT_OR_NULL,
        "the table's column of labels: its title, or its number from 1; null: the only one",
    ),
    Key("holdout", HELDOUT, "share of each class that training never sees"),
    Key("max_bad", ValueSpec(float, low=0, high=1), "share of images that may be unreadable"),
    Key("compress", FLAG, "true: gzip, smaller but slower to read"),
)

_OPTIONS = (
    Key("dataset.samples", SAMPLES_OR_NULL, "number of samples"),
    Key("dataset.modes", ValueSpec(int, low=1, high=10**6), "number of modes"),
    Key("dataset.side", ValueSpec(int, low=1, high=1000), "modes along each side of the grid"),
    Key("dataset.heldout", HELDOUT, "share that training never sees"),
    Key("dataset.std", ValueSpec(float, low=1e-9), "standard deviation of a mode"),
    Key("dataset.radius", NOT_NEGATIVE, "radius of the ring"),
    Key("dataset.spacing", NOT_NEGATIVE, "distance between neighbouring modes"),
    Key("dataset.data_dir", PATH, "folder for downloaded data", "place"),
    Key("dataset.path", PATH_OR_NULL, "the packed file", "place", resumable=True),
    Key("dataset.flip", FLAG, "true: train on mirror images as well"),
    Key(
        "dataset.memory",
        ValueSpec(int, low=0, high=10**6),
        "MB; a larger file is read as needed, not held in memory",
        "place",
        True,
    ),
    Key("dataset.size", ValueSpec(int, low=8, high=96), "side of the images in pixels"),
    Key("model.auto_norm", TEXT, "the class that norm=auto chooses"),
    Key("model.channels", WIDTH, "feature maps at the image's size; doubled each time the size is halved"),
    Key("model.depth", DEPTH, "hidden layers of both networks; null: 2 in G, 1 in D"),
    Key("model.width", WIDTH, "units in a hidden layer of both networks"),
    Key("model.he_init", FLAG, "true: hidden layers start with He's weights: √6 times torch's own, less smooth"),
    Key("model.*.he_init", FLAG, "true: hidden layers start with He's weights"),
    Key("model.*.depth", DEPTH, "hidden layers"),
    Key("model.*.width", WIDTH, "units in a hidden layer"),
    Key("model.*.hidden", WIDTHS, "width of each hidden layer, such as [128, 256]; null: by depth and width"),
    Key("model.*.channels", WIDTH, "feature maps at the image's size; doubled each time the size is halved"),
    Key("model*.stages", ValueSpec(int, low=1, high=6, none=True), "halvings by 5×5 kernels; null: 4×4, to 4–7 pixels"),
    Key("model*.blocks", ValueSpec(int, low=1, high=100), "residual blocks of each size"),
    Key("model.*.pieces", ValueSpec(int, low=1, high=1000), "linear pieces of a maxout unit"),
    Key("latent.std", NOT_NEGATIVE, "of each distribution in the mixture; from 0.5 on, they touch"),
    Key("latent.*", ValueSpec(float), "of the distribution"),
    Key("*negative_slope", ValueSpec(float, low=0, high=1), "slope for negative inputs"),
    Key("*norm.groups", COUNT, "groups of features; must divide the number of features"),
    Key("optim*.lr", NOT_NEGATIVE, "learning rate"),
    Key("optim*.betas", ValueSpec(list, low=0, below=1, length=2, entries=float), "decay of Adam's two averages"),
    Key("optim*.momentum", FRACTION_BELOW_1, "momentum"),
    Key("optim*.alpha", FRACTION_BELOW_1, "decay of RMSprop's average of squared gradients"),
    Key("optim*.weight_decay", NOT_NEGATIVE, "weight decay"),
    Key("optim*.fused", FLAG, "true: one kernel for all weights, which is faster", "machine"),
    Key("trainer.accelerator", ValueSpec(str, among=("cpu", "gpu", "cuda", "mps")), "the hardware"),
    Key("trainer.devices", PROCESSES, "processes on each machine"),
    Key("trainer.num_nodes", PROCESSES, "machines"),
    Key("trainer.strategy", ValueSpec(str, among=("ddp_find_unused_parameters_true",)), "how processes work together"),
    Key("trainer.precision", ValueSpec(str, among=("32-true", "bf16-mixed")), "floating-point numbers"),
    Key("callbacks.*.every", COUNT, "steps between two pictures, evaluations or checkpoints"),
    Key("callbacks.*.images", COUNT, "samples in a grid of images"),
    Key(
        "callbacks.verdict.samples",
        SAMPLES_OR_NULL,
        "in the last evaluation; null: as in papers: 2,500 in the plane, 26,000 for 1,000 modes, else 10,000",
    ),
    Key(
        "callbacks.verdict.quick_samples",
        SAMPLES_OR_NULL,
        "in an evaluation during training; null: 1,000 images, 2,500 points",
    ),
    Key("callbacks.verdict.cache_dir", PATH, "folder for trained label classifiers"),
    Key("callbacks.verdict.features", FEATURES, "feature space of the metrics"),
    Key("callbacks.*.points", COUNT, "samples in a scatter plot"),
    Key("logger.*.project", TEXT, "the project, or MLflow's experiment, that the run belongs to"),
)

_HYDRA_KEYS = (
    Key("*_target_", TEXT, "the class or function"),
    Key("*_partial_", FLAG, "whether it is built later, when more is known", "record"),
)

# Every value of conf/ has a declaration, and every declaration a value: a test compares them.
KEYS = (*_HYDRA_KEYS, *_TRAINING, *_COMMANDS, *_OPTIONS)


def key_of(name: str) -> Key | None:
    """Returns the declaration of a dotted key; None for a setting of a part that declares nothing."""
    for key in KEYS:
        if fnmatch.fnmatchcase(name, key.name):
            return key
    return None


def spec_of(name: str) -> ValueSpec | None:
    """Returns the values that a dotted key may have; None for one without a declaration."""
    key = key_of(name)
    return key.spec if key else None


@functools.cache
def top_level_names() -> frozenset[str]:
    """Returns the first parts of all keys that are declared without a group: what may stand at the top."""
    return frozenset(key.name.partition(".")[0] for key in KEYS)


@functools.cache
def recipes() -> frozenset[str]:
    """Returns the groups whose options only choose among those of other groups."""
    return frozenset(group.name for group in GROUPS if group.recipe)


def takes_one(group: str) -> bool:
    """Tells whether only one option of a group can be chosen."""
    declared = _group_of(group)
    return declared is not None and not declared.several


def scope_of(name: str) -> Scope:
    """Returns what a dotted key belongs to: as its group says, or, in a group of the experiment, as the key says."""
    group = _group_of(name)
    if group and group.scope != "experiment":
        return group.scope
    key = key_of(name)
    return key.scope if key else "experiment"


def is_factor(name: str) -> bool:
    """Tells whether runs that differ in this key are other experiments; else it is one experiment, run once more."""
    return scope_of(name) == "experiment"


def is_hyperparameter(name: str) -> bool:
    """Tells whether a key says what is trained or which repetition it is, not what computes, stores or shows it."""
    return scope_of(name) in ("experiment", "repetition")


def is_resumable(name: str) -> bool:
    """Tells whether a key may change when a run is resumed, because it alters none of the steps so far."""
    group = _group_of(name)
    key = key_of(name)
    return bool((group and group.resumable) or (key and key.resumable))


def _group_of(name: str) -> Group | None:
    head = name.partition(".")[0]
    for group in GROUPS:
        if group.name == head:
            return group
    return None


def nodes(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields each value of a nested dict, dicts included, with its dotted key."""
    for key, value in node.items():
        yield f"{prefix}{key}", value
        if isinstance(value, dict):
            yield from nodes(value, f"{prefix}{key}.")


def leaves(node: Any, private: bool = False) -> Iterator[tuple[str, Any]]:
    """Yields the values that aren't dicts, with their dotted keys; those of Hydra (`_target_`, …) only if `private`."""
    for key, value in nodes(node):
        if not isinstance(value, dict) and (private or not key.rpartition(".")[2].startswith("_")):
            yield key, value
