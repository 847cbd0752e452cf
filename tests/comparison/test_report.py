"""The report is one file that fetches nothing, says all that was found, and takes what lies in folders for text."""

import base64
import dataclasses
import hashlib
import io
import itertools
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gan_lab.comparison import pages, panels, snapshots
from gan_lab.comparison.effects import compare, summarise
from gan_lab.comparison.findings import Findings
from gan_lab.comparison.numbers import format_estimate
from gan_lab.comparison.questions import design
from gan_lab.comparison.report import write_report
from gan_lab.comparison.sentences import COLLAPSED, sentence
from gan_lab.core.run_folder import Run
from gan_lab.evaluation.metrics.registry import metric_of

METRICS = ["modes", "frechet_distance", "pairwise_ratio", "collapsed"]
VOID = {"meta", "img", "br", "circle", "line", "input", "link"}


def make_run(folder: Path, seed: int, labels=(5, 3, 2), steps: int = 100) -> None:
    """A folder as a run leaves it: 5 rows, a picture, counts of 3 classes."""
    run, rng = Run(folder), np.random.default_rng(seed)
    run.images.mkdir(parents=True)
    at = np.arange(1, 6) * steps // 5
    losses = {column: 0.5 + 0.1 * rng.random(5) for column in ("loss/d_real", "loss/d_fake", "loss/g")}
    looks = [np.nan, 1, np.nan, np.nan, 3]
    pd.DataFrame({"step": at, **losses, "score/real": 0.5, "metric/modes_valid": looks}).to_csv(
        run.metrics, index=False
    )
    summary = {"status": "finished", "losses": {"equilibrium": 0.25}, "labels": list(labels)}
    run.summary.write_text(json.dumps(summary))
    for step in (0, steps):
        shade = Image.new("RGB", (80, 40), (step % 256, 10 * seed % 256, 90))
        shade.save(run.images / f"samples_{step:07d}.png")


def make_findings(home: Path, levels=None, seeds: int = 3, bare: bool = False, **changes) -> Findings:
    """What a comparison of fabricated runs would find; the second value of the first factor is better by 5 modes."""
    levels = levels or {"optim": ["SGD", "Adam"], "loss": ["MSE", "BCE"]}
    factors, variants = list(levels), list(itertools.product(*levels.values()))
    names = {variant: ", ".join(variant) for variant in variants}
    rows = []
    for variant, seed in itertools.product(variants, range(seeds)):
        good = levels[factors[0]].index(variant[0]) > 0
        path = f"{'_'.join(variant)}_{seed}".replace("/", " ")
        if not bare:
            make_run(home / path, seed)
        row = {"run": path, "variant": names[variant], **dict(zip(factors, variant, strict=True)), "seed": seed}
        row |= {"member": 0, "status": "finished", "steps": 100, "seconds": 2.0 + seed}
        row |= {"collapse": "covered" if good else "collapsed", "collapsed": not good, "modes": 2.0 + seed + 5 * good}
        rows.append(row | {"frechet_distance": 30.25 - 8 * good + seed**2, "pairwise_ratio": 0.5 + seed / 10})
    runs = pd.DataFrame(rows)
    measures = {name: metric_of(name) for name in METRICS} | {"collapsed": COLLAPSED}
    measures["modes"] = dataclasses.replace(measures["modes"], unit="out of 10")
    effects = compare(runs, factors, METRICS, variants) if len(variants) > 1 else []
    answers = [
        (effect, sentence(effect, measures[effect.metric])) for effect in effects if effect.metric in METRICS[:2]
    ]
    defaults = dict(
        title="Which remedy?",
        folder=home,
        runs=runs,
        factors=factors,
        variants=variants,
        names=names,
        design=design(runs, factors, variants) if len(variants) > 1 else "one",
        metrics=METRICS,
        measures=measures,
        summaries=summarise(runs, factors, METRICS),
        effects=effects,
        answers=answers,
        notes=["Intervals are of one comparison each.", "10,000 samples each."],
        excluded=pd.DataFrame(
            [("gone_1", "failed: loss is NaN"), ("gone_2", "5 steps, not 100")], columns=["run", "reason"]
        ),
        common={"dataset": "digits", "steps": "100"},
    )
    return Findings(**defaults | changes)


