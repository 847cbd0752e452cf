"""Comparisons of runs whose truth is known: real configurations, made-up results."""

import functools
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import REMEDIES, ROOT, command, command_here, config_yaml, refused

from gan_lab import __version__
from gan_lab.benchmark.startup import PEAK
from gan_lab.commands.results import write_results
from gan_lab.comparison import panels
from gan_lab.comparison.collect import find_runs, read_record, read_settings
from gan_lab.comparison.comparison import compare, conclude
from gan_lab.comparison.factors import factors, ordered_levels
from gan_lab.comparison.findings import Findings
from gan_lab.comparison.report import write_report
from gan_lab.comparison.settings import name_presets
from gan_lab.comparison.tables import describe, write_tables
from gan_lab.core.command_line import hydra_text
from gan_lab.core.terminal import printable

SGD, ADAM = [1, 1, 2, 2, 4], [7, 8, 8, 9, 10]  # modes: means of 2 and 8.4, fully separate
PLAIN = "loss=mse activation=sigmoid optim=sgd norm=none"
RUNGS = [
    PLAIN,
    "loss=bce activation=sigmoid optim=sgd norm=none",
    "loss=bce activation=leaky_relu optim=sgd norm=none",
    "loss=bce activation=leaky_relu optim=adam norm=none",
    "loss=bce activation=leaky_relu optim=adam norm=layer",
]


@functools.cache
def config(overrides: str) -> str:
    return config_yaml(*overrides.split())


def made_up(folder: Path, overrides: str = "", seed: int = 0, **results: Any) -> Path:
    """A finished run on digits; `results` are metrics, `_<key>`s of its summary, or `_summary=None` for none."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config(overrides).replace("\nseed: 0\n", f"\nseed: {seed}\n"))
    metrics = dict(samples=10_000, modes=10, modes_total=10, modes_robust=10, kl_data=0.01, ct=None)
    metrics |= dict(evaluator_accuracy=0.98) | {key: value for key, value in results.items() if key[0] != "_"}
    word = "collapsed" if metrics["modes_robust"] <= 5 else "covered"
    summary = dict(status="finished", error=None, steps=15_000, seconds=40.0, seed=seed, labels=[1000] * 10)
    summary |= dict(verdict=dict(collapse=word, copies=False, likeness="good", balance="balanced"), metrics=metrics)
    summary |= dict(environment=dict(device="cpu", threads=1, torch="2.11.0"), undefined=dict(ct="too few"))
    summary |= {key[1:]: value for key, value in results.items() if key[0] == "_"}
    if "_summary" not in results:
        (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    (folder / "metrics.csv").write_text("step,loss/d_real\n20,0.7\n15000,0.6\n")
    return folder


def repeated(folder: Path, overrides: str, modes: list[int], name: str = "run", **results: Any) -> None:
    for seed, number in enumerate(modes):
        made_up(folder / f"{name}_seed-{seed}", overrides, seed, modes=number, **results)


@pytest.fixture
def pair(tmp_path) -> Path:
    repeated(tmp_path, "optim=sgd", SGD, "a", modes_robust=2, _seconds=30.0)
    repeated(tmp_path, "optim=adam", ADAM, "b", modes_robust=8, _seconds=50.0)
    return tmp_path


def reasons(findings: Findings) -> dict[str, str]:
    return dict(zip(findings.excluded["run"], findings.excluded["reason"], strict=True))


# Factors.


def factors_of(folder: Path, *runs: str) -> dict[str, list[str]]:
    """The factors' values in the configurations of runs with these overrides."""
    paths = [folder / f"{number}.yaml" for number in range(len(runs))]
    for path, overrides in zip(paths, runs, strict=True):
        path.write_text(config(overrides))
    configs = name_presets([read_settings(path) for path in paths])
    return {factor.name: factor.values for factor in factors(configs)}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["seed=1", "seed=2 threads=2 data_dir=x name=y ~callbacks.pictures log_every=5 trainer=gpu"], {}),
        (["loss=mse", "loss=bce"], {"loss": ["MSE", "BCE"]}),
        (["optim=sgd", "optim=adam"], {"optim": ["SGD", "Adam"]}),  # with their lr, betas and momentum
        (["optim=adam", "optim=adamw", "optim=sgd"], {"optim": ["Adam", "AdamW", "SGD"]}),  # two of them with equal lr
        (["norm=none", "norm=layer", "norm=group"], {"norm": ["none", "LayerNorm", "GroupNorm"]}),
        (["", "optim.lr=0.001"], {"optim.lr": ["0.0005", "0.001"]}),  # optim_d.lr and optim_g.lr follow it
        (
            [f"optim={optim} optim.lr={lr}" for optim in ("sgd", "adam") for lr in (0.1, 0.01)],
            {"optim": ["SGD", "SGD", "Adam", "Adam"], "optim.lr": ["0.1", "0.01", "0.1", "0.01"]},
        ),
        (
            ["optim=sgd", "optim=adam", "optim=adam optim.betas=[0.9,0.999]"],
            {"optim": ["SGD", "Adam betas [0.5, 0.999]", "Adam betas [0.9, 0.999]"]},
        ),
        (["", "optim_d.lr=0.001"], {"optim_d.lr": ["0.0005", "0.001"]}),
        (["", "optim_d=sgd"], {"optim_d": ["default optim_d", "SGD"]}),
        (["activation=sigmoid", "activation=leaky_relu"], {"activation": ["Sigmoid", "LeakyReLU"]}),
        (["", "activation.negative_slope=0.2"], {"activation": ["LeakyReLU 0.02", "LeakyReLU 0.2"]}),
        (
            ["activation=sigmoid", "", "activation.negative_slope=0.2"],
            {"activation": ["Sigmoid", "LeakyReLU 0.02", "LeakyReLU 0.2"]},
        ),
        (["dataset=mnist model=mlp norm=none", "dataset=mnist model=conv norm=none"], {"model": ["mlp", "conv"]}),
        (
            ["dataset=mnist model=mlp", "dataset=mnist model=conv"],  # each with its usual norm
            {"model + norm": ["mlp + LayerNorm", "conv + BatchNorm"]},
        ),
        (["", "batch_size=16", "batch_size=128"], {"batch_size": ["64", "16", "128"]}),
        (["loss=mse norm=none", "loss=bce"], {"loss + norm": ["MSE + norm none", "BCE + LayerNorm"]}),
        (["", "latent_dim=2 loss=mse"], {"loss + latent_dim": ["BCE + latent_dim 32", "MSE + latent_dim 2"]}),
        (
            ["loss=mse norm=none", "loss=bce", "loss=bce norm=none"],
            {"loss": ["MSE", "BCE", "BCE"], "norm": ["none", "LayerNorm", "none"]},
        ),
        (
            ["", "model.generator.hidden=[8] model.discriminator.hidden=[4]"],
            {
                "model": [
                    "generator.hidden null + discriminator.hidden null",
                    "generator.hidden [8] + discriminator.hidden [4]",
                ]
            },
        ),
        (
            [f"model.generator.hidden=[{n}] model.discriminator.hidden=[{n}]" for n in (8, 4)],
            {"model": ["hidden [8]", "hidden [4]"]},
        ),
        (["", "model.width=128", "model.width=64"], {"model.width": ["256", "128", "64"]}),
        (["", "model.depth=3 model.width=128"], {"model": ["depth null + width 256", "depth 3 + width 128"]}),
        (["", "+optim.eps=0.001"], {"optim.eps": ["default optim.eps", "0.001"]}),
        (["", "remedy=[r1]", "remedy=[r1,ema]", "remedy=[ema,r1]"], {"remedy": ["none", "r1", *["ema + r1"] * 2]}),
        (["remedy=[r1]", "remedy=[r1] remedy.r1.gamma=10"], {"remedy.r1.gamma": ["2.5", "10"]}),
        (
            ["", "remedy=[r1]", "remedy=[r1,ema] remedy.r1.gamma=10"],
            {"remedy": ["none", "r1 gamma 2.5", "ema + r1 gamma 10"]},
        ),
        (["", "remedy=[ttur]", "remedy=[ema,n_critic]"], {"remedy": ["none", "ttur", "ema + n_critic"]}),
        (["", *["remedy=[n_critic]"] * 2], {"remedy": ["none", "n_critic", "n_critic"]}),
        (
            ["", "remedy=[n_critic]", "remedy=[n_critic] n_critic=3"],
            {"n_critic": ["1", "5", "3"]},  # another value than the preset's
        ),
        (
            ["", "remedy=[ttur]", "remedy=[ttur] remedy.ttur.ratio=2"],
            {"remedy": ["none", "ttur ratio 4", "ttur ratio 2"]},
        ),
        (
            ["", "n_critic=2", "remedy=[n_critic]"],
            {"n_critic": ["1", "2", "5"]},
        ),
        (["", "remedy=[r1] loss=mse"], {"loss + remedy": ["BCE + remedy none", "MSE + r1"]}),
    ],
)
def test_factors_are_what_differs(tmp_path, overrides, expected):
    assert factors_of(tmp_path, *overrides) == expected


