"""The document of results has the runs' own numbers, says what is published, and is the same for the same runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, command, refused
from PIL import Image
from test_compare import ADAM, SGD, made_up

from gan_lab.commands.published import BENCHMARKS
from gan_lab.commands.results import write_results
from gan_lab.comparison import charts, origin
from gan_lab.comparison.charts import progress
from gan_lab.comparison.collect import find_runs, read_record
from gan_lab.comparison.snapshots import MAX_PICTURE_BYTES

RING = "dataset=ring"
ENVIRONMENT = dict(python="3.11.7", torch="2.14.1", device="cpu", threads=1, git="0123abc")
QUALITY = [0.95, 0.96, 0.97]


def best(folder: Path, **more) -> Path:
    """Three members of one run: 8, 8 and 7 modes, in 90 seconds."""
    word = dict(collapse="covered", within_modes="varied", copies=False, likeness="good")
    members = [
        dict(seed=i, samples=2_500, modes=modes, modes_total=8, high_quality=QUALITY[i], kl_uniform=0.01 * (i + 1))
        | dict(kl_data=0.02, precision=0.9, recall=0.8)
        for i, modes in enumerate((8, 8, 7))
    ]
    usual = dict(samples=2_500, modes=8, modes_total=8, modes_robust=8, evaluator_accuracy=None)
    usual |= dict(_dataset="ring", _replicas=3, _seconds=90.0, _replica_metrics=members, _labels=[1] * 8)
    members_words = [word, word | dict(within_modes="narrow"), word | dict(copies=True)]
    usual |= dict(_verdict=word, _replica_verdicts=members_words, _environment=ENVIRONMENT)
    usual |= dict(_real_data=dict(precision=0.97, recall=0.96, high_quality=0.99), _features="their own values")
    usual |= dict(_overrides=["experiment=best/ring", "data_dir=/secret/data", "cache_dir=/secret", "threads=1"])
    run = made_up(folder, RING, **usual | more)
    (run / "images").mkdir()
    for step in (0, 15_000):
        Image.effect_noise((900, 450), 90).save(run / "images" / f"samples_{step:07d}.png")
    return run


def sweep(folder: Path) -> Path:
    """Three remedies and none, five seeds each; r1 and ema are better by 6.4 modes."""
    for remedy, modes in {"": SGD, "r1": ADAM, "ema": ADAM, "r2": SGD}.items():
        for seed, number in enumerate(modes):
            overrides = ["experiment=sweep/remedies", f"remedy=[{remedy}]", f"seed={seed}"]
            results = dict(modes=number, precision=0.5, recall=0.25, _overrides=overrides, _dataset="digits")
            results |= dict(_real_data=dict(precision=0.86, coverage=0.97), _environment=ENVIRONMENT)
            made_up(folder / f"{remedy}_{seed}", f"remedy=[{remedy}]", seed, **results)
    return folder


def table(text: str, row: str) -> dict[str, str]:
    """The row of that name, by column."""
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(f"| {row} |"))
    head = next(lines[i] for i in range(at, 0, -1) if lines[i].startswith("|  |"))
    keys, cells = ([cell.strip() for cell in line.split("|")[1:-1]] for line in (head, lines[at]))
    return dict(zip(keys, cells, strict=True))


def written(folder: Path, *runs: Path) -> str:
    write_results(runs, folder / "docs" / "results.md")
    return (folder / "docs" / "results.md").read_text()


def test_a_benchmark_lists_each_seed_and_what_is_published(tmp_path):
    text = written(tmp_path, best(tmp_path / "ring"))
    assert "### best/ring" in text
    assert "3 seeds on ring: 3 covered; within the modes 1 narrow, 2 varied; likeness 3 good; 1 copying.\n\n|" in text
    numbers = ["modes", "high quality", "KL from uniform", "copies", "samples", "steps", "seconds per seed"]
    rows = {row: [table(text, row)[number] for number in numbers] for row in ("seed 0", "seed 2", "**mean of 3**")}
    assert rows == {  # 90 seconds of three; means of 8, 8, 7, of 95, 96, 97 % and of 0.01, 0.02, 0.03
        "seed 0": ["8", "95.0%", "0.0100", "no", "2,500", "15,000", "30"],
        "seed 2": ["7", "97.0%", "0.0300", "yes", "2,500", "15,000", "30"],
        "**mean of 3**": ["7.67", "96.0%", "0.0200", "1 of 3", "2,500", "15,000", "30"],
    }
    assert table(text, "*fresh real data*")["high quality"] == "99.0%"
    limit, pacgan = table(text, "*sampling limit*"), table(text, "*published:* PacGAN2")
    assert (limit["high quality"], limit["KL from uniform"]) == ("98.9%", "0.0014")
    assert [pacgan[number] for number in numbers[:3]] == ["7.9", "95.6%", "0.07"]
    assert pacgan["source"] == "Lin et al. 2018 (PacGAN), Table 1"
    assert "Caution: Published numbers are means" in text
    assert "evaluated samples per run 2,500" in text
    assert "compared by their own values" in text
    assert "Environment: python 3.11.7; torch 2.14.1; device cpu; threads 1; git 0123abc; ended " in text
    assert "```\npython train.py experiment=best/ring\n```" in text
    assert "secret" not in text, "where things lie on a machine is nobody's business"


def test_published_numbers_are_those_of_the_papers():
    """The best ones, and what perfect data have: (M - 1) / 2N, of real stacked digits a little more."""
    first = {name: benchmark.scores[0] for name, benchmark in BENCHMARKS.items()}
    assert [first[name].method for name in ("ring", "grid", "stacked_mnist")] == ["PacGAN2", "PacGAN4", "R3GAN"]
    assert (first["grid"].modes, first["grid"].high_quality, first["grid"].kl) == (24.8, 0.936, 0.04)
    assert (first["stacked_mnist"].modes, first["stacked_mnist"].kl) == (1000, 0.029)
    for benchmark in BENCHMARKS.values():
        limit = benchmark.limit
        assert limit.kl == pytest.approx((limit.modes - 1) / (2 * benchmark.samples), rel=0.25)
        assert all(score.modes <= limit.modes and score.kl != 0 for score in benchmark.scores)
        assert all(score.kl is None or score.kl > limit.kl for score in benchmark.scores), "none beats the data"


def test_another_sample_size_has_its_own_limit(tmp_path):
    members = [dict(seed=0, samples=5_000, modes=8, modes_total=8)]
    text = written(tmp_path, best(tmp_path / "ring", samples=5_000, _replica_metrics=members))
    assert table(text, "*sampling limit*")["KL from uniform"] == "0.00070"  # 7 / 10,000


def test_a_sweep_has_its_sentences_and_a_row_for_each_variant(tmp_path):
    text = written(tmp_path, sweep(tmp_path / "sweep"))
    assert "### sweep/remedies\n\n20 runs of 4 variants on digits. Each remedy is compared with no remedy" in text
    assert "- ema added 6.4 captured modes out of 10 on average \\[" in text
    assert "compared with no remedy, 5 seeds, g = 4.9, p = 0.024 corrected for 3 comparisons).\n" in text
    none, r1 = table(text, "remedy none"), table(text, "r1")
    assert (none["modes"], none["seeds"]) == ("2 ± 1.2", "5"), "of 1, 1, 2, 2 and 4: variance 6 / 4"
    assert r1["modes"] == "8.40 ± 1.1", "of 7, 8, 8, 9 and 10: variance 5.2 / 4"
    assert [r1[head] for head in ("KL from the data", "precision", "recall", "verdict")] == [
        *("0.0100", "0.500", "0.250", "5 covered; likeness 5 good")
    ]
    assert table(text, "*fresh real data*")["coverage"] == "0.970"
    assert table(text, "*sampling limit*")["KL from the data"] == "0.00045"  # 9 / 20,000
    assert "python train.py -m experiment=sweep/remedies 'remedy=[],[ema],[r1],[r2]' seed=0,1,2,3,4\n" in text
    assert "- Each remedy is compared with no remedy; remedies are not compared with each other." in text
    assert "Published numbers" in text


def test_runs_that_an_earlier_verdict_judged_have_a_caution(tmp_path):
    older = dict(collapse="covered", copies=False, likeness="good")
    text = written(tmp_path, best(tmp_path / "ring", _verdict=older), sweep(tmp_path / "sweep"))
    assert text.count("Caution: judged by an earlier verdict") == 2
    text = written(tmp_path, best(tmp_path / "new"))
    assert "Caution: judged by an earlier verdict" not in text


def test_pictures_are_next_to_the_document_and_small(tmp_path):
    text = written(tmp_path, sweep(tmp_path / "sweep"), best(tmp_path / "ring"))
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert pictures == ["pictures/results_best_ring_samples.png", "pictures/results_sweep_remedies_modes.png"]
    for path in pictures:
        picture = tmp_path / "docs" / path
        assert picture.stat().st_size <= MAX_PICTURE_BYTES
        with Image.open(picture) as image:
            assert min(image.size) > 100
    assert text.index("## Benchmarks") < text.index("## Comparisons") < text.index("## How the numbers were obtained")


def test_a_sweep_shows_the_last_samples_of_each_variant_that_has_some_and_real_ones(tmp_path):
    folder = sweep(tmp_path / "sweep")
    red, green, blue = np.eye(3, dtype=np.uint8) * 255
    for run, colour in {"_1": red, "r1_0": green, "r1_1": blue}.items():  # of none's runs only the second has one
        (folder / run / "images").mkdir()
        for step, drawn in ((0, blue), (10, colour)):
            halves = np.stack([drawn, blue]).repeat(100, 0)[None].repeat(100, 0)
            Image.fromarray(halves).save(folder / run / "images" / f"samples_{step:07d}.png")
    assert "![Samples of each variant's first run" in written(tmp_path, folder)
    pixels = np.asarray(Image.open(tmp_path / "docs/pictures/results_sweep_remedies_samples.png").convert("RGB"))
    places = [np.nonzero((abs(pixels.astype(int) - colour) < 30).all(2))[1] for colour in (red, green, blue)]
    assert places[0].max() < places[1].min() <= places[1].max() < places[2].min()
    assert all(len(place) > 0.1 * pixels[..., 0].size / 3 for place in places)


def test_progress_is_drawn_over_processor_time_from_evaluations_of_equal_size(tmp_path, monkeypatch):
    """1,800 s of three for 15,000 steps are 4 minutes each at step 6,000. Evaluations of 1,000 samples don't count."""
    seen = []
    monkeypatch.setattr(charts, "progress", lambda *drawn: seen.append(drawn) or progress(*drawn))
    run = best(tmp_path / "ring", _processor_seconds=1800.0, _real_data=dict(kl_uniform=0.0014))
    rows = {2_500: [], 1_000: []}
    for number, lines in rows.items():
        for step in (3_000, 6_000, 9_000, 15_000):
            lines.append(",".join([f"{step}", *(f"{number},{(i + 1) / step}" for i in range(3))]))
    columns = [f"metric/{name}/{i}" for i in range(3) for name in ("samples", "kl_uniform")]
    head = ",".join(["step", *columns]) + "\n"
    other = ",".join(["12000", *["1000,0.5"] * 3])
    (run / "metrics.csv").write_text(head + "\n".join([*rows[2_500], other]) + "\n")
    text = written(tmp_path, run)
    assert "](pictures/results_best_ring_progress.png)" in text
    (((panel,), unit),) = seen
    assert (panel.real, panel.logarithmic, unit) == (0.0014, True, "processor time in minutes")
    assert list(panel.curves) == ["seed 0", "seed 1", "seed 2"]
    for i, curve in enumerate(panel.curves.values(), 1):
        assert curve.to_dict() == pytest.approx({2: i / 3_000, 4: i / 6_000, 6: i / 9_000, 10: i / 15_000})
    assert table(text, "**mean of 3**")["processor seconds per seed"] == "600", "1,800 s of three"
    (run / "metrics.csv").write_text(head + "\n".join(rows[1_000]))
    assert "progress" not in written(tmp_path, run)
    (run / "metrics.csv").write_text("step,metric/samples/0\n1,x\n")
    with refused("damaged", "runs"):
        written(tmp_path, run)


