"""Pictures for the pages: SVG of the plane, data addresses of PNG files, and the options of ECharts' curves.

Everything is made of numbers; no text of a file or of a user gets into the SVG.
"""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

SIDE = 360  # of the plane, in units of the SVG
REAL_COLOUR = "#0b3c74"
FAKE_COLOUR = "#c2410c"
IDEAL_COLOUR = "#6b7280"
D_REAL_COLOUR = "#2563eb"
D_FAKE_COLOUR = "#d97706"
G_COLOUR = "#059669"

Window = Sequence[float]


def png_file(pixels: np.ndarray) -> bytes:
    """Returns pixels `(height, width, 3)` of uint8 as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png", compress_level=1)
    return file.getvalue()


def data_address(png: bytes) -> str:
    """Returns a PNG file as an address."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def image(png: bytes, side: int = SIDE) -> str:
    """Returns HTML of a picture whose pixels stay sharp, so many pixels wide."""
    style = f"width:{side}px;max-width:100%;min-height:24px;image-rendering:pixelated;border-radius:4px"
    return f'<img alt="samples" src="{data_address(png)}" style="{style}">'


def plane(
    window: Window,
    real: np.ndarray,
    fake: np.ndarray,
    surface: bytes = b"",
    arrows: np.ndarray | None = None,
    path: np.ndarray | None = None,
    marks: Sequence[tuple[Sequence[float], str]] = (),
) -> str:
    """Returns an SVG of points in the plane.

    Args:
        window: left, right, bottom and top.
        real, fake: points `(n, 2)`.
        surface: a PNG file that fills the window, behind the points; b"": none.
        arrows: `(m, 4)` of x, y, dx, dy.
        path: points `(k, 2)` of a line.
        marks: further points with a colour, drawn large.
    """
    parts = [f'<svg viewBox="0 0 {SIDE} {SIDE}" class="plane" role="img" aria-label="points in the plane">']
    parts.append(f'<rect width="{SIDE}" height="{SIDE}" fill="#fff"/>')
    if surface:
        parts.append(
            f'<image href="{data_address(surface)}" width="{SIDE}" height="{SIDE}" preserveAspectRatio="none"/>'
        )
    parts.append(_dots(window, real, REAL_COLOUR, 3.2, 0.55))
    parts.append(_dots(window, fake, FAKE_COLOUR, 4.2, 0.75))
    if arrows is not None and len(arrows):
        parts.append(_arrows(window, arrows))
    if path is not None and len(path):
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in _placed(window, path))
        parts.append(f'<polyline points="{places}" fill="none" stroke="#111" stroke-width="1.5"/>')
    for point, colour in marks:
        ((x, y),) = _placed(window, np.array([point], dtype=float))
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7" fill="{colour}" stroke="#fff" stroke-width="2"/>')
    parts.append("</svg>")
    return "".join(parts)


def outside(window: Window, points: np.ndarray) -> int:
    """Returns how many points `(n, 2)` lie outside of the window, or nowhere (NaN)."""
    left, right, bottom, top = window
    x, y = points.T
    return int(len(points) - ((x >= left) & (x <= right) & (y >= bottom) & (y <= top)).sum())


def _placed(window: Window, points: np.ndarray) -> list[tuple[float, float]]:
    """Returns the places of points in units of the SVG; those that aren't finite are left out."""
    left, right, bottom, top = window
    points = np.clip(points[np.isfinite(points).all(1)], -1e6, 1e6)
    x = (points[:, 0] - left) / (right - left) * SIDE
    y = (top - points[:, 1]) / (top - bottom) * SIDE
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _dots(window: Window, points: np.ndarray, colour: str, size: float, opacity: float) -> str:
    """Returns points as the round ends of lines without length: much shorter than circles."""
    places = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in _placed(window, points))
    return (
        f'<path d="{places}" fill="none" stroke="{colour}" stroke-width="{size}" stroke-opacity="{opacity}" '
        'stroke-linecap="round"/>'
    )


