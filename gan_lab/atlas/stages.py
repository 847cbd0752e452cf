"""Trains a stage of the atlas: an experiment for each training, and one sweep over all of them."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from gan_lab.atlas.cells import best_strengths
from gan_lab.atlas.plan import (
    EQUAL_STEPS,
    EQUAL_TIME,
    FILMS,
    MOST_COST_AT_EQUAL_STEPS,
    NO_REPLICAS,
    PLACES,
    SAME_COST,
    SEEDS,
    STEPS,
    TUNING,
    UNTREATED,
    Costs,
    Place,
    Treatment,
    experiment_file,
    experiment_name,
    steps_at_equal_time,
    treatments,
    tuned,
)
from gan_lab.atlas.table import HOW_TO_MEASURE, read_records, read_tables
from gan_lab.core.command_line import hydra_text
from gan_lab.core.errors import LabError
from gan_lab.core.installation import script
from gan_lab.core.io import atomic
from gan_lab.core.processes import end

FILM_PLACE = Place("digits", "short")
# The films have more pictures than the other trainings.
FILM_ARGUMENTS = ("callbacks.pictures.every=100", "callbacks.verdict.every=100")


class Training(NamedTuple):
    """A training of a stage."""

    place: Place
    treatment: Treatment
    steps: int


def train_stage(stage: str, folder: Path, costs: Costs, arguments: Sequence[str]) -> int:
    """Trains what a stage of the atlas has; goes on where the same command was stopped.

    Args:
        stage: one of `plan.STAGES`.
        folder: of the atlas.
        costs: of the treatments.
        arguments: of all trainings, for example the launcher.

    Returns:
        The exit status: 0, or that of a sweep that failed or was stopped.

    Raises:
        LabError: if the strengths are to be chosen and the tuning is not complete, or a cost is missing.
    """
    trainings = trainings_of(stage, costs, folder)
    conf = folder / "conf"
    for training in trainings:
        path = conf / "experiment" / f"{experiment_name(stage, training.place, training.treatment)}.yaml"
        with atomic(path) as temporary:
            temporary.write_text(experiment_file(*training), encoding="utf-8")
    first, number = SEEDS[stage]
    replicated = [training for training in trainings if training.treatment.name not in NO_REPLICAS]
    single = [training for training in trainings if training.treatment.name in NO_REPLICAS]
    seeds = [str(seed) for seed in range(first, first + number)]
    status = _sweep(stage, folder / stage, conf, replicated, [f"seed={first}", f"replicas={number}", *arguments])
    # A job that NaN has ended leaves 1: the others were trained. A signal ends both.
    if single and status in (0, 1):
        others = _sweep(stage, folder / f"{stage}_single", conf, single, [f"seed={','.join(seeds)}", *arguments])
        status = max(status, others)
    return status


def trainings_of(stage: str, costs: Costs, folder: Path) -> list[Training]:
    """Returns the trainings of a stage, each with all of its seeds.

    Args:
        stage: one of `plan.STAGES`.
        costs: of the treatments.
        folder: of the atlas, for the tuning of what is reported.

    Raises:
        LabError: if the strengths are to be chosen and the tuning is not complete, or a cost is missing.
    """
    tried = None
    if stage != TUNING:
        tuning = [folder / TUNING, *folder.glob(f"{TUNING}_single")]
        tried = best_strengths(read_tables([], [record for path in tuning for record in read_records(path)]))
    trainings = []
    for place in PLACES:
        if stage == FILMS and place != FILM_PLACE:
            continue
        chosen = tuned(place) if tried is None else _chosen(place, tried)
        if stage in (EQUAL_TIME, FILMS):
            trainings.append(Training(place, UNTREATED, STEPS))
        for treatment in chosen:
            cost = _cost(costs, place, treatment)
            if stage != EQUAL_STEPS:
                trainings.append(Training(place, treatment, steps_at_equal_time(cost)))
            elif SAME_COST < cost <= MOST_COST_AT_EQUAL_STEPS:
                trainings.append(Training(place, treatment, STEPS))
    return trainings


def _cost(costs: Costs, place: Place, treatment: Treatment) -> float:
    key = (place.dataset, treatment.name, treatment.strength)
    if key not in costs:
        raise LabError(
            f"What {treatment.name} ({treatment.strength}) costs on {place.dataset} is missing.",
            HOW_TO_MEASURE,
            code="missing",
            key="costs",
        )
    return costs[key]


def _chosen(place: Place, tried: pd.DataFrame) -> list[Treatment]:
    """Returns the treatments of a place at the strengths that the tuning chose (`cells.best_strengths`)."""
    all_treatments = treatments(place)
    to_choose = tuned(place)
    is_complete = tried["seeds"] == SEEDS[TUNING][1]
    tried = tried[is_complete]
    own = tried[(tried["dataset"] == place.dataset) & (tried["base"] == place.base)]
    if set(zip(own["treatment"], own["strength"], strict=True)) != {(one.name, one.strength) for one in to_choose}:
        raise LabError(
            f"The tuning of {place.dataset}, {place.base} is not complete.",
            "Train it first: the same command with stage=tuning.",
            code="missing",
            key="stage",
        )
    best = own[own["chosen"]]
    names = set(zip(best["treatment"], best["strength"], strict=True))
    return [one for one in all_treatments if one not in to_choose or (one.name, one.strength) in names]


def _sweep(stage: str, folder: Path, conf: Path, trainings: Sequence[Training], arguments: Sequence[str]) -> int:
    """Runs `train.py -m` over the experiments of some trainings, and returns its exit status."""
    names = [experiment_name(stage, training.place, training.treatment) for training in trainings]
    command = [
        *(sys.executable, str(script("train")), "-m"),
        f"hydra.searchpath=[{hydra_text(f'file://{conf.absolute()}')}]",
        f"hydra.sweep.dir={hydra_text(folder)}",
        f"experiment={','.join(names)}",
        *(FILM_ARGUMENTS if stage == FILMS else ()),
        *arguments,
    ]
    process = subprocess.Popen(command)
    try:
        return process.wait()
    finally:
        # On Ctrl-C it has got the signal, too, and says how to go on.
        end(process)