class Page(HTMLParser):
    """A report as a browser would see it: elements with their attributes and text, and the page's text."""

    def __init__(self, path: Path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[dict] = []
        self._open: list[dict] = []
        self.feed(self.source)
        self.close()
        assert not self._open, "all that was opened is closed"
        self.text = _plain(
            "".join(element["direct_text"] for element in self.elements if element["tag"] not in ("style", "script"))
        )

    def handle_starttag(self, tag, attributes):
        element = {"tag": tag, "direct_text": "", "text": "", "parents": list(self._open), **dict(attributes)}
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.elements.append(
            {"tag": tag, "direct_text": "", "text": "", "parents": list(self._open), **dict(attributes)}
        )

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop()["tag"] == tag

    def handle_data(self, data):
        if self._open:
            self._open[-1]["direct_text"] += data
        for element in self._open:
            element["text"] += data

    def all(self, tag: str, section: str | None = None) -> list[dict]:
        return [
            element
            for element in self.elements
            if element["tag"] == tag
            and (not section or any(parent.get("id") == section for parent in element["parents"]))
        ]


def _plain(text: str) -> str:
    return " ".join(text.split())


def report(findings: Findings, path: Path | None = None) -> Page:
    path = path or findings.folder / "report.html"
    write_report(findings, path)
    return Page(path)


def decoded(uri: str) -> tuple[str, bytes]:
    kind, content = re.fullmatch(r"data:image/(png|gif|svg\+xml);base64,(.*)", uri).groups()
    return kind, base64.b64decode(content, validate=True)


def check_self_contained(page: Page, home: Path) -> None:
    """Nothing is fetched, links lead to folders that are there, one script runs, and every picture can be drawn."""
    assert "://" not in re.sub(r"data:image/[^\"]*", "", page.source)
    ids = {element["id"] for element in page.elements if "id" in element}
    for element in page.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            if (target := element.get(name)) is None:
                continue
            if element["tag"] == "img":
                kind, content = decoded(target)
                if kind in ("png", "gif"):
                    Image.open(io.BytesIO(content)).load()
                else:
                    assert ElementTree.fromstring(content).tag.endswith("svg")
            else:
                assert element["tag"] == "a"
                assert name == "href"
                assert target[1:] in ids if target.startswith("#") else (home / unquote(target)).is_dir(), target
        assert not any(name.startswith("on") for name in element)
    (script,) = page.all("script")
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(script["text"].encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert f"script-src 'sha256-{digest}';" in policy


def test_the_report_is_self_contained(tmp_path):
    page = report(make_findings(tmp_path))
    check_self_contained(page, tmp_path)
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
    assert len(page.all("img", "effects")) == 2
    assert len(page.all("img", "samples")) == 4 + 1, "and real data"
    assert len(page.all("img", "curves")) == len(page.all("img", "labels")) == 4
    assert all(image["alt"] for image in page.all("img"))
    assert all(image["alt"].endswith(": 50%, 30%, 20%") for image in page.all("img", "labels")), "of 5, 3 and 2"
    for image in page.all("img", "curves"):  # words are drawn as paths, and stand in comments
        drawing = decoded(image["src"])[1].decode()
        for words in ("D on real", "D on fakes", "G", "ideal 0.25", "modes made"):
            assert f"<!-- {words} -->" in drawing


def test_the_report_has_all_findings(tmp_path):
    findings = make_findings(tmp_path)
    page = report(findings)
    assert page.all("h1")[0]["text"] == "Which remedy?"
    assert [_plain(item["text"]) for item in page.all("li", "answer")][-2:] == findings.notes
    answers = [_plain(item["text"]) for item in page.all("li", "answer")][:-2]
    assert len(answers) == len(findings.answers) == 6
    for said, (_, expected) in zip(answers, findings.answers, strict=True):
        assert said.endswith(f" {expected}.")
    assert "dataset digits · steps 100" in page.text
    for run, reason in findings.excluded.itertuples(index=False):
        assert f"{run}{reason}" in [_plain(row["text"]) for row in page.all("tr", "excluded")]
    assert [_plain(head["text"]) for head in page.all("th", "table") if head.get("scope") == "row"] == list(
        findings.names.values()
    )


def test_marks_say_what_helped(tmp_path):
    findings = make_findings(tmp_path, {"optim": ["SGD", "Adam"]}, seeds=5)
    one = findings.effects[0]
    effects = {
        "▲ helped": one,
        "▼ harmed": dataclasses.replace(one, difference=-5.0),
        "? too few seeds to tell": dataclasses.replace(one, conclusion="too few seeds", p_holm=0.3),
        "◌ not shown": dataclasses.replace(one, conclusion="not shown", p_holm=0.3),
        "○ no difference": dataclasses.replace(one, conclusion="no difference", p_holm=0.3),
        "○ all runs equal": dataclasses.replace(one, conclusion="no difference", constant=10.0, p_holm=1.0),
        "◆ changed": dataclasses.replace(one, metric="pairwise_ratio"),
    }
    assert one.significant
    page = report(dataclasses.replace(findings, answers=[(effect, "X") for effect in effects.values()]))
    assert [_plain(item["text"]) for item in page.all("li", "answer")][:7] == [f"{mark} X." for mark in effects]


def test_table_has_the_summaries_numbers(tmp_path):
    findings = make_findings(tmp_path)
    page = report(findings)
    summaries = findings.summaries_by_cell()
    heads = [_plain(head["text"]) for head in page.all("th", "table") if head.get("scope") == "col"]
    assert heads[:5] == ["variant", "runs", "captured modes (out of 10)", "each run", "collapsed runs"]
    assert heads[5:] == ["Fréchet distance", "variety relative to the data's", "seconds per run"]
    rows = [row for row in page.all("tr", "table") if any(parent["tag"] == "tbody" for parent in row["parents"])]
    for row, variant in zip(rows, findings.variants, strict=True):
        cells = [cell for cell in page.all("td", "table") if row in cell["parents"]]
        runs, modes, each_run, collapsed, distance, variety, seconds = cells
        for cell, metric in ((modes, "modes"), (distance, "frechet_distance"), (variety, "pairwise_ratio")):
            summary = summaries[variant, metric]
            assert float(cell["data-value"]) == summary.mean
            assert _plain(cell["text"]) == format_estimate(summary.mean, summary.low, summary.high)
        share = summaries[variant, "collapsed"]
        assert float(collapsed["data-value"]) == share.mean
        bounds = f"[{share.low:.0%}, {share.high:.0%}]"
        assert _plain(collapsed["text"]) == f"{3 * (variant[0] == 'SGD')} of 3 {bounds}"
        assert (runs["data-value"], seconds["data-value"]) == ("3", "3.0")
        links = [link for link in page.all("a", "table") if each_run in link["parents"]]
        values = summaries[variant, "modes"].values
        assert [_plain(link["text"]) for link in links] == [f"seed {i}{value:.0f}" for i, value in enumerate(values)]
        assert [link["href"] for link in links] == [f"{'_'.join(variant)}_{i}/" for i in range(3)]
        assert len([dot for dot in page.all("circle", "table") if row in dot["parents"]]) == 3


def test_metrics_without_room_in_the_table_are_below_it(tmp_path, monkeypatch):
    """The table has room for one more metric than the first: the Fréchet distance; variety is in the next table."""
    monkeypatch.setattr("gan_lab.comparison.report.MAX_FURTHER", 1)
    findings = make_findings(tmp_path)
    page = report(findings)
    heads = [_plain(head["text"]) for head in page.all("th", "table") if head.get("scope") == "col"]
    assert heads[5:] == ["Fréchet distance", "seconds per run", "variant", "variety relative to the data's"]
    summary = findings.summaries_by_cell()[findings.variants[-1], "pairwise_ratio"]
    assert _plain(page.all("td", "table")[-1]["text"]) == format_estimate(summary.mean, summary.low, summary.high)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((9.6, 8.4, 10.0), "9.6 [8.4, 10.0]"),
        ((0.41666, 0.4, 0.43), "0.417 [0.400, 0.430]"),
        ((1234.5, None, None), "1,234"),
        ((0.0, None, None), "0"),
        ((-0.0001, -0.0002, 3.0), "0.00 [0.00, 3.00]"),
    ],
)
def test_amounts(numbers, text):
    assert format_estimate(*numbers) == text


