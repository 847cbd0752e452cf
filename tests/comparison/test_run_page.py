"""A run's page says how it ended from the files of its folder, whatever state these are in, and takes them for text."""

import io
import json
import queue
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from conftest import ROOT, compose, config_yaml
from PIL import Image
from test_report import Page

from gan_lab.comparison import pages
from gan_lab.comparison.comparison import conclude
from gan_lab.comparison.run_page import write_run_page
from gan_lab.comparison.settings import default_settings, read_settings
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import printable

HOSTILE = "</title><script>alert(1)</script>\"'javascript:alert(1)\u202egpj.exe\x1b[31m"
OVERRIDES = ["loss=mse", "optim.lr=0.02", "seed=7"]
SUMMARY = {
    "status": "finished",
    "error": None,
    "steps": 3000,
    "seconds": 4.2,
    "steps_per_second": 714.3,
    "replicas": 1,
    "seed": 7,
    "overrides": OVERRIDES,
    "losses": {"d_real": 0.2, "d_fake": 0.3, "g": 0.4, "equilibrium": 0.25, "equilibrium_g": 0.25},
    "verdict": {
        "collapse": "collapsed",
        "balance": "D is winning",
        "sentence": "Collapsed: it makes only the 8. The samples look like the data.\n1 of 10 digits in 500 samples.",
        "next_step": "Try this: python train.py loss=bce resume=<run folder>",
    },
    "metrics": {"samples": 500, "modes_valid": 1, "modes_total": 10, "coverage": 0.125, "finite": 1.0},
    "real_data": {"coverage": 0.96875},
    "undefined": {"recall": "too few samples"},
    "features": "raw pixels",
    "reference": "180 held-out images",
    "environment": {"python": "3.12"},
}


def picture(kind: str = "PNG", size: tuple[int, int] = (8, 4)) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size, (0, 90, 180)).save(content, kind)
    return content.getvalue()


def make_run(folder: Path, **changes) -> Run:
    """A folder as a run leaves it; `changes` are of its summary."""
    run = Run(folder)
    for path in (run.plots / "losses.png", run.plots / "scores.png", run.plots / "modes.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture())
    run.images.mkdir()
    (run.images / "samples_0000000.png").write_bytes(picture(size=(2, 1)))
    (run.images / "samples_0003000.png").write_bytes(picture(size=(16, 8)))
    run.checkpoint.parent.mkdir()
    run.checkpoint.write_bytes(b"")
    run.config.write_text(config_yaml(*OVERRIDES), encoding="utf-8")
    run.write_summary(SUMMARY | changes)
    return run


def page_of(run: Run) -> Page:
    return Page(write_run_page(run))


def texts(page: Page, tag: str, section: str) -> list[str]:
    return [" ".join(element["text"].split()) for element in page.all(tag, section)]


def cells(page: Page, section: str) -> list[list[str]]:
    """The rows of a section's tables."""
    rows = []
    for row in page.all("tr", section):
        rows.append([cell["text"] for cell in page.elements if row in cell["parents"] and cell["tag"] in ("td", "th")])
    return rows


def test_the_page_says_how_the_run_ended_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "a run" / "it's")
    page = page_of(run)
    folder = "'a run/it'\"'\"'s'"
    assert page.all("h1")[0]["text"] == "Collapsed: it makes only the 8."
    assert "Finished: 3,000 steps in 4 s (714 steps/s), seed 7" in page.text
    paragraphs = [element["text"] for element in page.all("p")]
    assert "The samples look like the data." in paragraphs
    assert "1 of 10 digits in 500 samples." in paragraphs
    # As `command` quotes for Hydra and the shell; tests/core/test_command_line.py pastes such commands.
    assert texts(page, "pre", "next") == ["python train.py loss=bce 'resume=\"a run/it'\"'\"'s\"'"]
    assert texts(page, "pre", "settings") == ["python train.py loss=mse optim.lr=0.02 seed=7"]
    commands = texts(page, "pre", "commands")
    assert commands[0].startswith("python train.py 'resume=")
    assert commands[0].endswith(" steps=6000")
    assert commands[1].startswith("python scripts/evaluate.py 'run=")
    assert commands[2].startswith("python scripts/explore.py 'run=")
    assert not any("tensorboard" in line for line in commands), "it has no event files"
    assert folder not in page.text, "a path is quoted for Hydra, too"


