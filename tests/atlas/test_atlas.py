"""From run folders to the documents of the atlas."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import refused
from PIL import Image
from test_compare import made_up

from gan_lab.atlas.cells import cells
from gan_lab.atlas.document import BEGIN, END
from gan_lab.atlas.plan import SEEDS
from gan_lab.atlas.table import COLUMNS, read_costs, read_records, read_tables, write_table
from gan_lab.commands.results import write_results

BASES = ("notes", "short")
LOW = [0.10, 0.11, 0.12, 0.13, 0.14]
HIGH = [0.50, 0.51, 0.52, 0.53, 0.54]


def job(folder: Path, name: str, coverage: list[float], **more) -> Path:
    """A run of replicas; `name` is what its experiment is called after the prefix."""
    steps = more.pop("steps", 3000)
    seed, _ = SEEDS[name.partition("/")[0]]
    verdict = dict(collapse="partial", within_modes="narrow", likeness="poor")
    members = [dict(coverage=value, modes=5, modes_valid=4, modes_total=10, junk=0.5) for value in coverage]
    values = dict(_dataset="digits", _replicas=len(coverage), _replica_metrics=members, _processor_seconds=50.0)
    values |= dict(_overrides=[f"experiment=atlas/{name}", f"seed={seed}"], _steps=steps, _verdict=verdict)
    values |= dict(_replica_verdicts=[verdict] * len(coverage), _environment=dict(git="0123abc", device="cpu"))
    values |= dict(coverage=float(np.mean(coverage)))
    return made_up(folder, f"steps={steps} replicas={len(coverage)}", seed, **values | more)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three treatments of two bases, the tuning of one, and the films of one."""
    folder = tmp_path / "runs"
    for base in BASES:
        place = f"digits/{base}"
        job(folder / base / "none", f"time/{place}/none/published", LOW)
        job(folder / base / "r1", f"time/{place}/r1/weak", LOW, steps=1500)
        job(folder / base / "r1_steps", f"steps/{place}/r1/weak", HIGH)
        job(folder / base / "hinge", f"time/{place}/hinge/published", HIGH)
        job(folder / base / "rate", f"time/{place}/learning-rate/a-fifth", [0.31, 0.10, 0.23, 0.12, 0.14])
        for strength, first in (("weak", 0.2), ("strong", 0.1)):
            job(folder / base / strength, f"tuning/{place}/r1/{strength}", [first, 0.3], steps=1500)
    for name in ("none/published", "r1/weak"):
        film = job(folder / "films" / name, f"films/digits/short/{name}", [0.1], _replicas=1)
        (film / "images").mkdir()
        for step in (0, 1500, 3000):
            Image.effect_noise((300, 300), 90).save(film / "images" / f"samples_{step:07d}.png")
    return folder


@pytest.fixture
def costs(tmp_path: Path) -> Path:
    """The file of a benchmark in which a step of r1 takes twice as long."""
    path = tmp_path / "costs.json"
    speeds = {"none, published": 1.0, "r1, weak": 0.5, "hinge, published": 1.0, "learning rate, a fifth": 1.0}
    path.write_text(json.dumps({"benchmarks": [{"title": "digits", "ratios": {"none, published": speeds}}]}))
    return path


def test_each_gan_has_a_row(runs):
    table = read_tables([], read_records(runs))
    # 2 bases × (5 jobs of 5 replicas and 2 of 2); films are not in it.
    assert len(table) == 2 * (5 * 5 + 2 * 2)
    is_r1 = (table["stage"] == "time") & (table["treatment"] == "r1") & (table["base"] == "notes")
    row = table[is_r1].iloc[0]
    expected = dict(dataset="digits", strength="weak", steps=1500, seed=1000, coverage=0.1, modes=5, modes_valid=4)
    expected |= dict(collapse="partial", processor_seconds=10, commit="0123abc", error="")
    assert {key: row[key] for key in expected} == expected
    assert set(table["strength"]) == {"published", "weak", "strong", "a fifth"}
    assert "learning rate" in set(table["treatment"])


def test_a_member_that_nan_ended_counts_as_coverage_0(tmp_path):
    members = [dict(coverage=0.4, modes_valid=3, modes_total=10), dict(error="It produced NaN or infinity at step 7.")]
    job(tmp_path / "failed", "time/digits/short/ema/weak", [0.4, 0.0], _replica_metrics=members)
    table = read_tables([], read_records(tmp_path / "failed"))
    assert table["coverage"].tolist() == [0.4, 0.0]
    assert table["modes_valid"].tolist() == [3, 0]
    assert "NaN" in table["error"].iloc[1]