def test_a_factor_begins_with_what_remedies_replace_or_the_smallest_number():
    assert ordered_levels(["Adam", "SGD", "RMSprop"]) == ["SGD", "Adam", "RMSprop"]
    assert ordered_levels(["BCE + LayerNorm", "MSE + norm none"]) == ["MSE + norm none", "BCE + LayerNorm"]
    assert ordered_levels(["0.1", "1e-05", "0.02"]) == ["1e-05", "0.02", "0.1"]


def test_variants_come_from_the_configurations_not_from_names(tmp_path):
    for seed, (sgd, adam) in enumerate(zip(SGD, ADAM, strict=True)):
        made_up(tmp_path / "adam" / f"optim-adam_seed-{seed}", "optim=sgd", seed, modes=sgd)
        made_up(tmp_path / "deep" / "er" / "sgd" / str(seed), "optim=adam", seed, modes=adam)
    findings = compare([tmp_path])
    assert (findings.factors, findings.variants) == (["optim"], [("SGD",), ("Adam",)])
    assert findings.runs.groupby("variant")["modes"].mean().to_dict() == {"SGD": 2, "Adam": 8.4}
    assert set(findings.runs[findings.runs["variant"] == "Adam"]["run"]) == {f"deep/er/sgd/{i}" for i in range(5)}


@pytest.mark.parametrize(("modes_total", "collapsed"), [(10, [True, False, None]), (1, [False, False, None])])
def test_a_collapse_within_the_modes_counts_and_an_unknown_verdict_does_not(tmp_path, modes_total, collapsed):
    """The only mode of the book's pattern may be made without variety."""
    verdicts = [
        dict(collapse="covered", within_modes="collapsed"),
        dict(collapse="covered", within_modes="varied"),
        dict(collapse="unknown", within_modes="unknown"),
    ]
    for seed, verdict in enumerate(verdicts):
        made_up(tmp_path / str(seed), "optim=sgd", seed, modes_total=modes_total, _verdict=verdict)
    findings = compare([tmp_path])
    assert findings.runs["collapsed"].tolist() == collapsed
    assert any("The verdict on 1 of 3 runs is unknown" in note for note in findings.notes)


def test_replicas_are_repetitions(tmp_path):
    words = [dict(collapse="collapsed"), dict(collapse="covered")]
    for overrides, modes in (("optim=sgd", [1, 3]), ("optim=adam", [8, 10])):
        members = [dict(samples=10_000, modes=number, modes_total=10) for number in modes]
        made_up(
            tmp_path / overrides, overrides, modes=99, _replicas=2, _replica_metrics=members, _replica_verdicts=words
        )
    findings = compare([tmp_path])
    rows = findings.runs[["variant", "member", "modes"]].to_numpy().tolist()
    assert rows == [["SGD", 0, 1], ["SGD", 1, 3], ["Adam", 0, 8], ["Adam", 1, 10]]
    assert findings.runs["collapsed"].tolist() == [True, False] * 2
    assert findings.effects[0].seeds == (2, 2)


