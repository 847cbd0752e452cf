"""What the pages have in common: their templates, pictures within them, and how they are written. No torch, no pandas.

A page is one file that needs no network. What it shows may come from the folders of strangers: texts are escaped, and
a picture is embedded only if its content is that of a picture.
"""

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from gan_lab.core.errors import LabError
from gan_lab.core.io import atomic, read_bytes
from gan_lab.core.terminal import printable

# Larger pictures are not read; a file may have four bytes per pixel.
MAX_PIXELS = 20_000_000
MAX_FILE_BYTES = 4 * MAX_PIXELS


@dataclass
class PictureFile:
    """A picture file of a run folder.

    Attributes:
        content: its bytes; b"" if it can't be shown.
        kind: png or gif, by its content.
        gap: why it can't be shown; '' if it can.
    """

    content: bytes = b""
    kind: str = ""
    gap: str = ""


def read_picture(path: Path, formats: Sequence[str] = ("PNG",), max_bytes: int = MAX_FILE_BYTES) -> PictureFile:
    """Reads a picture file, of which neither size nor content is trusted.

    Args:
        path: the file.
        formats: which it may have, as PIL names them. For others PIL may start other programs.
        max_bytes: larger files are not read.
    """
    name = printable(path.name)
    if not path.is_file():
        return PictureFile(gap=f"{name} is missing")
    try:
        content = read_bytes(path, max_bytes)
    except (OSError, LabError):
        return PictureFile(gap=f"{name} can't be read, or is too large")
    try:
        with Image.open(io.BytesIO(content), formats=list(formats)) as image:
            kind = str(image.format).lower()
            if image.width * image.height > MAX_PIXELS:
                return PictureFile(gap=f"{name} is too large")
            image.verify()
    except Exception:
        # PIL raises errors of many types for damaged files.
        return PictureFile(gap=f"{name} is damaged")
    return PictureFile(content, kind)


def data_uri(content: bytes, kind: str) -> str:
    """Returns a picture as a data: URI, which needs no other file; `kind` is 'png', 'gif' or 'svg+xml'."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def render(template: str, **content: Any) -> str:
    """Returns the page that a template of this folder makes of its content; texts in it are escaped."""
    # Imported here: the end of a training needs it, its start doesn't.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sha256"] = _sha256
    return environment.get_template(template).render(content)


def _sha256(text: str) -> str:
    """Returns the digest by which a page's security policy allows its own script and no other."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def write_page(page: str, path: Path) -> None:
    """Writes a page, whole or not at all.

    Raises:
        OSError: if it can't be written.
    """
    # A folder's name need not be UTF-8.
    with atomic(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace", newline="\n")
