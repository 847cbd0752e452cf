"""What the atlas trains: each experiment is one that can be trained, with the settings that its name says."""

import subprocess
from types import SimpleNamespace

import pytest
import yaml
from conftest import compose, refused

from gan_lab.assembly.instantiate import build_data_and_gan
from gan_lab.atlas import stages
from gan_lab.atlas.plan import (
    PLACES,
    STEPS,
    UNTREATED,
    Place,
    experiment_name,
    experiment_text,
    steps_at_equal_time,
    treatments,
    tuned,
)
from gan_lab.benchmark.remedies import name_of, overrides_of
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
    different = set()
    for treatment in treatments(place):
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
    cases = ((SHORT, "hinge"), (Place("ring", "strong_d"), "r1"), (Place("digits", "notes"), "learning rate"))
    for i, (place, name) in enumerate(cases):
        treatment = [one for one in treatments(place) if one.name == name][-1]
        path = tmp_path / "experiment" / "atlas" / f"{i}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(experiment_text(place, treatment, 1234))
        assert yaml.safe_load(path.read_text())["steps"] == 1234
        searchpath = f"hydra.searchpath=[file://{tmp_path}]"
        expected = compose(*overrides_of(place, treatment), "steps=1234")
        assert compose(searchpath, f"experiment=atlas/{i}") == expected


@pytest.fixture
def commands(monkeypatch):
    """The commands that would have been run."""
    found = []

    def run(command, **_):
        found.append(command)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    return found


def all_costs():
    costs = {}
    for place in PLACES:
        for treatment in treatments(place):
            costs[place.dataset, treatment.name, treatment.strength] = 2.0 if treatment.name == "r1" else 1.0
    return costs


def test_the_tuning_is_two_sweeps_over_all_strengths(commands, tmp_path):
    assert stages.train_stage("tuning", tmp_path, all_costs(), ["hydra/launcher=local"]) == 0
    replicated, single = commands
    assert {"seed=2000", "replicas=4", "hydra/launcher=local", f"hydra.sweep.dir={tmp_path / 'tuning'}"} <= set(
        replicated
    )
    assert "seed=2000,2001,2002,2003" in single
    names = next(one for one in replicated if one.startswith("experiment=")).removeprefix("experiment=").split(",")
    assert len(names) == len(set(names))
    expected = sum(one.name not in ("balance", "spectral") for place in PLACES for one in tuned(place))
    assert len(names) == expected
    r1 = tmp_path / "conf" / "experiment" / "atlas" / "tuning" / "digits" / "short" / "r1" / "weak.yaml"
    assert yaml.safe_load(r1.read_text())["steps"] == 1500


def test_what_is_reported_needs_the_tuning(commands, tmp_path):
    (tmp_path / "tuning").mkdir()
    with refused("missing", "runs"):
        stages.train_stage("time", tmp_path, all_costs(), [])
    assert commands == []


def test_a_missing_cost_is_refused(commands, tmp_path):
    with refused("missing", "costs"):
        stages.train_stage("tuning", tmp_path, {}, [])