def test_a_tenth_of_the_steps_is_the_short_form(tmp_path):
    """It has a row of its own, mean and standard deviation of 0.2, 0.4 and 0.6, and a command."""
    for seed in range(2):
        made_up(
            tmp_path / f"full{seed}", "steps=500", seed, _overrides=["experiment=best/x", f"seed={seed}"], coverage=0.9
        )
    for seed, coverage in enumerate((0.2, 0.4, 0.6)):
        overrides = ["experiment=best/x", "steps=50", f"seed={seed}"]
        made_up(tmp_path / f"short{seed}", "steps=50", seed, _overrides=overrides, _steps=50, coverage=coverage)
    text = written(tmp_path, *sorted(tmp_path.iterdir()))
    assert "## Comparisons" not in text
    assert table(text, "**mean of 2**")["coverage"] == "0.900"
    row = table(text, "*short form, mean of 3*")
    assert (row["coverage"], row["steps"]) == ("0.400 ± 0.20", "50")
    assert "# The short form\npython train.py -m experiment=best/x steps=50 seed=0,1,2\n" in text


@pytest.mark.parametrize("change", ["steps=100", "steps=50 optim.lr=0.1"])
def test_other_runs_are_no_short_form(tmp_path, change):
    """A fifth of the steps, or another learning rate."""
    for name, overrides in (("full", "steps=500"), ("short", change)):
        for seed in range(2):
            chosen = ["experiment=best/x", *overrides.split(), f"seed={seed}"]
            made_up(tmp_path / f"{name}{seed}", overrides, seed, _overrides=chosen)
    text = written(tmp_path, *sorted(tmp_path.iterdir()))
    assert "short form, mean" not in text