def test_numbers_stand_beside_real_data_with_how_they_were_computed(tmp_path):
    page = page_of(make_run(tmp_path / "run"))
    rows = cells(page, "numbers")
    assert ["modes made, out of 10", "1", "–"] in rows
    assert ["coverage", "0.125", "0.9688"] in rows
    assert "500 samples of step 3,000. Latent vectors from seed 7" in page.text
    assert "recall: too few samples" in page.text


def test_settings_that_differ_from_the_default_come_first(tmp_path):
    page = page_of(make_run(tmp_path / "run"))
    assert cells(page, "settings")[:4] == [
        ["setting", "this run", "default"],
        ["loss", "MSE", "BCE"],
        ["optim.lr", "0.02", "0.0005"],
        ["seed", "7", "0"],
    ]
    assert ["batch_size", "64"] in cells(page, "settings")


def test_the_defaults_are_those_that_hydra_composes(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(config_yaml(), encoding="utf-8")
    assert compose().steps == default_settings()["steps"]
    assert default_settings() == read_settings(path)


def test_the_film_comes_first_and_without_one_the_last_samples(tmp_path):
    run = make_run(tmp_path / "run")
    (image,) = page_of(run).all("img", "first")
    assert image["src"] == pages.data_uri((run.images / "samples_0003000.png").read_bytes(), "png")
    run.film.write_bytes(picture("GIF"))
    page = page_of(run)
    (image,) = page.all("img", "first")
    assert image["src"].startswith("data:image/gif;base64,")
    assert any("data:image/png" in image["src"] for image in page.all("img", "samples"))


@pytest.mark.parametrize(
    ("status", "words", "command"),
    [
        ("interrupted", "Interrupted: 3,000 of 15,000 steps", "resume="),
        ("failed", "Failed: The loss is NaN at step 12", None),
        (None, "Unfinished: it has no summary", "resume="),
    ],
)
def test_runs_that_did_not_finish_say_so(tmp_path, status, words, command):
    error = "The loss is NaN at step 12\nmore of it" if status == "failed" else None
    run = make_run(tmp_path / "run", status=status, error=error, verdict={})
    if status is None:
        run.summary.unlink()
    page = page_of(run)
    assert words in page.text
    assert bool(error) == ("more of it" in page.text)
    if command:
        assert command in texts(page, "pre", "next")[0]


def test_each_replica_has_its_row(tmp_path):
    members = [{"seed": 7, "modes_valid": 4, "coverage": 0.5}, {"seed": 8, "error": "NaN at step 9"}]
    verdicts = [{"sentence": "Partial: four.\nnumbers"}, {}]
    spread = {"coverage": 0.25}
    changes = {"replicas": 2, "replica_metrics": members, "replica_verdicts": verdicts, "replica_spread": spread}
    page = page_of(make_run(tmp_path / "run", **changes))
    rows = cells(page, "numbers")
    assert ["7", "4", "0.5", "Partial: four."] in rows
    assert ["8", "–", "–", "NaN at step 9"] in rows
    assert ["coverage", "0.125", "0.25", "0.9688"] in rows
    assert "2 replicas (seeds 7 to 8)" in page.text


def test_what_evaluate_found_stands_beside_the_verdict(tmp_path):
    run = make_run(tmp_path / "run")
    sentences = ["Covered: all. 9% of them are junk.\n10 of 10", "Covered: all.\n9 of 10", "Partial: nine.\n9 of 10"]
    evaluation = {"step": 3000, "samples": 900, "seeds": 3, "features": "pixels", "reference": "real images"}
    evaluation["verdicts"] = [{"sentence": sentence} for sentence in sentences]
    evaluation |= {"mean": {"coverage": 0.75}, "spread": {"coverage": 0.0625}, "real_data": {}}
    run.write_json("evaluation.json", evaluation)
    page = page_of(run)
    assert "Evaluated again, 2 of 3 times: Covered: all." in page.text
    assert "Evaluated again, 1 of 3 times: Partial: nine." in page.text
    assert ["coverage", "0.75", "0.0625", "–"] in cells(page, "numbers")


DAMAGES = {
    "an empty folder's": lambda run: [shutil.rmtree(run.plots), shutil.rmtree(run.images), run.summary.unlink()],
    "a summary that is no JSON": lambda run: run.summary.write_text("{"),
    "a summary of other types": lambda run: run.write_summary({key: [None, {}] for key in SUMMARY}),
    "numbers that are none": lambda run: run.write_summary(
        SUMMARY | {"steps": "x", "seconds": None, "metrics": {"a": {}}}
    ),
    "NaN": lambda run: run.summary.write_text(json.dumps(SUMMARY | {"steps": float("nan"), "seconds": 1e999})),
    "a config.yaml that is no YAML": lambda run: run.config.write_text("{"),
    "an evaluation that is no JSON": lambda run: (run.folder / "evaluation.json").write_text("["),
    "verdicts of other types": lambda run: run.write_json("evaluation.json", {"verdicts": [1], "mean": {"a": "b"}}),
    "a picture that is HTML": lambda run: (run.plots / "losses.png").write_text("<script>alert(1)</script>"),
    "half a picture": lambda run: (run.plots / "losses.png").write_bytes(picture()[:-20]),
    "a picture of another kind": lambda run: (run.plots / "losses.png").write_bytes(picture("BMP")),
    "a film that is none": lambda run: run.film.write_bytes(picture("PNG")),
    "a folder for a picture": lambda run: [(run.plots / "losses.png").unlink(), (run.plots / "losses.png").mkdir()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_gives_a_page_that_says_what_is_missing(tmp_path, damage):
    run = make_run(tmp_path / "run")
    DAMAGES[damage](run)
    page = page_of(run)
    assert "alert(1)" not in page.source
    if "picture" in damage:
        assert "losses.png is" in page.text
    if "JSON" in damage or "YAML" in damage:
        assert "damaged" in page.text


def test_pictures_that_are_too_large_are_left_out(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run")
    monkeypatch.setattr(pages, "MAX_PIXELS", 40)
    assert "samples_0003000.png is too large" in page_of(run).text


def make_hostile(folder: Path) -> Run:
    """A run whose every text is hostile, and one text of which is huge."""
    run = make_run(folder)
    summary = dict.fromkeys(("dataset", "features", "reference"), HOSTILE) | {"overrides": [HOSTILE, "x" * 10**6]}
    summary["verdict"] = {"collapse": HOSTILE, "sentence": f"{HOSTILE}. {HOSTILE}\n{HOSTILE}", "next_step": HOSTILE}
    summary["verdict"]["balance"] = HOSTILE
    summary["metrics"] = {"samples": 1, HOSTILE: 1, "y" * 10**5: 2}
    summary["environment"] = {HOSTILE: HOSTILE}
    summary["undefined"] = {HOSTILE: HOSTILE}
    run.write_summary(SUMMARY | summary)
    run.write_json("evaluation.json", {"verdicts": [{"sentence": HOSTILE}], "mean": {HOSTILE: 1}, "step": HOSTILE})
    config = run.config.read_text().replace("name: null", f"name: {json.dumps(HOSTILE)}\n{json.dumps(HOSTILE)}: 1")
    run.config.write_text(config)
    return run


def test_texts_of_strangers_are_shown_as_text(tmp_path):
    page = page_of(make_hostile(tmp_path / "<b>run</b>"))
    assert not page.all("script")
    assert not page.all("b")
    assert "</title><script>alert(1)</script>" in page.all("h1")[0]["text"]
    assert "\u202e" not in page.source
    assert "\x1b" not in page.source
    assert r"\u202egpj.exe" in page.text
    for element in page.elements:
        assert not element.get("href", "").startswith("javascript:")
        assert not any(name.startswith("on") for name in element)
    assert len(page.source) < 200_000, "huge texts are cut"
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert "default-src 'none'" in policy
    assert "script-src 'none'" in policy


def test_compare_shows_a_single_run_on_its_page(tmp_path):
    run = make_run(tmp_path / "sweep" / "run")
    assert str(run.page) in conclude([run.folder])
    assert not (run.folder / "comparison.csv").exists()
    assert str(tmp_path / "elsewhere" / "index.html") in conclude([run.folder], tmp_path / "elsewhere")
    (tmp_path / "website").mkdir()
    (tmp_path / "website" / "config.yaml").write_text("title: A page")


def test_the_report_links_to_the_page_of_each_run(tmp_path):
    run = make_run(tmp_path / "sweep" / "a run")
    conclude([tmp_path / "sweep"])
    links = {element["href"] for element in Page(tmp_path / "sweep" / "report.html").all("a") if "href" in element}
    assert "a%20run/" in links
    write_run_page(run)
    conclude([tmp_path / "sweep"])
    links = {element["href"] for element in Page(tmp_path / "sweep" / "report.html").all("a") if "href" in element}
    assert "a%20run/index.html" in links


def test_pages_are_made_without_what_takes_long_to_import():
    code = "import sys, gan_lab.comparison.run_page, gan_lab.cure.page; from gan_lab.comparison import pages;"
    code += "pages.render('base.html.jinja', script='');"
    code += "print([name for name in ('torch', 'pandas', 'scipy', 'hydra') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Frames as wide as a screen and as a phone hold the page itself. This page measures them, and asks a host for a picture
# with the result as its query.
WRAPPER = """<body><script>
const page = PAGE, widths = [1400, 360], found = {};
for (const width of widths) {
  const frame = document.createElement("iframe");
  frame.style.width = width + "px"; frame.style.border = 0; frame.srcdoc = page;
  frame.onload = async () => {
    const inner = frame.contentDocument, images = [...inner.images];
    await Promise.all(images.map(image => image.decode()));
    for (const folded of inner.querySelectorAll("details")) folded.open = true;
    found[width] = [inner.scrollingElement.scrollWidth, images.length, inner.title];
    if (Object.keys(found).length < widths.length) return;
    new Image().src = "http://control.example/?" + encodeURIComponent(JSON.stringify(found));
  };
  document.body.append(frame);
}
</script></body>"""


CONTROL = "http://control.example/?"


class Proxy(ThreadingHTTPServer):
    """A proxy that refuses all requests, and puts their addresses into `asked`."""

    def __init__(self):
        self.asked: queue.Queue[str] = queue.Queue()
        super().__init__(("127.0.0.1", 0), Refusal)


class Refusal(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.put(self.path)
        self.send_error(403)

    def do_CONNECT(self):
        self.do_GET()

    def log_message(self, *_):
        pass


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt install chromium")
@pytest.mark.parametrize(
    ("make", "title"),
    [(make_run, "Collapsed: it makes only the 8."), (make_hostile, f"{printable(HOSTILE)}.")],
    ids=["plain", "hostile"],
)
def test_in_a_browser_the_page_fits_asks_for_nothing_and_runs_nothing(tmp_path, make, title):
    run = make(tmp_path / "run")
    run.film.write_bytes(picture("GIF", (300, 200)))
    (run.plots / "losses.png").write_bytes(picture(size=(1600, 900)))
    source = write_run_page(run).read_text(encoding="utf-8")
    wrapper = tmp_path / "wrapper.html"
    wrapper.write_text(WRAPPER.replace("PAGE", json.dumps(source).replace("</", r"<\/")), encoding="utf-8")
    with Proxy() as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        options += [f"--user-data-dir={tmp_path / 'profile'}", "--no-first-run"]
        options += ["--disable-background-networking", "--disable-component-update"]
        options += [f"--proxy-server=127.0.0.1:{proxy.server_port}", "--proxy-bypass-list=<-loopback>"]
        browser = subprocess.Popen([CHROMIUM, *options, wrapper.as_uri()], stderr=subprocess.DEVNULL)
        asked = []
        try:
            while not asked or not asked[-1].startswith(CONTROL):
                asked.append(proxy.asked.get(timeout=60))
        finally:
            browser.terminate()
            browser.wait(timeout=60)
            proxy.shutdown()
    # The browser itself may ask its maker's hosts; the page has asked none before it was measured.
    assert [address for address in asked if "google" not in address and "gvt1" not in address] == asked[-1:]
    found = json.loads(unquote(asked[-1].removeprefix(CONTROL)))
    # The page fills each frame and does not scroll sideways.
    assert found == {width: [int(width), 5, f"digits: {title}"] for width in ("1400", "360")}
