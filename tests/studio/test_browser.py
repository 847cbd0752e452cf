"""Clicks through the live page in a real headless Chromium (Debian: chromium and chromium-driver)."""

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import classifier_cache, command
from test_server import SECONDS, free_port, start_server, wait_for

from gan_lab.core.run_folder import Run

pytest.importorskip("nicegui", reason="needs the extra studio")
webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
DRIVER = shutil.which("chromedriver")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Chromium and its driver"),
    pytest.mark.xdist_group("browser"),
]

HOSTILE = '<img src=x onerror="window.hacked=1">'
SMALL = "model.generator.hidden=[6] model.discriminator.hidden=[5] logger=table callbacks.verdict.samples=200"


class Tab:
    """A page in Chromium."""

    def __init__(self, driver: Any):
        self.driver = driver

    def addresses(self) -> list[str]:
        """Returns the addresses of all requests and WebSockets since the last call."""
        found = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(message["params"]["request"]["url"])
            if message["method"] == "Network.webSocketCreated":
                found.append(message["params"]["url"])
        return found

    def js(self, expression: str) -> Any:
        """Returns the value of an expression in the page."""
        return self.driver.execute_script(f"return {expression}")

    def open(self, address: str) -> None:
        self.driver.get(address)

    def has(self, text: str) -> bool:
        """Returns whether the page shows a text."""
        return text in (self.js("document.body ? document.body.innerText : ''") or "")

    def wait(self, text: str) -> None:
        """Waits until the page shows a text."""
        wait_for(lambda: self.has(text))

    def click(self, selector: str, text: str = "") -> None:
        """Clicks with the mouse on the first visible element that a selector finds and that has this text."""
        find = (
            f"[...document.querySelectorAll({json.dumps(selector)})].find("
            f"e => e.innerText.includes({json.dumps(text)}) && e.getClientRects().length)"
        )
        wait_for(lambda: self.js(f"!!{find}"))
        self.js(f"{find}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        self.js(find).click()

    def choose(self, label: str, option: str) -> None:
        """Chooses an option of a list."""
        self.click(".q-select", label)
        self.click(".q-menu .q-item", option)

    def type_into(self, label: str, text: str) -> None:
        """Replaces what is in a field."""
        find = f"document.querySelector('input[aria-label={json.dumps(label)}]')"
        wait_for(lambda: self.js(f"!!{find}"))
        field = self.js(find)
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(text)


@pytest.fixture
def tab() -> Iterator[Tab]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,800"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield Tab(driver)
    driver.quit()


class Site(NamedTuple):
    """A server, its address, and the folder in which it was started."""

    address: str
    folder: Path
    server: "subprocess.Popen[str]"


@pytest.fixture
def site(tmp_path) -> Iterator[Site]:
    """A server whose folder has a run of digits, and a hostile copy of it with a hostile report."""
    cwd = tmp_path / "work"
    cwd.mkdir()
    settings = (
        *("steps=40", "batch_size=8", "logger=table", "callbacks.verdict.samples=300", "hydra.run.dir=outputs/run"),
        f"cache_dir={classifier_cache()}",
    )
    assert command("train.py", *settings, cwd=cwd).returncode == 0
    hostile = cwd / "outputs" / HOSTILE
    shutil.copytree(cwd / "outputs" / "run", hostile)
    (hostile / "report.html").write_text(
        '<h1>Which remedy helped?</h1><script>top.hacked=1</script><img src="http://evil.example/x.png">',
        encoding="utf-8",
    )
    (cwd / ".cache").symlink_to(classifier_cache())
    assert Run.existing(hostile).checkpoint.is_file()
    port = free_port()
    server = start_server(cwd, port)
    try:
        yield Site(f"http://127.0.0.1:{port}", cwd, server)
    finally:
        server.terminate()
        server.wait(timeout=SECONDS)


def _only_here(tab: Tab, site: Site) -> None:
    """Checks that no request went to any other host."""
    own = (f"{site.address}/", f"{site.address.replace('http:', 'ws:')}/", "data:", "blob:", "about:")
    addresses = tab.addresses()
    assert addresses
    assert [address for address in addresses if not address.startswith(own)] == []


def test_train_pause_one_phase_resume_and_a_closed_tab(tab, site):
    tab.open(site.address)
    tab.choose("Data", "ring")
    tab.type_into("More settings", f"{SMALL} steps=100000000")
    tab.wait("python train.py dataset=ring 'model.generator.hidden=[6]'")
    tab.click("button", "Start")
    tab.wait("modes made")
    tab.wait("D's mean answer")
    assert tab.js("document.querySelectorAll('svg.plane image').length") == 1
    tab.click("button", "Pause")
    tab.wait("Paused at step")
    for part in ("1 · D on real", "2 · D on fakes", "3 · G"):
        tab.click("button", "One phase")
        wait_for(lambda part=part: part in tab.js("document.querySelector('.phase-now')?.innerText || ''"))
    tab.wait("moved: D by 0.0000, G by")
    tab.click("button", "Resume")
    tab.wait("Training: step")
    # The tab is closed and opened again.
    tab.open("about:blank")
    tab.open(site.address)
    tab.wait("Training: step")
    tab.wait("modes made")
    tab.click("button", "Reset")
    tab.wait("Watch a generator G")
    # A mistake is told in the words of the command line.
    tab.type_into("More settings", "optim.lr=-1")
    tab.click("button", "Start")
    tab.wait("optim.lr=-1")
    wait_for(lambda: "optim.lr=-1 is not allowed" in tab.js("document.querySelector('.problem')?.innerText || ''"))
    _only_here(tab, site)
    # Ctrl-C, as a terminal sends it to all processes, ends the server, and the training with a summary.
    tab.type_into("More settings", f"{SMALL} steps=100000000 name=last")
    tab.wait("name=last")
    tab.click("button", "Start")
    tab.wait("outputs/last/")
    tab.wait("Training: step")
    os.killpg(site.server.pid, signal.SIGINT)
    output, _ = site.server.communicate(timeout=SECONDS)
    assert site.server.returncode == 128 + signal.SIGINT
    assert "Traceback" not in output
    (summary,) = (site.folder / "outputs" / "last").glob("*/summary.json")
    assert json.loads(summary.read_text())["status"] == "interrupted"
    assert (summary.parent / "checkpoints" / "last.ckpt").is_file()


def test_play_interpolate_add_and_single_numbers(tab, site):
    tab.open(f"{site.address}/play?run=run")
    tab.wait("a + b, normalised")
    tab.wait("nearest to a")
    picture = "document.querySelectorAll('img[alt=samples]')[1].src"
    before = tab.js(picture)
    # A quarter of the way from a to b; a click in the middle of the slider's length is its middle.
    slider = tab.js("document.querySelector('.q-slider')")
    actions = webdriver.ActionChains(tab.driver)
    actions.move_to_element_with_offset(slider, -slider.size["width"] // 4, 0).click().perform()
    wait_for(lambda: tab.js(picture) != before)
    tab.type_into("a", "7")
    tab.click("button", "Show")
    tab.wait("a − b")
    tab.type_into("b", "nonsense")
    tab.click("button", "Show")
    tab.wait("These data have no class nonsense")
    _only_here(tab, site)


def test_reports_and_hostile_names(tab, site):
    """Names are shown as text; a report runs no script and loads nothing."""
    tab.open(f"{site.address}/compare")
    wait_for(lambda: f"sweep: {HOSTILE}" in (tab.js("document.querySelector('input')?.value") or ""))
    wait_for(lambda: tab.js("document.querySelector('iframe')?.src.includes('report')"))
    report = urllib.request.urlopen(tab.js("document.querySelector('iframe').src"))
    assert "Which remedy helped?" in report.read().decode()
    assert "default-src 'none'" in report.headers["content-security-policy"]
    assert "sandbox" in report.headers["content-security-policy"]
    time.sleep(1)
    assert tab.js("window.hacked") is None
    tab.open(f"{site.address}/play")
    tab.wait("2 runs with a checkpoint")
    tab.click(".q-select", "Run")
    tab.wait(HOSTILE)
    tab.click(".q-menu .q-item", HOSTILE)
    tab.wait("From a to b")
    assert tab.js("window.hacked") is None
    _only_here(tab, site)
