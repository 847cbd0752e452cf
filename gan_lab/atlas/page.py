"""The atlas as one page with filters: atlas.html."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_lab.atlas.cells import COVERAGE, FLOOR, OUTCOMES, SMALL, Answer, Cell, floor_places
from gan_lab.atlas.document import range_of_costs, signed
from gan_lab.atlas.pictures import limit_of, places_of, rows_of_map
from gan_lab.atlas.plan import RATE, STEPS
from gan_lab.comparison.pages import data_uri, render
from gan_lab.config.help import about_option

TEMPLATES = Path(__file__).parent
# What is no option of conf/.
ABOUT = {RATE: "The learning rates of both networks, a fifth or five times as high: the plainest remedy"}


@dataclass
class TreatmentCard:
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
    return f"atlas_{treatment.replace(' ', '_')}.gif"


def render_page(cells: Sequence[Cell], size: str, films: Mapping[str, bytes]) -> str:
    """Returns the page.

    Args:
        cells: of the atlas.
        size: a sentence about the number of GANs and the time.
        films: GIFs, by their names (`film_name`).
    """
    names = rows_of_map(cells)
    group_of = {cell.treatment: cell.group for cell in cells}
    columns = places_of(cells)
    floor = floor_places(cells)
    content = {
        "small": SMALL,
        "steps": STEPS,
        "limits": {outcome: limit_of(cells, outcome) for outcome in OUTCOMES},
        "places": [place._asdict() for place in columns],
        "floor": [place._asdict() for place in floor],
        "treatments": [{"name": name, "group": group_of[name], "anchor": anchor(name)} for name in names],
        "cells": [_cell(cell) for cell in cells],
    }
    cards = []
    for name in names:
        own = [cell for cell in cells if cell.treatment == name and cell.place not in floor]
        about = about_option(group_of[name], name).removesuffix(".") or ABOUT[name]
        film = films.get(film_name(name))
        uri = data_uri(film, "gif") if film else None
        cards.append(TreatmentCard(name, anchor(name), about, summary_of(own), uri))
    return render(
        "atlas.html.jinja",
        TEMPLATES,
        size=size,
        small=SMALL,
        least=FLOOR,
        outcomes=OUTCOMES,
        datasets=list(dict.fromkeys(place.dataset for place in columns)),
        bases=list(dict.fromkeys(place.base for place in columns)),
        floor=[", ".join(place) for place in floor],
        groups=list(dict.fromkeys(group_of[name] for name in names)),
        cards=cards,
        json=_script_json(content),
    )


def anchor(name: str) -> str:
    """Returns the name of a treatment as a place in the page."""
    return f"treatment-{name.replace(' ', '-')}"


def summary_of(cells: Sequence[Cell]) -> str:
    """Says in how many places a treatment helped, at which strengths, and what it costs."""
    if not cells:
        return "Only in places in which no GAN reaches more."
    answers = [cell.equal_time[COVERAGE] for cell in cells]
    counts = Counter(answer.conclusion for answer in answers)
    differences = [answer.difference for answer in answers]
    strengths = Counter(cell.strength for cell in cells)
    chosen = ", ".join(f"{strength} ({count})" for strength, count in strengths.most_common())
    text = (
        f"Helps in {counts['helps']} of {len(cells)} places and harms in {counts['harms']}; in {counts['small']} the"
        f" difference is smaller than {SMALL}, in {counts['unclear']} one can't tell. Differences of coverage from"
        f" {signed(min(differences))} to {signed(max(differences))}, at equal time. A step costs"
        f" {range_of_costs(cells)} times as much. Strengths, and in how many places: {chosen}."
    )
    failed = sum(cell.failed for cell in cells)
    if failed:
        text += f" {failed} trainings ended in NaN."
    return text


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        **cell.place._asdict(),
        "treatment": cell.treatment,
        "strength": cell.strength,
        "steps": cell.steps,
        "cost": round(cell.cost, 2),
        "failed": cell.failed,
        "equal_time": {outcome: _answer(answer) for outcome, answer in cell.equal_time.items()},
        "equal_steps": {outcome: _answer(answer) for outcome, answer in cell.equal_steps.items()},
    }


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "conclusion": answer.conclusion,
        "control": round(answer.control_mean, 4),
        "mean": round(answer.mean, 4),
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
