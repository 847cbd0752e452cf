"""Pictures draw any text that a stranger gives: in a font that has its letters, or else escaped."""

import os
import subprocess
import sys
import warnings

import matplotlib
import pytest
import torch
from conftest import ROOT
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from gan_lab.comparison import charts
from gan_lab.config.hydra_app import prepare_process
from gan_lab.data.dataset import Dataset, Part
from gan_lab.explore import animation
from gan_lab.explore import figures as explore_figures
from gan_lab.explore.predictions import PredictionCount
from gan_lab.plotting import style
from gan_lab.plotting.samples import backqueries, compare_members, compare_samples, mode_frequencies
from gan_lab.plotting.style import Figure, class_label, drawable
from gan_lab.preflight import figures as preflight_figures

NAMES = ["한국", "日本語", "ไทย", "🦊 fox", "$x^{2", "two\nlines", "a\u202eb", "é", "%s {0} \\", "x" * 300, ""]
KOREAN = "한국"


@pytest.fixture(autouse=True)
def fonts(monkeypatch):
    """Forgets which fonts were found; only matplotlib's own are installed."""
    with matplotlib.rc_context():
        own = [entry for entry in font_manager.fontManager.ttflist if "mpl-data" in entry.fname]
        monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
        monkeypatch.setattr(font_manager, "findSystemFonts", list)
        style._fonts.cache_clear()
        yield
        style._fonts.cache_clear()
    font_manager.fontManager._findfont_cached.cache_clear()


def _install(monkeypatch, path, letters):
    """Makes a font that has a square for each of some letters, as if it had been installed just now."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 500), (500, 500), (500, 0)):
        pen.lineTo(corner)
    pen.closePath()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(letter): "square" for letter in letters})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (600, 0), "square": (600, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(path)])


def _tick_labels(axis):
    return [tick.get_text() for tick in axis.get_ticklabels()]


def _draw(figure, path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(path)


def test_class_names_become_numbers_where_no_font_has_their_letters(tmp_path, capsys):
    figure = mode_frequencies(torch.ones(3), torch.ones(3) / 3, [KOREAN, "dog", "🦊"], f"run {KOREAN}")
    _draw(figure, tmp_path / "a.png")
    assert _tick_labels(figure.axes[0].xaxis) == ["class 0", "dog", "class 2"]
    assert figure.axes[0].get_title("left") == "run \\ud55c\\uad6d"
    advice = capsys.readouterr().err
    assert advice.count("\n") == 1
    assert "fonts-noto-cjk" in advice
    _draw(figure, tmp_path / "a.svg")
    _draw(Figure(), tmp_path / "b.png")
    class_label(7, "ไทย")
    assert capsys.readouterr().err == "", "one piece of advice is enough"


def test_an_installed_font_draws_the_letters_that_matplotlibs_own_lacks(tmp_path, monkeypatch, capsys):
    _install(monkeypatch, tmp_path / "Some Gothic.ttf", KOREAN)
    classes = [KOREAN, "dog", "日本"]
    figure = mode_frequencies(torch.ones(3), torch.ones(3) / 3, classes, f"run {KOREAN}")
    _draw(figure, tmp_path / "a.png")
    assert _tick_labels(figure.axes[0].xaxis) == [KOREAN, "dog", "class 2"]
    assert figure.axes[0].get_title("left") == f"run {KOREAN}"
    assert style._fonts().families[-1] == "Some Gothic"
    assert style.font_file(KOREAN) == str(tmp_path / "Some Gothic.ttf")
    assert KOREAN not in capsys.readouterr().err


def test_a_file_that_is_no_font_does_no_harm(tmp_path, monkeypatch):
    (tmp_path / "a.ttf").write_bytes(b"no font")
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(tmp_path / "a.ttf"), str(tmp_path / "b.ttf")])
    assert drawable(KOREAN) == "\\ud55c\\uad6d"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("two\nlines", "two\\nlines"),
        ("a\u202eb", "a\\u202eb"),
        ("$x^{2", "$x^{2"),
        ("x" * 300, "x" * 23 + "…"),
        ("naïve", "naïve"),
        ("日本", "class 5"),
        ("", ""),
    ],
)
def test_a_class_in_a_picture(name, label):
    assert class_label(5, name) == label


def _pictures():
    """Gives every kind of picture that has names of strangers in it."""
    labels = torch.arange(len(NAMES))
    part = Part(torch.rand(len(NAMES), 1, 8, 8, generator=torch.Generator().manual_seed(0)), labels)
    dataset = Dataset(part, part, classes=NAMES)
    images = part[labels]
    ones = torch.ones(len(NAMES))
    counts = [PredictionCount(name, 1, 20, 0.0, 0.2, None) for name in NAMES]
    yield "modes", mode_frequencies(ones, ones / ones.sum(), NAMES, NAMES[0])
    yield "samples", compare_samples(images, images, dataset, NAMES[0], labels, labels)
    yield "members", compare_members([images], [NAMES[-2]], images, dataset, NAMES[1], [labels, labels])
    yield "backqueries", backqueries({NAMES[0]: [images[:1]] * len(NAMES)}, NAMES)
    yield "data", preflight_figures.data(images, dataset)
    yield "grid", explore_figures.captioned_grid([images], [NAMES], [[f"{name}\nlength" for name in NAMES]], NAMES[0])
    yield "fractions", explore_figures.fractions({NAMES[4]: counts}, NAMES[0])
    line = charts.ForestLine(NAMES[0], NAMES[3], NAMES[4], 1.0, 0.5, 1.5, True, True)
    yield "forest", charts.forest([line, line._replace(label=NAMES[-2])], NAMES[1], True)


def test_every_picture_draws_every_name(tmp_path):
    """No warning of a missing letter, of a layout without room, or of a formula that can't be read."""
    for name, figure in _pictures():
        with warnings.catch_warnings(record=True) as caught:
            figure.savefig(tmp_path / f"{name}.png")
        assert [str(warning.message) for warning in caught] == [], name
    part = Part(torch.rand(len(NAMES), 1, 8, 8))
    frames = animation.frames(part[torch.arange(len(NAMES))], NAMES, Dataset(part, part, classes=NAMES))
    assert len(frames) == len(NAMES)


def test_a_matplotlibrc_with_latex_draws_without_latex(tmp_path):
    with matplotlib.rc_context({"text.usetex": True, "text.parse_math": True, "font.family": ["serif"]}):
        figure = mode_frequencies(torch.ones(2), torch.ones(2) / 2, ["$a^{", "b_c & %"], "title")
        _draw(figure, tmp_path / "a.png")
        assert style._fonts().families == ["serif"], "the font is the user's choice"


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "garbage", "TkAgg", ""])
def test_the_backend_of_a_notebook_is_not_inherited(monkeypatch, backend):
    monkeypatch.setenv("MPLBACKEND", backend)
    prepare_process()
    assert os.environ["MPLBACKEND"] == "agg"


def test_a_command_draws_without_the_backend_of_a_notebook(tmp_path):
    """matplotlib reads the variable when it is imported."""
    code = "from gan_lab.config.hydra_app import prepare_process; prepare_process(); from matplotlib import pyplot"
    environment = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONPATH": str(ROOT)}
    environment["MPLCONFIGDIR"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
