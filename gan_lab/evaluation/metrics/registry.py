"""The metrics of gan_lab: each is declared once, here, and every list of metrics derives from these declarations.

Reading this module imports neither torch nor a metric's function, so that configuration and comparison can use it. To
add a metric, write its function and add one `Metric` to `METRICS`: the run's summary, metrics.csv, the comparison and
its sentences then have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from torch import Tensor

MetricValues = dict[str, "float | int | None"]
"""Metrics by name; None is a number that these samples do not define."""

Kind = Literal["result", "condition"]
"""A result says how good a generator is; a condition says how that was measured, and is not compared."""

Place = Literal[
    "report",  # the table of variants in report.html
    "results",  # the columns of the results document
    "terminal",  # the table of variants that scripts/compare.py prints
    "hparams",  # the columns of TensorBoard's HPARAMS tab
    "conditions",  # what all compared runs must share, and what a comparison states about them
]


class Undefined(ValueError):  # noqa: N818 - it says of a number what it is
    """A number that this input does not define; the message gives the reason in plain words."""


class MetricInputs(TypedDict, total=False):
    """The prepared values that metrics are computed from.

    A value that does not exist, for this dataset or at this moment, is left out; the metrics that need it are then left
    out, too. N samples of the given shape, n of them finite and put into an F-dimensional feature space, M modes.
    """

    samples: Tensor
    """All samples, `(N, *shape)`, with those that are NaN or infinite."""
    is_finite: Tensor
    """Whether each sample has no NaN or infinite number, `(N,)` bool."""
    labels: Tensor
    """The mode of each sample, `(N,)` int64 in [−1, M); −1: no mode."""
    target_labels: Tensor
    """The class in the latent vector of each sample of a conditional GAN, `(N,)` int64."""
    near_centre: Tensor
    """1 for a sample within 3σ of a mode's centre, else 0, `(N,)`; only in the plane."""
    counts: Tensor
    """Samples in each mode, `(M,)` int64."""
    shares: Tensor
    """The training data's share of each mode, `(M,)`, sum 1."""
    uniform_shares: Tensor
    """1/M for each mode, `(M,)`."""
    in_range: Tensor
    """Whether each sample lies among the real ones, `(N,)` bool; empty if nobody can say where these end."""
    second_in_range: Tensor
    """The same for its mode as the second reader of labelled images sees it, `(N,)` bool."""
    reference_size: int
    """The number of held-out samples that say where the data end."""
    read_modes: Tensor
    """The mode of each finite sample, as the first reader sees it, `(n,)`; −1 does not occur."""
    second_modes: Tensor
    """The same, as the second reader sees it, `(n,)`."""
    valid_counts: Tensor
    """Samples in each mode that lie among the real ones and are read alike by both readers, `(M,)` int64."""
    first_counts: Tensor
    """Samples in each mode that lie among the real ones, as the first reader sees it, `(M,)` int64."""
    second_counts: Tensor
    """The same, as the second reader sees it, `(M,)` int64."""
    offsets: Tensor
    """Each finite sample's difference from the nearest centre in standard deviations, `(n, D)`; of Gaussians only."""
    points: Tensor
    """Finite samples that lie among the real ones, in the space in which those of a mode are compared, `(p, P)`."""
    point_modes: Tensor
    """Their modes, `(p,)`; 0 for data without modes."""
    train_points: Tensor
    """Training samples in that space, `(t, P)`."""
    train_modes: Tensor
    """Their modes, `(t,)`."""
    heldout_points: Tensor
    """Held-out samples in that space, `(h, P)`."""
    heldout_modes: Tensor
    """Their modes, `(h,)`."""
    number_of_modes: int
    """M; 1 for data without modes."""
    tested_points: Tensor
    """Finite samples in that space, `(n, P)`: the possible copies."""
    original_points: Tensor
    """Training samples in that space, 60,000 images at most, `(m, P)`: the possible originals."""
    copy_limit: float
    """See `gan_lab.evaluation.metrics.memorization.copy_limit`."""
    compared_share: float
    """The share of all training samples that are possible originals, in (0, 1]."""
    two_sample_train: tuple[Tensor, Tensor]
    """Features of real samples and of fakes on which the two-sample test learns, each `(l, G)`."""
    two_sample_test: tuple[Tensor, Tensor]
    """Features of other real samples and fakes, about which it is asked."""
    fake: Tensor
    """Features of finite samples, `(n, F)`."""
    fake_without_modes: Tensor
    """The same; only for data that have no modes, where bins stand for them."""
    real: Tensor
    """Features of as many held-out samples, `(n, F)`: a network may have learnt the training samples by heart."""
    train: Tensor
    """Features of all training samples, or of at most 10,000 images, `(m, F)`."""
    classifier_accuracy: float
    """The share of held-out images that the label classifier labels correctly, in [0, 1]."""
    d_real_scores: Tensor
    """D's raw scores of held-out samples, `(k,)`."""
    d_fake_scores: Tensor
    """D's raw scores of fakes, `(k,)`."""
    d_on_real: Tensor
    """D's probability of 'real' for held-out samples, `(k,)` in [0, 1]."""
    d_on_fake: Tensor
    """D's probability of 'real' for fakes, `(k,)` in [0, 1]."""


