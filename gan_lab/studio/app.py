"""The server: its pages, its rules of access, and its end."""

import errno
import os
import socket
from pathlib import Path

from nicegui import app, ui
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from gan_lab.core.errors import LabError
from gan_lab.core.io import read_text
from gan_lab.core.terminal import say
from gan_lab.studio import compare_page, play_page, train_page
from gan_lab.studio.security import HOST, REPORT_PREFIX, SameMachine, inside
from gan_lab.studio.trainings import Trainings

MAX_REPORT = 200 * 2**20  # bytes; a report holds its pictures


def serve(folder: str | Path, port: int, show: bool, cache_dir: str | Path) -> None:
    """Serves the pages on 127.0.0.1 until a signal ends the process; trainings end with checkpoint and summary.

    Args:
        folder: whose runs and reports the pages open; made if it isn't there.
        port: where.
        show: whether to open the page in the browser.
        cache_dir: the folder of trained label classifiers.

    Raises:
        LabError: if the port is busy.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    _refuse_busy(port)
    # NiceGUI would store what visitors of its pages have chosen, which these pages don't use, in the current folder.
    os.environ.setdefault("NICEGUI_STORAGE_PATH", os.devnull)
    trainings = Trainings()
    app.add_middleware(SameMachine, port=port)

    @ui.page("/", title="gan_lab studio: train")
    def train() -> None:
        train_page.build(trainings)

    @ui.page("/play", title="gan_lab studio: play")
    async def play(run: str = "") -> None:
        await play_page.build(root, Path(cache_dir), run)

    @ui.page("/compare", title="gan_lab studio: compare")
    def compare() -> None:
        compare_page.build(root)

    @app.get(REPORT_PREFIX + "{name:path}")
    def report(name: str) -> Response:
        """Returns a report's HTML, which may neither run scripts nor load anything."""
        try:
            return HTMLResponse(read_report(root, name))
        except LabError as error:
            return PlainTextResponse(str(error), 404)

    trainings.prepare(1)
    app.on_shutdown(trainings.close)
    say(f"The live page is at http://{HOST}:{port}/ (this machine only); Ctrl-C ends it.", flush=True)
    try:
        ui.run(
            host=HOST,
            port=port,
            show=show,
            reload=False,
            show_welcome_message=False,
            title="gan_lab studio",
            favicon="🌀",
            # A page that was away for longer is built anew. Kept messages hold pictures.
            reconnect_timeout=5.0,
            message_history_length=50,
        )
    finally:
        trainings.close()


def read_report(root: Path, name: str) -> str:
    """Returns the text of a report below a folder.

    Raises:
        LabError: if there is none of that name, or if it is no HTML file.
    """
    path = inside(root, name)
    if path.is_dir():
        # A report links to the folders of its runs.
        path = inside(root, f"{name}/index.html")
    if path.suffix != ".html" or not path.is_file():
        raise LabError(f"{path.name} is no report.", code="invalid", key="folder")
    return read_text(path, MAX_REPORT)


def _refuse_busy(port: int) -> None:
    with socket.socket() as attempt:
        # As the server does: a port whose connections are just closing is free.
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((HOST, port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            reason = "is used by another program, perhaps by another studio"
            if error.errno == errno.EACCES:
                reason = "may not be used by this user"
            raise LabError(
                f"Port {port} {reason}.", f"Name another one: port={port + 1}", code="busy", key="port"
            ) from error