def test_an_unfinished_run_leaves_the_short_form_what_it_is(tmp_path):
    for steps, seed in ((500, 0), (500, 1), (50, 0), (50, 1)):
        chosen = ["experiment=best/x", f"steps={steps}", f"seed={seed}"]
        made_up(tmp_path / f"{steps}_{seed}", f"steps={steps}", seed, _overrides=chosen, _steps=steps)
    made_up(tmp_path / "stopped", "steps=700", 2, _overrides=["experiment=best/x"], _status="interrupted", _steps=5)
    text = written(tmp_path, *sorted(tmp_path.iterdir()))
    assert "*short form, mean of 2*" in text
    assert "Not compared:\n\n- stopped: " in text


def test_the_days_on_which_runs_ended(tmp_path):
    folder = sweep(tmp_path / "sweep")
    for time, file in enumerate(sorted(folder.rglob("summary.json"))):
        os.utime(file, (0, 86_400 * 365 + 3_600 * time))  # 20 runs from midnight on, an hour apart
    assert "; ended 1971-01-01." in written(tmp_path, folder)
    os.utime(file, (0, 86_400 * 366))
    assert "; ended 1971-01-01 to 1971-01-02." in written(tmp_path, folder)


def test_the_same_runs_give_the_same_document(tmp_path):
    runs = sweep(tmp_path / "sweep"), best(tmp_path / "ring")
    written(tmp_path, *runs)
    before = {path: path.read_bytes() for path in (tmp_path / "docs").rglob("*") if path.is_file()}
    written(tmp_path, *runs, runs[0] / "r1_0")  # once more, although named twice
    assert {path: path.read_bytes() for path in (tmp_path / "docs").rglob("*") if path.is_file()} == before
    assert len(before) == 3


