"""What the atlas trains: places, treatments with their strengths, and an experiment for each training.

docs/atlas.md has the design. An experiment is named atlas/<stage>/<dataset>/<base>/<treatment>/<strength>.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from gan_lab.config.declarations import declared
from gan_lab.core.command_line import hydra_text
from gan_lab.core.installation import CONF

DATASETS = ("ring", "grid", "digits", "stacked_digits")
BASES = ("notes", "short", "strong_d")
POINTS = ("ring", "grid")

STEPS = 3_000
# Steps of a costly treatment are a multiple of this.
STEPS_UNIT = 50
# A treatment that costs no more than this is trained for as many steps as the untreated GAN.
SAME_COST = 1.05
# Costlier ones are not also trained at equal steps.
MOST_COST_AT_EQUAL_STEPS = 3.0

# The stages. At equal time a costly treatment has fewer steps than the untreated GAN. Of the films, one GAN each.
TUNING = "tuning"
EQUAL_TIME = "time"
EQUAL_STEPS = "steps"
FILMS = "films"
# The first seed and the number of seeds of each training of a stage.
SEEDS: Mapping[str, tuple[int, int]] = {
    TUNING: (2000, 4),
    EQUAL_TIME: (1000, 20),
    EQUAL_STEPS: (1000, 20),
    FILMS: (0, 1),
}
PREFIX = "atlas"

NONE = "none"
PUBLISHED = "published"
REMEDY = "remedy"
RATE = "learning rate"
# Options of the group that are presets of strengths, no remedies.
PRESETS = ("weak", "strong")
# Within 3,000 steps it is the same as the published one (`EMA.decay_at`).
LEFT_OUT = {("ema", "strong")}
# Remedies whose strength is relative to distances: for points in the plane they have other ones (key, values).
FOR_POINTS: Mapping[str, tuple[str, Sequence[float]]] = {
    "r1": ("gamma", (0.01, 0.1, 1.0)),
    "r2": ("gamma", (0.01, 0.1, 1.0)),
    "wgan_gp": ("weight", (0.01, 0.1, 1.0)),
    "mode_seeking": ("weight", (0.05, 0.5, 5.0)),
}
FACTORS = {"a fifth": 0.2, "five times": 5.0}
# Learning rates of the bases: of the optimizer of both networks, or of D's and G's.
RATES: Mapping[str, Mapping[str, float]] = {
    "notes": {"optim": 0.01},
    "short": {"optim": 0.0005},
    "strong_d": {"optim_d": 0.005, "optim_g": 0.00005},
}
LOSSES = ("bce", "hinge", "lsgan", "relativistic")
NORMS = ("batch", "layer", "spectral")
# What the notes do about their first recipe, besides BCE and LayerNorm.
NOTES_IMPROVEMENTS = {"activation": "leaky_relu", "optim": "adam"}
# Treatments that can't be trained as replicas.
NO_REPLICAS = ("balance", "spectral")

# The time of a step relative to one without a treatment, by data set, treatment and strength.
Costs = Mapping[tuple[str, str, str], float]


class Place(NamedTuple):
    """A base on a data set."""

    dataset: str
    base: str


class Treatment(NamedTuple):
    """A treatment at one strength.

    Attributes:
        group: remedy, loss, norm, learning rate, activation or optim.
        name: of the treatment.
        strength: weak, published, strong, or a setting.
        options: choices of groups.
        settings: values by dotted key.
    """

    group: str
    name: str
    strength: str
    options: Mapping[str, Any]
    settings: Mapping[str, float]


PLACES = tuple(Place(dataset, base) for dataset in DATASETS for base in BASES)
UNTREATED = Treatment(REMEDY, NONE, PUBLISHED, {}, {})


@functools.cache
def treatments(place: Place) -> tuple[Treatment, ...]:
    """Returns all treatments of a place at all of their strengths."""
    found: list[Treatment] = []
    for path in sorted((CONF / REMEDY).glob("*.yaml")):
        if path.stem not in PRESETS and not (path.stem == "diffaugment" and place.dataset in POINTS):
            found += _strengths(path.stem, place)
    base_loss = "mse" if place.base == "notes" else "bce"
    for loss in LOSSES:
        if loss != base_loss:
            found.append(Treatment("loss", loss, PUBLISHED, {"loss": loss}, {}))
    for norm in NORMS:
        found.append(Treatment("norm", norm, PUBLISHED, {"norm": norm}, {}))
    if place.base == "notes":
        for group, option in NOTES_IMPROVEMENTS.items():
            found.append(Treatment(group, option, PUBLISHED, {group: option}, {}))
    for strength, factor in FACTORS.items():
        settings = {f"{optimizer}.lr": rate * factor for optimizer, rate in RATES[place.base].items()}
        found.append(Treatment(RATE, RATE, strength, {}, settings))
    return tuple(found)


def _strengths(remedy: str, place: Place) -> list[Treatment]:
    """Returns a remedy at each of its strengths."""
    if place.dataset in POINTS and remedy in FOR_POINTS:
        key, values = FOR_POINTS[remedy]
        found = []
        for value in values:
            settings = {f"{REMEDY}.{remedy}.{key}": value}
            found.append(Treatment(REMEDY, remedy, f"{key} {value:g}", {REMEDY: [remedy]}, settings))
        return found
    found = [Treatment(REMEDY, remedy, PUBLISHED, {REMEDY: [remedy]}, {})]
    content = yaml.safe_load((CONF / REMEDY / f"{remedy}.yaml").read_text(encoding="utf-8"))
    if "_target_" in content:
        declaration = declared(content["_target_"])
        for strength in ("weak", "strong"):
            if getattr(declaration, strength) and (remedy, strength) not in LEFT_OUT:
                found.append(Treatment(REMEDY, remedy, strength, {REMEDY: [remedy, strength]}, {}))
    return found


def tuned(place: Place) -> list[Treatment]:
    """Returns the treatments that have several strengths to choose from."""
    all_treatments = treatments(place)
    names = [treatment.name for treatment in all_treatments]
    return [treatment for treatment in all_treatments if names.count(treatment.name) > 1]


def steps_at_equal_time(cost: float) -> int:
    """Returns the steps of a treatment in the time of `STEPS` without it.

    Args:
        cost: of its step, relative to one without it.
    """
    if cost <= SAME_COST:
        return STEPS
    return max(STEPS_UNIT, round(STEPS / cost / STEPS_UNIT) * STEPS_UNIT)


def experiment_name(stage: str, place: Place, treatment: Treatment) -> str:
    """Returns the name of an experiment; it has no spaces."""
    parts = (PREFIX, stage, *place, treatment.name, treatment.strength)
    return "/".join(part.replace(" ", "-") for part in parts)


def overrides_of(place: Place, treatment: Treatment) -> list[str]:
    """Returns the command line of a treatment in a place."""
    overrides = [f"+experiment/atlas/dataset={place.dataset}", f"+experiment/atlas/base={place.base}"]
    for group, option in treatment.options.items():
        overrides.append(f"{group}={hydra_text(option)}")
    for key, value in treatment.settings.items():
        overrides.append(f"{key}={value}")
    return overrides


def experiment_file(place: Place, treatment: Treatment, steps: int) -> str:
    """Returns the same, with a number of steps, as a file of conf/experiment/."""
    defaults: list[Any] = [
        {"/experiment/atlas/dataset": place.dataset},
        {"/experiment/atlas/base": place.base},
        "_self_",
    ]
    for group, option in treatment.options.items():
        defaults.append({f"override /{group}": option})
    values: dict[str, Any] = {"steps": steps}
    for key, value in treatment.settings.items():
        node = values
        *parents, name = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    head = f"# @package _global_\n# {treatment.name} ({treatment.strength}) on {place.dataset}, {place.base}\n"
    return head + yaml.safe_dump({"defaults": defaults, **values}, sort_keys=False)