def test_runs_without_a_number(tmp_path):
    findings = make_findings(tmp_path)
    runs = findings.runs.assign(modes=findings.runs["modes"].where(findings.runs["run"] != "SGD_MSE_0"))
    runs.loc[runs["variant"] == "Adam, BCE", ["modes", "seconds"]] = np.nan
    summaries = summarise(runs, findings.factors, METRICS)
    page = report(dataclasses.replace(findings, runs=runs, summaries=summaries))
    assert "(2 of 3 runs)" in page.text
    assert "seed 0–" in page.text
    # Of 7, 8 and 9 the interval reaches to 8 + 4.303 / √3, of 3 and 4 from 3.5 − 12.706 / 2.
    assert "on a scale from -2.85 to 10.5" in page.text
    modes = [cell["data-value"] for cell in page.all("td", "table")[1::7]]
    assert modes == ["3.5", "3.0", "8.0", ""], "a missing number sorts by nothing"


EVIL = "<script>alert(1)</script>"


def test_names_and_reasons_are_text(tmp_path):
    levels = {"optim": ["SGD", f'"><img src=x onerror=alert(1)>{EVIL}'], "loss": ["MSE", "{{ 7 * 7 }}$x"]}
    findings = make_findings(tmp_path, levels)
    (tmp_path / "javascript:alert(1)").mkdir()
    excluded = pd.DataFrame(
        [(EVIL, f"failed: {EVIL}"), ("javascript:alert(1)", "\x00&lt;b&gt;\x1b[0m")], columns=["run", "reason"]
    )
    evil = dict(title=EVIL, excluded=excluded, notes=[EVIL], common={EVIL: EVIL})
    page = report(dataclasses.replace(findings, **evil))
    check_self_contained(page, tmp_path)
    assert page.all("h1")[0]["text"] == page.all("title")[0]["text"] == EVIL
    assert f"failed: {EVIL}" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert not any(link["href"].startswith("javascript:") for link in page.all("a"))
    assert "javascript%3Aalert%281%29/" in [link["href"] for link in page.all("a", "excluded")]