def test_runs_of_one_experiment_belong_together_wherever_they_lie(tmp_path):
    for seed in range(2):
        made_up(tmp_path / f"place{seed}" / "run", "", seed, _overrides=["experiment=best/digits", f"seed={seed}"])
    made_up(tmp_path / "mine" / "run", "name=own", 0, _overrides=["name=own"])
    made_up(tmp_path / "folder" / "run", "", 0, _overrides=[])
    text = written(tmp_path, *(tmp_path / name for name in ("place0", "place1", "mine", "folder")))
    assert re.findall(r"^### (.*)$", text, re.MULTILINE) == ["best/digits", "own", "folder"]
    assert "python train.py -m experiment=best/digits seed=0,1" in text
    assert text.count("No picture: no picture of samples.") == 3


def test_failed_runs_are_named_and_names_are_text(tmp_path):
    folder = sweep(tmp_path / "sweep")
    (folder / "gone").mkdir()
    (folder / "gone" / "job.json").write_text(json.dumps(dict(status="failed", error="<b>|_x_ [a](b)")))
    text = written(tmp_path, folder)
    assert "Not compared:\n\n- gone: failed before it began: \\<b\\>\\|\\_x\\_ \\[a](b)\n" in text


@pytest.mark.parametrize("name", ["summary.json", "config.yaml"])
def test_damaged_runs_are_refused(tmp_path, name):
    folder = sweep(tmp_path / "sweep")
    (folder / "r1_0" / name).write_text("{")
    with refused("damaged", "runs") as error:
        written(tmp_path, folder)
    assert f"r1_0: damaged: {name}" in str(error.value)
    assert not (tmp_path / "docs").exists()


