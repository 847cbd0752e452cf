"""A GAN that is told the class (the book's notebook 16): both networks, everywhere, and what is shown and said."""

import dataclasses
import json
import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import classifier_cache, compose, refused, training
from matplotlib.figure import Figure

from gan_lab.assembly.build import DryRun, load
from gan_lab.assembly.instantiate import build_module
from gan_lab.commands.evaluate import describe, evaluate
from gan_lab.commands.train import fit
from gan_lab.core.errors import LabError, RunError
from gan_lab.core.rng import make_generator
from gan_lab.core.run_folder import Run
from gan_lab.data import images, synthetic
from gan_lab.data.datamodule import BatchStream
from gan_lab.data.dataset import Dataset, Part
from gan_lab.evaluation import aggregate
from gan_lab.evaluation.classifier import label_classifier
from gan_lab.evaluation.metrics.modes import class_accuracy
from gan_lab.evaluation.verdict import EvaluationResult, evaluator_for
from gan_lab.explore import Request, explore
from gan_lab.gan.latent import Constant, LabelledLatent, Normal, Uniform, linear, set_labels, slerp, with_linear_labels
from gan_lab.gan.networks.conditional import ConditionalDiscriminator, join_labels, shape_with_labels
from gan_lab.plotting.samples import image_grid
from gan_lab.preflight import run_checks, separation
from gan_lab.training import sampling
from gan_lab.training.callbacks import evaluation, sample_grids
from gan_lab.training.callbacks.sample_grids import SampleGrids, samples_of_classes

pytestmark = pytest.mark.usefixtures("undrawn")

TINY = (
    *("conditional=true", "batch_size=6", "latent_dim=3", "log_every=2", "logger=table", "~callbacks.curves"),
    *("model.generator.hidden=[8]", "model.discriminator.hidden=[8]"),
)
QUIET = ("~callbacks.verdict", "~callbacks.pictures")
CONV = ("dataset=mnist", "model=conv", "model.channels=4", *TINY[:-2])


# The parts


def test_samples_and_classes_joined_by_hand():
    samples, classes = torch.tensor([[[[1.0, 2], [3, 4]]], [[[5, 6], [7, 8]]]]), torch.tensor([[0.0, 1, 0], [1, 0, 0]])
    assert join_labels(samples, classes, flat=True).tolist() == [[1, 2, 3, 4, 0, 1, 0], [5, 6, 7, 8, 1, 0, 0]]
    zeros, ones = [[0, 0], [0, 0]], [[1, 1], [1, 1]]
    assert join_labels(samples, classes, flat=False).tolist() == [
        [[[1, 2], [3, 4]], zeros, ones, zeros],
        [[[5, 6], [7, 8]], ones, zeros, zeros],
    ]
    for flat, shape in ((True, (7,)), (False, (4, 2, 2))):
        assert shape_with_labels((1, 2, 2), 3, flat) == shape
        both = join_labels(torch.stack([samples, samples + 9]), torch.stack([classes, classes.flip(0)]), flat)
        assert torch.equal(both[1], join_labels(samples + 9, classes.flip(0), flat)), "replicas, each by itself"
        assert both.shape == (2, 2, *shape)


def test_d_scores_samples_joined_with_their_classes():
    class Sums(torch.nn.Module):
        def forward(self, x):
            return x @ torch.tensor([1.0, 1, 10, 100])

        def features(self, x):
            return 2 * x

    conditional = ConditionalDiscriminator(Sums(), torch.tensor([[0.0, 1], [1, 0]]), flat=True)
    samples = torch.tensor([[1.0, 2], [3, 4]])
    assert conditional(samples).tolist() == [103, 17]
    assert conditional.features(samples).tolist() == [[2, 4, 0, 2], [6, 8, 2, 0]]


