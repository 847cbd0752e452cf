"""What a run keeps and shows: pictures, curves, tables, TensorBoard; and that a resumed run is the same run."""

import base64
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import refused, training
from matplotlib.image import imread
from PIL import Image
from pytorch_lightning import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from gan_lab.commands.train import fit
from gan_lab.core.run_folder import Run
from gan_lab.data import images, synthetic
from gan_lab.gan.losses import BCE, MSE, Saturating
from gan_lab.plotting.curves import loss_curves, mode_curves
from gan_lab.plotting.samples import compare_samples, image_grid, output_history
from gan_lab.training.callbacks.base import early_steps
from gan_lab.training.callbacks.evaluation import Evaluation
from gan_lab.training.callbacks.loggers import MetricsTable, read_table, tag_of
from gan_lab.training.callbacks.sample_grids import SampleGrids

TINY = (
    "model.generator.hidden=[16]",
    "model.discriminator.hidden=[16]",
    "batch_size=4",
    "latent_dim=3",
    "log_every=2",
    "callbacks.pictures.points=50",
    "callbacks.verdict.every=3",
    "callbacks.verdict.samples=300",
)


def _contents(folder: Path, *patterns: str) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for pattern in patterns for p in sorted(folder.glob(pattern))}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on digits."""
    job, run = training(tmp_path_factory.mktemp("run") / "run", *TINY, "steps=8", "callbacks.pictures.every=4")
    summary, code = fit(job, run)
    assert (summary["status"], code) == ("finished", 0)
    return run


def test_pictures_at_the_start_every_so_many_steps_and_the_end(run):
    assert sorted(p.name for p in run.images.iterdir()) == [f"samples_{step:07d}.png" for step in (0, 4, 8)]
    first, last = (imread(run.images / f"samples_{step:07d}.png") for step in (0, 8))
    assert first.shape == last.shape
    half = first.shape[1] // 2
    assert not np.array_equal(first[:, :half], last[:, :half]), "the generated side changes"
    assert np.array_equal(first[:, half + 20 :], last[:, half + 20 :]), "the real side stays"


def test_a_film_of_all_pictures_is_left_in_the_run_folder(run):
    with Image.open(run.film) as film:
        assert film.n_frames == 3
        assert film.width == Image.open(run.images / "samples_0000008.png").width
    assert not list(run.folder.glob(".half.*"))


def test_the_first_period_has_early_pictures_and_counts():
    assert early_steps(1000) == [50, 200, 500]
    assert early_steps(499) == []
    callbacks = (SampleGrids(Run("run"), 1000, 64, 2500), Evaluation(Run("run"), 1000, None, ".cache"))
    assert all(callback.early_steps == [50, 200, 500] for callback in callbacks)


def test_d_answers_stand_under_samples(run):
    assert imread(run.plots / "answers.png").std() > 0.01
    assert [event.step for event in EventAccumulator(str(run.folder)).Reload().Images("answers")] == [8]


def test_curves_are_drawn(run):
    for name in ("losses.png", "scores.png", "modes.png"):
        assert imread(run.plots / name).std() > 0.01


def test_a_finished_run_has_a_page_with_its_pictures(run):
    page = run.page.read_text(encoding="utf-8")
    assert "Finished: 8 steps" in page
    for picture in (run.plots / "losses.png", run.plots / "neighbours.png", run.film):
        assert base64.b64encode(picture.read_bytes()).decode() in page


def test_tensorboard_holds_scalars_ideals_images_and_charts(run):
    events = EventAccumulator(str(run.folder)).Reload()
    tags = events.Tags()
    assert {"loss/d_real", "loss/d_fake", "loss/g", "score/real", "score/fake", "score/ideal"} <= set(tags["scalars"])
    for ideal in ("loss/ideal", "loss/ideal_g"):
        assert [e.value for e in events.Scalars(ideal)] == pytest.approx([np.log(2)] * 4)
    table = pd.read_csv(run.metrics)
    table = table.dropna(subset="loss/g")  # looks at the modes have rows of their own
    assert [e.step for e in events.Scalars("loss/g")] == table["step"].tolist() == [2, 4, 6, 8]
    assert [e.value for e in events.Scalars("loss/g")] == pytest.approx(table["loss/g"].tolist(), rel=1e-5)
    assert [e.step for e in events.Images("samples")] == [0, 4, 8]
    assert [e.step for e in events.Images("samples/real")] == [0]
    assert "custom_scalars__config__" in tags["tensors"]
    (text,) = events.Tensors("config/text_summary")
    assert b"_target_: gan_lab.gan.losses.BCE" in text.tensor_proto.string_val[0]
    start = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    settings = set(HParamsPluginData.FromString(start).session_start_info.hparams)
    named = {argument.partition("=")[0] for argument in run.overrides()}
    assert {"loss", "optim", "seed", "remedy"} <= settings
    assert len(settings - named) <= 7, "no column for what can't differ"


def test_tensorboards_groups_come_in_the_order_in_which_one_looks():
    columns = ("loss/g", "metric/modes_valid", "metric/of_the_user", "metric/modes_total", "score/real")
    tags = [tag_of(column) for column in columns]
    assert tags == ["loss/g", "metric/modes_valid", "metric/of_the_user", "verdict/modes_total", "score/real"]
    assert sorted({*tags, "samples"}) == [*tags[:3], "samples", "score/real", "verdict/modes_total"]


def test_a_resumed_table_forgets_what_came_after_its_checkpoint(tmp_path, monkeypatch):
    """A killed run may have written rows past its last checkpoint; they are trained, and written, again."""
    run = Run.new(tmp_path / "run", "")
    table = MetricsTable(run)
    for step in (10, 20, 30):
        table.log_metrics({"loss/g": step / 3}, step)
    table.log_metrics({"modes": 7}, 20)
    table.save()
    before = run.metrics.read_text()
    assert before == "step,loss/g,modes\n10,3.333333,\n20,6.666667,7\n30,10,\n"
    run.checkpoint.parent.mkdir()
    torch.save({"gan_lab": {"step": 20}, "state_dict": {}, "optimizer_states": [], "callbacks": {}}, run.checkpoint)
    resumed = MetricsTable(run)
    resumed.save()
    assert run.metrics.read_text() == before.removesuffix("30,10,\n")
    resumed.log_metrics({"loss/g": 30 / 3}, 30)
    resumed.save()
    assert run.metrics.read_text() == before


@pytest.mark.parametrize("damaged", ["", "step,loss/g\n1,2,3,4", "loss/g\n1", "step\nx", "step\n2\n1", "step\n1.5"])
def test_a_damaged_table_is_refused(tmp_path, damaged):
    (tmp_path / "metrics.csv").write_text(damaged)
    with refused("damaged", "metrics.csv"):
        read_table(tmp_path / "metrics.csv")


def test_the_verdict_is_logged_and_drawn(run):
    table = pd.read_csv(run.metrics).set_index("step")
    looks = table["metric/modes"].dropna()
    assert list(looks.index) == [3, 6, 8]
    assert table["metric/samples"].dropna().tolist() == [1000, 1000, 300]
    assert table["loss/g"].dropna().index.tolist() == [2, 4, 6, 8]
    assert (run.plots / "labels.png").is_file()
    assert (run.plots / "neighbours.png").is_file()
    tags = EventAccumulator(str(run.folder)).Reload().Tags()
    assert {"samples/labels", "samples/neighbours"} <= set(tags["images"])
    assert {"metric/modes_valid", "verdict/modes"} <= set(tags["scalars"])


def test_evaluations_during_training_take_as_many_samples_as_asked_for(tmp_path):
    chosen = ("steps=4", "callbacks.verdict.quick_samples=123", "~callbacks.pictures", "~callbacks.curves")
    job, run = training(tmp_path / "run", *TINY, *chosen)
    fit(job, run)
    assert pd.read_csv(run.metrics)["metric/samples"].dropna().tolist() == [123, 300]


def test_a_summary_says_what_as_many_real_samples_score(run):
    summary = run.read_summary()
    real = summary["real_data"]
    assert (real["modes"], real["modes_robust"]) == (10, pytest.approx(10, abs=0.1))
    assert real["kl_data"] == pytest.approx(9 / 600, rel=0.2), "(M − 1) / 2N; the mean of 100 draws"
    assert real["kl_uniform"] == pytest.approx(real["kl_data"], rel=0.1), "the digits are nearly equally frequent"
    assert summary["processor_seconds"] > 0


def test_the_summary_holds_the_contract(run):
    summary = run.read_summary()
    assert summary["verdict"]["collapse"] in {"covered", "partial", "collapsed", "unknown"}
    assert summary["verdict"]["within_modes"] in {"varied", "narrow", "collapsed", "unknown"}
    assert "next_step" in summary["verdict"]
    assert isinstance(summary["verdict"]["copies"], bool)
    assert summary["verdict"]["balance"] in {"balanced", "D is winning", "G is winning"}
    assert summary["verdict"]["sentence"]
    names = "modes modes_total modes_robust kl_uniform kl_data precision recall density coverage frechet_distance "
    names += "junk agreement modes_valid variety_within coverage_within two_sample_auc copy_share d_auc "
    names += "pairwise_ratio ct authenticity evaluator_accuracy samples d_accuracy_real d_accuracy_fake"
    assert set(names.split()) <= summary["metrics"].keys()
    assert summary["metrics"]["samples"] == sum(summary["labels"]) == 300
    assert {name for name, value in summary["metrics"].items() if value is None} == summary["undefined"].keys()
    assert "high_quality" not in summary["metrics"], "no centres here"


@pytest.mark.slow
def test_a_constant_latent_vector_explains_a_collapse(tmp_path):
    small = ("steps=2", "dataset=pattern1010", "dataset.samples=500")
    for latent, explained in (("constant", True), ("normal", False)):
        job, run = training(tmp_path / latent, *TINY, *small, f"latent={latent}")
        fit(job, run)
        assert ("so it can make only one sample" in run.read_summary()["verdict"]["sentence"]) == explained


@pytest.mark.slow
def test_the_balance_of_batch_norm_is_that_of_training(tmp_path):
    """What D answers at the end is what the last row says; running statistics would give 0.36 on real data for 0.54."""
    small = ("steps=300", "log_every=5", "callbacks.verdict.samples=300")
    job, run = training(tmp_path / "run", "norm=batch", "optim_g.lr=0", *small)
    before = {}
    evaluator = next(callback for callback in job.callbacks if isinstance(callback, Evaluation))
    measure = evaluator.measure_balance

    def watched(module, *arguments):
        before.update({name: tensor.clone() for name, tensor in module.state_dict().items()})
        balance = measure(module, *arguments)
        assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
        return balance

    evaluator.measure_balance = watched
    summary, _ = fit(job, run)
    assert before
    for kind in ("real", "fake"):
        assert summary["metrics"][f"d_answer_{kind}"] == pytest.approx(summary["scores"][kind], abs=0.05)


def test_a_collapse_during_training_is_dated(tmp_path):
    """A generator that loses its modes at step 5 of 8: its looks at steps 3 and 6 tell."""

    class Collapse(Callback):
        def on_train_batch_start(self, trainer, module, *_):
            real = trainer.datamodule.dataset.train.values
            one = real[trainer.datamodule.dataset.train.labels == 4]
            module.sample = lambda z: (one if module.step >= 5 else real)[torch.arange(len(z)) % 145]

    job, run = training(tmp_path / "run", *TINY, "steps=8")
    job.datamodule.boundaries = [*job.datamodule.boundaries, 1]
    job.trainer.callbacks.insert(0, Collapse())
    summary, _ = fit(job, run)
    assert summary["verdict"]["collapse"] == "collapsed"
    assert "At step 3 it made 10 modes, and lost some later." in summary["verdict"]["sentence"]


def _lines(axes) -> dict[str, list[float]]:
    return {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()}


@pytest.mark.parametrize(("loss", "ideal", "top"), [(MSE(), 0.25, 1.0), (BCE(), np.log(2), 2.0)])
def test_the_loss_chart_is_the_books_with_its_ideal(loss, ideal, top):
    """S10: a panel each, y from 0, ticks at 0 / 0.25 / 0.5, dots, grid, and the ideal value as a line."""
    columns = {"loss/d_real": [0.1, 0.2], "loss/d_fake": [0.3, 0.4], "loss/g": [2.0, 2.0]}
    d, g = loss_curves(pd.DataFrame({"step": [5, 10], **columns}), loss).axes
    assert _lines(d)["D on real"] == [0.1, 0.2]
    assert _lines(d)["D on fakes"] == [0.3, 0.4]
    assert _lines(g)["G"] == [2.0, 2.0]
    for axes in (d, g):
        assert _lines(axes)[f"ideal {ideal:.4g}"] == pytest.approx([ideal, ideal])
        assert {0, 0.25, 0.5} <= set(axes.get_yticks())
        assert axes.get_ylim()[0] == 0
        assert axes.get_lines()[0].get_marker() == "."
        assert axes.get_lines()[0].get_xdata().tolist() == [5, 10]
        assert axes.get_yticks()[-1] == axes.get_ylim()[1], "the ceiling has a label"
    assert d.get_yticks().tolist() == [0, 0.25, 0.5, 1]
    assert g.get_ylim()[1] == pytest.approx(top)


def test_the_ticks_of_a_loss_chart_go_on_above_the_books():
    """A loss of 1.85 lies below a tick; from 2.5 on the ticks are as they come, and the band of members counts."""
    columns = {"loss/d_real": [0.1, 0.2], "loss/d_fake": [0.3, 0.4], "loss/g": [1.5, 1.85]}
    _, g = loss_curves(pd.DataFrame({"step": [5, 10], **columns}), BCE()).axes
    assert g.get_yticks().tolist() == [0, 0.25, 0.5, 1, 1.5, 2]
    columns |= {f"{name}/{i}": [20.0, 38 + i] for name in columns for i in (0, 1)}
    _, g = loss_curves(pd.DataFrame({"step": [5, 10], **columns}), BCE()).axes
    assert g.get_yticks().tolist() == [0, 10, 20, 30, 40]


def test_the_modes_chart_shows_their_total_and_each_member():
    table = pd.DataFrame({"step": [2, 4, 6], "loss/g": 0.5, "metric/samples": [np.nan, 100, 500]})
    assert mode_curves(table) is None, "nothing was evaluated"
    table = table.assign(**{"metric/modes_total": 10.0, "metric/modes_valid": [np.nan, 3, 4]})
    table = table.assign(**{"metric/junk": [np.nan, 0.25, 0.5], "metric/coverage": [np.nan, np.nan, 0.7]})
    for i in (0, 1):
        table[f"metric/modes_valid/{i}"] = [np.nan, 2 + 2 * i, 4]
    columns = {name: table[name].to_numpy() for name in table}
    modes, shares = mode_curves(columns).axes
    lines = _lines(modes)
    assert lines["modes made (mean of 2)"] == [3, 4]
    assert lines["10 in the data"] == [10, 10]
    assert [list(line.get_ydata()) for line in modes.get_lines()[:2]] == [[2, 4], [4, 4]]
    assert _lines(shares) == {"share among the real samples": [0.75, 0.5], "coverage, at the end": [0.7]}
    assert shares.get_xlabel() == "step (a value is of 100 samples, the last of 500)"
    assert not any(line.get_clip_on() for line in shares.get_lines()), "dots on an edge are whole"
    assert not modes.patches, "nothing is shaded"
    for axes in mode_curves(columns, failing_since=4).axes:
        (shade,) = axes.patches
        assert [shade.get_x(), shade.get_x() + shade.get_width()] == [4, 6]


def test_the_loss_chart_shows_gs_own_ideal_and_what_lies_below_0():
    columns = {"loss/d_real": [0.1, 0.2], "loss/d_fake": [0.3, 0.4], "loss/g": [-1.5, -1.5]}
    d, g = loss_curves(pd.DataFrame({"step": [5, 10], **columns}), Saturating()).axes
    assert "ideal 0.6931" in _lines(d)
    assert "ideal -0.6931" in _lines(g)
    assert d.get_ylim()[0] == 0
    assert g.get_ylim()[0] <= -1.5
    assert g.get_ylim()[0] == g.get_yticks()[0]


def test_the_loss_chart_gets_as_faint_as_the_books_for_many_dots():
    table = pd.DataFrame(0.5, index=range(10_000), columns=["loss/d_real", "loss/d_fake", "loss/g"])
    lines = loss_curves(table.assign(step=table.index), MSE()).axes[0].get_lines()
    assert lines[0].get_alpha() == 0.1


def test_scatter_shows_true_centres_and_counts_what_lies_outside():
    dataset = synthetic.ring(samples=100)
    fake = torch.cat([dataset.centres, torch.tensor([[50.0, 0], [0, float("inf")]])])
    axes = compare_samples(fake, dataset.train.values, dataset, "generated").axes[0]
    centres = next(c for c in axes.collections if c.get_label() == "true centres")
    np.testing.assert_allclose(centres.get_offsets(), dataset.centres, atol=1e-6)
    assert any("2 of 10 samples lie outside" in text.get_text() for text in axes.texts)


def test_grids_draw_broken_images_instead_of_failing():
    fake = torch.full((3, 1, 8, 8), float("nan"))
    fake[1] = 7
    grid = image_grid(fake)
    assert torch.isfinite(grid).all()
    assert grid.min() >= 0
    assert grid.max() <= 1
    compare_samples(fake, torch.rand(3, 1, 8, 8), images.digits(), "generated")


def test_titles_above_grids_of_images_are_within_the_picture():
    figure = compare_samples(torch.rand(64, 1, 28, 28), torch.rand(64, 1, 28, 28), images.digits(), "generated")
    figure.savefig(io.BytesIO())
    assert all(axes.title.get_window_extent().y1 <= figure.bbox.y1 for axes in figure.axes)


def test_the_heat_map_has_steps_along_x():
    """S9."""
    outputs = torch.tensor([[0.1, 0.2, 0.3, 0.4], [1, 0, 1, 0], [0.9, 0.1, 0.8, 0.0]])
    axes = output_history([0, 1000, 2000], outputs).axes[0]
    image = axes.get_images()[0]
    np.testing.assert_allclose(image.get_array(), outputs.T)
    assert image.get_cmap().name == "Blues"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1,000", "2,000"]


def test_a_run_that_fails_says_so_and_keeps_its_checkpoint(tmp_path):
    class Explode(Callback):
        def on_train_batch_end(self, trainer, module, *_):
            if module.step == 6:
                raise RuntimeError("a bolt from the blue")

    job, run = training(tmp_path / "run", *TINY, "steps=9", "callbacks.checkpoint.every=2")
    job.trainer.callbacks.append(Explode())
    with pytest.raises(RuntimeError, match="a bolt"):
        fit(job, run)
    summary = run.read_summary()
    assert (summary["status"], summary["steps"]) == ("failed", 6)
    assert "a bolt from the blue" in summary["error"]
    assert run.load_checkpoint()["gan_lab"]["step"] == 6
