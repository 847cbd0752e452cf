"""Fabricated failures are what they say, and the trial counts what the verdict says about them."""

import dataclasses

import pandas as pd
import pytest
import torch
from conftest import ROOT, classifier_cache, refused
from omegaconf import OmegaConf

from gan_lab.benchmark import failures, verdict
from gan_lab.benchmark.failures import IMAGES, POINTS, RealSamples
from gan_lab.config.schema import VERDICT_DATASETS
from gan_lab.core.errors import LabError
from gan_lab.core.rng import make_generator
from gan_lab.data import images, synthetic
from gan_lab.evaluation.feature_spaces import PixelFeatures
from gan_lab.evaluation.verdict import VerdictEvaluator


@pytest.fixture(scope="module")
def digits() -> RealSamples:
    dataset = images.digits()
    train, heldout = dataset.train, dataset.heldout
    return RealSamples(train.values, train.labels, heldout.values, heldout.labels, 10)


@pytest.fixture(scope="module")
def ring() -> RealSamples:
    dataset = synthetic.ring(samples=2_000)
    train, heldout = dataset.train, dataset.heldout
    return RealSamples(train.values, train.labels, heldout.values, heldout.labels, 8, dataset.centres, dataset.std)


def _make(real: RealSamples, name: str, severity: float, n: int = 360) -> torch.Tensor:
    listed = IMAGES if real.centres is None else POINTS
    return listed[name].make(real, severity, n, make_generator(0, "test/failure"))


def _share_of(samples: torch.Tensor, among: torch.Tensor) -> float:
    """Returns the share of samples that are, to the bit, among others."""
    others = {row.numpy().tobytes() for row in among}
    return sum(row.numpy().tobytes() in others for row in samples) / len(samples)


def _severities(name: str, listed, modes: int) -> list[float]:
    return [severity for severity in listed[name].severities if not listed[name].removes_modes or severity < modes]


@pytest.mark.parametrize("name", IMAGES)
def test_every_failure_makes_images(digits, name):
    for severity in _severities(name, IMAGES, 10):
        samples = _make(digits, name, severity, 100)
        assert samples.shape[1:] == (1, 8, 8)
        assert 0 < len(samples) <= 100
        assert name == "NaN samples" or samples.isfinite().all()
        again = _make(digits, name, severity, 100)
        assert torch.equal(samples.nan_to_num(), again.nan_to_num()), "the same numbers, the same samples"


@pytest.mark.parametrize("name", POINTS)
def test_every_failure_makes_points(ring, name):
    for severity in _severities(name, POINTS, 8):
        samples = _make(ring, name, severity, 100)
        assert samples.shape == (100, 2)
        assert name == "NaN samples" or samples.isfinite().all()


def test_shares_are_exact(digits):
    for share in (0.01, 0.25, 1.0):
        made = _make(digits, "copies", share, 300)
        assert _share_of(made, digits.train) == pytest.approx(share, abs=0.01), "a few real images occur twice"
        is_nan = _make(digits, "NaN samples", share, 300).isnan().flatten(1).all(1)
        assert is_nan.double().mean() == pytest.approx(share)
        assert (_make(digits, "uniform noise", share, 300) % (1 / 16)).flatten(1).any(1).double().mean() >= share
    assert _share_of(_make(digits, "mirror images", 0.0), digits.fresh) == 1


def test_repeated_images_are_as_many_as_stated(digits):
    assert len(_make(digits, "few images", 30).unique(dim=0)) == 30
    assert len(_make(digits, "few images of each class", 2).unique(dim=0)) == 20
    assert len(_make(digits, "medoids", 1).unique(dim=0)) == 10
    assert _share_of(_make(digits, "medoids", 1), digits.train) == 0
    assert len(_make(digits, "class means", 1).unique(dim=0)) == 10
    noisy = _make(digits, "few images, noise 0.05", 30)
    assert len(noisy.unique(dim=0)) == 360
    assert torch.equal(_make(digits, "less spread", 1.0).unique(dim=0), failures.means_of_classes(digits).unique(dim=0))


