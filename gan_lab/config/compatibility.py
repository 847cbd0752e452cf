"""What of a configuration can't go together, known without torch: a command refuses it at once."""

from typing import Any

from gan_lab.config.schema import COUNT, SEED
from gan_lab.core.errors import LabError
from gan_lab.evaluation.metrics.registry import METRICS
from gan_lab.gan.networks import shape_checks

# The shapes of samples, so that a network that can't make them is refused at once.
SHAPES = {
    "gan_lab.data.images.digits": (1, 8, 8),
    "gan_lab.data.images.mnist": (1, 28, 28),
    "gan_lab.data.images.fashion_mnist": (1, 28, 28),
    "gan_lab.data.images.stacked_digits": (3, 8, 8),
    "gan_lab.data.images.stacked_mnist": (3, 28, 28),
    "gan_lab.data.color.cifar10": (3, 32, 32),
    "gan_lab.data.synthetic.ring": (2,),
    "gan_lab.data.synthetic.grid": (2,),
    "gan_lab.data.synthetic.pattern1010": (4,),
}


# Optimisers that treat each number by itself, so that the members of a replicated run don't touch each other.
ELEMENTWISE_ACTIVATIONS = {
    f"torch.optim.{name}"
    for name in ("Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD")
}


def check_compatibility(values: dict[str, Any]) -> None:
    """Refuses parts that can't go together, whatever the data's values.

    Args:
        values: a training's configuration, each value and each part good by itself.

    Raises:
        LabError: naming what doesn't fit, and the way out.
    """
    norm = values["norm"]["_target_"].rpartition(".")[2]
    flat = any("hidden" in values["model"][network] for network in ("generator", "discriminator"))
    if norm == "BatchNorm" and values["batch_size"] == 1 and flat:  # feature maps have statistics of their own
        raise LabError(
            "norm=batch can't work with batch_size=1: the statistics of a batch of one are the sample itself.",
            "Take batch_size=2 or more, or norm=layer, which looks at each sample alone.",
            code="conflict",
            key="norm",
        )
    _check_remedies(values)
    packed = _packed(values)
    if norm == "BatchNorm" and values["batch_size"] == packed > 1 and flat:
        raise LabError(
            f"norm=batch can't work with packs of pac.m={packed} and batch_size={packed}: D would see one pack alone.",
            f"Take batch_size={2 * packed} or more, or norm=layer, which looks at each pack alone.",
        )
    if values.get("replicas", 1) > 1:
        _check_replicas(values, norm)
    _check_processes(values, norm)
    low, high = values["latent"].get("low", 0), values["latent"].get("high", 1)
    if low >= high:
        raise LabError(f"latent.low={low} has to be below latent.high={high}.", code="conflict", key="latent.low")
    shape = SHAPES.get(values["dataset"]["_target_"])
    for network in ("generator", "discriminator"):
        made = values["model"][network]
        if made["_target_"].startswith("gan_lab.gan.networks.conv.") and shape:
            shape_checks.halved_sides_rounded_up(shape, stages) if (
                stages := made.get("stages")
            ) else shape_checks.halved_sides(shape)
        if made["_target_"].startswith("gan_lab.gan.networks.resnet.") and shape:
            shape_checks.halved_sides(shape, "resnet", 8)
        if made["_target_"].startswith("gan_lab.gan.networks.conv_book.") and shape:
            shape_checks.book_generator_sides(shape)
        for width in _widths(made):
            shape_checks.check_norm(norm, (width,), values["norm"].get("groups", 1))


def _widths(network: dict[str, Any]) -> list[int]:
    """Returns the different widths of a fully connected network's hidden layers; [] for other networks."""
    hidden = network.get("hidden")
    if hidden is not None:
        return list(dict.fromkeys(hidden))
    has_hidden_layers = "width" in network and network.get("depth") != 0
    return [network["width"]] if has_hidden_layers else []


HOW = "Say '+metrics.<name>={_target_: your_module.your_function, _partial_: true}'; docs/architecture.md has one."

# What a row of comparison.csv has beside settings and metrics.
COLUMNS = {"run", "variant", "member", "status", "reason", "error", "seconds", "collapsed"}
COLUMNS |= {"collapse", "copies", "likeness", "balance"}


def check_metrics(values: dict[str, Any]) -> None:
    """Refuses metrics of a user's own that can't be called, or whose name stands for something else.

    Args:
        values: the configuration of any command.

    Raises:
        LabError: naming the metric.
    """
    own = values.get("metrics", {})
    if not isinstance(own, dict):
        raise LabError(f"metrics={own} won't do: gan_lab's own are always measured, yours are named.", HOW)
    for name, node in own.items():
        if not isinstance(node, dict) or "_target_" not in node or node.get("_partial_") is not True:
            raise LabError(f"metrics.{name} names no function that waits for samples.", HOW)
        if not str(name).isidentifier():
            raise LabError(f"metrics.{name}: a metric's name has letters, digits and _ alone.", "Choose another one.")
        if name in METRICS.keys() | COLUMNS | values.keys():
            raise LabError(f"metrics.{name}: that name has another meaning already.", "Choose another one.")


