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
from gan_lab.atlas.table import COLUMNS, read_costs, read_table, treatment, write_table
from gan_lab.commands.results import write_results

BASES = ("notes", "short")


def job(folder: Path, name: str, coverage: list[float], experiment: str = "sweep/atlas/digits", **more) -> Path:
    """A run of five replicas; `name` is an override, `base` one of the bases."""
    base = more.pop("base", "short")
    steps = more.pop("steps", 3000)
    verdict = dict(collapse="partial", within_modes="narrow", likeness="poor")
    members = [dict(coverage=value, modes=5, modes_valid=4, modes_total=10, junk=0.5) for value in coverage]
    overrides = [f"experiment={experiment}", "dataset=digits", f"experiment/atlas/base={base}", name, f"steps={steps}"]
    values = dict(_dataset="digits", _replicas=len(coverage), _replica_metrics=members, _processor_seconds=50.0)
    values |= dict(_overrides=overrides, _verdict=verdict, _replica_verdicts=[verdict] * len(coverage), _steps=steps)
    values |= dict(_environment=dict(git="0123abc", device="cpu"), coverage=float(np.mean(coverage)))
    return made_up(folder, f"steps={steps} replicas={len(coverage)}", 1000, **values | more)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two treatments of two bases, with a tuning, longer controls, and the films of one treatment."""
    folder = tmp_path / "runs"
    for base in BASES:
        job(folder / base / "none", "remedy=[]", [0.10, 0.11, 0.12, 0.13, 0.14], base=base)
        job(folder / base / "r1", "remedy=[r1,weak]", [0.50, 0.51, 0.52, 0.53, 0.54], base=base)
        job(folder / base / "longer", "remedy=[]", [0.6, 0.61, 0.62, 0.63, 0.64], base=base, steps=6000)
        job(folder / base / "hinge", "loss=hinge", [0.11, 0.10, 0.13, 0.12, 0.14], "sweep/atlas/losses", base=base)
        job(folder / base / "batch", "norm=batch", [0.31, 0.10, 0.23, 0.12, 0.14], "sweep/atlas/norms", base=base)
        for strength in ("weak", "strong"):
            job(folder / base / strength, f"remedy=[r1,{strength}]", [0.2, 0.3], "sweep/atlas/tuning_images", base=base)
    for name in ("[]", "[r1,weak]"):
        film = job(folder / f"film{name}", f"remedy={name}", [0.1], "sweep/atlas/films", _replicas=1)
        (film / "images").mkdir()
        for step in (0, 1500, 3000):
            Image.effect_noise((300, 300), 90).save(film / "images" / f"samples_{step:07d}.png")
    return folder


def costs(folder: Path, speed: float) -> Path:
    """The file of a benchmark in which r1 makes `speed` times as many steps."""
    path = folder / "costs.json"
    ratios = {"remedy=[]": {"remedy=[]": 1.0, "remedy=[r1,weak]": speed, "loss=hinge": 1.0}}
    path.write_text(json.dumps({"benchmarks": [{"title": "digits", "ratios": ratios}]}))
    return path


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["remedy=[]"], ("remedy", "none", "published")),
        (["remedy=[r1,weak]"], ("remedy", "r1", "weak")),
        (["remedy=[r1, ema, strong]", "seed=1"], ("remedy", "r1 + ema", "strong")),
        (["loss=hinge"], ("loss", "hinge", "published")),
        (["norm=batch", "steps=3"], ("norm", "batch", "published")),
        ([], ("remedy", "none", "published")),
    ],
)
def test_the_command_line_names_the_treatment(overrides, expected):
    assert treatment(overrides) == expected


def test_each_gan_has_a_row(runs):
    table = read_table([runs])
    # 2 bases × (5 jobs of 5 replicas and 2 of 2); films are not in it.
    assert len(table) == 2 * (5 * 5 + 2 * 2)
    row = table[(table["treatment"] == "r1") & (table["base"] == "notes") & (table["strength"] == "weak")].iloc[0]
    expected = dict(group="remedy", steps=3000, seed=1000, coverage=0.5, modes=5, modes_valid=4, collapse="partial")
    expected |= dict(experiment="sweep/atlas/digits", processor_seconds=10, commit="0123abc", error="")
    assert {key: row[key] for key in expected} == expected


def test_a_failed_member_counts_as_coverage_0(runs, tmp_path):
    members = [dict(coverage=0.4), dict(error="The loss is NaN.")]
    job(tmp_path / "failed", "remedy=[ema]", [0.4, 0.0], _replica_metrics=members)
    table = read_table([tmp_path / "failed"])
    assert table["coverage"].tolist() == [0.4, 0.0]
    assert "NaN" in table["error"].iloc[1]


def test_a_table_comes_back_as_it_was_written(runs, tmp_path):
    table = read_table([runs])
    path = tmp_path / "atlas.csv"
    path.write_text(write_table(table))
    again = read_table([path])
    assert again.columns.tolist() == COLUMNS
    first = cells(table, {})
    second = cells(again, {})
    assert {(cell.base, cell.treatment): cell.equal_time for cell in first} == {
        (cell.base, cell.treatment): cell.equal_time for cell in second
    }
    # Each GAN once, also if it is named twice.
    assert len(read_table([path, runs])) == len(table)


def test_the_documents_are_written_and_can_be_written_again_from_the_table(runs, tmp_path):
    target = tmp_path / "docs" / "atlas.md"
    target.parent.mkdir()
    target.write_text(f"# The atlas\n\nBy hand.\n\n{BEGIN}\nformer part\n{END}\n\n## The design\n")
    write_results([runs, costs(tmp_path, 0.5)], target)
    text = target.read_text()
    assert text.startswith("# The atlas\n\nBy hand.\n")
    assert text.endswith("## The design\n")
    assert "former part" not in text
    # The tuning has 8 of the 58 GANs. r1 costs two steps, and so is compared with 6,000 of them.
    assert (
        text.split(BEGIN)[1].strip().startswith("58 GANs, 0.2 hours of one processor core, at commit 0123abc. 6 cells")
    )
    row = next(line for line in text.splitlines() if line.startswith("| short | r1 | weak |"))
    assert "0.120 → 0.520" in row
    assert "(6,000) | **harms** |" in row
    folder = target.parent
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"atlas.md", "atlas.html", "atlas.csv", "pictures/atlas_map.png", "pictures/atlas_r1.gif"}
    before = {name: (folder / name).read_bytes() for name in files}
    write_results([folder / "atlas.csv", costs(tmp_path, 0.5)], target)
    assert {name: (folder / name).read_bytes() for name in files} == before


def test_the_page_has_every_cell_and_fetches_nothing(runs, tmp_path):
    target = tmp_path / "atlas.md"
    write_results([runs], target)
    page = (tmp_path / "atlas.html").read_text()
    content = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1])
    assert len(content["cells"]) == 6
    cell = next(cell for cell in content["cells"] if (cell["base"], cell["treatment"]) == ("short", "r1"))
    assert cell["equal_steps"]["difference"] == pytest.approx(0.4)
    assert cell["strength"] == "weak"
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", page)
    assert "R1, Mescheder et al. 2018" in page
    assert page.count("data:image/gif;base64,") == 1


def test_a_document_without_marks_is_not_overwritten(runs, tmp_path):
    target = tmp_path / "atlas.md"
    target.write_text("mine")
    with refused("exists", "target"):
        write_results([runs], target)
    assert [path.name for path in tmp_path.iterdir() if path.name != "runs"] == ["atlas.md"]


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", ",".join(COLUMNS) + "\n" + ",".join(["x"] * len(COLUMNS)), "\0"])
def test_a_damaged_table_is_refused(tmp_path, text):
    path = tmp_path / "atlas.csv"
    path.write_text(text)
    with refused("damaged", "runs"):
        write_results([path], tmp_path / "atlas.md")
    assert not (tmp_path / "atlas.md").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"benchmarks": 1}', '{"benchmarks": [{"title": "a", "ratios": {}}]}'])
def test_damaged_costs_are_refused(runs, tmp_path, text):
    path = tmp_path / "costs.json"
    path.write_text(text)
    with refused("damaged", "runs"):
        read_costs([path])


def test_untreated_runs_alone_are_refused(tmp_path):
    job(tmp_path / "runs" / "none", "remedy=[]", [0.1, 0.2])
    with refused("missing", "runs"):
        write_results([tmp_path / "runs"], tmp_path / "atlas.md")


def test_other_runs_are_no_atlas(tmp_path):
    made_up(tmp_path / "runs" / "a", _overrides=["experiment=best/digits"])
    write_results([tmp_path / "runs"], tmp_path / "results.md")
    assert (tmp_path / "results.md").read_text().startswith("# Results")