def test_latent_vectors_end_in_a_class():
    z = LabelledLatent(Uniform(0, 1), (0.25, 0.0, 0.75))((4_000, 5), make_generator(0, "test"))
    assert torch.equal(z[:, :2], Uniform(0, 1)((4_000, 2), make_generator(0, "test"))), "the rest is what it is without"
    counts = z[:, 2:].sum(0).tolist()
    assert counts[1] == 0
    assert sum(counts) == 4_000
    assert counts[0] == pytest.approx(1_000, abs=4 * math.sqrt(4_000 * 0.25 * 0.75))
    assert set(z[:, 2:].flatten().tolist()) == {0, 1}
    assert set_labels(z[:2], torch.tensor([1, 2]), 3).tolist() == [
        [*z[0, :2].tolist(), 0, 1, 0],
        [*z[1, :2].tolist(), 0, 0, 1],
    ]


def test_on_the_way_from_class_to_class():
    a, b, half = torch.tensor([2.0, 0, 1, 0]), torch.tensor([0.0, 2, 0, 1]), torch.tensor([0.5])
    assert with_linear_labels(linear, 2)(a, b, half).tolist() == [[1, 1, 0.5, 0.5]]
    assert with_linear_labels(slerp, 2)(a, b, half)[0].tolist() == pytest.approx([math.sqrt(2), math.sqrt(2), 0.5, 0.5])
    assert torch.equal(with_linear_labels(slerp, 0)(a, b, half), slerp(a, b, half)), (
        "without classes it is the way itself"
    )


# The stream


