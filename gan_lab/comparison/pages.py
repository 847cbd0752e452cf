"""What the pages have in common: their templates, pictures within them, and how they are written. No torch, no pandas.

A page is one file that needs no network. What it shows may come from the folders of strangers: texts are escaped, and
a picture is embedded only if its content is that of a picture.
"""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from gan_lab.core.errors import LabError
from gan_lab.core.io import atomic, read_bytes
from gan_lab.core.terminal import printable

TEMPLATES = Path(__file__).parent
# Larger pictures are not read; a file may have four bytes per pixel.
MAX_PIXELS = 20_000_000
MAX_FILE_BYTES = 4 * MAX_PIXELS
# Bounds for what strangers may have written: characters of a text, and rows of a table.
MAX_TEXT = 4_000
MAX_CELL = 300
MAX_ROWS = 400
# A larger picture is not embedded.
MAX_PICTURE_BYTES = 8_000_000
# Higher stacks of equal dots are drawn over each other.
MAX_STACK = 6
# Width of a dot in a strip of 100, and distance of the dots in a stack.
DOT_WIDTH = 4
DOT_DISTANCE = 2.6


@dataclass
class Card:
    """A picture with its caption; see `cards.html.jinja`.

    Attributes:
        name: what it shows.
        caption: more than its name.
        picture: a data: URI; None if there is none.
        gaps: what is missing, and why.
        link: a link of the picture; None.
    """

    name: str
    caption: str = ""
    picture: str | None = None
    gaps: list[str] = field(default_factory=list)
    link: None = None

    @property
    def alt(self) -> str:
        """What the picture shows, in words."""
        return f"{self.name}. {self.caption}".strip()


@dataclass
class Table:
    """A table.

    Attributes:
        heads: of its columns.
        rows: the first cell of each is its name.
        more: rows that are folded away.
    """

    heads: list[str]
    rows: list[list[str]]
    more: list[list[str]] = field(default_factory=list)


@dataclass
class Strip:
    """Every value of a variant as a dot on a scale from 0 to 100.

    Attributes:
        dots: x and y of each; near values are stacked, above and below the middle in turns.
        mean: x of the mean.
        bounds: x of the ends of its interval; None if it has none.
    """

    dots: list[tuple[float, float]]
    mean: float
    bounds: tuple[float, float] | None


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


def embed_picture(path: Path, formats: Sequence[str] = ("PNG",)) -> tuple[str | None, str]:
    """Returns a picture as a data: URI, or None and why there is none."""
    picture = read_picture(path, formats, MAX_PICTURE_BYTES)
    if picture.gap:
        return None, picture.gap
    return data_uri(picture.content, picture.kind), ""


def picture_card(path: Path, name: str, caption: str) -> Card:
    """Returns a card of a picture file; it says what is wrong with a file that can't be shown."""
    card = Card(name, caption)
    card.picture, gap = embed_picture(path)
    if gap:
        card.gaps.append(gap)
    return card


def render(template: str, folder: Path = TEMPLATES, **content: Any) -> str:
    """Returns the page that a template makes of its content; texts in it are escaped.

    Args:
        template: its name.
        folder: where it lies. It may extend and import the templates of this folder.
        content: what the template names.
    """
    # Imported here: the end of a training needs it, its start doesn't.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sha256"] = _sha256
    return environment.get_template(template).render(content)


def dict_at(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Returns a dict in what a file holds; {} if it is missing or something else."""
    value = content.get(name)
    return value if isinstance(value, dict) else {}


def short_text(text: str) -> str:
    """Returns a stranger's text of a heading or a table, its end cut off where it is long."""
    return _shorten(text, MAX_CELL)


def long_text(text: str) -> str:
    """Returns a stranger's text of one or more sentences, its end cut off where it is very long."""
    return _shorten(text, MAX_TEXT)


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _sha256(text: str) -> str:
    """Returns the digest by which a page's security policy allows its own script and no other."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def place_strip(
    values: Sequence[float],
    span: tuple[float, float],
    mean: float,
    bounds: tuple[float | None, float | None] = (None, None),
) -> Strip:
    """Places the values of a variant on a scale.

    Args:
        values: of its repetitions.
        span: the ends of the scale.
        mean: of the values.
        bounds: ends of the mean's interval; None if it has none.
    """

    def place(value: float) -> float:
        # Equal values are in the middle.
        if span[0] == span[1]:
            return 50.0
        return round(100 * (value - span[0]) / (span[1] - span[0]), 1)

    heights: dict[int, int] = {}
    dots = []
    for value in values:
        stack = round(place(value) / DOT_WIDTH)
        height = heights.get(stack, 0)
        heights[stack] = height + 1
        # 0, then one below, one above, two below, …
        steps = (min(height, MAX_STACK) + 1) // 2
        dots.append((place(value), steps * DOT_DISTANCE * (-1) ** height))
    low, high = bounds
    ends = None
    if low is not None and high is not None:
        ends = (place(low), place(high))
    return Strip(dots, place(mean), ends)


def write_page(page: str, path: Path) -> None:
    """Writes a page, whole or not at all.

    Raises:
        OSError: if it can't be written.
    """
    # A folder's name need not be UTF-8.
    with atomic(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace", newline="\n")