def test_remedies_that_vary_alone_are_compared_with_none(tmp_path):
    """Five seeds each, fully separate: p = 2 of binom(10, 5) = 252, times 3 comparisons."""
    numbers = {"": SGD, "remedy=[r1]": ADAM, "remedy=[ema,r1]": ADAM, "remedy=[ttur]": SGD}
    for overrides, modes in numbers.items():
        repeated(tmp_path, f"optim=adam {overrides}", modes, overrides)
    findings = compare([tmp_path])
    assert (findings.design, findings.factors) == ("control", ["remedy"])
    assert findings.variants[0] == ("none",)
    assert findings.title == "remedy on digits"
    answers = {effect.comparison.changes[0].after: effect for effect, _ in findings.answers if effect.metric == "modes"}
    assert list(answers) == ["ema + r1", "r1", "ttur"], "the significant ones come first"
    assert (answers["r1"].difference, answers["r1"].seeds) == (pytest.approx(6.4), (5, 5))
    assert (answers["r1"].p_holm, answers["r1"].family) == (pytest.approx(3 * 2 / 252), 3)
    assert (answers["ttur"].difference, answers["ttur"].significant) == (0, False)
    assert {effect.comparison.changes[0].before for effect, _ in findings.answers} == {"none"}
    assert "remedy" not in findings.common
    assert "kind,factor,before,after" in write_tables(findings)[1].read_text()
    rows = pd.read_csv(write_tables(findings)[1], keep_default_na=False)
    assert rows[["kind", "factor", "before"]].drop_duplicates().to_numpy().tolist() == [["remedy", "remedy", "none"]]
    assert [line.label for line in panels.forest_lines(findings, "modes")] == ["ema + r1", "r1", "ttur"]


def test_the_terminal_omits_some_remedies_without_a_shown_difference(tmp_path, monkeypatch):
    """Of 12 remedies one is separate from none, all by 8 seeds; it comes first, 9 others follow."""
    for remedy in ["", *REMEDIES[:12]]:
        modes = [9] * 8 if remedy == REMEDIES[7] else [1, 1, 1, 1, 2, 2, 2, 2]
        repeated(tmp_path, f"remedy=[{remedy}]", modes, f"x{remedy}")
    lines = describe(compare([tmp_path])).splitlines()
    answers = [line for line in lines if line.startswith("- ")]
    assert answers[0].startswith(f"- {REMEDIES[7]} added ")
    assert answers[10].startswith("- … and 2 more without ")
    monkeypatch.setattr("gan_lab.comparison.tables.MAX_LISTED", 0)
    shorter = [line for line in describe(compare([tmp_path])).splitlines() if line.startswith("- ")]
    assert shorter == [answers[0], answers[10].replace("2 more", "11 more")], "a shown difference is always named"


def test_a_remedy_gets_a_sentence_about_its_best_strength(tmp_path):
    """Eight seeds each, gamma 2 and 3 separate from none, 3 the farthest: p = 2 of binom(16, 8), times 4."""
    numbers = {"": 1, "remedy=[ema]": 1, "remedy.r1.gamma=1": 1, "remedy.r1.gamma=2": 4, "remedy.r1.gamma=3": 6}
    for overrides, modes in numbers.items():
        remedy = "remedy=[r1] " if "r1" in overrides else ""
        repeated(tmp_path, remedy + overrides, [modes, modes + 1] * 4, f"x{overrides}")
    findings = compare([tmp_path])
    (best, text), (_, of_ema) = findings.answers_in("modes")
    assert best.comparison.changes[0].after == "r1 gamma 3"
    assert best.p_holm == pytest.approx(4 * 2 / 12870)
    assert "(the best of 3 strengths, compared with no remedy, " in text
    assert "strengths" not in of_ema
    assert len(findings.effects_in("modes")) == 4, "all of them in effects.csv"
    (design,) = (note for note in findings.notes if note.startswith("Each remedy is compared with no remedy"))
    assert "p is corrected for all strengths, and so for this choice" in design


def test_members_with_a_remedy_are_repetitions(tmp_path):
    for overrides, modes in (("", [1, 3]), ("remedy=[n_critic]", [8, 10]), ("remedy=[ttur]", [4, 6])):
        members = [dict(samples=10_000, modes=number, modes_total=10) for number in modes]
        made_up(tmp_path / f"x{overrides}", overrides, modes=99, _replicas=2, _replica_metrics=members)
    findings = compare([tmp_path])
    modes = [effect for effect in findings.effects if effect.metric == "modes"]
    assert findings.design == "control"
    assert {effect.comparison.changes[0].after: effect.difference for effect in modes} == {"n_critic": 7, "ttur": 3}
    assert {effect.seeds for effect in modes} == {(2, 2)}


def notes_on_d(folder: Path, runs: dict[str, bool]) -> list[str]:
    """The notes on how D was updated, of two runs for each of these overrides; the values: whether in one update."""
    for number, (overrides, is_joint) in enumerate(runs.items()):
        repeated(folder, overrides, [3, 4], f"{number}", _joint_d_update=is_joint)
    return [note for note in compare([folder]).notes if "how D is updated" in note]


def test_another_update_of_d_is_named_as_a_confound(tmp_path):
    (note,) = notes_on_d(tmp_path, {"": False, "remedy=[r1]": True, "remedy=[ema]": False, "remedy=[lecam]": True})
    assert "in one update on real samples and fakes together (r1, lecam), or in two" in note
    assert "one after the other (remedy none, ema)" in note
    assert "can't be separated" in note
    assert "joint_d_update=true" in note


@pytest.mark.parametrize(
    "runs",
    [
        {"joint_d_update=true": True, "joint_d_update=true remedy=[r1]": True},  # held equal
        {"remedy=[r1]": True, "remedy=[lecam]": True},
        {"": False, "remedy=[ema]": False},
        {"": False, "joint_d_update=true": True},  # what is compared
    ],
)
def test_an_equal_update_of_d_is_no_confound(tmp_path, runs):
    assert notes_on_d(tmp_path, runs) == []