@pytest.mark.parametrize("member", [dict(error="The disk is full."), dict(modes=3), dict(coverage=None)])
def test_a_member_that_failed_otherwise_is_refused(tmp_path, member):
    usual = dict(coverage=0.4, modes_valid=3, modes_total=10)
    job(tmp_path / "failed", "time/digits/short/ema/weak", [0.4, 0.0], _replica_metrics=[usual, member])
    with refused("damaged", "runs"):
        read_tables([], read_records(tmp_path / "failed"))


def test_a_table_comes_back_as_it_was_written(runs, costs, tmp_path):
    table = read_tables([], read_records(runs))
    path = tmp_path / "atlas.csv"
    path.write_text(write_table(table))
    again = read_tables([path], [])
    assert again.columns.tolist() == COLUMNS
    assert cells(again, read_costs([costs])) == cells(table, read_costs([costs]))
    # Each GAN once, also if it is named twice.
    assert len(read_tables([path], read_records(runs))) == len(table)


def test_the_documents_are_written_and_can_be_written_again_from_the_table(runs, costs, tmp_path):
    target = tmp_path / "docs" / "atlas.md"
    target.parent.mkdir()
    target.write_text(f"# The atlas\n\nBy hand.\n\n{BEGIN}\nformer part\n{END}\n\n## The design\n")
    write_results([runs, costs], target)
    text = target.read_text()
    assert text.startswith("# The atlas\n\nBy hand.\n")
    assert text.endswith("## The design\n")
    assert "former part" not in text
    part = text.split(BEGIN)[1].strip()
    # 7 jobs with 10 s for each GAN, and twice 2 with 25 s.
    assert part.startswith("58 GANs, 0.2 hours of one processor core, at commit 0123abc. 6 cells, 5 or more seeds")
    assert "- digits, short: balance, decay," in part
    assert "- ring, notes: balance" in part
    row = next(line for line in text.splitlines() if line.startswith("| short | r1 | weak |"))
    assert "0.120 → 0.120" in row
    assert "(1,500) | small |" in row
    assert "+0.40 [0.38, 0.42]" in row
    assert "| strong 0.20, **weak 0.25** |" in part
    folder = target.parent
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"atlas.md", "atlas.html", "atlas.csv", "pictures/atlas_map.png", "pictures/atlas_r1.gif"}
    before = {name: (folder / name).read_bytes() for name in files}
    write_results([folder / "atlas.csv", costs], target)
    assert {name: (folder / name).read_bytes() for name in files} == before


def test_the_page_has_every_cell_and_fetches_nothing(runs, costs, tmp_path):
    target = tmp_path / "docs" / "atlas.md"
    write_results([runs, costs], target)
    page = target.with_suffix(".html").read_text()
    content = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1])
    assert len(content["cells"]) == 6
    cell = next(cell for cell in content["cells"] if (cell["base"], cell["treatment"]) == ("short", "r1"))
    assert cell["equal_time"]["coverage"]["difference"] == 0
    assert cell["equal_steps"]["coverage"]["difference"] == pytest.approx(0.4)
    assert (cell["strength"], cell["cost"], cell["steps"]) == ("weak", 2.0, 1500)
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", page)
    assert "R1, Mescheder et al. 2018" in page
    assert page.count("data:image/gif;base64,") == 1


def test_a_document_without_marks_is_not_overwritten(runs, costs, tmp_path):
    target = tmp_path / "docs" / "atlas.md"
    target.parent.mkdir()
    target.write_text("mine")
    with refused("exists", "target"):
        write_results([runs, costs], target)
    assert [path.name for path in target.parent.iterdir()] == ["atlas.md"]


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", ",".join(COLUMNS) + "\n" + ",".join(["x"] * len(COLUMNS)), "\0"])
def test_a_damaged_table_is_refused(costs, tmp_path, text):
    path = tmp_path / "atlas.csv"
    path.write_text(text)
    with refused("damaged", "runs"):
        write_results([path, costs], tmp_path / "docs" / "atlas.md")
    assert not (tmp_path / "docs").exists()


CELL_OF_R1 = dict(
    stage="time", dataset="digits", base="short", treatment="r1", strength="weak", steps="1500", seed="1000"
)
VALID = CELL_OF_R1 | dict(coverage="0.5", modes="5", modes_valid="4", modes_total="10", collapse="partial", commit="ab")