def test_folders_without_results_are_refused(tmp_path):
    with refused("missing", "runs"):
        written(tmp_path, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with refused("missing", "runs"):
        written(tmp_path, tmp_path / "empty")
    made_up(tmp_path / "a" / "b", _status="interrupted", _steps=5)
    with refused("missing", "runs") as error:
        written(tmp_path, tmp_path / "a")
    assert "1 interrupted" in str(error.value)
    with refused("missing", "target"):
        write_results([tmp_path], None)
    with refused("missing", "runs"):
        write_results([], tmp_path / "results.md")


def test_command_lines_of_runs_that_are_no_factorial_design_are_listed_one_by_one(tmp_path):
    command_lines = [
        ["optim=sgd", "seed=0"],
        ["optim=sgd", "seed=1"],
        ["optim=adam", "seed=0"],
        ["~callbacks.curves"],
        [],
    ]
    for i, overrides in enumerate(command_lines):
        made_up(tmp_path / str(i), "", i, _overrides=overrides)
    records = [read_record(run) for run in find_runs(tmp_path)]
    assert origin.commands(records) == [f"python train.py {' '.join(overrides)}" for overrides in command_lines[:3]] + [
        "python train.py '~callbacks.curves'"
    ]
    assert origin.commands(records[:2]) == ["python train.py -m optim=sgd seed=0,1"]


def test_the_command(tmp_path):
    best(tmp_path / "ring")
    completed = command("scripts/results.py", "runs=ring", "target=docs/results.md", cwd=tmp_path)
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout == "Written: docs/results.md, docs/pictures/results_best_ring_samples.png\n"
    (tmp_path / "taken.md").mkdir()
    with refused("storage", "target"):
        write_results([tmp_path / "ring"], tmp_path / "taken.md")


def test_writing_results_needs_neither_torch_nor_hydra():
    code = "import sys, gan_lab.commands.results; sys.exit(bool({'torch', 'hydra', 'omegaconf'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