def notes_on_engines(folder: Path, engines: dict[str, str]) -> list[str]:
    """The notes on engines, of two runs for each of these overrides; the values: what trained them."""
    for number, (overrides, engine) in enumerate(engines.items()):
        repeated(folder, overrides, [3, 4], f"{number}", _environment={"device": "cpu", "engine": engine})
    return [note for note in compare([folder]).notes if "engine" in note]


def test_other_engines_are_named_where_variants_differ_in_them(tmp_path):
    about_rounding, about_seconds = notes_on_engines(tmp_path, {"": "compiled", "remedy=[gdpp]": "autograd"})
    assert "by different engines (autograd: gdpp; compiled: remedy none)" in about_rounding
    assert "seconds can't be compared" in about_seconds


def test_one_engine_is_no_matter(tmp_path):
    assert notes_on_engines(tmp_path, {"": "compiled", "remedy=[ema]": "compiled"}) == []


def test_remedies_that_all_runs_have_are_common_conditions(pair):
    for path in pair.rglob("config.yaml"):
        path.write_text(path.read_text().replace("remedy: {}\n", "remedy:\n  r1:\n    gamma: 3.0\n  ema: {}\n"))
    assert compare([pair]).common["remedy"] == "ema + r1 (gamma 3)"


def test_runs_of_another_version_are_left_out_with_a_note(tmp_path):
    for seed in range(4):
        made_up(tmp_path / f"plain{seed}", "", seed)
        made_up(tmp_path / f"joint{seed}", "joint_d_update=true", seed)
    for name, line in (("plain0", ""), ("joint0", "format: 4\n")):
        config = tmp_path / name / "config.yaml"
        config.write_text(config.read_text().replace("format: 3\n", line))
    findings = compare([tmp_path])
    assert findings.runs["variant"].value_counts().to_dict() == {"joint_d_update false": 3, "joint_d_update true": 3}
    for name, author in (("plain0", "gan_lab 0.1"), ("joint0", "format 4")):
        reason = reasons(findings)[name]
        assert author in reason
        assert f"this is gan_lab {__version__}, which reads format 3" in reason


# Designs.


def ladder(folder: Path, rungs: list[str], seeds: int = 2) -> None:
    for rung, overrides in enumerate(rungs):
        repeated(folder, overrides, [rung + 1] * seeds, f"rung-{rung + 1}_x")


def test_a_ladder_is_read_in_the_order_of_its_folders(tmp_path):
    ladder(tmp_path, RUNGS)
    made_up(tmp_path / "another", RUNGS[3], 7)  # although this one sorts first
    findings = compare([tmp_path])
    assert findings.design == "ladder"
    changes = [
        change for effect in findings.effects if effect.metric == "modes" for change in effect.comparison.changes
    ]
    assert [change.after for change in changes] == ["BCE", "LeakyReLU", "Adam", "LayerNorm"]
    assert [effect.comparison.kind for effect, _ in findings.answers] == ["rung"] * 4


def test_a_ladder_of_more_than_nine_rungs_is_read_in_the_order_of_their_numbers(tmp_path):
    sizes = ["latent_dim=1", *(f"latent_dim=2 batch_size={2**i}" for i in range(11))]
    ladder(tmp_path, ["batch_size=1 latent_dim=1", *sizes[1:]])
    findings = compare([tmp_path])
    assert [variant[0] for variant in findings.variants] == ["1", "1", *(str(2**i) for i in range(1, 11))]
    assert findings.design == "ladder"


def test_a_ladder_whose_rung_failed_compares_its_neighbours(tmp_path):
    ladder(tmp_path, RUNGS[:3])
    ladder(tmp_path / "z", RUNGS[4:])
    for seed in range(2):
        made_up(tmp_path / f"rung-4_seed-{seed}", RUNGS[3], seed, _status="failed", _error="NaN")
    findings = compare([tmp_path])
    assert findings.design == "ladder"
    assert len(findings.variants) == 4
    assert (
        "BCE, LeakyReLU, norm none, Adam: 2 of 2 runs are not compared (failed, interrupted or damaged)."
        in findings.notes
    )


def test_a_factorial_design_has_main_effects_worked_by_hand(tmp_path):
    cells = {("mse", "sgd"): [1, 3], ("mse", "adam"): [4, 6], ("bce", "sgd"): [2, 4], ("bce", "adam"): [9, 11]}
    for (loss, optim), modes in cells.items():
        repeated(tmp_path, f"loss={loss} optim={optim}", modes, f"{loss}_{optim}")
    findings = compare([tmp_path])
    assert findings.design == "factorial"
    assert findings.variants[0] == ("MSE", "SGD"), "before the remedies"
    effects = {
        tuple(c.after for c in effect.comparison.changes): effect.difference
        for effect in findings.effects
        if effect.metric == "modes"
    }
    # means 2, 5, 3, 10: BCE (1 + 5) / 2, Adam (3 + 7) / 2, both 7 − 3
    assert effects == {("BCE",): 3, ("Adam",): 5, ("BCE", "Adam"): 4}
    assert [effect.comparison.kind for effect, _ in findings.answers] == ["main", "main", "interaction"]


def test_an_interaction_worked_by_hand(tmp_path):
    for loss, optim, modes in (("mse", "sgd", 1), ("mse", "adam", 9), ("bce", "sgd", 9), ("bce", "adam", 2)):
        repeated(tmp_path, f"loss={loss} optim={optim}", [modes, modes, modes + 1], f"{loss}_{optim}")
    findings = compare([tmp_path])
    # means 1.33, 9.33, 9.33, 2.33
    (interaction,) = [effect for effect, _ in findings.answers if effect.simple_effects]
    assert interaction.simple_effects == pytest.approx((8, -7))
    assert (interaction.difference, interaction.significant) == (pytest.approx(-15), True)


def test_of_a_factorial_design_that_lost_a_variant_the_rest_is_compared(tmp_path):
    cells = list(itertools.product(("mse", "bce"), ("sgd", "adam"), ("none", "layer")))
    for number, (loss, optim, norm) in enumerate(cells):
        state = dict(_status="failed", _error="NaN") if number == 0 else {}
        repeated(tmp_path, f"loss={loss} optim={optim} norm={norm}", [1, 2], str(number), **state)
    findings = compare([tmp_path])
    assert findings.design == "factorial"
    assert [change.after for effect, _ in findings.answers[:3] for change in effect.comparison.changes] == [
        *("BCE", "LayerNorm", "Adam"),
    ], "against what remedies replace, although no run has all of that"
    first = findings.answers[0][0]
    assert (first.settings, len(first.comparison.strata)) == (3, 4)


