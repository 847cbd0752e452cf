"""The server of the live page answers only pages of this machine, and opens only what lies below its folder."""

import os
from pathlib import Path

import pytest
from conftest import refused

pytest.importorskip("starlette", reason="needs the extra studio")
pytest.importorskip("nicegui", reason="needs the extra studio")

from gan_lab.core.errors import LabError
from gan_lab.studio.app import read_report
from gan_lab.studio.compare_page import list_reports
from gan_lab.studio.play_page import list_runs, open_player
from gan_lab.studio.security import SameMachine, inside

PORT = 8230
SERVER = SameMachine(None, PORT)


@pytest.mark.parametrize(
    ("headers", "is_allowed"),
    [
        ({"host": "127.0.0.1:8230"}, True),
        ({"host": "localhost:8230"}, True),
        ({"host": "LOCALHOST:8230", "origin": "http://localhost:8230"}, True),
        ({"host": "127.0.0.1:8230", "origin": "http://127.0.0.1:8230", "sec-fetch-site": "same-origin"}, True),
        ({}, False),
        ({"host": "127.0.0.1"}, False),
        ({"host": "127.0.0.1:80"}, False),
        # DNS rebinding: another name that points to this machine.
        ({"host": "evil.example:8230"}, False),
        ({"host": "127.0.0.1.evil.example:8230"}, False),
        ({"host": "127.0.0.1:8230@evil.example"}, False),
        # Another site's page that opens a WebSocket here.
        ({"host": "127.0.0.1:8230", "origin": "https://evil.example"}, False),
        ({"host": "127.0.0.1:8230", "origin": "http://localhost:3000"}, False),
        ({"host": "127.0.0.1:8230", "origin": "null"}, False),
        ({"host": "127.0.0.1:8230", "origin": ""}, False),
        ({"host": "127.0.0.1:8230", "sec-fetch-site": "cross-site"}, False),
    ],
)
def test_only_pages_of_this_server_are_answered(headers, is_allowed):
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert SERVER.is_allowed(raw) == is_allowed


def test_two_hosts_are_refused():
    assert not SERVER.is_allowed([(b"host", b"127.0.0.1:8230"), (b"host", b"evil.example")])


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with a run and a report, beside it another one with a secret, and links to that."""
    root = tmp_path / "outputs"
    secret = tmp_path / "elsewhere" / "run"
    for run in (root / "ring" / "run", secret):
        (run / "checkpoints").mkdir(parents=True)
        (run / "checkpoints" / "last.ckpt").write_bytes(b"none")
        (run / "config.yaml").write_text("format: 3\n")
        (run / "report.html").write_text("<p>report</p>")
    (root / "link").symlink_to(secret)
    (root / "ring" / "linked.html").symlink_to(secret / "report.html")
    return root


@pytest.mark.parametrize(
    "name",
    ["../elsewhere/run", "ring/../../elsewhere/run", "link", "", "/etc", "ring/none", "ring/run\0", "link/report.html"],
)
def test_nothing_outside_of_the_folder_is_opened(folder, name):
    with refused("missing", "folder"):
        inside(folder, name)
    with refused("missing", "folder"):
        read_report(folder, name)
    with refused("missing", "folder"):
        open_player(folder, name, folder)


def test_what_lies_in_the_folder_is_opened(folder):
    assert inside(folder, "ring/run") == (folder / "ring" / "run").resolve()
    assert read_report(folder, "ring/run/report.html") == "<p>report</p>"


def test_a_report_is_html_and_nothing_else(folder):
    with pytest.raises(LabError, match="no report"):
        read_report(folder, "ring/run/config.yaml")
    with refused("missing", "folder"):
        read_report(folder, "ring/linked.html")


def test_lists_hold_no_links_to_elsewhere(folder):
    assert list_runs(folder) == [os.path.join("ring", "run")]
    assert list_reports(folder) == [os.path.join("ring", "run", "report.html")]


def test_a_hostile_configuration_is_refused_as_everywhere(folder):
    (folder / "ring" / "run" / "config.yaml").write_text("format: 3\nmodel: {_target_: os.system}\n")
    with pytest.raises(LabError):
        open_player(folder, "ring/run", folder)
