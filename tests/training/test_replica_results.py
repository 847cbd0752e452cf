"""What a run of several GANs leaves, and what the commands make of it: each member counts as a run of its seed."""

import json
import statistics

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import classifier_cache, compose, refused, training
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan_lab.assembly.build import load
from gan_lab.assembly.instantiate import build_module
from gan_lab.commands.evaluate import describe, evaluate
from gan_lab.commands.train import fit
from gan_lab.comparison import panels, snapshots
from gan_lab.comparison.comparison import compare
from gan_lab.core.rng import make_generator
from gan_lab.core.run_folder import Run
from gan_lab.data.dataset import Dataset, Part
from gan_lab.explore import Request, explore
from gan_lab.gan.losses import BCE
from gan_lab.plotting.curves import loss_curves
from gan_lab.plotting.samples import compare_members
from gan_lab.training.callbacks import sample_grids
from gan_lab.training.sampling import fresh_samples

SEED = 5
MLP = ("dataset=ring", "dataset.samples=50", "model.generator.hidden=[16]", "model.discriminator.hidden=[16,8]")
# Its run is trained once.
pytestmark = pytest.mark.xdist_group("replica_results")

SETTINGS = (
    *("dataset=ring", *MLP[2:], "steps=40", "log_every=10", "replicas=3", f"seed={SEED}", "latent_dim=3"),
    *("callbacks.verdict.every=20", "callbacks.verdict.samples=300", "callbacks.pictures.every=40"),
)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> Run:
    job, run = training(tmp_path_factory.mktemp("judged") / "run", *SETTINGS)
    fit(job, run)
    return run


def test_the_summary_has_each_members_metrics_their_mean_and_spread(evaluated):
    summary = evaluated.read_summary()
    assert (summary["replicas"], summary["seed"]) == (3, SEED)
    members = summary["replica_metrics"]
    assert [member["seed"] for member in members] == [5, 6, 7]
    for name in ("coverage", "frechet_distance", "d_answer_real"):
        values = [member[name] for member in members]
        assert summary["metrics"][name] == pytest.approx(statistics.fmean(values))
        assert summary["replica_spread"][name] == pytest.approx(statistics.stdev(values))
    assert summary["metrics"]["samples"] == 300
    for words in summary["replica_verdicts"]:
        assert words["sentence"].lower().startswith((words["collapse"], "junk")), words
    row = pd.read_csv(evaluated.metrics).set_index("step").loc[40]
    assert [row[f"metric/coverage/{i}"] for i in range(3)] == pytest.approx([m["coverage"] for m in members], rel=1e-6)
    assert row["metric/coverage"] == pytest.approx(summary["metrics"]["coverage"], rel=1e-6)


def test_a_member_is_evaluated_like_the_single_gan_of_its_seed(evaluated, tmp_path):
    """On the same samples, up to round-off in 40 steps of float32; the other way of judging gives other samples."""
    job, run = training(tmp_path / "run", *SETTINGS, "replicas=1", f"seed={SEED + 1}", "~callbacks.pictures")
    single_summary, _ = fit(job, run)
    module, _ = load(evaluated)
    samples, single_samples = (fresh_samples(gan, 300, "verdict/end") for gan in (module.member(1), job.module))
    torch.testing.assert_close(samples, single_samples, rtol=0, atol=1e-3)
    assert not torch.allclose(samples, fresh_samples(module.member(0), 300, "verdict/end"), atol=0.1)
    member = evaluated.read_summary()["replica_metrics"][1]
    assert member["frechet_distance"] == pytest.approx(single_summary["metrics"]["frechet_distance"], abs=0.01)


def test_tensorboard_shows_only_the_mean(evaluated):
    board = EventAccumulator(str(evaluated.folder)).Reload()
    assert "loss/g" in board.Tags()["scalars"]
    assert not [tag for tag in board.Tags()["scalars"] if tag.rpartition("/")[2].isdecimal()]
    row = pd.read_csv(evaluated.metrics).set_index("step").loc[20]
    (value,) = (event.value for event in board.Scalars("loss/g") if event.step == 20)
    assert value == pytest.approx(row[["loss/g/0", "loss/g/1", "loss/g/2"]].mean(), rel=1e-5)


def test_curves_have_a_band_from_the_lowest_to_the_highest_member():
    table = pd.DataFrame({"step": [1, 2], "loss/d_real": [1.0, 2], "loss/d_fake": [1.0, 2], "loss/g": [2.0, 3]})
    assert not loss_curves(table, BCE()).axes[0].collections
    for i, values in enumerate(([0.5, 2.5], [1.5, np.nan], [1.0, 1.5])):
        for name in ("loss/d_real", "loss/d_fake", "loss/g"):
            table[f"{name}/{i}"] = values
    band = loss_curves(table, BCE()).axes[1].collections[0]
    ends = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
    assert ends == {(1, 0.5), (1, 1.5), (2, 1.5), (2, 2.5)}
    assert band.get_label() == "lowest to highest of 3 members"


