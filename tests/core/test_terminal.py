"""Texts of strangers: on the terminal, in CSV cells, in Markdown, in pictures, in TensorBoard."""

import csv
import io
import json
import re
import sys
import unicodedata
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, command_here, training
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan_lab import preflight
from gan_lab.commands import backquery
from gan_lab.commands.evaluate import describe
from gan_lab.commands.results import write_results
from gan_lab.commands.summary import announce
from gan_lab.commands.summary import describe as describe_run
from gan_lab.commands.train import fit
from gan_lab.comparison.comparison import conclude
from gan_lab.config import sweep
from gan_lab.core import terminal
from gan_lab.core.csv_table import csv_cell, csv_text, read_step_table, step_table_text
from gan_lab.core.errors import LabError
from gan_lab.core.run_folder import FORMAT, Run
from gan_lab.core.terminal import escape_texts, printable, say
from gan_lab.plotting.samples import mode_frequencies
from gan_lab.plotting.style import plain_powers
from gan_lab.preflight import Check
from gan_lab.training.callbacks.loggers import MetricsTable, TensorBoard, read_table

FORMULA = "=cmd|' /C calc'!A0"
TITLE = "\x1b]0;owned\x07"
EXPERIMENT = "a](http://evil)|`\n# Fake"
FAKED = "fine\nAll variants are equal: p < 0.001"
UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def steering(text: str) -> list[str]:
    """The characters of a text that aren't what they seem, newlines aside."""
    return [letter for letter in text if letter != "\n" and unicodedata.category(letter) in UNSEEN]


def formulas(path: Path) -> list[str]:
    """The cells of a CSV file that a spreadsheet would take for a formula."""
    cells = []
    for row in csv.reader(io.StringIO(path.read_text(encoding="utf-8"))):
        for text in row:
            start = unicodedata.normalize("NFKC", text).lstrip()[:1]
            if start and start in "=+-@" and not re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", text):
                cells.append(text)
    return cells


# What is escaped, and what stays.


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        (TITLE, r"\x1b]0;owned\x07"),
        ("\x9b31mred", r"\x9b31mred"),  # a C1 control: ESC [ in one character
        ("\x90q\x9c", r"\x90q\x9c"),
        ("safe\rEVIL", r"safe\rEVIL"),
        ("evil\b\b\b\bgood", r"evil\x08\x08\x08\x08good"),
        ("a\nb\tc\x0bd", r"a\nb\tc\x0bd"),
        ("\x7f\x00", r"\x7f\x00"),
        ("exe.\u202egnp", r"exe.\u202egnp"),
        ("\u2066a\u2069\u200e\u200f\u061c", r"\u2066a\u2069\u200e\u200f\u061c"),
        ("a\u2028b\u2029c\x85d", r"a\u2028b\u2029c\x85d"),
        ("\udc80", r"\udc80"),
        ("\ue000\ufeff\u200b\xad\U000e0041", r"\ue000\ufeff\u200b\xad\U000e0041"),
    ],
)
def test_what_steers_or_deceives_is_escaped(text, escaped):
    assert printable(text) == escaped
    assert printable(escaped) == escaped
    assert not steering(printable(text, lines=True).replace("\t", ""))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Straße, e\u0301té, naïve – “quoted” · 5 × 3",
        "漢字　かな 한글 ไทย हिन्दी العربية עברית",
        "می\u200cخواهم \U0001f469\u200d\U0001f467 ❤\ufe0f \u0600\u0661",
        "non\xa0breaking, back\\slash \\x1b",
    ],
)
def test_what_people_write_stays(text):
    assert printable(text) == text


def test_a_message_has_lines_and_its_names_have_none(capsys):
    assert printable("a\n\tb\r\x1b", lines=True) == "a\n\tb\\r\\x1b"
    assert terminal.join_lines(["one", FAKED]).count("\n") == 1
    say(f"\nfirst\n\tsecond {TITLE}\udc80")
    say(ValueError("\x1b[31mred"), stderr=True)
    out, err = capsys.readouterr()
    assert out == "\nfirst\n\tsecond \\x1b]0;owned\\x07\\udc80\n"
    assert err == "\\x1b[31mred\n"