def test_a_factorial_design_with_a_failed_corner_is_no_ladder(tmp_path):
    for order, (loss, optim) in enumerate([("mse", "sgd"), ("mse", "adam"), ("bce", "adam"), ("bce", "sgd")]):
        state = dict(_status="failed", _error="NaN") if order == 1 else {}
        repeated(tmp_path, f"loss={loss} optim={optim}", [1, 2], f"{loss}_{optim}", **state)
    findings = compare([tmp_path])
    assert findings.design == "pairs"
    assert len(findings.answers) == 3


def test_of_many_pairs_the_shown_ones_come_first(tmp_path):
    for number in range(1, 7):
        repeated(tmp_path, f"batch_size={number}", [1, 1, 1, 2, 2, 2, 2, 2] if number < 6 else [9] * 8, f"{number}")
    findings = compare([tmp_path])
    assert findings.design == "pairs"
    assert len(findings.answers) == 10
    assert [effect.significant for effect, _ in findings.answers] == [True] * 5 + [False] * 5
    assert len(findings.effects_in("modes")) == 15


def test_too_many_pairs_are_not_compared(tmp_path, monkeypatch):
    for number in range(1, 6):
        repeated(tmp_path, f"batch_size={number}", [1, 2], f"{number}")
    monkeypatch.setattr("gan_lab.comparison.comparison.MAX_EFFECTS", 39)  # 10 pairs in 4 metrics
    assert {effect.metric for effect in compare([tmp_path]).effects} == {"modes", "collapsed"}
    monkeypatch.setattr("gan_lab.comparison.comparison.MAX_PAIRS", 9)
    findings = compare([tmp_path])
    assert (findings.effects, findings.answers) == ([], [])
    assert len(pd.read_csv(write_tables(findings)[1])) == 0
    assert findings.notes[-1].startswith("5 variants make 10 pairs, too many")


# Numbers and words.


def test_sentences_and_numbers_worked_by_hand(pair):
    findings = compare([pair])
    effect, sentence = findings.answers[0]
    # All 5 of one side above the other 5: 2 of binom(10, 5) = 252 splits are as far apart.
    assert effect.p == pytest.approx(2 / 252)
    paths = write_tables(findings)
    assert [path.relative_to(pair) for path in paths] == [Path("comparison.csv"), Path("effects.csv")]
    rows, effects = (pd.read_csv(path) for path in paths)
    assert rows.groupby("variant")["modes"].mean().to_dict() == {"SGD": 2, "Adam": 8.4}
    columns = ["optim", "seed", "modes", "collapse", "collapsed", "seconds", "steps"]
    assert rows[columns].iloc[0].tolist() == ["SGD", 0, 1, "collapsed", True, 30, 15_000]
    assert rows[columns].iloc[9].tolist() == ["Adam", 4, 10, "covered", False, 50, 15_000]
    assert list(rows["run"]) == [f"{name}_seed-{seed}" for name in "ab" for seed in range(5)]
    modes = effects[effects["metric"] == "modes"].iloc[0]
    assert modes[["kind", "factor", "before", "after"]].tolist() == ["pair", "optim", "SGD", "Adam"]
    assert (modes["difference"], modes["n_before"], modes["n_after"]) == (pytest.approx(6.4), 5, 5)
    assert (modes["p_holm"], bool(modes["shown"]), modes["sentence"]) == (effect.p_holm, True, sentence)
    collapsed = effects[effects["metric"] == "collapsed"].iloc[0]
    assert collapsed["difference"] == -1
    share = next(s for s in findings.summaries if (s.variant, s.metric) == (("SGD",), "collapsed"))
    assert share.low == pytest.approx(0.025 ** (1 / 5)), "of 5 in 5, Clopper and Pearson"


def test_the_terminal_says_the_answer_first(pair):
    made_up(pair / ("long_" * 30), "", 0, _status="failed", _error="The loss is\x1b[31m NaN.\nIt was at step 5.")
    findings = compare([pair])
    text = describe(findings)
    lines = text.splitlines()
    assert all(len(line) <= 100 for line in lines)
    assert lines[0] == "optim on digits: 10 runs of 2 variants"
    assert lines[2] == "captured modes (primary metric)"
    assert lines[3].startswith("- Adam instead of SGD added 6.4 captured modes out of 10 on average")
    row = next(line for line in lines if line.startswith("SGD "))
    assert row.split()[:3] == ["SGD", "5", "2.00"]
    assert "5 of 5 [48%, 100%]" in row
    assert "Not compared, 1 of 11 runs:" in text
    assert "failed: The loss is" in text.replace("\n  ", " ")
    assert "\x1b" not in text
    for phrase in (
        "evaluated samples per run 10,000",
        "accuracy of the label classifier 0.98",
        "optim.lr 0.01",
        "Holm's correction",
    ):
        assert phrase in text.replace("\n  ", " ")


def test_one_metric_is_primary_whatever_the_results_are(tmp_path):
    """Coverage, which has no ceiling that good generators share, although only the modes differ here."""
    for overrides, modes in (("optim=sgd", SGD), ("optim=adam", ADAM)):
        repeated(tmp_path, overrides, modes, overrides, modes_valid=10, coverage=0.9)
    findings = compare([tmp_path])
    assert findings.metrics[:2] == findings.headline == ["coverage", "modes_valid"]
    assert [findings.role(metric) for metric in findings.metrics[:2]] == ["primary", "secondary"]
    text = describe(findings).replace("\n  ", " ")
    assert "coverage (primary metric)\n- Adam instead of SGD, coverage: every run has the same value, 0.900 (" in text
    assert (
        "modes made (secondary metric)\n- Adam instead of SGD, number of modes made: every run reached 10 of 10:"
        in text
    )
    assert (
        "note: SGD; Adam: every run reached 10 of 10. The number of modes made can't tell these variants apart" in text
    )