@pytest.mark.parametrize(("shape", "panels"), [((1, 8, 8), 3), ((2,), 3), ((4,), 3)])
def test_a_picture_has_a_place_for_each_member_and_for_real_samples(shape, panels):
    part = Part(torch.rand(9, *shape))
    figure = compare_members(
        [torch.rand(6, *shape)] * 2, ["member 0", "member 1"], part.values, Dataset(part, part), "t"
    )
    assert len(figure.axes) == panels
    names = [axes.get_ylabel() if len(shape) == 3 else axes.get_title() for axes in figure.axes]
    assert names == ["member 0", "member 1", "real"]


def test_pictures_show_each_member_with_the_latent_vectors_of_its_seed(tmp_path, monkeypatch):
    drawn = []

    def keep(fakes, *arguments):
        drawn.append(fakes)
        return compare_members(fakes, *arguments)

    monkeypatch.setattr(sample_grids, "compare_members", keep)
    settings = (
        "dataset=pattern1010",
        *MLP[2:],
        "latent_dim=3",
        "batch_size=4",
        "steps=2",
        "callbacks.pictures.images=6",
    )
    job, run = training(tmp_path / "run", *settings, "replicas=2", "~callbacks.verdict", f"seed={SEED}")
    fit(job, run)
    alone = build_module(compose(*settings, f"seed={SEED + 1}"), job.datamodule.dataset)
    z = alone.latent((6, 3), make_generator(SEED + 1, "pictures/latent"))
    torch.testing.assert_close(drawn[0][1], alone.sample(z))
    assert sorted(path.name for path in run.images.glob("*map*")) == ["heatmap_0.png", "heatmap_1.png"]


def test_a_report_shows_members_as_runs(evaluated):
    tables = panels.read_curves(evaluated.metrics)
    assert len(tables) == 3
    row = pd.read_csv(evaluated.metrics).set_index("step").loc[20]
    assert tables[2].loc[20, "loss/g"] == row["loss/g/2"]
    picture = snapshots.last_picture(evaluated)
    assert picture.real is None
    assert picture.generated.width > 1.5 * picture.generated.height, "a wide one, not cut into halves"


# Commands over a run.


@pytest.mark.slow
def test_evaluate_takes_all_members_or_one(evaluated):
    all_members = evaluate(evaluated, 200, 2, 1, None, classifier_cache())
    single_members = [evaluate(evaluated, 200, 2, 1, None, classifier_cache(), member=i) for i in range(3)]
    assert (all_members["members"], single_members[2]["members"]) == ([0, 1, 2], [2])
    values = [result["mean"]["coverage"] for result in single_members]
    assert all_members["mean"]["coverage"] == pytest.approx(statistics.fmean(values))
    assert all_members["spread"]["coverage"] == pytest.approx(statistics.stdev(values))
    assert len(all_members["verdicts"]) == 6
    assert "member 2: " in describe(all_members)
    with refused("unknown", "member"):
        evaluate(evaluated, 200, 1, 1, None, classifier_cache(), member=3)


def test_explore_takes_the_member_that_is_named(evaluated):
    request = {"op": "grid", "a": "1", "b": "2", "by": "seed", "n": 4, "mode": "linear", "normalize": "false"}
    request |= {"pairs": 1, "confidence": 0.9, "seed": 0, "tries": 10}
    first, third = (explore(evaluated, Request(**request, member=m), 1, None, classifier_cache()) for m in (None, 2))
    assert "member 0" in first
    assert "member 2" in third
    tables = [pd.read_csv(path) for path in sorted(evaluated.explore.glob("*.csv"))]
    assert len(tables) == 2, "neither overwrites the other"
    with refused("unknown", "member"):
        explore(evaluated, Request(**request, member=3), 1, None, classifier_cache())


def test_a_comparison_counts_members_as_runs_of_their_seeds(evaluated, tmp_path):
    folder = tmp_path / "runs"
    for name, seed in (("a", 5), ("b", 7), ("c", 8)):
        (folder / name).mkdir(parents=True)
        config = evaluated.config.read_text().replace(f"seed: {SEED}", f"seed: {seed}")
        summary = evaluated.read_summary() | {"seed": seed}
        if name == "c":
            summary["replica_metrics"][1] = {"seed": 9, "error": "NaN or infinity at step 3: loss/g is nan."}
        (folder / name / "config.yaml").write_text(config)
        (folder / name / "summary.json").write_text(json.dumps(summary))
    findings = compare([folder])
    rows = findings.runs[["run", "seed", "member"]].to_numpy().tolist()
    assert rows == [["a", "5", 0], ["a", "6", 1], ["a", "7", 2], ["c", "8", 0], ["c", "10", 2]]
    reasons = dict(findings.excluded[["seed", "reason"]].to_numpy().tolist())
    assert "no independent repetition: settings and some seed are those of a" in reasons["7"]
    assert reasons["9"] == "failed: member 1: NaN or infinity at step 3: loss/g is nan."
    assert findings.runs["coverage"][0] == evaluated.read_summary()["replica_metrics"][0]["coverage"]
