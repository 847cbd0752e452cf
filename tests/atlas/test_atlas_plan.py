"""What the atlas trains: each experiment is one that can be trained, with the settings that its name says."""

import subprocess
from types import SimpleNamespace

import pytest
import yaml
from conftest import compose, refused
from test_atlas import job

from gan_lab.assembly.instantiate import build_data_and_gan
from gan_lab.atlas import stages
from gan_lab.atlas.plan import (
    PLACES,
    SEEDS,
    STEPS,
    UNTREATED,
    Place,
    experiment_file,
    experiment_name,
    overrides_of,
    steps_at_equal_time,
    treatments,
    tuned,
)
from gan_lab.benchmark.remedies import name_of
from gan_lab.core.installation import CONF

SHORT = Place("digits", "short")


def test_every_remedy_is_a_treatment_of_images():
    names = {path.stem for path in (CONF / "remedy").glob("*.yaml")} - {"weak", "strong"}
    for place in PLACES:
        own = {treatment.name for treatment in treatments(place) if treatment.group == "remedy"}
        assert names - own == ({"diffaugment"} if place.dataset in ("ring", "grid") else set())
    assert len(names) >= 22


def test_strengths_are_those_that_remedies_declare_but_for_points():
    by_name = {}
    for treatment in treatments(SHORT):
        by_name.setdefault(treatment.name, []).append(treatment.strength)
    assert by_name["r1"] == ["published", "weak", "strong"]
    assert by_name["n_critic"] == ["published"]
    assert "strong" not in by_name["ema"]
    points = [one for one in treatments(Place("ring", "short")) if one.name == "r1"]
    assert [one.strength for one in points] == ["gamma 0.01", "gamma 0.1", "gamma 1"]
    assert {one.name for one in tuned(SHORT)} == {name for name, strengths in by_name.items() if len(strengths) > 1}


@pytest.mark.parametrize(
    ("cost", "steps"), [(0.9, 3000), (1.05, 3000), (1.06, 2850), (2.0, 1500), (7.0, 450), (500, 50)]
)
def test_a_costly_treatment_has_fewer_steps(cost, steps):
    assert steps_at_equal_time(cost) == steps


def test_names_of_experiments_have_no_spaces():
    (rate, _) = (treatment for treatment in treatments(SHORT) if treatment.group == "learning rate")
    assert experiment_name("time", SHORT, rate) == "atlas/time/digits/short/learning-rate/a-fifth"


# The place with most treatments; building those of one takes 15 s.
FAST = Place("digits", "notes")
CASES = [place if place == FAST else pytest.param(place, marks=pytest.mark.slow) for place in PLACES]


@pytest.mark.parametrize("place", CASES)
def test_every_treatment_builds_a_gan_of_its_place(place):
    base = compose(*overrides_of(place, UNTREATED))
    assert base.steps == STEPS
    different: set[str] = set()
    for treatment in (UNTREATED, *treatments(place)):
        cfg = compose(*overrides_of(place, treatment))
        assert cfg.dataset == base.dataset
        for key, value in treatment.settings.items():
            node = cfg
            for name in key.split("."):
                node = node[name]
            assert node == pytest.approx(value)
        parts = (cfg.remedy, cfg.loss, cfg.norm, cfg.optim_d, cfg.optim_g, cfg.activation, cfg.n_critic)
        assert str(parts) not in different, name_of(treatment)
        different.add(str(parts))
        build_data_and_gan(cfg)


def test_an_experiment_is_what_its_overrides_are(tmp_path):
    ring = Place("ring", "strong_d")
    notes = Place("digits", "notes")
    cases = (
        *((SHORT, name) for name in ("hinge", "layer", "r1")),
        (ring, "r1"),
        (ring, "learning rate"),
        (notes, "adam"),
    )
    for i, (place, name) in enumerate(cases):
        treatment = [one for one in treatments(place) if one.name == name][-1]
        path = tmp_path / "experiment" / "atlas" / f"{i}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(experiment_file(place, treatment, 1234))
        assert yaml.safe_load(path.read_text())["steps"] == 1234
        searchpath = f"hydra.searchpath=[file://{tmp_path}]"
        expected = compose(*overrides_of(place, treatment), "steps=1234")
        assert compose(searchpath, f"experiment=atlas/{i}") == expected


