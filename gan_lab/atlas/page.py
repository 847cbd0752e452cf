"""The atlas as one page with filters: atlas.html."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_lab.atlas.cells import SMALL, Answer, Cell
from gan_lab.atlas.pictures import limit_of, places, rows_of_map
from gan_lab.comparison.pages import data_uri, render
from gan_lab.config.help import about_option

TEMPLATES = Path(__file__).parent


@dataclass
class RemedyCard:
    """A treatment.

    Attributes:
        name: of the treatment.
        anchor: its place in the page.
        about: its formula and paper.
        summary: what it did.
        film: without it and with it side by side, a data: URI; None.
    """

    name: str
    anchor: str
    about: str
    summary: str
    film: str | None = None


def film_name(treatment: str) -> str:
    """Returns the name of the file with the film of a treatment."""
    return f"atlas_{'_'.join(treatment.replace('+', ' ').split())}.gif"


def render_page(cells: Sequence[Cell], size: str, films: Mapping[str, bytes]) -> str:
    """Returns the page.

    Args:
        cells: of the atlas.
        size: a sentence about the number of GANs and the time.
        films: GIFs, by their names (`film_name`).
    """
    names = rows_of_map(cells)
    group_of = {cell.treatment: cell.group for cell in cells}
    columns = places(cells)
    content = {
        "small": SMALL,
        "limit": limit_of(cells),
        "places": [{"dataset": dataset, "base": base} for dataset, base in columns],
        "treatments": [{"name": name, "group": group_of[name], "anchor": anchor(name)} for name in names],
        "cells": [_cell(cell) for cell in cells],
    }
    cards = []
    for name in names:
        own = [cell for cell in cells if cell.treatment == name]
        about = about_option(group_of[name], name).removesuffix(".")
        film = films.get(film_name(name))
        uri = data_uri(film, "gif") if film else None
        cards.append(RemedyCard(name, anchor(name), about, summary_of(own), uri))
    return render(
        "atlas.html.jinja",
        TEMPLATES,
        size=size,
        small=SMALL,
        datasets=list(dict.fromkeys(dataset for dataset, _ in columns)),
        bases=list(dict.fromkeys(base for _, base in columns)),
        groups=list(dict.fromkeys(group_of[name] for name in names)),
        cards=cards,
        json=_script_json(content),
    )


def anchor(name: str) -> str:
    """Returns the name of a treatment as a place in the page."""
    return "treatment-" + "-".join(name.replace("+", " ").split())


def summary_of(cells: Sequence[Cell]) -> str:
    """Says in how many places a treatment helped, at which strength, and what it costs."""
    counts = Counter(cell.equal_time.conclusion for cell in cells)
    differences = [cell.equal_time.difference for cell in cells]
    costs = [cell.cost for cell in cells]
    strengths = {cell.dataset: cell.strength for cell in cells}
    tuned = ", ".join(f"{dataset.replace('_', ' ')} {strength}" for dataset, strength in strengths.items())
    return (
        f"Helps in {counts['helps']} of {len(cells)} places and harms in {counts['harms']}; in {counts['small']} the"
        f" difference is smaller than {SMALL}, in {counts['unclear']} one can't tell. Differences of coverage from"
        f" {_signed(min(differences))} to {_signed(max(differences))}, at equal time. A step takes {min(costs):.1f} to"
        f" {max(costs):.1f} times as long. Strength: {tuned}."
    )


def _signed(number: float) -> str:
    return f"{number:+.2f}".replace("-", "−")


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "dataset": cell.dataset,
        "base": cell.base,
        "treatment": cell.treatment,
        "strength": cell.strength,
        "steps": cell.steps,
        "mean": round(cell.mean, 4),
        "cost": round(cell.cost, 2),
        "is_matched": cell.is_matched,
        "equal_time": _answer(cell.equal_time),
        "equal_steps": _answer(cell.equal_steps),
    }


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "conclusion": answer.conclusion,
        "control": round(answer.control_mean, 4),
        "control_steps": answer.control_steps,
        "difference": round(answer.difference, 4),
        "low": round(answer.low, 4),
        "high": round(answer.high, 4),
        "p": float(f"{answer.p_holm:.3g}"),
        "seeds": list(answer.seeds),
    }


def _script_json(content: Mapping[str, Any]) -> Any:
    """Returns JSON that can stand in a script element: no text in it can end that."""
    from markupsafe import Markup

    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))