@dataclass(frozen=True)
class Metric:
    """The declaration of a metric.

    Attributes:
        name: the key in summary.json, and the column in metrics.csv and comparison.csv.
        label: what sentences and charts call it: 'raised the <label> by 0.2 <unit>', or 'added 2 <label> out of 10'.
        function: dotted name of the function, imported when it is called.
        inputs: the fields of `MetricInputs` that the function takes, in the order of its parameters.
        output: which of several returned values this metric is; None if the function returns one. Metrics with equal
            `function` and `inputs` share one call.
        unit: what follows its value, where `{modes_total}` is the number of modes; empty if it has none.
        higher_is_better: None if more is neither better nor worse.
        kind: whether it is a result or a condition.
        shown: where it is shown besides summary.json, metrics.csv, evaluate.py's table, comparison.csv and effects.csv.
        heading: the head of its column in the results document; empty: the label.
        rank: smaller ones come first in comparisons; those of equal rank in the order of `METRICS`.
    """

    name: str
    label: str
    function: str = ""
    inputs: tuple[str, ...] = ()
    output: int | None = None
    unit: str = ""
    higher_is_better: bool | None = None
    kind: Kind = "result"
    shown: frozenset[Place] = frozenset()
    heading: str = ""
    rank: int = 9


def _by_name(*metrics: Metric) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


