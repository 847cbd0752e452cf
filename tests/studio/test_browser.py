"""Clicks through the live page in a real headless Chromium, over its DevTools protocol."""

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import classifier_cache, command
from test_server import SECONDS, free_port, start_server, wait_for

from gan_lab.core.run_folder import Run

connect = pytest.importorskip("websockets.sync.client", reason="needs the extra studio").connect
pytest.importorskip("nicegui", reason="needs the extra studio")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
    pytest.mark.xdist_group("browser"),
]

HOSTILE = '<img src=x onerror="window.hacked=1">'
SMALL = "model.generator.hidden=[6] model.discriminator.hidden=[5] logger=table callbacks.verdict.samples=200"


class Tab:
    """A page in Chromium.

    Attributes:
        addresses: of all requests so far.
    """

    def __init__(self, socket: Any):
        self.addresses: list[str] = []
        self._socket = socket
        self._number = 0
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method of the protocol, and returns its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=SECONDS))
            if message.get("method") == "Network.requestWillBeSent":
                self.addresses.append(message["params"]["request"]["url"])
            if message.get("method") == "Network.webSocketCreated":
                self.addresses.append(message["params"]["url"])
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    def js(self, expression: str) -> Any:
        """Returns the value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)

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
        x, y = self.js(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({find}.getBoundingClientRect())")
        for event in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=event, x=x, y=y, button="left", clickCount=1)

    def choose(self, label: str, option: str) -> None:
        """Chooses an option of a list."""
        self.click(".q-select", label)
        self.click(".q-menu .q-item", option)

    def type_into(self, label: str, text: str) -> None:
        """Replaces what is in a field."""
        field = f"document.querySelector('input[aria-label={json.dumps(label)}]')"
        wait_for(lambda: self.js(f"!!{field}"))
        self.js(f"{field}.focus(); {field}.select()")
        self.call("Input.insertText", text=text)


@pytest.fixture
def tab(tmp_path) -> Iterator[Tab]:
    assert CHROMIUM is not None
    profile = tmp_path / "profile"
    arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,800", "--no-first-run"]
    browser = subprocess.Popen(
        [CHROMIUM, *arguments, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        written = profile / "DevToolsActivePort"
        wait_for(lambda: written.is_file() and len(written.read_text().splitlines()) > 1)
        port = written.read_text().splitlines()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=SECONDS) as answer:
            (page,) = [target for target in json.load(answer) if target["type"] == "page"]
        with connect(page["webSocketDebuggerUrl"], max_size=None) as socket:
            yield Tab(socket)
    finally:
        browser.terminate()
        browser.wait()


@pytest.fixture
def site(tmp_path) -> Iterator[str]:
    """The address of a server whose folder has a run of digits, and a hostile copy of it with a hostile report."""
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
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=SECONDS)


def _only_here(tab: Tab, site: str) -> None:
    """Checks that no request went to any other host."""
    own = (site + "/", site.replace("http:", "ws:") + "/", "data:", "blob:", "about:")
    assert tab.addresses
    assert [address for address in tab.addresses if not address.startswith(own)] == []


def test_train_pause_one_phase_resume_and_a_closed_tab(tab, site):
    tab.open(site)
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
    tab.open(site)
    tab.wait("Training: step")
    tab.wait("modes made")
    tab.click("button", "Reset")
    tab.wait("Watch a generator G")
    # A mistake is told in the words of the command line.
    tab.type_into("More settings", "optim.lr=-1")
    tab.click("button", "Start")
    tab.wait("optim.lr=-1")
    wait_for(lambda: "optim.lr" in tab.js("document.querySelector('.problem')?.innerText || ''"))
    _only_here(tab, site)


def test_play_interpolate_add_and_single_numbers(tab, site):
    tab.open(f"{site}/play?run=run")
    tab.wait("a + b, normalised")
    tab.wait("nearest to a")
    picture = "document.querySelectorAll('img[alt=samples]')[1].src"
    before = tab.js(picture)
    # The slider between a and b, moved by the keyboard.
    tab.js("document.querySelector('.q-slider__track-container')?.closest('.q-slider').focus()")
    for _ in range(12):
        for event in ("keyDown", "keyUp"):
            tab.call(
                "Input.dispatchKeyEvent", type=event, key="ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39
            )
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
    tab.open(f"{site}/compare")
    tab.wait("sweep: <img src=x")
    wait_for(lambda: tab.js("document.querySelector('iframe')?.src.includes('report')"))
    report = urllib.request.urlopen(tab.js("document.querySelector('iframe').src"))
    assert "Which remedy helped?" in report.read().decode()
    assert "default-src 'none'" in report.headers["content-security-policy"]
    assert "sandbox" in report.headers["content-security-policy"]
    time.sleep(1)
    assert tab.js("window.hacked") is None
    tab.open(f"{site}/play")
    tab.wait("2 runs with a checkpoint")
    tab.click(".q-select", "Run")
    tab.wait(HOSTILE)
    tab.click(".q-menu .q-item", HOSTILE)
    tab.wait("From a to b")
    assert tab.js("window.hacked") is None
    _only_here(tab, site)