def test_runs_are_counted_alike_everywhere(tmp_path):
    """Two folders of three replicas are six runs in the terminal, the report and the results."""
    for overrides, modes in (("optim=sgd", [1, 1, 2]), ("optim=adam", [8, 9, 9])):
        members = [dict(samples=10_000, modes=number, modes_total=10) for number in modes]
        made_up(tmp_path / overrides, overrides, _replicas=3, _replica_metrics=members)
    # One that was killed has no summary to say how many it was.
    made_up(tmp_path / "killed", "optim=adam replicas=4", 9, _summary=None)
    findings = compare([tmp_path])
    assert "6 runs of 2 variants" in describe(findings)
    assert "Not compared, 4 of 10 runs:" in describe(findings)
    assert describe(findings).count("killed: unfinished") == 1
    page = write_report(findings).read_text()
    assert "6 runs of 2 variants" in page
    assert "4 not compared" in page
    assert any("Adam: 4 of 7 runs are not compared" in note for note in findings.notes)
    write_results([tmp_path], tmp_path / "results.md")
    assert "6 runs of 2 variants" in (tmp_path / "results.md").read_text()


def test_three_seeds_and_four_comparisons_are_too_few(tmp_path):
    """The p of 3 against 3 runs that are apart is 2 / 20, times 4: no report may say that there is no difference."""
    for number, overrides in enumerate(RUNGS):
        repeated(tmp_path, overrides, [10, 10, 10] if number == 4 else [2, 2, 3], f"rung-{number}")
    findings = compare([tmp_path])
    answer = "too few seeds to tell: +7.7; 5 seeds would do"
    assert answer in describe(findings).replace("\n  ", " ")
    assert answer in write_report(findings).read_text()
    write_results([tmp_path], tmp_path / "results.md")
    assert answer in (tmp_path / "results.md").read_text()
    lines = panels.forest_lines(findings, "modes")
    assert lines[3].low > 0
    assert [line.reason for line in lines[2:]] == [
        "too few seeds to tell; 22 seeds or more would do",
        "too few seeds to tell; 5 seeds would do",
    ]


def test_without_modes_coverage_answers(tmp_path):
    for overrides in ("optim=sgd", "optim=adam"):
        for seed in range(2):
            run = made_up(tmp_path / f"{overrides}{seed}", f"dataset=pattern1010 {overrides}", seed, _labels=[])
            summary = json.loads((run / "summary.json").read_text())
            for name in ("modes", "modes_total", "modes_robust", "kl_data"):
                del summary["metrics"][name]
            summary["metrics"]["coverage"] = 0.9 + seed / 100
            (run / "summary.json").write_text(json.dumps(summary))
    findings = compare([tmp_path])
    assert (findings.metrics, findings.answers[0][0].metric) == (["coverage", "collapsed"], "coverage")
    assert "coverage [95 %]" in describe(findings)


# What cannot be concluded.


def test_one_variant(tmp_path):
    repeated(tmp_path, "", [9, 10, 10])
    findings = compare([tmp_path])
    assert (findings.design, findings.effects) == ("one", [])
    assert findings.variants == [("BCE, LeakyReLU, LayerNorm, Adam",)]
    assert findings.summaries[0].n == 3
    assert "nothing to compare" in describe(findings)
    assert len(pd.read_csv(write_tables(findings)[0])) == 3


def test_a_single_run(tmp_path):
    findings = compare([made_up(tmp_path / "run")])
    assert len(findings.runs) == 1
    assert (findings.design, findings.summaries[0].n) == ("one", 1)


def test_one_seed(tmp_path):
    made_up(tmp_path / "a", "optim=sgd", modes=1)
    made_up(tmp_path / "b", "optim=adam", modes=10)
    findings = compare([tmp_path])
    answer = findings.answers[0][0]
    assert (answer.difference, answer.p, answer.p_holm, answer.significant) == (9, None, None, False)


# Not compared.


@pytest.mark.parametrize(
    ("overrides", "results", "difference"),
    [
        ("dataset=ring", {}, "dataset ring (modes 8, radius 1, std 0.01, samples 100000), not digits (heldout 0.2)"),
        ("dataset.heldout=0.3", {}, "dataset digits (heldout 0.3), not digits (heldout 0.2)"),
        ("", dict(_steps=20_000), "steps 20000, not 15000"),
        ("", dict(samples=1_000), "evaluated samples per run 1000, not 10000"),
        ("", dict(evaluator_accuracy=0.97), "accuracy of the label classifier 0.97, not 0.98"),
        ("", dict(modes_total=12), "modes 12, not 10"),
    ],
)
def test_incomparable_runs_are_excluded(pair, overrides, results, difference):
    for seed in range(3):
        made_up(pair / f"0_other{seed}", overrides, seed, modes=5, **results)
    findings = compare([pair])
    assert reasons(findings) == {f"0_other{seed}": f"not comparable: {difference}" for seed in range(3)}
    assert len(findings.runs) == 10
    assert findings.answers[0][0].difference == pytest.approx(6.4)
    assert "The largest group of comparable runs (10) is compared" in describe(findings)
    rows = pd.read_csv(write_tables(findings)[0])
    assert rows["compared"].tolist() == [True] * 10 + [False] * 3
    assert rows["modes"].tolist()[-3:] == [5, 5, 5], "their numbers are there all the same"


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (dict(_status="failed", _error="The loss is NaN.\nMore."), "failed: The loss is NaN."),
        (dict(_status="interrupted", _steps=70), "interrupted at step 70 of 15000"),
        (dict(_summary=None), "unfinished: it has no summary, so it was killed or is still training"),
        (dict(_status="odd"), "damaged: summary.json says status odd, steps 15000"),
        (dict(_steps="many"), "damaged: summary.json says status finished, steps many"),
        (dict(_metrics={}), "not evaluated: its summary has no metrics"),
        (dict(_metrics=None, _verdict=[], _labels=3, _environment="x"), "not evaluated: its summary has no metrics"),
    ],
)
def test_unfinished_runs_are_excluded(pair, state, reason):
    made_up(pair / "x", "loss=mse", 0, **state)
    findings = compare([pair])
    assert reasons(findings) == {"x": reason}
    assert findings.factors == ["optim"], "it makes no factor of what only differs there"