@pytest.mark.parametrize(
    "change",
    [
        dict(dataset="mnist"),
        dict(base="other"),
        dict(treatment="r3"),
        dict(strength="huge"),
        dict(stage="mine"),
        dict(seed="1020"),
        dict(seed=""),
        dict(steps="inf"),
        dict(coverage=""),
        dict(coverage="1.5"),
        dict(modes_valid="11"),
        dict(modes_total=""),
        dict(collapse="<b>"),
        dict(commit="a|b"),
    ],
)
def test_a_table_with_what_no_training_can_have_is_refused(tmp_path, change):
    path = tmp_path / "atlas.csv"

    def read(row):
        path.write_text(f"{','.join(COLUMNS)}\n{','.join(row.get(column, '') for column in COLUMNS)}\n")
        return read_tables([path], [])

    assert len(read(VALID)) == 1
    with refused("damaged", "runs") as error:
        read(VALID | change)
    assert "line 2" in str(error.value)


def test_a_cell_of_failures_only_is_written(runs, costs, tmp_path):
    failed = dict(_status="failed", _error="The loss is NaN or infinity.", _replica_metrics=None)
    job(tmp_path / "runs" / "ema", "time/digits/short/hinge/published", HIGH)
    for seed in (1000, 1001):
        folder = tmp_path / "runs" / f"balance{seed}"
        job(folder, "time/digits/short/balance/weak", [0.0], **failed)
    costs.write_text(costs.read_text().replace('"r1, weak"', '"balance, weak": 1.0, "r1, weak"'))
    write_results([tmp_path / "runs", costs], tmp_path / "docs" / "atlas.md")
    assert "balance" in (tmp_path / "docs" / "atlas.csv").read_text()


@pytest.mark.parametrize("speed", ["NaN", "Infinity", "0", "-1", "1e-320", "1" + 400 * "0", '"x"', "null"])
def test_costs_that_are_no_times_are_refused(costs, speed):
    costs.write_text(costs.read_text().replace("0.5", speed))
    with refused("damaged", "runs"):
        read_costs([costs])


@pytest.mark.parametrize("text", ["", "[]", '{"benchmarks": 1}', '{"benchmarks": [{"title": "a", "ratios": {}}]}'])
def test_damaged_costs_are_refused(tmp_path, text):
    path = tmp_path / "costs.json"
    path.write_text(text)
    with refused("damaged", "runs"):
        read_costs([path])


def test_missing_costs_are_refused(runs, costs, tmp_path):
    with refused("missing", "runs"):
        write_results([runs], tmp_path / "docs" / "atlas.md")
    costs.write_text(costs.read_text().replace("r1, weak", "r2, weak"))
    with refused("missing", "runs") as error:
        write_results([runs, costs], tmp_path / "docs" / "atlas.md")
    assert "'digits', 'r1', 'weak'" in str(error.value)
    assert not (tmp_path / "docs").exists()


def test_untreated_runs_alone_are_refused(costs, tmp_path):
    job(tmp_path / "runs" / "none", "time/digits/short/none/published", [0.1, 0.2])
    with refused("missing", "runs"):
        write_results([tmp_path / "runs", costs], tmp_path / "docs" / "atlas.md")


def test_runs_with_different_steps_are_refused(runs, costs, tmp_path):
    job(tmp_path / "runs" / "again", "time/digits/short/r1/weak", LOW, steps=1450)
    with refused("damaged", "runs"):
        write_results([tmp_path / "runs", costs], tmp_path / "docs" / "atlas.md")


def test_among_other_runs_the_atlas_is_left_out(runs, tmp_path):
    made_up(tmp_path / "runs" / "other", _overrides=["experiment=best/digits"])
    write_results([tmp_path / "runs"], tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text()
    assert "### best/digits" in text
    assert "atlas" not in text


def test_places_at_the_floor_are_not_counted(runs, costs, tmp_path):
    for name, strength in (("none", "published"), ("hinge", "published")):
        job(tmp_path / "runs" / "low" / name, f"time/digits/strong_d/{name}/{strength}", [0.01, 0.02, 0.03])
    target = tmp_path / "docs" / "atlas.md"
    write_results([tmp_path / "runs", costs], target)
    assert "reach a mean coverage of 0.05: digits, strong_d." in target.read_text()
    assert "| hinge | 2 |" in target.read_text()
    # Five runs against five can't be shown to differ after a correction for seven cells.
    assert "Helps in 0 of 2 places" in target.with_suffix(".html").read_text()


def test_other_runs_are_no_atlas(tmp_path):
    made_up(tmp_path / "runs" / "a", _overrides=["experiment=best/digits"])
    write_results([tmp_path / "runs"], tmp_path / "results.md")
    assert (tmp_path / "results.md").read_text().startswith("# Results")