@pytest.mark.skipif(os.name == "nt", reason="Windows' names are always Unicode")
def test_names_that_are_no_unicode(tmp_path):
    name = os.fsdecode(b"run_\xff")
    try:
        (tmp_path / name).mkdir()
    except OSError:
        pytest.skip("this file system wants Unicode")
    excluded = pd.DataFrame([(name, "failed")], columns=["run", "reason"])
    page = report(make_findings(tmp_path, bare=True, excluded=excluded))
    assert page.all("a", "excluded")[0]["href"] == "run_%FF/"


def test_links_are_relative_to_the_report(tmp_path):
    findings = make_findings(tmp_path / "runs")
    page = report(findings, tmp_path / "elsewhere" / "report.html")
    check_self_contained(page, tmp_path / "elsewhere")
    assert page.all("a", "samples")[0]["href"] == "../runs/SGD_MSE_0/"
    shutil.rmtree(tmp_path / "runs" / "SGD_MSE_0")
    page = report(findings, tmp_path / "elsewhere" / "report.html")
    check_self_contained(page, tmp_path / "elsewhere")
    assert page.all("a", "samples")[0]["href"] == "../runs/SGD_MSE_1/"


def test_gaps_are_named(tmp_path, monkeypatch):
    findings = make_findings(tmp_path, {"optim": ["SGD", "Adam"]}, seeds=5)
    monkeypatch.setattr(pages, "MAX_PIXELS", 5_000)
    broken = [Run(tmp_path / f"SGD_{seed}") for seed in range(5)]
    broken[0].metrics.unlink()
    broken[1].metrics.write_text("step,loss/d_real\n1,2\n3,x")
    broken[2].metrics.write_text("")
    broken[3].metrics.write_bytes(b"\x00\xff\xfe,\n")
    broken[0].summary.write_text('{"losses": {"equil')
    broken[1].summary.write_text('{"losses": {"equilibrium": "x"}, "labels": [0, 0]}')
    broken[2].summary.write_text('{"losses": null}')
    broken[3].summary.write_text('{"losses": {"equilibrium": null}, "labels": "many"}')
    shutil.rmtree(broken[0].images)
    picture = broken[1].images / "samples_0000100.png"
    picture.write_bytes(picture.read_bytes()[:60])
    (broken[2].images / "samples_0000100.png").write_text("no picture")
    Image.new("L", (100, 100)).save(broken[3].images / "samples_0000100.png")
    page = report(findings)
    check_self_contained(page, tmp_path)
    gaps = {
        section: "; ".join(
            _plain(gap["text"]) for gap in page.elements if gap.get("class") == "gap" and gap in _in(page, section)
        )
        for section in ("samples", "curves", "labels")
    }
    for section, reasons in {
        "samples": ["no picture", "is damaged", "is damaged", "is too large"],
        "curves": ["csv is missing", "csv is damaged", "csv is damaged", "csv "],
        "labels": ["json is damaged"] * 4,
    }.items():
        for seed, reason in enumerate(reasons):
            assert re.search(rf"seed {seed}: [^;]*{reason}", gaps[section]), (section, seed, gaps[section])
        assert "seed 4" not in gaps[section]
    assert len(page.all("img", "curves")) == len(page.all("img", "labels")) == 2, "of the runs that are whole"
    for run in broken:
        shutil.rmtree(run.folder)
    page = report(findings)
    check_self_contained(page, tmp_path)
    assert len(page.all("img", "curves")) == 1