# Remedies that want the same place, or take away what the other needs.
EXCLUSIVE = {
    ("minibatch_discrimination", "minibatch_stddev"): "both are D's one layer that looks at the whole batch",
    ("feature_matching", "top_k"): "feature matching takes the place of the loss whose best samples top_k chooses",
    ("feature_matching", "unrolled"): "feature matching takes the place of the loss that unrolled looks ahead at",
}
# Those that look at each sample alone and draw nothing: several processes give what one gives.
EACH_ALONE = {"r1", "r2", "label_smoothing", "ema", "historical_averaging", "decay"}


def _check_remedies(values: dict[str, Any]) -> None:
    """Remedies, and what they stand beside, that can't go together."""
    chosen = values.get("remedy", {})
    for pair, why in EXCLUSIVE.items():
        if chosen.keys() >= set(pair):
            raise LabError(f"remedy: {' and '.join(pair)} can't go together: {why}.", "Leave one of them out.")
    if "mode_seeking" in chosen and values["latent"]["_target_"].endswith(".Constant"):
        raise LabError(
            "remedy: mode_seeking needs different latent vectors; latent=constant has one.", "Take latent=normal."
        )
    if "mode_seeking" in chosen and values["batch_size"] == 1:
        raise LabError("remedy: mode_seeking compares pairs of a batch; batch_size=1 has none.", "Take batch_size=2.")
    beside = sorted(chosen.keys() & {"minibatch_discrimination", "minibatch_stddev"})
    if beside and values["model"]["discriminator"]["_target_"].startswith("gan_lab.gan.networks.conv_book."):
        raise LabError(
            f"remedy: {beside[0]} is a layer more in D; model=conv_book is the book's, which has no place for it.",
            "Take model=conv or model=mlp.",
        )
    if "balance" in chosen and values.get("replicas", 1) > 1:
        raise LabError(
            "remedy: balance decides for one GAN whether D learns; replicas learn together.",
            "Train seeds one by one instead: -m seed=0,1,2",
        )
    packed = _packed(values)
    if values["batch_size"] % packed:
        raise LabError(
            f"remedy: packs of pac.m={packed} don't fill batch_size={values['batch_size']}.",
            f"Take a multiple of {packed}, batch_size={-(-values['batch_size'] // packed) * packed}, say.",
        )
    if packed > 1 and values.get("conditional"):
        raise LabError("remedy: pac packs samples of several classes; conditional=true tells D one.", "Leave one out.")


def _packed(values: dict[str, Any]) -> int:
    """How many samples D judges by one score."""
    m = values.get("remedy", {}).get("pac", {}).get("m", 1)
    return m if COUNT.fits(m) else 1  # a user's own pac may mean something else


def _check_replicas(values: dict[str, Any], norm: str) -> None:
    """What only one GAN at a time can have."""
    way_out = "Train seeds one by one instead: -m seed=0,1,2"
    replicas, last = values.get("replicas", 1), values["seed"] + values.get("replicas", 1) - 1
    if not SEED.fits(last):
        raise LabError(f"replicas={replicas} would need the seeds up to {last}: seed has to be {SEED}.")
    if norm == "SpectralNorm":
        raise LabError(f"norm=spectral can't work with replicas={replicas}: its power iteration is for one.", way_out)
    for role in ("optim", "optim_d", "optim_g"):
        target = values[role].get("_target_")
        if target and target not in ELEMENTWISE_ACTIVATIONS:
            raise LabError(f"{role}: {target} would mix the members of replicas={replicas}.", way_out)


def _check_processes(values: dict[str, Any], norm: str) -> None:
    """What several processes that train one GAN ask for."""
    trainer = values["trainer"]
    said = {key: values.get(key, 1) for key in ("devices", "num_nodes")}
    own = {key: trainer.get(key, 1) for key in said}
    more = [f"{key}={max(own[key], said[key])}" for key in said if max(own[key], said[key]) > 1]
    if more and "strategy" not in trainer:
        raise LabError(
            f"{' '.join(more)}: several processes train one GAN with trainer=ddp.",
            "Say trainer=ddp.",
            code="conflict",
            key="trainer",
        )
    processes = own["devices"] * own["num_nodes"]
    if processes == 1:
        return
    if values["batch_size"] % processes:
        raise LabError(
            f"batch_size={values['batch_size']} can't be shared by {processes} processes.",
            f"Take a multiple of {processes}, batch_size={-(-values['batch_size'] // processes) * processes}, say.",
        )
    if norm == "BatchNorm":
        raise LabError(
            "norm=batch can't work with trainer=ddp: each process would have other statistics, those of its share.",
            "norm=layer, group or instance look at each sample alone.",
        )
    if together := sorted(values.get("remedy", {}).keys() - EACH_ALONE):
        raise LabError(
            f"remedy: {together[0]} can't work with trainer=ddp: each process would see its share of a batch alone.",
            f"Leave trainer=ddp out, or take some of {', '.join(sorted(EACH_ALONE))}.",
        )
    if values["loss"]["_target_"] == "gan_lab.gan.losses.RelativisticAverage":
        raise LabError(
            "loss=relativistic_average can't work with trainer=ddp: each process would have the averages of its share.",
            "loss=relativistic compares sample with sample.",
        )
    if values.get("replicas", 1) > 1:
        raise LabError("replicas are for one process.", "Leave trainer=ddp out, or train one GAN, replicas=1.")