def test_odd_values_are_no_numbers(pair):
    made_up(pair / "x", "", 9, modes="ten", kl_data=None, coverage=float("inf"), modes_robust=True, _seconds=[])
    findings = compare([pair])
    row = findings.runs[findings.runs["run"] == "x"].iloc[0]
    assert row[["modes", "kl_data", "coverage", "seconds"]].isna().all()
    assert next(effect for effect in findings.effects if effect.metric == "modes").missing == 1
    assert findings.answers[0][0].missing == 1


def test_a_sweeps_failed_jobs_are_named(pair):
    for name, job in {
        "p": dict(status="failed", error="norm=batch can't work with batch_size=1.\nMore", overrides=["norm=batch"]),
        "q": dict(status="running", error=None),
    }.items():
        (pair / name).mkdir()
        (pair / name / "job.json").write_text(json.dumps(job))
    made_up(pair / "r", "", 8, _summary=None)
    (pair / "r" / "job.json").write_text(json.dumps(dict(status="failed", error="No space left on device.")))
    (pair / "a_seed-0" / "job.json").write_text('{"status": "fin')
    assert reasons(compare([pair])) == {
        "p": "failed before it began: norm=batch can't work with batch_size=1.",
        "q": "unfinished: it has no summary, so it was killed or is still training",
        "r": "failed: No space left on device.",
    }


def packed(folder: Path, path: str, seed: int, digest: str | None, overrides: str = "", **results: Any) -> Path:
    data = f"dataset=images data.path={hydra_text(path)}"
    return made_up(folder, f"{data} {overrides}", seed, _data_digest=digest, **results)


@pytest.mark.parametrize("other", ["/elsewhere/faces.h5", "faces.h5", "renamed.h5", "D:\\kim\\faces.h5"])
def test_equal_data_at_another_path_are_compared(tmp_path, other):
    """A path is a place and no factor, and no difference either."""
    for seed, modes in enumerate([2, 3]):
        packed(tmp_path / f"a{seed}", "/home/kim/faces.h5", seed, "5a" * 16, modes=modes)
        packed(tmp_path / f"b{seed}", other, seed, "5a" * 16, "loss=mse", modes=modes + 5)
    findings = compare([tmp_path])
    assert (findings.factors, len(findings.runs), reasons(findings)) == (["loss"], 4, {})
    packed(tmp_path / "copy", other, 0, "5a" * 16, modes=2)
    assert "no independent repetition" in reasons(compare([tmp_path]))["copy"]


def test_other_data_at_the_same_path_are_not_compared(tmp_path):
    for seed in range(2):
        packed(tmp_path / f"a{seed}", "faces.h5", seed, "5a" * 16)
    packed(tmp_path / "b", "faces.h5", 2, "7b" * 16)
    reason = "not comparable: data with digest 7b7b7b7b, not with digest 5a5a5a5a"
    assert reasons(compare([tmp_path])) == {"b": reason}


def test_data_without_a_digest_are_told_apart_by_their_paths(tmp_path):
    for seed in range(2):
        packed(tmp_path / f"a{seed}", "a.h5", seed, None)
    packed(tmp_path / "b", "b.h5", 2, None)
    assert reasons(compare([tmp_path])) == {"b": "not comparable: data b.h5, not a.h5"}


@pytest.mark.parametrize("name", ["\udcff", "caf\udce9", "sweep \udcb0\udca1/seed-0", "\udced\udca0\udc80"])
def test_a_folder_whose_name_is_not_utf8_is_told_and_the_rest_compared(pair, name):
    made_up(pair / name, "optim=adam", 9)
    findings = compare([pair])
    assert reasons(findings) == {printable(name): "not UTF-8: its folder's name; rename it"}
    assert len(findings.runs) == 10
    assert printable(name) in describe(findings)
    paths = [*write_tables(findings), write_report(findings)]
    assert pd.read_csv(paths[0])["run"].tolist()[-1] == printable(name)
    # Named itself, its own name is in no table.
    assert len(compare([pair / name]).runs) == 1


@pytest.mark.parametrize(
    "name", ["two\nlines", "-rf", "~", "~kim", "=1+1", "tab\t", "\x1b[31m", "e\u0301 é", "a,b;c", "x" * 250]
)
def test_odd_names_of_folders_are_names(pair, name):
    made_up(pair / name, "optim=adam", 9, modes=1)
    findings = compare([pair])
    assert len(findings.runs) == 11
    for path in [*write_tables(findings), write_report(findings)]:
        path.read_text(encoding="utf-8")


def test_the_same_run_twice_counts_once(pair):
    made_up(pair / "z", "optim=sgd threads=2 ~callbacks.pictures", 1, modes=9)
    findings = compare([pair])
    assert reasons(findings) == {"z": "no independent repetition: settings and seed are those of a_seed-1"}


def test_a_run_that_was_resumed_with_other_settings_is_excluded(pair):
    (pair / "a_seed-0" / "config_until_step_500.yaml").write_text(config("optim=sgd optim.lr=0.5"))
    (pair / "a_seed-1" / "config_until_step_500.yaml").write_text(config("optim=sgd steps=500"))
    assert reasons(compare([pair])) == {
        "a_seed-0": "trained with another optim.lr, optim_d.lr, optim_g.lr until step 500"
    }


def test_a_summary_cut_anywhere_is_excluded(pair):
    path = made_up(pair / "x", "", 9) / "summary.json"
    whole = path.read_bytes()
    for end in (*range(0, len(whole) - 2, 97), len(whole) - 2):
        path.write_bytes(whole[:end])
        record = read_record(find_runs(pair / "x")[0])
        assert record.status == "damaged", whole[:end]
        assert "summary.json is damaged" in record.reason
    findings = compare([pair])
    assert "x: damaged: " in describe(findings)
    assert len(findings.runs) == 10
    assert findings.excluded["variant"].tolist() == ["Adam"], "it was one of them"


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        (b"", "not the configuration"),
        (b"loss: [", "can't be read"),
        (b"\xff\xfe\x00", "can't be read"),
        (b"a: &a [x]\nloss: *a\noptim: 1\ndataset: 2", "refers to itself"),
        (b"[" * 60_000, "nested"),
        (b"loss: 1\noptim: 2", "not the configuration"),
    ],
)
def test_a_damaged_configuration_is_excluded(pair, content, phrase):
    (made_up(pair / "x", "", 9) / "config.yaml").write_bytes(content)
    reason = reasons(compare([pair]))["x"]
    assert reason.startswith("damaged: config.yaml")
    assert phrase in reason