def _in(page: Page, section: str) -> list[dict]:
    return [element for element in page.elements if any(parent.get("id") == section for parent in element["parents"])]


def test_nothing_but_numbers(tmp_path):
    """Runs whose folders are gone, one variant, nothing measured, nothing excluded."""
    excluded = pd.DataFrame(columns=["run", "reason"])
    one = make_findings(tmp_path, {"optim": ["SGD"]}, bare=True, excluded=excluded, notes=[], common={})
    page = report(one)
    check_self_contained(page, tmp_path)
    assert "No comparison could be made." in page.text
    assert not page.all("img")
    assert not page.all("section", "excluded")
    page = report(dataclasses.replace(one, metrics=[], summaries=[]))
    check_self_contained(page, tmp_path)
    assert "SGD" in page.text
    none = dataclasses.replace(one, runs=one.runs[:0], variants=[], summaries=[])
    assert "0 runs of 0 variants" in report(none).text


@pytest.mark.slow
def test_many_variants(tmp_path):
    """26 variants, 325 pairs: all in the table, 24 in pictures; large pictures are made small."""
    findings = make_findings(tmp_path, {"lr": [f"{i}e-3" for i in range(26)]}, seeds=2)
    rng = np.random.default_rng(0)
    for image in tmp_path.glob("1[05]e*_0/images/samples_0000100.png"):
        Image.fromarray(rng.integers(256, size=(560, 1100, 3), dtype=np.uint8)).save(image)
    page = report(findings)
    check_self_contained(page, tmp_path)
    assert len(page.all("tr", "table")) == 1 + 26
    assert len(page.all("img", "curves")) == 24
    assert len(page.all("img", "samples")) == 25
    assert page.text.count("The first 24 of 26 variants") == 4
    assert "The 30 largest of 325 comparisons" in page.text
    assert "313 more" in page.text
    assert len(page.source) < 8e6
    assert all(len(decoded(image["src"])[1]) <= snapshots.MAX_PICTURE_BYTES for image in page.all("img", "samples"))


def test_shown_differences_are_not_folded_away(tmp_path):
    findings = make_findings(tmp_path, {"optim": ["SGD", "Adam"]}, seeds=5)
    shown = findings.effects[0]
    nothing = dataclasses.replace(shown, conclusion="no difference")
    page = report(dataclasses.replace(findings, answers=[(nothing, "N")] * 15 + [(shown, "S")]))
    assert _plain(page.all("li", "answer")[0]["text"]) == "▲ helped S."