# In the order of summary.json.
METRICS = _by_name(
    Metric(
        "samples",
        label="evaluated samples per run",
        function="builtins.len",
        inputs=("samples",),
        kind="condition",
        shown=frozenset({"conditions"}),
    ),
    Metric(
        "finite",
        label="share of finite samples",
        function="gan_lab.evaluation.metrics.fidelity.finite_share",
        inputs=("is_finite",),
        higher_is_better=True,
        kind="condition",
    ),
    Metric(
        "high_quality",
        label="share of high-quality samples",
        function="gan_lab.evaluation.metrics.modes.high_quality_share",
        inputs=("near_centre",),
        higher_is_better=True,
        shown=frozenset({"report", "results", "hparams"}),
        heading="high quality",
    ),
    Metric(
        "junk",
        label="share of samples outside the real data",
        function="gan_lab.evaluation.metrics.modes.junk_share",
        inputs=("in_range", "reference_size"),
        output=0,
        higher_is_better=False,
        shown=frozenset({"report", "results", "hparams"}),
        heading="junk",
    ),
    Metric(
        "junk_error",
        label="standard error of the share of samples outside the real data",
        function="gan_lab.evaluation.metrics.modes.junk_share",
        inputs=("in_range", "reference_size"),
        output=1,
        kind="condition",
    ),
    Metric(
        "junk_second_reader",
        label="share of samples outside the real data, as the nearest training image reads them",
        function="gan_lab.evaluation.metrics.modes.junk_share",
        inputs=("second_in_range", "reference_size"),
        output=0,
        higher_is_better=False,
    ),
    Metric(
        "agreement",
        label="share of samples whose mode two readers agree on",
        function="gan_lab.evaluation.metrics.modes.agreement",
        inputs=("read_modes", "second_modes"),
        higher_is_better=True,
        shown=frozenset({"report", "results", "terminal", "hparams"}),
        heading="readers agree",
    ),
    Metric(
        "class_accuracy",
        label="share of samples of the requested class",
        function="gan_lab.evaluation.metrics.modes.class_accuracy",
        inputs=("labels", "target_labels"),
        higher_is_better=True,
        shown=frozenset({"report", "hparams"}),
    ),
    Metric(
        "modes",
        label="captured modes",
        function="gan_lab.evaluation.metrics.modes.captured",
        inputs=("counts",),
        unit="out of {modes_total}",
        higher_is_better=True,
        shown=frozenset({"report", "results", "hparams"}),
        heading="modes",
        rank=1,
    ),
    Metric(
        "modes_total",
        label="modes",
        function="builtins.len",
        inputs=("counts",),
        kind="condition",
        shown=frozenset({"conditions"}),
    ),
    Metric(
        "modes_robust",
        label="modes with at least half of their expected count",
        function="gan_lab.evaluation.metrics.modes.captured_robustly",
        inputs=("counts", "shares"),
        unit="out of {modes_total}",
        higher_is_better=True,
        shown=frozenset({"report", "results", "hparams"}),
        rank=2,
    ),
    Metric(
        "modes_valid",
        label="modes made",
        function="gan_lab.evaluation.metrics.modes.modes_made",
        inputs=("valid_counts", "shares", "samples"),
        output=0,
        unit="out of {modes_total}",
        higher_is_better=True,
        shown=frozenset({"report", "results", "terminal", "hparams"}),
        heading="modes made",
        rank=0,
    ),
    Metric(
        "modes_missed",
        label="modes missed beyond chance",
        function="gan_lab.evaluation.metrics.modes.modes_made",
        inputs=("valid_counts", "shares", "samples"),
        output=1,
        unit="out of {modes_total}",
        higher_is_better=False,
    ),
    Metric(
        "modes_first_reader",
        label="modes made, as the label classifier reads them",
        function="gan_lab.evaluation.metrics.modes.modes_made",
        inputs=("first_counts", "shares", "samples"),
        output=0,
        unit="out of {modes_total}",
        higher_is_better=True,
    ),
    Metric(
        "modes_second_reader",
        label="modes made, as the nearest training image reads them",
        function="gan_lab.evaluation.metrics.modes.modes_made",
        inputs=("second_counts", "shares", "samples"),
        output=0,
        unit="out of {modes_total}",
        higher_is_better=True,
    ),
    Metric(
        "kl_excess",
        label="KL divergence of valid samples from the data's shares, less that of chance",
        function="gan_lab.evaluation.metrics.modes.kl_excess",
        inputs=("valid_counts", "shares"),
        output=0,
        unit="nats",
        higher_is_better=False,
    ),
    Metric(
        "kl_error",
        label="standard error of the KL divergence of valid samples",
        function="gan_lab.evaluation.metrics.modes.kl_excess",
        inputs=("valid_counts", "shares"),
        output=1,
        kind="condition",
    ),
    Metric(
        "mode_width",
        label="width of the modes relative to the data's",
        function="gan_lab.evaluation.metrics.modes.mode_width",
        inputs=("offsets", "read_modes", "number_of_modes"),
        output=0,
        shown=frozenset({"report", "results"}),
        heading="mode width",
    ),
    Metric(
        "mode_width_error",
        label="standard error of the width of the modes",
        function="gan_lab.evaluation.metrics.modes.mode_width",
        inputs=("offsets", "read_modes", "number_of_modes"),
        output=1,
        kind="condition",
    ),
    Metric(
        "within_1_sigma",
        label="share of samples within 1σ of a mode",
        function="gan_lab.evaluation.metrics.modes.share_within",
        inputs=("offsets",),
        output=0,
        shown=frozenset({"results"}),
        heading="within 1σ",
    ),
    Metric(
        "beyond_5_sigma",
        label="share of samples beyond 5σ of every mode",
        function="gan_lab.evaluation.metrics.modes.share_within",
        inputs=("offsets",),
        output=1,
        higher_is_better=False,
        shown=frozenset({"report", "results"}),
        heading="beyond 5σ",
    ),
    Metric(
        "variety_within",
        label="variety within the modes relative to the data's",
        function="gan_lab.evaluation.metrics.variety.variety_summary",
        inputs=("points", "point_modes", "train_points", "train_modes", "number_of_modes"),
        output=0,
        higher_is_better=True,
        shown=frozenset({"report", "results", "terminal", "hparams"}),
        heading="variety within",
        rank=3,
    ),
    Metric(
        "variety_lowest",
        label="variety of the least varied mode relative to the data's",
        function="gan_lab.evaluation.metrics.variety.variety_summary",
        inputs=("points", "point_modes", "train_points", "train_modes", "number_of_modes"),
        output=1,
        higher_is_better=True,
    ),
    Metric(
        "variety_error",
        label="standard error of the variety within the modes",
        function="gan_lab.evaluation.metrics.variety.variety_summary",
        inputs=("points", "point_modes", "train_points", "train_modes", "number_of_modes"),
        output=2,
        kind="condition",
    ),
    Metric(
        "distinct",
        label="different samples of a mode",
        function="gan_lab.evaluation.metrics.variety.variety_summary",
        inputs=("points", "point_modes", "train_points", "train_modes", "number_of_modes"),
        output=3,
    ),
    Metric(
        "coverage_within",
        label="coverage within the modes relative to the data's",
        function="gan_lab.evaluation.metrics.variety.coverage_within",
        inputs=(
            "points",
            "point_modes",
            "train_points",
            "train_modes",
            "heldout_points",
            "heldout_modes",
            "number_of_modes",
        ),
        output=0,
        higher_is_better=True,
        shown=frozenset({"report", "results", "terminal", "hparams"}),
        heading="coverage within",
        rank=3,
    ),
    Metric(
        "coverage_error",
        label="standard error of the coverage within the modes",
        function="gan_lab.evaluation.metrics.variety.coverage_within",
        inputs=(
            "points",
            "point_modes",
            "train_points",
            "train_modes",
            "heldout_points",
            "heldout_modes",
            "number_of_modes",
        ),
        output=1,
        kind="condition",
    ),
    Metric(
        "two_sample_auc",
        label="AUC of the two-sample test",
        function="gan_lab.evaluation.metrics.two_sample.two_sample_auc",
        inputs=("two_sample_train", "two_sample_test"),
        output=0,
        higher_is_better=False,
        shown=frozenset({"report", "results", "hparams"}),
        heading="two-sample AUC",
    ),
    Metric(
        "two_sample_error",
        label="standard error of the two-sample test's AUC",
        function="gan_lab.evaluation.metrics.two_sample.two_sample_auc",
        inputs=("two_sample_train", "two_sample_test"),
        output=1,
        kind="condition",
    ),
    Metric(
        "copy_share",
        label="share of copies of training samples",
        function="gan_lab.evaluation.metrics.memorization.copy_test",
        inputs=("tested_points", "original_points", "copy_limit", "compared_share"),
        output=0,
        higher_is_better=False,
        shown=frozenset({"report"}),
    ),
    Metric(
        "copy_p",
        label="p-value of there being no copies",
        function="gan_lab.evaluation.metrics.memorization.copy_test",
        inputs=("tested_points", "original_points", "copy_limit", "compared_share"),
        output=1,
        kind="condition",
    ),
    Metric(
        "kl_uniform",
        label="KL divergence from uniform shares",
        function="gan_lab.evaluation.metrics.modes.kl",
        inputs=("counts", "uniform_shares"),
        unit="nats",
        higher_is_better=False,
        shown=frozenset({"results"}),
        heading="KL from uniform",
    ),
    Metric(
        "kl_data",
        label="KL divergence from the data's shares",
        function="gan_lab.evaluation.metrics.modes.kl",
        inputs=("counts", "shares"),
        unit="nats",
        higher_is_better=False,
        shown=frozenset({"report", "results", "terminal", "hparams"}),
        heading="KL from the data",
    ),
    Metric(
        "precision",
        label="precision",
        function="gan_lab.evaluation.metrics.fidelity.precision_recall",
        inputs=("real", "fake"),
        output=0,
        higher_is_better=True,
        shown=frozenset({"report", "results", "hparams"}),
    ),
    Metric(
        "recall",
        label="recall",
        function="gan_lab.evaluation.metrics.fidelity.precision_recall",
        inputs=("real", "fake"),
        output=1,
        higher_is_better=True,
        shown=frozenset({"report", "results"}),
    ),
    Metric(
        "density",
        label="density",
        function="gan_lab.evaluation.metrics.fidelity.density_coverage",
        inputs=("real", "fake"),
        output=0,
        higher_is_better=True,
        shown=frozenset({"report"}),
    ),
    Metric(
        "coverage",
        label="coverage",
        function="gan_lab.evaluation.metrics.fidelity.density_coverage",
        inputs=("real", "fake"),
        output=1,
        higher_is_better=True,
        shown=frozenset({"report", "results", "terminal", "hparams"}),
    ),
    Metric(
        "frechet_distance",
        label="Fréchet distance",
        function="gan_lab.evaluation.metrics.fidelity.frechet_distance",
        inputs=("real", "fake"),
        higher_is_better=False,
        shown=frozenset({"report", "hparams"}),
    ),
    Metric(
        "pairwise_ratio",
        label="variety relative to the data's",
        function="gan_lab.evaluation.metrics.fidelity.pairwise_ratio",
        inputs=("real", "fake"),
        shown=frozenset({"report"}),
    ),
    Metric(
        "ct",
        label="data-copying statistic C_T",
        function="gan_lab.evaluation.metrics.memorization.c_t",
        inputs=("train", "real", "fake"),
    ),
    Metric(
        "authenticity",
        label="authenticity",
        function="gan_lab.evaluation.metrics.memorization.authenticity",
        inputs=("train", "fake"),
    ),
    Metric(
        "compared",
        label="samples compared in feature space",
        function="builtins.len",
        inputs=("fake",),
        kind="condition",
    ),
    Metric(
        "ndb",
        label="share of bins with a different number of samples",
        function="gan_lab.evaluation.metrics.modes.ndb",
        inputs=("fake_without_modes", "train"),
        output=0,
        higher_is_better=False,
    ),
    Metric(
        "js",
        label="Jensen-Shannon divergence between the bins",
        function="gan_lab.evaluation.metrics.modes.ndb",
        inputs=("fake_without_modes", "train"),
        output=1,
        unit="nats",
        higher_is_better=False,
    ),
    Metric(
        "evaluator_accuracy",
        label="accuracy of the label classifier",
        function="builtins.float",
        inputs=("classifier_accuracy",),
        kind="condition",
        shown=frozenset({"conditions"}),
    ),
    Metric(
        "d_accuracy_real",
        label="D's accuracy on real samples",
        function="gan_lab.evaluation.metrics.balance.accuracy",
        inputs=("d_on_real", "d_on_fake"),
        output=0,
    ),
    Metric(
        "d_accuracy_fake",
        label="D's accuracy on fakes",
        function="gan_lab.evaluation.metrics.balance.accuracy",
        inputs=("d_on_real", "d_on_fake"),
        output=1,
    ),
    Metric(
        "d_auc",
        label="AUC of D",
        function="gan_lab.evaluation.metrics.two_sample.auc",
        inputs=("d_real_scores", "d_fake_scores"),
    ),
    Metric(
        "d_answer_real",
        label="D's mean output on real samples",
        function="gan_lab.evaluation.metrics.balance.mean_output",
        inputs=("d_on_real",),
    ),
    Metric(
        "d_answer_fake",
        label="D's mean output on fakes",
        function="gan_lab.evaluation.metrics.balance.mean_output",
        inputs=("d_on_fake",),
    ),
)


