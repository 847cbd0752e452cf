"""Candidates: what they change, in which order they are tried, and which can be combined."""

import pytest
import yaml

from gan_lab.config.arguments import collect, quote_texts
from gan_lab.config.experiment_file import experiment_text, values_of_option, with_changes
from gan_lab.core.errors import LabError
from gan_lab.core.installation import CONF
from gan_lab.cure.candidates import Candidate, candidates, in_order, pairs
from gan_lab.cure.examination import FAILURES


def test_every_candidate_names_options_and_failures_that_there_are():
    for candidate in candidates():
        assert set(candidate.against) <= set(FAILURES), candidate.name
        for change in candidate.changes:
            key, _, value = change.partition("=")
            if (CONF / key).is_dir():
                for option in value.strip("[]").split(","):
                    assert (CONF / key / f"{option}.yaml").is_file(), change


def test_names_of_files_are_different():
    slugs = [candidate.slug for candidate in candidates()]
    assert len(set(slugs)) == len(slugs)
    assert Candidate("R1 (weak) + Adam", ()).slug == "r1-weak-adam"


def test_suggested_candidates_come_first_and_the_rest_after():
    tried = in_order(["D wins"], {}, [])
    suggested = ["D wins" in candidate.against for candidate in tried]
    assert suggested == sorted(suggested, reverse=True)
    assert not all(suggested)


def test_what_the_patient_has_already_is_not_tried():
    names = {candidate.name for candidate in in_order([], {"loss._target_": "gan_lab.gan.losses.BCE"}, ["r1"])}
    assert not {"BCE", "R1"} & names
    assert {"hinge loss", "R1 and R2", "R1 (strong)"} <= names


def test_changes_replace_what_was_said_of_a_group():
    patient = ["loss=mse", "optim=sgd", "optim.lr=1", "optim_g=adam", "optim_g.lr=3", "remedy=[ema]", "data.path=x.h5"]
    changed = with_changes(patient, ["optim=adam", "remedy=[r1,weak]"], ["ema"])
    assert changed == ["loss=mse", "data.path=x.h5", "optim=adam", "remedy=[ema,r1,weak]"]


def test_values_of_an_experiment_do_not_outlive_a_change_of_group():
    changed = with_changes(["experiment=book/mnist_first_fast"], ["optim=adam"], [])
    assert changed[:4] == ["experiment=book/mnist_first_fast", "optim=adam", "optim_d=shared", "optim_g=shared"]
    # The experiment's is 0.1.
    assert "optim.lr=0.0005" in changed


def test_strength_of_the_patient_stays_and_one_of_a_candidate_replaces_it():
    assert with_changes(["remedy=[r1,strong]"], ["remedy=[ema]"], ["r1", "strong"]) == ["remedy=[r1,strong,ema]"]
    assert with_changes(["remedy=[r1]", "strength=strong"], ["remedy=[ema,weak]"], ["r1", "strong"]) == [
        "remedy=[r1,ema,weak]"
    ]


def test_last_choice_of_a_group_counts():
    assert "override /loss: bce" in experiment_text(["loss=mse", "loss=bce"], "title")
    assert "mse" not in experiment_text(["loss=mse", "loss=bce"], "title")


def test_texts_that_a_shell_gives_survive_the_round_trip():
    for text in ("a (1).h5", "사진.zip", "it's.h5", "x@y.h5"):
        (override,) = quote_texts([f"data.path={text}"])
        assert yaml.safe_load(experiment_text([override], "title"))["data"]["path"] == text


def test_of_candidates_that_change_the_same_the_shorter_one_is_tried():
    settings = {
        "loss._target_": "gan_lab.gan.losses.BCE",
        "activation._target_": "torch.nn.LeakyReLU",
        "activation.negative_slope": 0.2,
        "optim._target_": "torch.optim.Adam",
        **{f"optim.{name}": value for name, value in values_of_option("optim", "adam").items()},
        **{f"activation.{name}": value for name, value in values_of_option("activation", "leaky_relu").items()},
    }
    names = [candidate.name for candidate in in_order(["junk"], settings, [])]
    assert "LayerNorm" in names
    assert "the book's improvements" not in names
    assert "the book's improvements" in [candidate.name for candidate in in_order(["junk"], {}, [])]


def test_values_that_the_networks_do_not_have_are_not_tried():
    names = {candidate.name for candidate in in_order([], {"batch_size": 64, "model.channels": 32}, [])}
    assert "wider networks" not in names
    assert "larger batches" in names
    assert "wider networks" in {candidate.name for candidate in in_order([], {"model.width": 64}, [])}


def test_experiment_says_the_same_as_the_overrides():
    overrides = ["experiment=best/ring", "loss=mse", "remedy=[r1,ema]", "remedy.r1.gamma=2", "data.path='a b.h5'"]
    text = experiment_text(overrides, "title")
    assert text.startswith("# @package _global_\n")
    assert yaml.safe_load(text) == {
        "defaults": ["/experiment/best/ring", {"override /loss": "mse"}, {"override /remedy": ["r1", "ema"]}, "_self_"],
        "remedy": {"r1": {"gamma": 2}},
        "data": {"path": "a b.h5"},
    }


def test_deletion_can_be_no_part_of_an_experiment():
    with pytest.raises(LabError, match="Leave it out"):
        experiment_text(["~callbacks.pictures"], "title")


def test_pairs_change_different_things():
    adam = Candidate("Adam", ("optim=adam",), cost=2)
    slow = Candidate("slow", ("optim.lr=0.1",))
    r1 = Candidate("R1", ("remedy=[r1]",), cost=3)
    ema = Candidate("EMA", ("remedy=[ema]",))
    combined = {pair.name: pair for pair in pairs([adam, slow, r1, ema])}
    assert "Adam + slow" not in combined
    assert combined["Adam + R1"].changes == ("optim=adam", "remedy=[r1]")
    assert combined["R1 + EMA"].changes == ("remedy=[r1,ema]",)
    assert combined["Adam + R1"].cost == 6
    weak = Candidate("R1 (weak)", ("remedy=[r1,weak]",))
    assert [pair.changes for pair in pairs([weak, adam])] == [("optim=adam", "remedy=[r1,weak]")]
    # A training has one strength.
    assert not pairs([weak, ema])


def test_arguments_of_a_training_are_collected():
    arguments = ["run=a", "loss=mse", "budget=3m", "remedy=[r1,ema]", "data.path=사진 (1).h5", "--help"]
    assert collect(arguments, "cure", "overrides") == [
        "run=a",
        "budget=3m",
        "--help",
        'overrides=["loss=mse","remedy=[r1,ema]","data.path=사진 (1).h5"]',
    ]