def test_equal_findings_give_equal_files(tmp_path):
    findings = make_findings(tmp_path)
    pages = [report(findings, tmp_path / f"{name}.html").source for name in "ab"]
    assert pages[0] == pages[1]


def test_bands_over_seeds():
    """Worked by hand; the second run logged half as often: its value at step 20 is halfway."""
    steps = pd.Index([10, 20, 30], name="step")
    tables = [
        pd.DataFrame({"loss/g": [1.0, 2.0, 6.0]}, index=steps),
        pd.DataFrame({"loss/g": [3.0, 4.0]}, index=steps[::2]),
    ]
    band = panels.bands_over_repetitions(tables)["loss/g"]
    assert band.index.tolist() == [10, 20, 30]
    assert band["mean"].tolist() == [2.0, 2.75, 5.0]
    assert band["low"].tolist() == [1.0, 2.0, 4.0]
    assert band["high"].tolist() == [3.0, 3.5, 6.0]


def test_long_tables_are_thinned(tmp_path):
    """3,000 rows become 300: means of ten each; numbers that are none are left out."""
    loss = np.arange(3000.0)
    loss[5] = np.inf
    pd.DataFrame({"step": np.arange(1, 3001), "loss/g": loss, "other": "x"}).to_csv(tmp_path / "metrics.csv")
    (table,) = panels.read_curves(tmp_path / "metrics.csv")
    assert len(table) == panels.MAX_CURVE_POINTS
    assert table.index[:2].tolist() == [10, 20]
    assert table["loss/g"].tolist()[:2] == [pytest.approx((45 - 5) / 9), 14.5]


def test_pictures_show_generated_and_real_samples(tmp_path):
    """The left half of the last picture is the variant's, the right one real."""
    findings = make_findings(tmp_path, {"optim": ["SGD", "Adam"]}, seeds=2)
    picture = Image.new("RGB", (80, 40), "red")
    picture.paste("blue", (40, 0, 80, 40))
    picture.save(tmp_path / "SGD_0" / "images" / "samples_0000100.png")
    page = report(findings)
    images = [Image.open(io.BytesIO(decoded(image["src"])[1])).convert("RGB") for image in page.all("img", "samples")]
    assert [image.size for image in images] == [(40, 40)] * 3
    assert images[0].getcolors() == [(1600, (255, 0, 0))]
    assert images[2].getcolors() == [(1600, (0, 0, 255))]


@pytest.mark.slow
def test_sorts_in_a_browser(tmp_path):
    """Clicks on heads, in a page whose script is the report's with clicks added."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium here")
    findings = make_findings(tmp_path, bare=True)
    runs = findings.runs.assign(seconds=[3.0] * 3 + [1.0] * 3 + [10.0] * 3 + [np.nan] * 3)
    page = report(dataclasses.replace(findings, runs=runs))
    (script,) = page.all("script")
    for clicks, order in (([7], ["1.0", "3.0", "10.0", ""]), ([7, 7], ["10.0", "3.0", "1.0", ""])):
        more = script["text"] + "".join(f"document.querySelectorAll('th button')[{i - 1}].click();" for i in clicks)
        digest = base64.b64encode(hashlib.sha256(more.encode()).digest()).decode()
        clicked = re.sub(r"'sha256-[^']*'", f"'sha256-{digest}'", page.source.replace(script["text"], more))
        (tmp_path / "clicked.html").write_text(clicked, encoding="utf-8", newline="\n")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
        flags += [
            "--disable-background-networking",
            "--disable-component-update",
            f"--user-data-dir={tmp_path}/profile",
        ]
        done = subprocess.run(
            [browser, *flags, "--dump-dom", (tmp_path / "clicked.html").as_uri()], capture_output=True, timeout=120
        )
        (tmp_path / "sorted.html").write_bytes(done.stdout)
        sorted_page = Page(tmp_path / "sorted.html")
        assert [cell["data-value"] for cell in sorted_page.all("td", "table")[6::7]] == order
        assert [head["aria-sort"] for head in sorted_page.all("th") if "aria-sort" in head] == [
            "ascending" if len(clicks) == 1 else "descending"
        ]