def test_a_missing_configuration_is_excluded(pair):
    (made_up(pair / "x", "", 9) / "config.yaml").unlink()
    assert reasons(compare([pair])) == {"x": "damaged: config.yaml is missing"}


def test_references_are_not_looked_up(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "treasure")
    path = made_up(tmp_path / "run") / "config.yaml"
    path.write_text(path.read_text() + "extra: ${oc.env:SECRET}\na: ${b}\nb: ${a}\n")
    assert read_settings(path)["extra"] == "${oc.env:SECRET}"
    made_up(tmp_path / "other", "", 1)
    assert "treasure" not in repr(compare([tmp_path]))


# Where runs are looked for.


def test_links_and_overlapping_folders_find_each_run_once(pair):
    (pair / "loop").symlink_to(pair, target_is_directory=True)
    (pair / "again").symlink_to(pair / "a_seed-0", target_is_directory=True)
    (pair / ".hydra").mkdir()
    (pair / ".hydra" / "config.yaml").write_text("x: 1")
    findings = compare([pair, pair / "b_seed-1", pair / "loop"])
    assert len(findings.runs) == 10
    assert findings.excluded.empty
    assert findings.folder.resolve() == pair.resolve()


def test_foreign_folders_are_no_runs(pair):
    (pair / "website").mkdir()
    (pair / "website" / "config.yaml").write_text("title: A page")
    assert compare([pair]).excluded.empty


def test_several_folders_share_their_parent_unless_a_target_is_named(pair, tmp_path_factory):
    assert compare([pair / "a_seed-0", pair / "b_seed-0"]).folder == pair
    target = tmp_path_factory.mktemp("elsewhere")
    findings = compare([pair], target)
    assert [path.parent for path in write_tables(findings)] == [target, target]
    assert findings.runs["run"][0] == str(pair / "a_seed-0")


def test_folders_without_a_finished_run_are_refused(tmp_path):
    with refused("missing", "runs"):
        compare([tmp_path / "nowhere"])
    with refused("missing", "runs"):
        compare([tmp_path])
    with refused("missing", "runs"):
        compare([])
    (tmp_path / "config.yaml").write_text("title: A page")
    with refused("missing", "runs"):
        compare([tmp_path])
    made_up(tmp_path / "a", _status="failed", _error="NaN")
    made_up(tmp_path / "b", _status="interrupted", _steps=5)
    made_up(tmp_path / "c", _summary=None)
    with refused("missing", "runs") as error:
        compare([tmp_path])
    assert "1 failed, 1 interrupted, 1 unfinished" in str(error.value)
    assert "resume=" in str(error.value)


# The command.


def test_the_command(pair):
    made_up(pair / "c", "", 0, _status="failed", _error="NaN")
    done = command("scripts/compare.py", f"runs={pair}", cwd=pair.parent)
    assert done.returncode == 0, done.stderr
    beginning = "optim on digits: 10 runs of 2 variants\n\ncaptured modes (primary metric)\n- Adam instead of SGD added"
    assert done.stdout.startswith(beginning)
    written = {path.name for path in pair.iterdir() if path.is_file()}
    assert written == {"comparison.csv", "effects.csv", "report.html"}
    assert all(str(pair / name) in done.stdout for name in written)
    before = {path: path.read_bytes() for path in pair.glob("*.csv")}
    conclude([pair])
    assert all(path.read_bytes() == content for path, content in before.items()), "equal runs give equal numbers"


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        ([], "runs is missing"),
        (["runs=nowhere"], "There is no folder nowhere"),
        (["run=."], "Did you mean 'runs'?"),
    ],
)
def test_mistakes(tmp_path, arguments, phrase):
    done = command_here("scripts/compare.py", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert phrase in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_refused_and_written_later(pair):
    (pair / "report.html").mkdir()
    done = command_here("scripts/compare.py", f"runs={pair}", cwd=pair.parent)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{pair / 'report.html'}: Is a directory.\nOnce that is solved")
    assert "Traceback" not in done.stderr
    (pair / "report.html").rmdir()
    assert str(pair / "report.html") in conclude([pair])


def test_comparing_needs_neither_torch_nor_hydra():
    code = "import sys, gan_lab.comparison; sys.exit(bool({'torch', 'hydra', 'omegaconf'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("design", ["pairs", "factorial"])
def test_a_thousand_runs(tmp_path, design):
    """The whole command in less than a minute and a gigabyte."""
    sizes, parts = range(1, 63), [("bce",), ("relu",), ("none",)]
    if design == "factorial":
        sizes, parts = range(1, 5), [("mse", "bce"), ("sigmoid", "relu", "tanh", "gelu"), ("none", "layer")]
    extra = {f"m{i}": i / 7 for i in range(12)}
    for i, (loss, activation, norm, size) in enumerate(itertools.product(*parts, sizes)):
        overrides = f"loss={loss} activation={activation} norm={norm} latent_dim={size}"
        for seed in range(16):
            numbers = dict(modes=(i * seed) % 11, kl_data=(i + seed) / 9) | extra
            made_up(tmp_path / f"{i}_{seed}", overrides, seed, **numbers)
    start = time.perf_counter()
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        f"finally: {PEAK}"
    )
    script = str(ROOT / "scripts" / "compare.py")
    done = subprocess.run([sys.executable, "-c", code, script, f"runs={tmp_path}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - start < 60
    assert f"runs of {'62' if design == 'pairs' else '64'} variants" in done.stdout
    assert float(done.stdout.split()[-1]) < 1024