class Numbers(Part):
    """Sample i is i, its class 3 i + 1."""

    def __init__(self, length: int):
        super().__init__(torch.arange(float(length))[:, None], 3 * torch.arange(length) + 1)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"replicas": 2},
        {"n_critic": 3},
        {"rank_slice": slice(1, None, 2)},
        {"replicas": 2, "n_critic": 2, "start": 5},
        {"workers": 1, "n_critic": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("with_replacement", [False, True])
def test_labels_are_those_of_the_samples(monkeypatch, options, with_replacement):
    if with_replacement:
        monkeypatch.setattr("gan_lab.data.datamodule.MAX_SHUFFLED", 5)
    part = Numbers(7)
    unlabelled = list(BatchStream(part, 4, 0, 13, boundaries=[4], **options))
    labelled = list(BatchStream(part, 4, 0, 13, boundaries=[4], labels=part, **options))
    assert len(unlabelled) == len(labelled)
    for expected, (samples, labels) in zip(unlabelled, labelled, strict=True):
        assert torch.equal(samples, expected), "the same samples as without labels"
        assert torch.equal(labels, 3 * samples[..., 0].long() + 1)


def test_each_process_draws_its_share_of_vectors_and_is_given_its_share_of_labels():
    """What two processes (`trainer=ddp`) ask for is, sample by sample, what one asks for."""
    dataset = images.digits()
    module = build_module(compose(*TINY), dataset)

    def labels_and_latents(rank: int, ranks: int) -> tuple[torch.Tensor, torch.Tensor]:
        module.latents.start(torch.device("cpu"), rank, ranks)
        share = slice(rank, None, ranks)
        _, labels = next(iter(BatchStream(dataset.train, 6, 0, 1, rank_slice=share, labels=dataset.train)))
        return labels[0], module.latents.sample(6 // ranks, torch.nn.functional.one_hot(labels[0], 10).float())

    labels, z = labels_and_latents(0, 1)
    assert torch.equal(module.target_labels(z), labels)
    for rank in (0, 1):
        rank_labels, rank_z = labels_and_latents(rank, 2)
        assert torch.equal(rank_labels, labels[rank::2])
        assert torch.equal(rank_z, z[rank::2])


# The step


@pytest.mark.parametrize("turns", [(1, 1), (2, 2)], ids=str)
@pytest.mark.parametrize("joint", ["false", "true"])
def test_fakes_are_of_the_real_batchs_classes_in_all_phases(tmp_path, turns, joint):
    n_critic, n_generator = turns
    settings = ("steps=3", f"n_critic={n_critic}", f"n_generator={n_generator}", f"joint_d_update={joint}")
    # The compiled step doesn't call the networks.
    run_parts, _ = training(tmp_path / "run", *TINY, *QUIET, *settings, "engine=autograd")
    module = run_parts.module
    train = run_parts.datamodule.dataset.train
    calls = []
    for name, network in {"D": module.discriminator, "G": module.generator}.items():
        network.register_forward_pre_hook(lambda _, args, name=name: calls.append((name, args[0].detach().clone())))
    run_parts.trainer.fit(module, run_parts.datamodule)
    networks = ["D", "G", "D"] * n_critic + ["G", "D"] * n_generator
    assert [name for name, _ in calls] == networks * 3
    for step in range(3):
        calls_of_step = calls[step * len(networks) : (step + 1) * len(networks)]
        for i, (name, inputs) in enumerate(calls_of_step):
            assert inputs.shape == (6, 64 + 10 if name == "D" else 3 + 10)
            # The call in which D sees the real batch whose labels are in force: each turn of D has three calls.
            first = i - i % 3 if i < 3 * n_critic else 3 * n_critic - 3
            real = calls_of_step[first][1]
            assert torch.equal(inputs[:, -10:], real[:, -10:])
            if i == first:
                indices = [(train.values.flatten(1) == sample).all(1).nonzero()[0, 0] for sample in real[:, :64]]
                assert real[:, -10:].argmax(1).tolist() == train.labels[torch.stack(indices)].tolist()


@pytest.mark.parametrize(
    "overrides",
    [
        (*TINY, "dataset=digits"),
        (*TINY, "dataset=ring", "dataset.samples=300"),
        (*TINY, "dataset=stacked_digits", "dataset.samples=300"),
        (*TINY, "dataset=stacked_digits"),
        (*TINY, "dataset=mnist", "replicas=2"),
        (*TINY, "remedy=[ema,r1,instance_noise,feature_matching,minibatch_stddev]"),
        (*TINY, "dataset=mnist", "remedy=[unrolled,diffaugment,lecam]"),
        (*TINY, "norm=spectral", "latent=constant"),
        (*TINY, "workers=1"),
        CONV,
        (*CONV, "norm=layer", "replicas=2"),
        (*CONV, "remedy=[dragan,gdpp,ema]", "norm=batch"),
    ],
    ids=lambda overrides: " ".join(override for override in overrides if override not in TINY),
)
def test_it_trains(tmp_path, little_images, overrides):
    made, run = training(tmp_path / "run", *overrides, *QUIET, "steps=4")
    before = {name: p.detach().clone() for name, p in made.module.named_parameters()}
    summary, _ = fit(made, run)
    assert summary["status"] == "finished"
    moved = {name.partition(".")[0] for name, p in made.module.named_parameters() if not torch.equal(p, before[name])}
    assert {"generator", "discriminator"} <= moved
    member, classes = made.module.member(made.module.replicas - 1), made.module.classes
    assert classes == len(made.datamodule.dataset.classes)
    samples = member.sample(member.latent((5, member.latent_dim), make_generator(0, "test")))
    assert samples.shape == (5, *made.datamodule.dataset.shape)
    labels = torch.arange(5)
    answers = sampling.score_samples(member, samples, labels)
    assert answers.shape == (5,)
    others = sampling.score_samples(member, samples, labels + 1)
    assert not torch.equal(answers, others), "D takes the class into account"


@pytest.mark.slow
def test_classes_are_learnt_in_few_steps(tmp_path):
    """In the plane: 300 steps, and points lie nearer to the centre asked for than to others far more often than 1/8."""
    data = ("dataset=ring", "dataset.std=0.1")
    model = ("model.generator.hidden=[64]", "model.discriminator.hidden=[64]")
    settings = ("batch_size=128", "optim.lr=0.005", "steps=300", "callbacks.verdict.samples=500", "~callbacks.pictures")
    made, run = training(tmp_path / "run", *TINY, *data, *model, *settings)
    fit(made, run)
    z = made.module.latent((500, made.module.latent_dim), make_generator(1, "test"))
    nearest = torch.cdist(made.module.sample(z), made.datamodule.dataset.centres).argmin(1)
    assert (nearest == made.module.target_labels(z)).float().mean() > 0.5


def test_data_without_labels_and_packs_are_refused():
    with pytest.raises(LabError, match="conditional=true needs data with labels"):
        build_module(compose(*TINY, "dataset=ring"), Dataset(Part(torch.rand(10, 2)), Part(torch.rand(10, 2))))
    with refused("conflict", "remedy.pac"):
        compose(*TINY, "remedy=[pac]")


def test_numbers_that_blow_up_are_traced(tmp_path):
    made, run = training(tmp_path / "run", *TINY, *QUIET, "steps=40", "optim.lr=1e30", "norm=none")
    with pytest.raises(RunError, match=r"in phase \(\d\)") as error:
        fit(made, run)
    assert "NaN or infinity at step" in str(error.value)


def test_the_four_checks_pass(monkeypatch):
    monkeypatch.setattr(separation, "MIN_STEPS", 100)
    monkeypatch.setattr(separation, "MAX_STEPS", 300)
    settings = ("model.generator.hidden=[16]", "model.discriminator.hidden=[16]", "optim.lr=0.005", "batch_size=64")
    checks = {check.name: check for check, _ in run_checks(DryRun(compose(*TINY, *settings)))}
    assert {check.status for check in checks.values()} == {"pass"}
    assert checks["noise"].numbers["auc"] > 0.99
    assert checks["objective"].numbers["weights"] == {
        "D": (74 * 16 + 16) + 2 * 16 + (16 + 1),
        "G": (13 * 16 + 16) + 2 * 16 + (16 * 64 + 64),
    }


# What is measured and said


def test_class_accuracy_by_hand():
    assert class_accuracy(torch.tensor([1, 2, -1, 0]), torch.tensor([1, 2, 2, 1])) == 0.5


def test_class_accuracy_is_measured_on_all_samples():
    ring = synthetic.ring(samples=3_000)
    evaluator = evaluator_for(ring, classifier_cache())
    points = ring.centres[[0, 1, 2, 3, 4]] + torch.tensor([[0.0, 0], [0, 0], [0, 0], [0.1, 0], [torch.nan, 0]])
    target_labels = torch.tensor([0, 1, 7, 3, 4])  # right, right, wrong, 10σ off, not finite
    metrics, _, counts = evaluator.mode_metrics(points, target_labels)
    assert metrics["class_accuracy"] == pytest.approx(2 / 5)
    assert counts.tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert "class_accuracy" not in evaluator.mode_metrics(points)[0]
    assert evaluator.mode_metrics(torch.full((3, 2), torch.nan), target_labels[:3])[0]["class_accuracy"] == 0
    result = evaluator.evaluate(ring.heldout.values[:400], ring.heldout.labels[:400].roll(100))
    share = (ring.heldout.labels[:400] == ring.heldout.labels[:400].roll(100)).float().mean().item()
    assert result.metrics["class_accuracy"] == pytest.approx(share, abs=0.02)
    assert (
        f"{result.metrics['class_accuracy']:.0%} of the samples belong to the requested class"
        in result.verdict["sentence"]
    )


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Run:
    settings = ("steps=4", "callbacks.verdict.every=2", "callbacks.verdict.samples=150", "callbacks.pictures.every=4")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "QUICK_SAMPLES", 100)
        made, run = training(tmp_path_factory.mktemp("digits") / "run", *TINY, *settings)
        fit(made, run)
    return run


def _class_accuracy(run: Run, purpose: str, number: int, member: int = 0) -> float:
    """Returns the fraction of samples to which the label classifier gives the requested class."""
    module = load(run)[0].member(member)
    z = module.latent((number, module.latent_dim), make_generator(module.seed, purpose))
    labels = label_classifier(images.digits(), classifier_cache()).labels(module.generator.eval()(z).detach())
    return (labels == z[:, -10:].argmax(1)).double().mean().item()


def test_a_run_reports_it(digits):
    summary = digits.read_summary()
    expected = _class_accuracy(digits, "verdict/end", 150)
    assert 0 < expected < 1
    assert summary["metrics"]["class_accuracy"] == pytest.approx(expected)
    assert "requested class" in summary["verdict"]["sentence"]
    column = pd.read_csv(digits.metrics).set_index("step")["metric/class_accuracy"].dropna()
    assert list(column.index) == [2, 4]
    assert column[4] == pytest.approx(expected, rel=1e-5)
    assert {"d_answer_real", "d_answer_fake"} <= summary["metrics"].keys()


def test_evaluate_reports_it(digits):
    result = evaluate(digits, 150, 1, 1, None, classifier_cache())
    assert result["mean"]["class_accuracy"] == pytest.approx(_class_accuracy(digits, "evaluate", 150))
    assert "class_accuracy" in describe(result)
    assert json.loads((digits.folder / "evaluation.json").read_text())["mean"]["class_accuracy"] is not None


def test_others_do_not(tmp_path):
    unconditional = [override for override in TINY if override != "conditional=true"]
    made, run = training(
        tmp_path / "run", *unconditional, "steps=2", "callbacks.verdict.samples=50", "~callbacks.pictures"
    )
    summary, _ = fit(made, run)
    assert "class_accuracy" not in summary["metrics"]
    assert "requested" not in summary["verdict"]["sentence"]


def test_each_replica_is_evaluated_by_the_classes_requested_of_it(tmp_path):
    settings = ("steps=2", "replicas=2", "seed=3", "callbacks.verdict.samples=50", "callbacks.pictures.every=2")
    made, run = training(tmp_path / "run", *TINY, *settings)
    summary, _ = fit(made, run)
    accuracies = [metrics["class_accuracy"] for metrics in summary["replica_metrics"]]
    assert accuracies == pytest.approx([_class_accuracy(run, "verdict/end", 50, i) for i in (0, 1)])
    assert summary["metrics"]["class_accuracy"] == pytest.approx(sum(accuracies) / 2)
    words = {"collapse": "covered", "within_modes": "varied", "copies": False, "likeness": "good"}
    two = {
        i: EvaluationResult({"modes_valid": 1, "class_accuracy": share}, {}, {}, torch.ones(1), words, "…")
        for i, share in enumerate((0.5, 1.0))
    }
    assert (
        "On average 75% of the samples belong to the requested class"
        in aggregate.combine(two, 2, 0).verdict["sentence"]
    )


def test_the_balance_is_measured_on_samples_with_their_classes(digits, monkeypatch):
    """D is asked about held-out samples and fakes each told their class: recomputed from the networks."""
    module, dataset = load(digits)
    calls = []

    def score_samples(module, samples, labels=None):
        calls.append((samples, labels))
        return sampling.score_samples(module, samples, labels)

    monkeypatch.setattr(evaluation, "score_samples", score_samples)
    callback = evaluation.Evaluation(digits, 1, 360, str(classifier_cache()))
    callback.evaluator = evaluator_for(dataset, classifier_cache())
    callback.evaluate_member(module, 0)
    (real, of_real), (fake, of_fake) = calls
    for sample, label in zip(real[:20], of_real[:20], strict=True):
        assert label in dataset.heldout.labels[(dataset.heldout.values.float() == sample).flatten(1).all(1)]
    z = module.latent((360, module.latent_dim), make_generator(module.seed, "verdict/end"))
    assert torch.equal(of_fake, z[:, -10:].argmax(1)[: len(fake)])
    torch.testing.assert_close(fake, module.sample(z)[: len(fake)])


def test_latent_vectors_that_differ_only_by_class_are_reported(digits):
    module, dataset = load(digits)
    callback = evaluation.Evaluation(digits, 1, 50, str(classifier_cache()))
    callback.evaluator = evaluator_for(dataset, classifier_cache())
    latent = LabelledLatent(Constant(), (0.1,) * 10)
    module.apply_settings(dataclasses.replace(module.settings, latent=latent, seed=1))
    z = module.latent((2, 13), make_generator(module.seed, "verdict/end"))
    assert not torch.equal(*module.target_labels(z)), "the two that are compared are of different classes"
    callback.evaluate_member(module, 0)
    sentence = callback.members[0][0].verdict["sentence"]
    assert "differ only in the class, so it can make only one sample of each class." in sentence


# Pictures


def _drawn_pictures(tmp_path, *overrides: str) -> tuple[SampleGrids, list[Figure], Dataset]:
    """Returns the callback that draws samples, after a training of one step, its pictures and the data."""
    made, run = training(tmp_path / "run", *TINY, *overrides, "steps=1", "~callbacks.verdict")
    (pictures,) = [callback for callback in made.callbacks if isinstance(callback, SampleGrids)]
    drawn = []

    def keep(run: Run, figure: Figure, picture: Path, **_: object) -> None:
        """Writes a figure as `save_figure` does, but doesn't empty it."""
        with run.atomic(picture) as path:
            figure.savefig(path)
        # At the end there is also one of D's answers.
        if picture.parent == run.images:
            drawn.append(figure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample_grids, "save_figure", keep)
        fit(made, run)
    assert len(drawn) == 2
    return pictures, drawn, made.datamodule.dataset


def test_a_grid_has_a_row_a_class(tmp_path):
    pictures, (figure, _), dataset = _drawn_pictures(tmp_path, "callbacks.pictures.images=64")
    z = pictures.z.view(10, 6, 13)
    assert torch.equal(z[..., 3:].argmax(-1), torch.arange(10)[:, None].expand(10, 6))
    assert torch.equal(z[..., :3], z[:1, :, :3].expand(10, 6, 3)), "each row has the same vectors"
    assert len(z[0, :, 0].unique()) == 6
    values, labels = dataset.train.values.float(), dataset.train.labels
    for sample, row in zip(pictures.real, torch.arange(10).repeat_interleave(6), strict=True):
        assert row in labels[(values == sample).flatten(1).all(1)]
    for axes in figure.axes:
        assert [text.get_text() for text in axes.get_yticklabels()] == list("0123456789")
        height, width = axes.images[0].get_array().shape[:2]
        assert (height, width) == (10 * 9 + 1, 6 * 9 + 1)
        assert axes.get_yticks().tolist() == [9 * row + 5 for row in range(10)], "in the middle of the row"
    shown = torch.from_numpy(figure.axes[1].images[0].get_array()[..., 0].copy())
    assert torch.equal(shown[1 + 9 * 2 : 9 + 9 * 2, 1:9], pictures.real[12, 0]), "row 2 is class 2"


def test_of_many_classes_the_first_ten(tmp_path):
    settings = ("dataset=stacked_digits", "dataset.samples=3000", "callbacks.pictures.images=20")
    pictures, (figure, _), dataset = _drawn_pictures(tmp_path, *settings)
    assert pictures.z[:, 3:].argmax(-1).tolist() == [label for label in range(10) for _ in range(2)]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == dataset.classes[:10]


def test_points_are_coloured_by_class(tmp_path):
    settings = ("dataset=ring", "dataset.samples=300", "callbacks.pictures.points=40")
    pictures, (figure, _), dataset = _drawn_pictures(tmp_path, *settings)
    target_labels = pictures.z[:, 3:].argmax(-1)
    assert len(target_labels.unique()) > 3
    for axes, labels in zip(figure.axes, (target_labels, pictures.real_labels), strict=True):
        colours = torch.from_numpy(axes.collections[0].get_facecolors())
        same_class = labels[:, None] == labels
        assert torch.equal((colours[:, None] == colours).all(-1), same_class)
    nearest = torch.cdist(pictures.real, dataset.centres).argmin(1)
    assert torch.equal(pictures.real_labels, nearest)


def test_replicas_have_a_class_a_column(tmp_path, little_images):
    pictures, (figure, _), _ = _drawn_pictures(tmp_path, "replicas=2")
    assert pictures.z.shape == (2, 10, 13)
    assert torch.equal(pictures.z[..., 3:].argmax(-1), torch.arange(10).expand(2, 10))
    assert not torch.equal(pictures.z[0, :, :3], pictures.z[1, :, :3])
    assert [text.get_text() for text in figure.axes[-1].get_xticklabels()] == list("0123456789")


@pytest.mark.parametrize(("images", "columns"), [(1, 1), (9, 9), (25, 10)])
def test_replicas_with_fewer_images_than_classes_show_the_first_classes(tmp_path, little_images, images, columns):
    pictures, (figure, _), _ = _drawn_pictures(tmp_path, "replicas=2", f"callbacks.pictures.images={images}")
    assert torch.equal(pictures.z[..., 3:].argmax(-1), torch.arange(columns).expand(2, columns))
    assert pictures.real_labels.tolist() == list(range(columns))
    assert [text.get_text() for text in figure.axes[-1].get_xticklabels()] == list("0123456789")[:columns]


def test_replicas_on_many_classes_show_the_first_ones(tmp_path):
    settings = ("dataset=stacked_digits", "dataset.samples=3000", "replicas=2", "callbacks.pictures.images=4")
    pictures, _, _ = _drawn_pictures(tmp_path, *settings)
    assert torch.equal(pictures.z[..., 3:].argmax(-1), torch.arange(4).expand(2, 4))


@pytest.mark.parametrize("images", [1, 9])
def test_a_grid_of_fewer_images_than_classes_has_one_of_each(tmp_path, images):
    pictures, _, _ = _drawn_pictures(tmp_path, f"callbacks.pictures.images={images}")
    assert pictures.z[:, 3:].argmax(-1).tolist() == list(range(10))


def test_a_class_of_few_samples_leaves_places_empty(tmp_path):
    part = Part(torch.full((4, 1, 8, 8), 255, dtype=torch.uint8), torch.tensor([0, 1, 1, 1]))
    samples = samples_of_classes(part, torch.tensor([0, 0, 1, 1]), make_generator(0, "test"))
    assert samples.amax((1, 2, 3)).tolist() == [1, 0, 1, 1]
    grid = image_grid(samples, classes=torch.tensor([0, 0, 1, 1]))
    assert grid.shape == (3, 19, 19)


# Latent vector experiments


def _trained(folder, order: list[int]) -> Run:
    """G(z, class) = centre[order[class]] + z / 1000."""
    data = ("dataset=ring", "dataset.std=0.02", "dataset.samples=500", "latent_dim=2")
    made, run = training(folder, *TINY, *QUIET, *data, "model.generator.hidden=[]", "optim.lr=0", "steps=1")
    with torch.no_grad():
        weight, bias = made.module.generator.parameters()
        weight.copy_(torch.cat([torch.eye(2) / 1000, made.datamodule.dataset.centres[order].T], 1))
        bias.zero_()
    fit(made, run)
    return run


@pytest.fixture(scope="module")
def ring(tmp_path_factory) -> Run:
    """It always makes what was asked for."""
    return _trained(tmp_path_factory.mktemp("ring") / "run", [0, 1, 2, 3, 4, 5, 6, 7])


ASKED = dict(op="grid", a="1", b="2", by="seed", n=3, mode="linear", normalize="false", pairs=1, confidence=0.9)


def _explored(run: Run, **asked) -> tuple[str, pd.DataFrame, torch.Tensor]:
    """What an experiment says, its table, and the vectors in it."""
    said = explore(run, Request(**{**ASKED, "seed": 0, "tries": 2_000, **asked}), 1, None, classifier_cache())
    (file,) = [line.strip() for line in said.splitlines() if line.endswith(".csv") and "_counts" not in line]
    rows = pd.read_csv(file)
    return said, rows, torch.tensor(rows.filter(regex="^z_").to_numpy(), dtype=torch.float32)


def _classes(z: torch.Tensor) -> list[int]:
    assert set(z[:, 2:].flatten().tolist()) == {0, 1}
    return z[:, 2:].argmax(1).tolist()


def test_a_grid_of_vectors_has_a_row_a_class(ring):
    said, rows, z = _explored(ring, a="5")
    names = synthetic.ring(samples=10).classes
    assert rows["row"].tolist() == [row + 1 for row in range(8) for _ in range(3)]
    assert rows["seed"].tolist() == [5, 6, 7] * 8
    assert rows["prediction"].tolist() == [name for name in names for _ in range(3)]
    assert _classes(z) == [label for label in range(8) for _ in range(3)]
    noise = torch.cat([Normal()((1, 2), make_generator(number, "explore")) for number in (5, 6, 7)])
    torch.testing.assert_close(z[:, :2], noise.repeat(8, 1)), "what these numbers are without classes"
    assert "3 vectors, starting at vector 5, with each class as target class: one row per class" in said
    with refused("invalid", "n"):
        _explored(ring, n=101)


def test_a_vector_by_class_asks_for_it_and_makes_it(ring):
    """Number 0 serves the first, 1 the second: no vector twice, though each would do for both."""
    said, rows, z = _explored(ring, op="interpolate", a="3", b="6", by="class", n=5, mode="slerp")
    assert rows["seed"].tolist()[::4] == [0, 1]
    assert _classes(z[[0, -1]]) == [3, 6]
    assert z[:, 5].tolist() == pytest.approx([1, 0.75, 0.5, 0.25, 0])
    assert z[:, 8].tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    torch.testing.assert_close(z[:, :2], slerp(z[0, :2], z[-1, :2], torch.linspace(0, 1, 5)), rtol=1e-5, atol=1e-6)
    assert "which G was never trained on" in said
    assert "length " + f"{z[0, :2].norm():.2f}" in said, "of what was drawn, the class aside"
    _, rows, z = _explored(ring, a="3", by="class")
    assert (_classes(z), rows["seed"].tolist()) == ([3, 3, 3], [0, 1, 2])


@pytest.mark.parametrize("mode", ["linear", "slerp"])
def test_a_walk_goes_from_class_to_class(ring, mode):
    _, rows, z = _explored(ring, op="walk", a="6", by="class", mode=mode)
    assert len(rows) == 36
    assert _classes(z[::12]) == [6, 7, 0]
    torch.testing.assert_close(z[:, 2:].sum(1), torch.ones(36))


def test_sums_are_of_one_class_and_do_not_change_it(ring):
    said, _, z = _explored(ring, op="add", a="4", b="4", by="class", normalize="both", pairs=20)
    z = z.view(20, 4, 10)
    assert (z[..., 2:].argmax(-1) == 4).all()
    assert z[..., 2:].sum().item() == 80
    torch.testing.assert_close(z[:, 2, :2], z[:, 0, :2] + z[:, 1, :2], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(z[:, 3, :2].norm(dim=1), torch.full((20,), math.sqrt(2)), rtol=1e-4, atol=0)
    assert "1,000 of 1,000 (100%" in said, "fresh vectors ask for that class as well"
    for op in ("add", "subtract", "multiply"):
        with refused("conflict", "b"):
            _explored(ring, op=op, a="4", b="5", by="class")


def test_a_class_that_g_does_not_make_is_reported(tmp_path):
    """G makes class 0 when asked for 1, and 1 when asked for 0: neither is what was asked for."""
    swapped = _trained(tmp_path / "run", [1, 0, 2, 3, 4, 5, 6, 7])
    with refused("failed", "tries"):
        _explored(swapped, op="interpolate", a="0", b="1", by="class", tries=5)
    _, rows, z = _explored(swapped, n=2)
    assert rows["prediction"].tolist()[:4] == [name for name in synthetic.ring(samples=10).classes[1::-1] for _ in "ab"]
    assert _classes(z)[:4] == [0, 0, 1, 1]