def metric_of(name: str) -> Metric:
    """Returns a metric's declaration; of a user's own metric, which has none, one with its name as the label."""
    return METRICS.get(name) or Metric(name, label=name.replace("_", " "))


def shown_in(place: Place) -> list[Metric]:
    """Returns the metrics that are shown in a place, by rank."""
    metrics = [metric for metric in METRICS.values() if place in metric.shown]
    return sorted(metrics, key=lambda metric: metric.rank)


def compute(
    inputs: MetricInputs, kinds: tuple[Kind, ...] = ("result", "condition")
) -> tuple[MetricValues, dict[str, str]]:
    """Computes every metric whose inputs are all there.

    Args:
        inputs: see `MetricInputs`.
        kinds: which kinds of metrics to compute.

    Returns:
        The values by name, in the order of `METRICS`, None where these inputs do not define one; and the reason for
        each None.
    """
    available: Mapping[str, object] = inputs
    outcomes: dict[tuple[str, tuple[str, ...]], Any] = {}
    values: MetricValues = {}
    reasons: dict[str, str] = {}
    for metric in METRICS.values():
        if metric.kind not in kinds or not available.keys() >= set(metric.inputs):
            continue
        call = (metric.function, metric.inputs)
        if call not in outcomes:
            outcomes[call] = _outcome(metric, available)
        outcome = outcomes[call]
        if isinstance(outcome, Undefined):
            values[metric.name] = None
            reasons[metric.name] = str(outcome)
        elif metric.output is None:
            values[metric.name] = outcome
        else:
            values[metric.name] = outcome[metric.output]
    return values, reasons


def _outcome(metric: Metric, inputs: Mapping[str, object]) -> Any:
    """Returns what the metric's function returns, or the `Undefined` that it raises."""
    module, _, name = metric.function.rpartition(".")
    function = vars(import_module(module))[name]
    try:
        return function(*[inputs[key] for key in metric.inputs])
    except Undefined as reason:
        return reason
