"""Who may ask the server for what: only this machine's own pages, and only files below the folder that it was given.

The server listens on 127.0.0.1 alone. A page of another site, open in the same browser, could still send requests
there: across sites, or by a name of its own that it lets point to 127.0.0.1 (DNS rebinding). Such requests are refused
by their headers `Origin`, `Sec-Fetch-Site` and `Host`.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gan_lab.core.errors import LabError
from gan_lab.core.terminal import printable

HOST = "127.0.0.1"

# Pages load and send nothing elsewhere. NiceGUI's own pages need inline scripts.
PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; frame-src 'self'; object-src 'none'; "
    "base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
)
# Reports are files that anybody may have written: no scripts, nothing from elsewhere, an origin of their own.
REPORT_POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'; sandbox"
)
REPORT_PREFIX = "/report/"


class SameMachine:
    """ASGI middleware that refuses requests and WebSockets of other sites, and says what pages may load.

    Args:
        app: the server.
        port: on which it listens.
    """

    def __init__(self, app: ASGIApp, port: int):
        self.app = app
        self.hosts = {f"{name}:{port}" for name in (HOST, "localhost")}
        self.origins = {f"http://{host}" for host in self.hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        if not self.is_allowed(scope["headers"]):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await PlainTextResponse("This server is for pages of this machine only.", 403)(scope, receive, send)
            return
        policy = REPORT_POLICY if scope["path"].startswith(REPORT_PREFIX) else PAGE_POLICY

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", policy.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                    (b"cross-origin-resource-policy", b"same-origin"),
                ]
            await send(message)

        await self.app(scope, receive, send_with_policy)

    def is_allowed(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Returns whether a request comes from this server's own pages, or from the address bar."""
        values: dict[str, list[str]] = {}
        for name, value in headers:
            values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").lower())
        hosts = values.get("host", [])
        if len(hosts) != 1 or hosts[0] not in self.hosts:
            return False
        if any(origin not in self.origins for origin in values.get("origin", [])):
            return False
        return values.get("sec-fetch-site", ["none"])[0] != "cross-site"


def inside(folder: Path, name: str) -> Path:
    """Returns a file or folder below a folder, its links resolved.

    Args:
        folder: the server's.
        name: relative to it, as a page names it.

    Raises:
        LabError: if it lies elsewhere, or isn't there.
    """
    root = folder.resolve()
    # A NUL ends a name for the system, not for Python.
    if name and "\0" not in name:
        path = Path(os.path.realpath(root / name))
        if path.is_relative_to(root) and path.exists():
            return path
    raise LabError(
        f"{printable(name)} is not below {printable(str(folder))}.",
        "Name a run or a report that the page lists.",
        code="missing",
        key="folder",
    )
