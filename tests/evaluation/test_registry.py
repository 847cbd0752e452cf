"""The registry of metrics: one declaration is all that a new metric needs, and every declaration is sound."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import ROOT, classifier_cache, refused, training

from gan_lab.commands.results import write_results
from gan_lab.commands.train import fit
from gan_lab.comparison.comparison import compare
from gan_lab.comparison.tables import write_tables
from gan_lab.config.compatibility import check_metrics
from gan_lab.data import synthetic
from gan_lab.evaluation.metrics import registry
from gan_lab.evaluation.metrics.registry import METRICS, Metric, MetricInputs, Undefined, compute, metric_of, shown_in
from gan_lab.evaluation.verdict import evaluator_for

pytestmark = pytest.mark.usefixtures("undrawn")

RADIUS = Metric(
    "radius",
    label="mean distance from the origin",
    function="test_registry.mean_radius",
    inputs=("fake",),
    unit="units",
    higher_is_better=False,
    shown=frozenset({"report", "results", "terminal", "hparams"}),
    heading="radius",
)
SMALL = (
    "dataset=ring",
    "steps=4",
    "batch_size=8",
    "model.generator.hidden=[8]",
    "model.discriminator.hidden=[8]",
    "callbacks.verdict.samples=200",
)


def mean_radius(fake: torch.Tensor) -> float:
    """Returns the mean distance of points `(n, 2)` from the origin."""
    if not len(fake):
        raise Undefined("there are no finite samples")
    return fake.norm(dim=1).mean().item()


@pytest.mark.slow
def test_one_declaration_adds_a_metric_everywhere(monkeypatch, tmp_path):
    """Evaluation, summary, metrics.csv, TensorBoard's HPARAMS, comparison, effects, report, results, reserved names."""
    monkeypatch.setitem(METRICS, "radius", RADIUS)
    summaries = {}
    for loss in ("mse", "bce"):
        for seed in (0, 1):
            folder = tmp_path / "runs" / f"{loss}_{seed}"
            built, run = training(folder, *SMALL, f"loss={loss}", f"seed={seed}")
            fit(built, run)
            summaries[folder.name] = run.read_summary()
    radii = {name: summary["metrics"]["radius"] for name, summary in summaries.items()}
    assert all(radius >= 0 for radius in radii.values())
    assert summaries["mse_0"]["real_data"]["radius"] == pytest.approx(1, abs=0.02), "of a ring of radius 1"
    table = pd.read_csv(tmp_path / "runs" / "mse_0" / "metrics.csv")
    assert table["metric/radius"].iloc[-1] == pytest.approx(radii["mse_0"], rel=1e-6)
    events = b"".join(path.read_bytes() for path in (tmp_path / "runs" / "mse_0").glob("events.*"))
    assert b"metric/radius" in events, "a column of HPARAMS"

    findings = compare([tmp_path / "runs"])
    write_tables(findings)
    rows = pd.read_csv(tmp_path / "runs" / "comparison.csv").set_index("run")
    assert rows["radius"].to_dict() == pytest.approx(radii)
    effects = pd.read_csv(tmp_path / "runs" / "effects.csv").set_index("metric")
    assert "mean distance from the origin" in effects.loc["radius", "sentence"]
    assert findings.measures["radius"].unit == "units"
    assert findings.measures["radius"].higher_is_better is False

    write_results([tmp_path / "runs"], tmp_path / "results.md")
    heads = [line for line in (tmp_path / "results.md").read_text().splitlines() if line.startswith("|  |")]
    assert heads
    assert all("| radius |" in line for line in heads)
    with refused("conflict", "metrics.radius"):
        check_metrics({"metrics": {"radius": {"_target_": "mine.radius", "_partial_": True}}})


def test_an_undefined_number_is_null_with_its_reason_and_one_that_does_not_apply_is_absent(monkeypatch):
    monkeypatch.setitem(METRICS, "radius", RADIUS)
    evaluator = evaluator_for(synthetic.ring(samples=500), Path(classifier_cache()))
    result = evaluator.evaluate(torch.full((10, 2), torch.nan))
    assert result.metrics["radius"] is None
    assert result.undefined["radius"] == "there are no finite samples"
    assert "radius" not in evaluator.mode_metrics(torch.zeros(10, 2))[0], "there are no features yet"
    assert {"class_accuracy", "ndb", "evaluator_accuracy"}.isdisjoint(result.metrics)


def test_metrics_of_one_function_share_its_call(monkeypatch):
    calls = []

    def count(fake: torch.Tensor) -> tuple[int, int]:
        calls.append(len(fake))
        return len(fake), 2 * len(fake)

    monkeypatch.setattr(sys.modules[__name__], "mean_radius", count)
    for name, output in (("single", 0), ("double", 1)):
        metric = Metric(name, label=name, function="test_registry.mean_radius", inputs=("fake",), output=output)
        monkeypatch.setitem(METRICS, name, metric)
    values, reasons = compute({"fake": torch.zeros(3, 2)})
    assert (values["single"], values["double"]) == (3, 6)
    assert calls == [3]
    assert not reasons


def test_conditions_can_be_left_out():
    fake = torch.zeros(3, 2)
    both, _ = compute({"fake": fake})
    results, _ = compute({"fake": fake}, kinds=("result",))
    assert both == {"compared": 3}
    assert results == {}


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())
def test_a_declaration_is_sound(metric):
    module, _, name = metric.function.rpartition(".")
    assert callable(vars(import_module(module))[name])
    assert set(metric.inputs) <= MetricInputs.__annotations__.keys()
    assert metric.inputs
    assert metric.label
    assert metric.kind == "result" or not metric.shown & {"report", "results", "hparams"}, "conditions are not compared"
    assert metric.kind == "condition" or "conditions" not in metric.shown


def test_places_show_metrics_by_rank():
    assert [metric.name for metric in shown_in("results")][:3] == ["modes_valid", "modes", "modes_robust"]
    assert {metric.name for metric in shown_in("conditions")} == {"samples", "modes_total", "evaluator_accuracy"}


def test_a_users_metric_has_its_name_as_the_label():
    metric = metric_of("mean_brightness")
    assert (metric.label, metric.unit, metric.higher_is_better, metric.kind) == ("mean brightness", "", None, "result")
    assert not metric.shown


def test_reading_the_registry_imports_neither_torch_nor_the_metrics():
    code = (
        "import json, sys, gan_lab.evaluation.metrics.registry\n"
        "print(json.dumps([name for name in sys.modules if name == 'torch' or name.startswith('gan_lab')]))"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert sorted(json.loads(process.stdout)) == [
        "gan_lab",
        "gan_lab.core",
        "gan_lab.core.version",
        "gan_lab.evaluation",
        "gan_lab.evaluation.metrics",
        registry.__name__,
    ]