def test_classes_are_left_out_or_made_more_often(digits):
    labels = {image.numpy().tobytes(): label for image, label in zip(digits.fresh, digits.fresh_labels, strict=True)}

    def counts(name: str, severity: float) -> list[int]:
        made = [labels[image.numpy().tobytes()].item() for image in _make(digits, name, severity)]
        return [made.count(label) for label in range(10)]

    assert counts("missing classes", 2)[:3] == [0, 0, 35]
    assert counts("one class too often", 5)[0] == 129, "5 · 36 of 5 · 36 + 9 · 36"
    assert counts("one class too rare", 0.9)[0] < 10 < counts("one class too rare", 0.9)[1]


def test_points_have_the_spread_and_the_places_that_are_stated(ring):
    def distances(name: str, severity: float) -> torch.Tensor:
        return torch.cdist(_make(ring, name, severity, 2_500), ring.centres).min(1).values / ring.std

    assert distances("narrower modes", 0.5).square().mean().sqrt() == pytest.approx(0.5 * 2**0.5, rel=0.05)
    assert distances("narrower modes", 1.0).max() < 1e-4
    assert distances("wider modes", 2.0).square().mean().sqrt() == pytest.approx(2 * 2**0.5, rel=0.05)
    assert distances("circles", 1).sub(failures.CIRCLE).abs().max() < 1e-3
    assert (distances("uniform points", 0.5) > 5).double().mean() == pytest.approx(0.5, abs=0.05)
    assert (distances("three at each centre", 1) == 0).sum() == 24


def test_few_modes_stay_few(digits):
    made = _make(digits, "three tenths of the modes", 0.0)
    kept = digits.fresh[digits.fresh_labels < 3]
    assert _share_of(made, kept) == 1


# The trial -----------------------------------------------------------------------------------------------------------


def _draws(*rows: tuple[str, float, str, str, str, str]) -> pd.DataFrame:
    columns = ("failure", "severity", *verdict.GOOD_WORDS)
    table = [{"dataset": "digits", "samples": 180, **dict(zip(columns, row, strict=True))} for row in rows]
    return pd.DataFrame(table).assign(**dict.fromkeys(verdict.METRICS, 1.0))


def test_counts_of_words():
    good = ("covered", "varied", "good", "False")
    draws = _draws(
        (verdict.REAL, 0, *good),
        (verdict.REAL, 0, "covered", "varied", "borderline", "False"),
        ("copies", 0.25, "covered", "varied", "good", "True"),
        ("copies", 0.25, "covered", "varied", "good", "None"),
        ("copies", 0.5, "covered", "narrow", "good", "True"),
        ("medoids", 1, "covered", "varied", "good", "True"),
    )
    real, quarter, half, medoids = verdict.summarize(draws).to_dict("records")
    assert (real["draws"], real["good"], real["noticed"], real["undecided"]) == (2, 1, 0, 1)
    assert (quarter["draws"], quarter["good"], quarter["noticed"], quarter["undecided"]) == (2, 0, 1, 1)
    assert (half["noticed"], half["copies: True"], half["within_modes: narrow"]) == (1, 1, 1)
    assert (medoids["noticed"], medoids["good"]) == (0, 0), "another label than the one that should notice it"
    assert real["likeness: borderline"] == 1
    tables = verdict.tables(verdict.summarize(draws))
    assert "| digits | 180 | 2 | 1 | 98.7 % | 0 | 0 | 1 | 0 |" in tables
    assert "| copies | share of copies | 1 %, 2 %, 5 %, 10 %, 25 %, 50 %, 100 % | 50 % |" in tables, (
        "from half on in all draws"
    )
    assert "| medoids | – | 1 | no (0 of 1) |" in tables
    lines = ("| copies: share of copies | digits |", "|---|---|", "| none (real data) | 0 of 2 |", "| 25 % | 1 of 2 |")
    assert "\n".join((*lines, "| 50 % | 1 of 1 |\n")) in tables