class FakeSweep:
    """A sweep that ends at once with a status."""

    def __init__(self, status):
        self.status = status
        self.commands = []

    def __call__(self, command):
        self.commands.append(command)
        return SimpleNamespace(wait=lambda *_: self.status, poll=lambda: self.status)


@pytest.fixture
def sweep(monkeypatch):
    fake = FakeSweep(0)
    monkeypatch.setattr(subprocess, "Popen", fake)
    return fake


def all_costs(r1=2.0):
    costs = {}
    for place in PLACES:
        for treatment in treatments(place):
            costs[place.dataset, treatment.name, treatment.strength] = r1 if treatment.name == "r1" else 1.0
    return costs


def names_in(command):
    """The experiments of a command."""
    argument = next(one for one in command if one.startswith("experiment="))
    return argument.removeprefix("experiment=").split(",")


def tuning_of(folder, seeds=SEEDS["tuning"][1]):
    """Runs of a tuning that is complete; the last strength of each treatment is the best."""
    for place in PLACES:
        for i, treatment in enumerate(tuned(place)):
            name = experiment_name("tuning", place, treatment).removeprefix("atlas/")
            job(folder / "tuning" / name.replace("/", "_"), name, [i / 1000] * seeds)


def test_the_tuning_is_two_sweeps_over_all_strengths(sweep, tmp_path):
    assert stages.train_stage("tuning", tmp_path, all_costs(), ["hydra/launcher=local"]) == 0
    replicated, single = sweep.commands
    arguments = {"seed=2000", "replicas=4", "hydra/launcher=local", f"hydra.sweep.dir={tmp_path / 'tuning'}"}
    assert arguments <= set(replicated)
    assert "seed=2000,2001,2002,2003" in single
    names = names_in(replicated)
    assert len(names) == len(set(names))
    assert len(names) == sum(one.name not in ("balance", "spectral") for place in PLACES for one in tuned(place))
    r1 = tmp_path / "conf" / "experiment" / "atlas" / "tuning" / "digits" / "short" / "r1" / "weak.yaml"
    assert yaml.safe_load(r1.read_text())["steps"] == 1500


@pytest.mark.parametrize(("status", "sweeps"), [(0, 2), (1, 2), (130, 1), (-15, 1), (2, 1)])
def test_failed_jobs_end_no_stage_but_signals_do(sweep, tmp_path, status, sweeps):
    sweep.status = status
    assert stages.train_stage("tuning", tmp_path, all_costs(), []) == status
    assert len(sweep.commands) == sweeps


def test_what_is_reported_has_the_chosen_strengths(sweep, tmp_path):
    tuning_of(tmp_path)
    costs = all_costs() | {("digits", "r2", "strong"): 3.5}
    at_equal_time = stages.trainings_of("time", costs, tmp_path)
    own = [one for one in at_equal_time if one.place == SHORT]
    assert own[0] == (SHORT, UNTREATED, STEPS)
    names = [one.treatment.name for one in own]
    assert len(names) == len(set(names)) == 1 + len({one.name for one in treatments(SHORT)})
    steps = {(one.treatment.name, one.treatment.strength): one.steps for one in own}
    assert steps["r1", "strong"] == 1500
    assert steps["r2", "strong"] == 850
    assert steps["n_critic", "published"] == 3000
    at_equal_steps = [one for one in stages.trainings_of("steps", costs, tmp_path) if one.place == SHORT]
    # r2 costs more than three times as much, the others nothing.
    assert [(one.treatment.name, one.steps) for one in at_equal_steps] == [("r1", 3000)]
    films = stages.trainings_of("films", costs, tmp_path)
    assert {one.place for one in films} == {SHORT}
    assert len(films) == len(own)


def test_what_is_reported_needs_a_complete_tuning(sweep, tmp_path):
    (tmp_path / "tuning").mkdir()
    with refused("missing", "runs"):
        stages.train_stage("time", tmp_path, all_costs(), [])
    tuning_of(tmp_path, seeds=3)
    with refused("missing", "stage"):
        stages.train_stage("time", tmp_path, all_costs(), [])
    assert sweep.commands == []


def test_a_missing_cost_is_refused(sweep, tmp_path):
    with refused("missing", "costs"):
        stages.train_stage("tuning", tmp_path, {}, [])
