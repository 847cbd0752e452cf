"""Contests: contestants that do the same work by turns, so that what else the machine does meets all of them alike."""

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from gan_lab.commands.summary import environment
from gan_lab.core.io import atomic
from gan_lab.plotting.style import Figure, plain_powers

SECONDS = 0.1  # a contestant's turn takes about so long, or longer if its least work does
PACKAGES = ("numpy", "h5py", "pillow", "torchvision")


@dataclass(frozen=True)
class Contest:
    """Who does what, and whom the others are measured by.

    Attributes:
        title: the work, in words.
        unit: what is counted, e.g. images.
        play: for each contestant a function that does so many units of the work; if it gives a number, that's the
            seconds which count, else all that it took.
        against: the contestants to which all others' ratios are given.
        step: numbers of units are multiples of this.
        seconds: how long a turn takes, about; None: `SECONDS`.
    """

    title: str
    unit: str
    play: Mapping[str, Callable[[int], Any]]
    against: Sequence[str]
    step: int = 1
    seconds: float | None = None


@dataclass
class Result:
    """What a contest gave.

    Attributes:
        rates: of each contestant, units a second in each round.
    """

    contest: Contest
    rates: dict[str, list[float]] = field(default_factory=dict)

    def ratios(self, name: str, other: str) -> list[float]:
        """How many times as fast as another one it was, in each round."""
        return [mine / its for mine, its in zip(self.rates[name], self.rates[other], strict=True)]


def hold(contests: Sequence[Contest], rounds: int) -> list[Result]:
    """Lets all contestants of each contest take turns; every other round goes backwards."""
    results = []
    with tqdm(total=sum(len(each.play) for each in contests) * rounds, desc="turns", disable=None) as bar:
        for contest in contests:
            amounts = {name: _amount(contest, name) for name in contest.play}  # warms everything up as well
            result = Result(contest, {name: [] for name in contest.play})
            for turn in range(rounds):
                for name in list(contest.play)[:: -1 if turn % 2 else 1]:
                    result.rates[name].append(amounts[name] / _timed(contest.play[name], amounts[name]))
                    bar.update()
            results.append(result)
    return results


def describe(results: Sequence[Result], facts: dict[str, dict[str, float]]) -> str:
    """Tables of medians, ranges over the rounds, and ratios (medians of the rounds' own); then the other facts."""
    lines = []
    for result in results:
        contest = result.contest
        rounds = len(next(iter(result.rates.values())))
        wide = max(len(name) for name in contest.play)
        columns = [f"× {name}" for name in contest.against]
        head = f"  {'':<{wide}}  {contest.unit + '/s':>11}  {'lowest – highest':>21}  " + "  ".join(columns)
        lines += ["", f"{contest.title}, median of {rounds} rounds", head]
        for name, rates in result.rates.items():
            spread = f"{min(rates):,.0f} – {max(rates):,.0f}"
            times = [f"{statistics.median(result.ratios(name, other)):.3g}" for other in contest.against]
            said = "  ".join(f"{each:>{len(column)}}" for each, column in zip(times, columns, strict=True))
            lines.append(f"  {name:<{wide}}  {statistics.median(rates):>11,.0f}  {spread:>21}  {said}")
    for title, values in facts.items():
        wide = max(map(len, values))
        lines += ["", title, *(f"  {name:<{wide}}  {value:>11,.1f}" for name, value in values.items())]
    return "\n".join(lines)


def write(folder: Path, what: str, results: Sequence[Result], facts: dict[str, dict[str, float]]) -> list[Path]:
    """Puts table, chart and all numbers, with what they were measured on, into a folder; gives the files."""
    content = {
        "what": what,
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "environment": {
            **environment(torch.device("cpu")),
            **{name: version(name) for name in PACKAGES},
            "machine": platform.platform(),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,  # 1 is this benchmark itself
        },
        "contests": [
            {
                "title": result.contest.title,
                "unit": result.contest.unit,
                "rates": result.rates,
                "ratios": {
                    other: {name: statistics.median(result.ratios(name, other)) for name in result.rates}
                    for other in result.contest.against
                },
            }
            for result in results
        ],
        "facts": facts,
    }
    paths = [folder / f"{what}.{suffix}" for suffix in ("txt", "json", "png")]
    with atomic(paths[0]) as half:
        half.write_text(describe(results, facts) + "\n", encoding="utf-8")
    with atomic(paths[1]) as half:
        half.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if not results:  # nothing to draw
        return paths[:2]
    with atomic(paths[2]) as half:
        chart(results).savefig(half, dpi=100)
    return paths


def chart(results: Sequence[Result]) -> Figure:
    """A panel of bars per contest: medians on a logarithmic scale, lowest to highest as a line."""
    heights = [len(result.rates) + 2 for result in results]
    figure = Figure(figsize=(9, 0.3 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(results), height_ratios=heights, squeeze=False)[:, 0]
    for axes, result in zip(panels, results, strict=True):
        medians = [statistics.median(rates) for rates in result.rates.values()]
        low, high = ([end(rates) for rates in result.rates.values()] for end in (min, max))
        axes.barh(list(result.rates), medians, color="C0")
        axes.hlines(range(len(medians)), low, high, color="0.25")
        for place, median in enumerate(medians):
            axes.annotate(f" {median:,.0f}", (high[place], place), va="center", fontsize=8)
        axes.set_xscale("log")
        plain_powers(axes.xaxis)
        axes.margins(x=0.15)
        axes.invert_yaxis()
        axes.set_title(f"{result.contest.title}: {result.contest.unit} a second", fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure


def _timed(play: Callable[[int], Any], amount: int) -> float:
    start = time.perf_counter()
    said = play(amount)
    return said if isinstance(said, float) else time.perf_counter() - start


def _amount(contest: Contest, name: str) -> int:
    """How many units make a turn long enough."""
    seconds = SECONDS if contest.seconds is None else contest.seconds
    amount = contest.step
    while (taken := _timed(contest.play[name], amount)) < seconds:
        times = max(2.0, min(seconds / taken, 1000.0)) if taken else 2.0
        amount = contest.step * math.ceil(times * amount / contest.step)
    return amount