def test_a_trial_continues_its_table(tmp_path, monkeypatch):
    cases = [verdict.Case("ring", name, severity, 0) for name, severity in ((verdict.REAL, 0.0), ("copies", 1.0))]
    monkeypatch.setattr(verdict, "cases_of", lambda dataset, rounds: cases[:rounds])
    small = synthetic.ring(samples=2_000)
    monkeypatch.setattr(verdict.synthetic, "ring", lambda samples: small)
    cfg = OmegaConf.load(ROOT / "conf" / "benchmark.yaml")
    cfg.merge_with({"datasets": ["ring"], "rounds": 1, "table": str(tmp_path / "draws.csv")})
    cfg.cache_dir = classifier_cache()
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
    verdict.run(tmp_path / "first", cfg)
    first = verdict.read_draws(tmp_path / "draws.csv")
    cfg.rounds = 2
    paths = verdict.run(tmp_path / "second", cfg)
    both = verdict.read_draws(tmp_path / "draws.csv")
    assert str(both[0]) == str(first[0]), "not measured again"
    assert [row["failure"] for row in both] == [verdict.REAL, "copies"]
    assert all(path.exists() for path in paths)
    assert (tmp_path / "second" / "verdict_points.png").exists()


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "\0"])
def test_a_table_without_draws_is_refused(tmp_path, content):
    path = tmp_path / "draws.csv"
    path.write_text(content)
    with refused("invalid", "table"):
        verdict.read_draws(path)


def test_the_datasets_of_the_trial_are_those_of_the_configuration():
    assert set(VERDICT_DATASETS) == set(verdict.DATASETS)


def test_the_words_are_those_of_the_whole_verdict(ring):
    """The trial leaves out the papers' metrics, on which no word depends."""
    split = verdict.split_points(synthetic.ring(samples=2_000), 0)
    whole = VerdictEvaluator(split.evaluator.dataset, None, PixelFeatures())
    for severity in (0.5, 1.0):
        samples = _make(ring, "uniform points", severity, 300)
        words = split.evaluator.evaluate(samples)
        everything = whole.evaluate(samples)
        assert {name: words.verdict[name] for name in verdict.GOOD_WORDS} == {
            name: everything.verdict[name] for name in verdict.GOOD_WORDS
        }
        assert {name: everything.metrics[name] for name in words.metrics} == words.metrics
        assert "precision" in everything.metrics.keys() - words.metrics.keys()


def test_without_mnist_the_others_are_tried(tmp_path, monkeypatch, capsys):
    def no_mnist(data_dir: str):
        raise LabError("MNIST cannot be downloaded.", "Copy it.", code="missing", key="data_dir")

    monkeypatch.setattr(verdict.images, "mnist", no_mnist)
    assert verdict.available(["ring"], str(tmp_path)) == ["ring"]
    assert not capsys.readouterr().err
    assert verdict.available(["mnist", "ring", "unlabelled_mnist"], str(tmp_path)) == ["ring"]
    assert "MNIST cannot be downloaded." in capsys.readouterr().err
    with refused("missing", "data_dir"):
        verdict.available(["mnist"], str(tmp_path))


def test_real_data_in_every_draw_and_failures_in_a_tenth():
    cases = list(verdict.cases_of("ring", 20))
    assert sum(case.failure == verdict.REAL for case in cases) == 20
    assert {case.draw for case in cases if case.failure == "copies"} == {0, 1}
    assert len(set(cases)) == len(cases)
    missing = {case.severity for case in verdict.cases_of("patches", 1) if case.failure == "missing classes"}
    assert missing == {1}, "of two classes, none or one can be missing"
    assert [field.name for field in dataclasses.fields(verdict.Case)] == ["dataset", "failure", "severity", "draw"]


def test_the_document_has_the_tables_of_its_csv_file():
    text = (ROOT / "docs" / "verdict.md").read_text(encoding="utf-8")
    for table in verdict.tables(pd.read_csv(ROOT / "docs" / "verdict.csv")).strip().split("\n\n"):
        assert table in text, "fill docs/verdict.md with the tables that what=verdict writes"


def test_fresh_samples_are_in_no_other_part():
    fold = verdict.digits_fold(3)
    split = verdict.split_images(fold, 3, None)
    known = split.evaluator.dataset
    reference = known.heldout.values
    assert len(reference) + len(split.real.fresh) == len(fold.heldout)
    assert split.real.fresh_labels.bincount().tolist() == pytest.approx([18] * 10, abs=1)
    assert _share_of(split.real.fresh, torch.cat([reference, known.train.values])) < 0.01, "digits has a few twins"