def test_all_texts_of_a_file_are_cleaned():
    escaped = escape_texts({"\x1b": ["\r", {"a": "\u202e"}, 1, None, True], "n": -1.5})
    assert escaped == {"\\x1b": ["\\r", {"a": "\\u202e"}, 1, None, True], "n": -1.5}
    deep: dict = {}
    for _ in range(5_000):  # no RecursionError
        deep = {"a": deep}
    assert len(json.dumps(escape_texts(deep))) < 1_000


def test_tracebacks_and_warnings_are_printable(capsys, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    terminal.escape_tracebacks()
    try:
        raise RuntimeError(TITLE)
    except RuntimeError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    warnings.showwarning(UserWarning(f"Glyph {TITLE}"), UserWarning, "file\x1b.py", 1)
    err = capsys.readouterr().err
    assert "Traceback (most recent call last):\n  File" in err
    assert "RuntimeError: \\x1b]0;owned\\x07\n" in err
    assert "file\\x1b.py:1: UserWarning: Glyph \\x1b]0;owned\\x07\n" in err
    assert not steering(err)


# CSV.


@pytest.mark.parametrize(
    ("value", "escaped"),
    [
        (FORMULA, f"'{FORMULA}"),
        ("+1+cmd", "'+1+cmd"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\\t=1"),
        ("\r=1", "'\\r=1"),
        ("\n=1", "'\\n=1"),
        ("  =1", "'  =1"),
        ("\u3000\xa0\u200d=1", "'\u3000\xa0\u200d=1"),
        ("\ufeff=1", "'\\ufeff=1"),
        ("＝1", "'＝1"),
        ("＋1", "'＋1"),
        ("－1", "'－1"),
        ("＠A1", "'＠A1"),
        ("﹦1", "'﹦1"),
        ("-", "'-"),
        ("-1", "-1"),
        ("+0.5", "+0.5"),
        ("-1e-05", "-1e-05"),
        ("1-2", "1-2"),
        ("a=b", "a=b"),
        ("", ""),
        (TITLE, "\\x1b]0;owned\\x07"),
        (-1.5, -1.5),
        (None, None),
        (True, True),
    ],
)
def test_cells(value, escaped):
    assert csv_cell(value) == escaped
    assert csv_cell(escaped) == escaped  # once is enough


def test_numbers_stay_as_they_are_and_headers_are_cells_too():
    table = pd.DataFrame(
        {
            "x": [-1.5, np.nan, 2e-9],
            "n": pd.array([-1, None, 3], dtype="Int64"),
            "b": [True, False, True],
            "maybe": [True, None, -2],
            "text": ["a,b", 'say "=1"', None],
        }
    )
    assert csv_text(table) == table.to_csv(index=False, lineterminator="\n")
    assert csv_text(table, "%.9g") == table.to_csv(index=False, float_format="%.9g", lineterminator="\n")
    table.columns = ["=x", "x", "x", "\x1b", "@t"]
    assert csv_text(table).splitlines()[0] == "'=x,x,x,\\x1b,'@t"
    assert table.columns[0] == "=x"


def test_a_table_of_steps_is_what_pandas_writes():
    rows = {
        20: {"loss/g": 0.1 + 0.2, 'a "b", c': -1e-9},
        40: {"loss/g": float("nan"), "metric/x": 123456789.0},
        1000: {"metric/x": float("inf"), "loss/g": 1.0},
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    expected = table.to_csv(index_label="step", float_format="%.7g", lineterminator="\n")
    assert step_table_text(rows) == expected


def test_a_table_of_steps_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(step_table_text({20: {"loss/g": 0.25}, 40: {"metric/x": 3.0}}))
    table = read_step_table(path)
    assert list(table) == ["step", "loss/g", "metric/x"]
    assert np.array_equal(list(table.values()), [[20, 40], [0.25, np.nan], [np.nan, 3]], equal_nan=True)
    for damage in ("", "step,x\n1", "step\nx", "step\n\xff"):
        path.write_bytes(damage.encode("latin-1"))
        with pytest.raises(LabError, match="metrics.csv is damaged"):
            read_step_table(path)


def test_metrics_csv_goes_on_under_the_names_it_has(tmp_path):
    run = Run(tmp_path)
    logged = MetricsTable(run)
    logged.log_metrics({"loss/g": -0.5, FORMULA: 1.0, f"metric/{TITLE}": 2.0}, 20)
    logged.save()
    assert not formulas(run.metrics)
    assert not steering(run.metrics.read_text())
    logged.rows = read_table(run.metrics).set_index("step").to_dict("index")
    logged.log_metrics({"loss/g": -0.25, FORMULA: 3.0, f"metric/{TITLE}": 4.0}, 40)
    logged.save()
    table = read_table(run.metrics)
    assert list(table.columns) == ["step", "loss/g", f"'{FORMULA}", "metric/\\x1b]0;owned\\x07"]
    assert table["loss/g"].tolist() == [-0.5, -0.25]


def test_only_one_place_writes_csv_and_only_one_makes_figures():
    """The CSV functions of pandas and Python, and matplotlib's Figure, are used in one file each; see ruff's T20."""
    sources = {
        path.name: path.read_text() for path in [*(ROOT / "gan_lab").rglob("*.py"), *(ROOT / "scripts").iterdir()]
    }
    assert [name for name, text in sources.items() if re.search(r"\.to_csv\(|csv\.(writer|DictWriter)", text)] == [
        "csv_table.py"
    ]
    assert [name for name, text in sources.items() if "matplotlib.figure" in text] == ["style.py"]


# The commands.

CONFIG = {
    "format": FORMAT,
    "loss": {"_target_": "gan_lab.gan.losses.BCE"},
    "optim": {"_target_": "torch.optim.Adam"},
    "dataset": {"_target_": "gan_lab.data.images.digits"},
    "seed": 0,
    "steps": 100,
}


def fabricated_run(folder: Path, settings: dict, seed: int, metrics: dict, **entries) -> Path:
    """Writes a run folder with these settings and metrics; `entries` are further ones of summary.json."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(json.dumps({**CONFIG, **settings, "seed": seed}), encoding="utf-8")
    about = dict(status="finished", error=None, steps=100, seconds=1.0, dataset="digits", labels=[10] * 10, seed=seed)
    about |= dict(metrics=dict(samples=100, modes_total=10) | metrics, environment={"device": f"cpu{TITLE}"})
    about |= dict(verdict=dict(collapse=f"cov|ered{TITLE}", copies=False)) | entries
    (folder / "summary.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def strangers(tmp_path_factory) -> Path:
    """A folder of runs in which every text is an attack."""
    folder = tmp_path_factory.mktemp("strangers")
    values = [FORMULA, f"b{TITLE}|`<script>alert(1)</script>", FAKED]
    for number, value in enumerate(values):
        for seed in range(4):
            name = f"=run{number}{seed}\x1b[31m"
            metrics = {"modes": number * 3 + seed % 2, "@evil\x9b": seed, "radius": 0.5}
            settings = {"name": EXPERIMENT, f"fla{TITLE}vour": value}
            fabricated_run(folder / name, settings, seed, metrics, overrides=["loss=bce", "a=\n```\n# Fake"])
    (folder / "=run00\x1b[31m" / "images").mkdir()
    (folder / "=run00\x1b[31m" / "images" / "samples_\x9b.png").write_bytes(b"none")
    error = f"{TITLE}It blew\x9b up.\nMore of it."
    fabricated_run(
        folder / "-failed\nAll is well|", {"name": EXPERIMENT, "flavour": "x"}, 9, {}, status="failed", error=error
    )
    odd = fabricated_run(folder / "odd\u202e", {}, 9, {}, status=f"odd{TITLE}", steps="\x1b")
    (odd / "config_until_step_5.yaml").write_text('"\\e[31m": [')
    return folder


def test_a_comparison_of_strangers_runs(strangers):
    completed = command_here("scripts/compare.py", f"runs={strangers}", cwd=strangers)
    assert completed.returncode == 0, completed.stderr
    assert not steering(completed.stdout + completed.stderr)
    assert "\\x1b]0;owned\\x07" in completed.stdout
    assert "-failed\\nAll is well|: failed: \\x1b]0;owned\\x07It blew\\x9b up.\n" in completed.stdout
    assert not [line for line in completed.stdout.splitlines() if line.startswith(("All ", "More "))]
    for name in ("comparison.csv", "effects.csv"):
        assert not formulas(strangers / name)
        assert not steering((strangers / name).read_text())
    rows = pd.read_csv(strangers / "comparison.csv")
    assert f"'{FORMULA}" in set(rows["fla\\x1b]0;owned\\x07vour"])
    assert {"'@evil\\x9b", "radius"} <= set(rows.columns)
    assert rows["modes"].dropna().tolist()[:3] == [0.0, 1.0, 0.0]
    effects = pd.read_csv(strangers / "effects.csv")
    assert f"'{FORMULA}" in set(effects["before"])
    assert (effects["difference"] != 0).any()
    page = (strangers / "report.html").read_text(encoding="utf-8")
    assert not steering(page)
    assert "<script>alert" not in page


def test_results_of_strangers_runs(strangers, tmp_path):
    target = tmp_path / "results.md"
    folders = [path for path in sorted(strangers.iterdir()) if path.is_dir() and "odd" not in path.name]
    assert not steering(printable(write_results(folders, target)))
    text = target.read_text(encoding="utf-8")
    assert not steering(text)
    assert "<script>" not in text.replace("\\<script", "")
    bars = [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")]
    assert len(bars) > 4
    assert len(set(bars)) == 1
    assert text.count("\n```") == 2
    assert "\n# Fake" not in text
    assert "### a](http://evil)\\|\\`\\\\n\\# Fake" in text
    assert "\nAll is well" not in text


def test_results_of_one_strangers_run(tmp_path):
    run = fabricated_run(tmp_path / "run", {}, "7|<script>", {"modes": 3})
    (run / ".hydra").mkdir()
    (run / ".hydra" / "overrides.yaml").write_text(json.dumps(["a=\n```\n# Fake"]))
    (run / "images").mkdir()
    (run / "images" / "samples_0000001.png").write_bytes(b"none")
    (run / "images" / "samples_](http:\x9b.png").write_bytes(b"none")
    write_results([tmp_path], tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "| seed 7\\|\\<script\\> |" in text
    assert "samples\\_0000001.png is damaged" in text
    assert "http:" not in text, "no picture of ours has that name"
    assert text.count("\n```") == 2
    assert "\n# Fake" not in text


def test_a_picture_in_markdown_keeps_its_text(strangers):
    from gan_lab.commands.results import Section

    section = Section("x", [], None, {})
    line = section.add_picture("samples", b"", "of a](http://evil/x.png)![b")[0]
    assert re.fullmatch(r"!\[[^\]]*\\\]\(http://evil/x.png\)!\[b\]\(pictures/results_x_samples.png\)", line)


def test_an_error_that_quotes_a_name(tmp_path):
    completed = command_here("scripts/compare.py", f'runs="no{TITLE}\x9b\rfolder"', cwd=tmp_path)
    assert completed.returncode == 2
    assert "no\\x1b]0;owned\\x07\\x9b\\rfolder" in completed.stderr
    assert not steering(completed.stderr)
    completed = command_here("scripts/explore.py", f'run="no{TITLE}\x9b\rrun"', cwd=tmp_path)
    assert completed.returncode == 2
    assert "no\\x1b]0;owned\\x07\\x9b\\rrun is not a run folder" in completed.stderr
    with pytest.raises(LabError, match=r"fine\\nAll variants"):
        conclude([tmp_path / FAKED])
    fabricated_run(tmp_path / FAKED, {}, 0, {}, status="failed", error=TITLE)
    assert len(conclude([tmp_path / FAKED]).splitlines()) == 1, "the name in the path of the page fakes no line"


def test_a_sweep_of_strangers_jobs(tmp_path, capsys):
    for name, job in ((FAKED, {"status": "failed", "error": f"{TITLE}\nMore"}), (TITLE, {"status": "interrupted"})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "job.json").write_text(json.dumps(job))
    current = sweep.Current.__new__(sweep.Current)
    current.folder, current.search, current.watch = tmp_path, [], sweep.Watch(tmp_path, 2)
    current.lock = SimpleNamespace(release=lambda: None)
    assert current.finish(lambda _: None) == 1
    err = capsys.readouterr().err
    assert not steering(err.replace("\r", ""))  # the bar's own
    assert "failed    fine\\nAll variants are equal: p < 0.001: \\x1b]0;owned\\x07" in err
    assert "failed: fine\\nAll variants" in err
    assert "interrupted: \\x1b]0;owned\\x07" in err


def test_packing_a_strangers_archive(tmp_path):
    source = tmp_path / "a\nPacked 1,000 of 1,000 images\x9b.zip"
    image = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(image, "PNG")
    with zipfile.ZipFile(source, "w") as archive:
        for number in range(4):
            archive.writestr(f"{TITLE}class/{number}\u202e.png", image.getvalue())
        archive.writestr("class/bad\x1b[2J\b.png", b"no image")
    keys = [f"source='{source}'", "target=packed.h5", "labels=folders", "max_bad=0.5", "workers=0", "size=8"]
    completed = command_here("scripts/pack.py", *keys, cwd=tmp_path)
    assert completed.returncode == 0, completed.stderr
    assert not steering(completed.stdout + completed.stderr)
    assert "class/bad\\x1b[2J\\x08.png" in completed.stdout
    assert sum(line.startswith("Packed") for line in completed.stdout.splitlines()) == 1


def test_an_evaluation_of_a_strangers_run(capsys):
    result = {"run": f"outputs/{FAKED}{TITLE}", "step": 1, "samples": 10, "seeds": 1, "features": f"pixels{TITLE}"}
    result |= {"reference": f"held-out samples{TITLE}", "next_step": FAKED}
    result |= {"weights": "own", "members": [0], "mean": {f"own{TITLE}": 1.0}, "spread": {f"own{TITLE}": None}}
    result |= {"real_data": {}, "undefined": {"ct": FAKED}, "verdicts": [{"member": 0, "sentence": FAKED}]}
    say(describe(result))
    out = capsys.readouterr().out
    assert not steering(out)
    assert not any(line.startswith("All variants") for line in out.splitlines())


def test_exploring_a_strangers_run(tmp_path):
    folder = tmp_path / f"{TITLE}$\\frac{{$\x9b\nAll is well"
    tiny = ("dataset=ring", "dataset.samples=100", "latent_dim=2", "steps=1", "batch_size=4", "logger=table")
    tiny += ("model.generator.hidden=[]", "model.discriminator.hidden=[4]")
    built, run = training(folder, *tiny, "~callbacks.verdict", "~callbacks.pictures", "~callbacks.curves")
    summary, _ = fit(built, run)
    assert "\n" not in announce(built, run)
    assert "\\nAll is well" in announce(built, run)
    assert "\nAll is well" not in describe_run(summary, run)
    completed = command_here("scripts/explore.py", f'run="{folder}"', "op=walk", "n=2", cwd=tmp_path)
    assert completed.returncode == 0, completed.stderr
    assert "\\x1b]0;owned\\x07$\\frac{$\\x9b\\nAll is well" in completed.stdout
    assert not steering(completed.stdout + completed.stderr)
    assert "Glyph" not in completed.stderr  # of the title
    assert not any(line.startswith("All is well") for line in completed.stdout.splitlines())
    (table,) = folder.glob("explore/*.csv")
    assert not formulas(table)
    assert pd.read_csv(table)["name"][1] == "'+ 1/12"
    assert len(list(folder.glob("explore/*.png"))) == 1


# Class names.

NAMES = [FORMULA, f"{TITLE}\x9b", FAKED, "$\\frac{$", "$x$ 漢字"]


def row(name: str) -> dict:
    """Returns a row of backquery's results for a class of this name."""
    numbers = dict(correlation=0.5, correlation_other=-0.25, confidence=0.9, variety=0.0, data_variety=0.1, pairs=3)
    texts = {"label": 0, "class": name, "method": "inverse", "same_bits": True, "likest_other": name, "read_as": name}
    return texts | numbers | {"data_pairs": 3}


def test_backquery_of_strangers_classes(tmp_path, capsys):
    images = torch.rand(len(NAMES), 1, 4, 4)
    findings = backquery.Findings(NAMES, {"inverse": images}, images, None, [row(name) for name in NAMES], {})
    say(backquery.describe(findings))
    out = capsys.readouterr().out
    assert not steering(out)
    assert not any(line.startswith("All variants") for line in out.splitlines())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glyphs that the font lacks
        backquery.write(findings, tmp_path, {})
    assert not formulas(tmp_path / "backquery.csv")
    table = pd.read_csv(tmp_path / "backquery.csv")
    assert table["class"].tolist()[0] == f"'{FORMULA}"
    assert (table["correlation_other"] == -0.25).all()


def test_checks_name_strangers_classes(tmp_path):
    check = Check("data", "the data")
    check.warnings = [f"5 classes have no sample ({', '.join(NAMES)})."]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        preflight.write([(check, Figure())], tmp_path)
    text = preflight.describe([(check, Figure())], tmp_path)
    assert not steering(text)
    assert not any(line.startswith("All variants") for line in text.splitlines())


def test_a_dollar_in_a_name_is_no_formula(tmp_path):
    counts, shares = torch.ones(len(NAMES)), torch.full((len(NAMES),), 1 / len(NAMES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure = mode_frequencies(counts, shares, NAMES, "title $\\frac{$")
        figure.savefig(tmp_path / "labels.png")
    labels = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert labels[3] == NAMES[3]
    assert not any(map(steering, labels))


@pytest.mark.parametrize(("low", "high"), [(1e-9, 1), (300, 900), (1000, 2e6)])
def test_powers_are_written_plainly(low, high, tmp_path):
    figure = Figure()
    axes = figure.subplots()
    axes.set(xscale="log", xlim=(low, high))
    plain_powers(axes.xaxis)
    figure.savefig(tmp_path / "powers.png")
    texts = [tick.get_text() for minor in (False, True) for tick in axes.get_xticklabels(minor=minor)]
    assert len([text for text in texts if text]) >= 2
    assert all(re.fullmatch(r"[0-9.,]*(e[+-][0-9]+)?", text) for text in texts)


# TensorBoard.


def test_tensorboard_takes_any_name(tmp_path):
    run = Run(tmp_path)
    run.write_config("name: a\x9b\n")
    board = TensorBoard(run)
    board.log_hyperparams({f"fla\udc80{TITLE}": "\udc80\x00\x1b", "lr": -0.5})
    board.log_metrics({"metric/\udc80\x1b": 2.0}, 3)
    board.save()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.value for event in events.Scalars("metric/\\udc80\\x1b")] == [2.0]
