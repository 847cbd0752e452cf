"""Each kind of failure is recognised from the files of a run; a healthy run has none."""

import json

import pytest

from gan_lab.comparison.collect import Record
from gan_lab.core.errors import LabError
from gan_lab.core.run_folder import Run
from gan_lab.cure.examination import examine

COVERED = {"collapse": "covered", "within_modes": "varied", "likeness": "good", "balance": "balanced"}
METRICS = {"modes_valid": 10, "modes_total": 10, "junk": 0.02, "pairwise_ratio": 1.0, "d_auc": 0.6}


def record(folder, verdict=None, metrics=None, modes=(), junk=0.0, status="finished", error=None):
    """A run of 5,000 steps with an evaluation every 1,000; `modes` are those of 10 that each one counts."""
    lines = ["step,metric/samples,metric/modes_valid,metric/modes_total,metric/junk"]
    for i, made in enumerate(modes):
        lines.append(f"{1000 * (i + 1)},1000,{made},10,{junk}")
    (folder / "metrics.csv").write_text("\n".join(lines))
    summary = {
        "status": status,
        "error": error,
        "steps": 5000,
        "verdict": COVERED | (verdict or {}),
        "metrics": METRICS | (metrics or {}),
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return Record(Run(folder), {}, summary, status, "" if status == "finished" else f"{status} at step 5,000 of 5,000")


def test_healthy_run_has_nothing_wrong_even_if_d_wins(tmp_path):
    examination = examine(record(tmp_path, {"balance": "D is winning"}, {"d_auc": 1.0}, [3, 8, 10, 10, 10]))
    assert examination.is_healthy


def test_copies_are_no_collapse(tmp_path):
    examination = examine(record(tmp_path, {"copies": True}))
    assert examination.is_healthy
    assert examination.copies


def test_one_mode_and_since_when(tmp_path):
    verdict = {"collapse": "collapsed", "sentence": "Collapsed: it makes only the 8."}
    examination = examine(record(tmp_path, verdict, {"modes_valid": 1}, [2, 1, 3, 1, 1]))
    assert examination.failures == ["one mode"]
    # From step 4,000 on it made one mode and never more again.
    assert examination.symptoms[0].since == 4000
    assert "1 of 10 modes" in examination.symptoms[0].sentence


def test_one_image_that_is_of_no_mode(tmp_path):
    metrics = {"modes_valid": 0, "junk": 0.0, "pairwise_ratio": 0.009}
    examination = examine(record(tmp_path, {"collapse": "collapsed"}, metrics, [0] * 5))
    assert examination.failures == ["one mode"]
    assert "0.9% as far apart" in examination.symptoms[0].sentence


def test_missing_modes_are_named(tmp_path):
    verdict = {
        "collapse": "partial",
        "sentence": "Partial: it makes eight of the ten digits; missing or rare: 4, 9. More.",
    }
    examination = examine(record(tmp_path, verdict, {"modes_valid": 8}, [8, 8, 8, 8, 8]))
    assert examination.failures == ["missing modes"]
    assert "4, 9" in examination.symptoms[0].sentence
    assert "from the first evaluation" in examination.symptoms[0].sentence


def test_junk_that_is_one_image(tmp_path):
    verdict = {"collapse": "collapsed", "likeness": "poor"}
    metrics = {"modes_valid": 0, "junk": 1.0, "pairwise_ratio": 0.01}
    examination = examine(record(tmp_path, verdict, metrics, [0] * 5, junk=1.0))
    assert examination.failures == ["junk", "one mode"]


def test_collapse_within_modes(tmp_path):
    examination = examine(record(tmp_path, {"within_modes": "collapsed"}, {"variety_within": 0.1}, [10] * 5))
    assert examination.failures == ["collapsed within modes"]
    assert "variety 0.10" in examination.symptoms[0].sentence


def test_only_mode_there_is_needs_no_variety(tmp_path):
    assert examine(record(tmp_path, {"within_modes": "collapsed"}, {"modes_total": 1, "modes_valid": 1})).is_healthy


def test_causes_stand_after_the_failure(tmp_path):
    verdict = {"collapse": "collapsed", "balance": "D is winning"}
    # It falls from 8 to 3 and from 9 to 2: twice by more than a fifth of ten modes.
    examination = examine(record(tmp_path, verdict, {"modes_valid": 2, "d_auc": 0.999}, [8, 3, 9, 2, 2]))
    assert examination.failures == ["missing modes", "D wins", "oscillation"]
    assert "100% of pairs" in examination.symptoms[1].sentence


def test_still_learning(tmp_path):
    examination = examine(record(tmp_path, {"collapse": "collapsed"}, {"modes_valid": 5}, [0, 1, 2, 3, 5]))
    assert examination.failures == ["missing modes", "slow"]


def test_blow_up(tmp_path):
    error = "NaN or infinity at step 123: the loss of D."
    examination = examine(record(tmp_path, status="failed", error=error))
    assert examination.failures == ["blow-up"]
    assert "step 123" in examination.symptoms[0].sentence


@pytest.mark.parametrize("status", ["interrupted", "unfinished"])
def test_run_that_has_not_ended_is_refused(tmp_path, status):
    with pytest.raises(LabError, match="resume"):
        examine(record(tmp_path, status=status))


def test_run_without_a_word_on_collapse_is_refused(tmp_path):
    with pytest.raises(LabError, match="verdict"):
        examine(record(tmp_path, {"collapse": "unknown"}))