def _arrows(window: Window, arrows: np.ndarray) -> str:
    """Returns arrows `(m, 4)` as lines with a tip."""
    starts = _placed(window, arrows[:, :2])
    ends = _placed(window, arrows[:, :2] + arrows[:, 2:])
    if len(starts) != len(ends):
        return ""
    lines = []
    for (x, y), (to_x, to_y) in zip(starts, ends, strict=True):
        length = float(np.hypot(to_x - x, to_y - y))
        if length < 2:
            continue
        # The tip: two short lines back from the end.
        back_x = (x - to_x) / length
        back_y = (y - to_y) / length
        tip = min(5.0, length / 2)
        left = (to_x + tip * (back_x - 0.6 * back_y), to_y + tip * (back_y + 0.6 * back_x))
        right = (to_x + tip * (back_x + 0.6 * back_y), to_y + tip * (back_y - 0.6 * back_x))
        lines.append(
            f"M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}M{left[0]:.1f} {left[1]:.1f}"
            f"L{to_x:.1f} {to_y:.1f}L{right[0]:.1f} {right[1]:.1f}"
        )
    return f'<path d="{"".join(lines)}" fill="none" stroke="#111" stroke-width="1.2" stroke-linejoin="round"/>'


def curve_options(
    names: Sequence[str], colours: Sequence[str], ideals: Sequence[tuple[str, float]], bottom: float | None = None
) -> dict[str, Any]:
    """Returns the options of a chart of curves over steps, still without points.

    Args:
        names, colours: of the curves.
        ideals: names and values of dashed lines.
        bottom: of the axis; None: as the points need it.
    """
    series: list[dict[str, Any]] = []
    for name, colour in zip(names, colours, strict=True):
        series.append(
            {
                "name": name,
                "type": "line",
                "data": [],
                "showSymbol": False,
                "lineStyle": {"width": 1.5},
                "itemStyle": {"color": colour},
            }
        )
    if series and ideals:
        series[0]["markLine"] = {
            "silent": True,
            "symbol": "none",
            "animation": False,
            "lineStyle": {"color": IDEAL_COLOUR, "type": "dashed"},
            "data": [
                {"yAxis": value, "label": {"formatter": name, "position": "end", "color": IDEAL_COLOUR}}
                for name, value in ideals
            ],
        }
    y_axis: dict[str, Any] = {"type": "value", "splitNumber": 3, "scale": bottom is None, "axisLabel": {"fontSize": 11}}
    if bottom is not None:
        y_axis["min"] = bottom
    return {
        "animation": False,
        "grid": {"left": 8, "right": 70, "top": 28, "bottom": 22, "containLabel": True},
        "legend": {"top": 0, "itemHeight": 8, "textStyle": {"fontSize": 11}},
        "tooltip": {"trigger": "axis"},
        "xAxis": {
            "type": "value",
            "name": "step",
            "nameLocation": "middle",
            "nameGap": 24,
            "max": "dataMax",
            "axisLabel": {"fontSize": 11, "hideOverlap": True},
        },
        "yAxis": y_axis,
        "series": series,
    }


def heat_map(values: np.ndarray) -> str:
    """Returns an SVG of vectors `(n, d)` in [0, 1], a row each, in blues as in the book."""
    rows, columns = values.shape
    cells = []
    for row in range(rows):
        for column in range(columns):
            value = float(np.clip(np.nan_to_num(values[row, column]), 0, 1))
            red, green, blue = (round(247 - 239 * value), round(251 - 203 * value), round(255 - 148 * value))
            cells.append(f'<rect x="{column}" y="{row}" width="1" height="1" fill="rgb({red},{green},{blue})"/>')
    return (
        f'<svg viewBox="0 0 {columns} {rows}" class="plane" preserveAspectRatio="none" role="img" '
        f'aria-label="samples, a row each">{"".join(cells)}</svg>'
    )
