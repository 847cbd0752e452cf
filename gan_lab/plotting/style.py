"""What all pictures have in common: the figure, fonts, colours, and numbers on logarithmic axes."""

import functools
import logging
from typing import Any

import matplotlib
import matplotlib.figure
from matplotlib import font_manager
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter

from gan_lab.core.terminal import printable, say

D_COLOUR = "C0"
REAL_COLOUR = "C0"
FAKE_COLOUR = "C1"
IDEAL_COLOUR = "0.25"
FAILURE_COLOUR = "C3"


# Characters of a name in a picture; the end of a longer one is cut off.
MAX_NAME = 24
# Letters without a font that the advice lists.
MAX_LISTED_LETTERS = 8
# Of the fonts that have a letter, one whose name contains such a word goes best with DejaVu Sans.
SANS_SERIF_WORDS = ("Sans", "Gothic", "Hei")
# A font of macOS that has a box for every letter there is.
LAST_RESORT = "LastResort"


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure that draws texts as they are, in fonts that have their letters.

    Names of runs and classes can contain any characters. A $ doesn't begin a formula, of which a part may not even be
    valid. Letters that no installed font has are escaped, like control characters; only tick labels have to be
    `drawable` before.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        _write_texts_as_they_are()
        super().__init__(*args, **kwargs)

    def savefig(self, fname: Any, **options: Any) -> None:
        """Writes the figure into a file, as matplotlib does; without options as a PNG."""
        if options:
            super().savefig(fname, **options)
        else:
            # matplotlib's own way, which is for all formats, draws everything twice.
            FigureCanvasAgg(self).print_png(fname)

    def draw(self, renderer: Any) -> None:
        _write_texts_as_they_are()
        # The search creates all ticks, which takes a while.
        texts = [text for text in self.findobj(Text) if isinstance(text, Text) and text.get_text()]
        for text in texts:
            text.set_text(drawable(text.get_text()))
        families = _fonts().families
        for text in texts:
            text.set_fontfamily(families)
        # For tick labels, which an axis creates while it is drawn.
        matplotlib.rcParams["font.family"] = families
        super().draw(renderer)


def drawable(text: str) -> str:
    """Escapes control characters, and letters that no installed font has, in the notation of Python's literals.

    Args:
        text: one or more lines.
    """
    text = printable(text, lines=True)
    lacking = _fonts().find(text)
    if lacking:
        _fonts().advise(lacking)
    return "".join(letter.encode("unicode_escape").decode() if letter in lacking else letter for letter in text)


def shorten(name: str, width: int = MAX_NAME) -> str:
    """Cuts the end of a long name off."""
    return name if len(name) <= width else f"{name[: width - 1]}…"


def class_label(number: int, name: str) -> str:
    """Returns the name of a class for a picture; `class 3` if no installed font has its letters."""
    name = printable(name)
    return shorten(name) if drawable(name) == name else f"class {number}"


def font_file(text: str) -> str | None:
    """Returns the file of an installed font that has all letters of a `drawable` text; None if there is none."""
    fonts = _fonts()
    fonts.find(text)
    for family in fonts.families:
        path = font_manager.findfont(font_manager.FontProperties(family=[family]))
        if not _lacking(path, set(text) - {"\n"}):
            return path
    return None


class _Fonts:
    """The installed fonts that are needed for the texts so far.

    Attributes:
        families: the font of all texts, and those that have the letters which it lacks.
    """

    def __init__(self) -> None:
        # matplotlib reports each text for which a font has another weight.
        logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
        self.families: list[str] = list(matplotlib.rcParams["font.family"])
        self._file = font_manager.findfont(font_manager.FontProperties(family=self.families))
        self._known: dict[str, bool] = {}  # by letter: whether a font has it
        self._advised = False

    def find(self, text: str) -> set[str]:
        """Finds fonts for the letters of a text, and returns the letters that no font has."""
        letters = set(text)
        unknown = {letter for letter in letters - self._known.keys() if letter.isprintable()}
        lacking = _lacking(self._file, unknown)
        if lacking:
            lacking = self._add_fonts(lacking)
        self._known.update({letter: letter not in lacking for letter in unknown})
        return {letter for letter in letters if not self._known.get(letter, True)}

    def advise(self, lacking: set[str]) -> None:
        """Says once which letters can't be drawn, and what to install."""
        if self._advised:
            return
        self._advised = True
        letters = "".join(sorted(lacking)[:MAX_LISTED_LETTERS])
        say(
            f"No font here has the letters {letters}: pictures show a class's number or an escape instead. "
            "Install a font that has them, for example (Debian, Ubuntu) apt install fonts-noto-cjk for Chinese, "
            "Japanese and Korean, fonts-noto-core for other scripts.",
            stderr=True,
        )

    def _add_fonts(self, lacking: set[str]) -> set[str]:
        """Adds families until all letters have one, and returns the letters that none has."""
        for entry in _installed_fonts():
            still_lacking = _lacking(entry.fname, lacking)
            if still_lacking != lacking and entry.name not in self.families:
                self.families = [*self.families, entry.name]
            lacking = still_lacking
            if not lacking:
                break
        return lacking


@functools.cache
def _fonts() -> _Fonts:
    return _Fonts()


def _lacking(path: str, letters: set[str]) -> set[str]:
    """Returns those of some letters that a font file has no glyph for."""
    if not letters:
        return letters
    try:
        font = FT2Font(path)
    except (RuntimeError, OSError):
        return letters
    # Joiners and the like have no glyph and need none.
    return {letter for letter in letters if letter.isprintable() and not font.get_char_index(ord(letter))}


def _installed_fonts() -> list[font_manager.FontEntry]:
    """Returns one font of each family, upright and of normal weight if possible, sans-serif families first."""
    manager = font_manager.fontManager
    # matplotlib keeps its list of fonts forever, so it doesn't know one that was installed since.
    known = {entry.fname for entry in manager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in known:
            try:
                manager.addfont(path)
            except (RuntimeError, OSError):
                continue

    def order(entry: font_manager.FontEntry) -> tuple[bool, int, str, bool, int]:
        is_other = not any(word in entry.name for word in SANS_SERIF_WORDS)
        # Variants of a family have longer names.
        return is_other, len(entry.name), entry.name, entry.style != "normal", abs(int(entry.weight) - 400)

    fonts: dict[str, font_manager.FontEntry] = {}
    for entry in sorted(manager.ttflist, key=order):
        if LAST_RESORT not in entry.name.replace(" ", ""):
            fonts.setdefault(entry.name, entry)
    return list(fonts.values())


def _write_texts_as_they_are() -> None:
    # Set for good, not only while a figure is drawn: an axis creates its tick labels when the figure is saved.
    matplotlib.rcParams["text.parse_math"] = False
    matplotlib.rcParams["text.usetex"] = False


def plain_powers(axis: Axis) -> None:
    """Writes the numbers of a logarithmic axis as 10,000 rather than as the formula 10⁴."""
    axis.set_major_formatter(_PlainLogFormatter())
    axis.set_minor_formatter(_PlainLogFormatter(minor_thresholds=(0, 0)))


class _PlainLogFormatter(LogFormatter):
    """Labels the same ticks as matplotlib's formatter, with plain numbers."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        is_labelled = bool(super().__call__(x, pos))
        if not is_labelled:
            return ""
        # From a million on, g would write a power.
        return f"{x:,.0f}" if x >= 1 else f"{x:g}"
