"""Benchmarks: candidates do the same work in turns, so that other load on the machine affects all of them alike."""

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

# The least duration of a turn.
SECONDS = 0.1
# By which factor the work of a turn that is too short may grow from one try to the next.
MAX_GROWTH = 1000.0
PACKAGES = ("numpy", "h5py", "pillow", "torchvision")

# Does this many units of work. A number that it returns is its duration in seconds; None: it is timed from outside.
Candidate = Callable[[int], float | None]
# By title, numbers by name.
Facts = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Benchmark:
    """A kind of work, and the candidates that do it.

    Attributes:
        title: the work, in words.
        unit: what is counted, e.g. images.
        candidates: by name.
        baselines: the candidates to which the ratios of all are given.
        multiple: candidates can only do multiples of this number of units.
        seconds: the least duration of a turn; None for `SECONDS`.
    """

    title: str
    unit: str
    candidates: Mapping[str, Candidate]
    baselines: Sequence[str]
    multiple: int = 1
    seconds: float | None = None


@dataclass
class BenchmarkResult:
    """The measured rates.

    Attributes:
        benchmark: what was measured.
        rates: for each candidate the units per second in each round.
    """

    benchmark: Benchmark
    rates: dict[str, list[float]] = field(default_factory=dict)

    def ratios(self, name: str, baseline: str) -> list[float]:
        """Returns how many times as fast as a baseline a candidate was in each round."""
        return [rate / base for rate, base in zip(self.rates[name], self.rates[baseline], strict=True)]

    def median_ratio(self, name: str, baseline: str) -> float:
        """Returns the median of the rounds' ratios, in which slow phases of the machine cancel out."""
        return statistics.median(self.ratios(name, baseline))


def run_benchmarks(benchmarks: Sequence[Benchmark], rounds: int) -> list[BenchmarkResult]:
    """Lets the candidates of each benchmark take turns, in reversed order in every other round."""
    results = []
    number_of_candidates = sum(len(benchmark.candidates) for benchmark in benchmarks)
    with tqdm(total=rounds * number_of_candidates, desc="turns", disable=None) as progress:
        for benchmark in benchmarks:
            amounts = {}
            result = BenchmarkResult(benchmark)
            for name in benchmark.candidates:
                # This warms up everything as well.
                amounts[name] = _amount_per_turn(benchmark, name)
                result.rates[name] = []
            order = list(benchmark.candidates)
            for _ in range(rounds):
                for name in order:
                    seconds = _measure(benchmark.candidates[name], amounts[name])
                    result.rates[name].append(amounts[name] / seconds)
                    progress.update()
                order.reverse()
            results.append(result)
    return results


def _measure(candidate: Candidate, amount: int) -> float:
    """Returns the seconds that a candidate takes for this many units."""
    start = time.perf_counter()
    seconds = candidate(amount)
    if seconds is None:
        seconds = time.perf_counter() - start
    return seconds


def _amount_per_turn(benchmark: Benchmark, name: str) -> int:
    """Increases the number of units until a turn takes long enough."""
    min_seconds = SECONDS
    if benchmark.seconds is not None:
        min_seconds = benchmark.seconds
    amount = benchmark.multiple
    while True:
        seconds = _measure(benchmark.candidates[name], amount)
        if seconds >= min_seconds:
            return amount
        growth = 2.0
        # A clock may be too coarse for a short turn and show 0.
        if seconds:
            growth = max(growth, min(min_seconds / seconds, MAX_GROWTH))
        amount = benchmark.multiple * math.ceil(growth * amount / benchmark.multiple)


def describe(results: Sequence[BenchmarkResult], facts: Facts) -> str:
    """Makes tables of medians, ranges over the rounds, and median ratios; then of the other facts."""
    lines: list[str] = []
    for result in results:
        lines += _table(result)
    for title, values in facts.items():
        width = max(map(len, values))
        lines += ["", title]
        for name, value in values.items():
            lines.append(f"  {name:<{width}}  {value:>11,.1f}")
    return "\n".join(lines)


def _table(result: BenchmarkResult) -> list[str]:
    """Returns the lines of a table with a row per candidate: median, range, and ratios to the baselines."""
    benchmark = result.benchmark
    rounds = len(next(iter(result.rates.values())))
    width = max(map(len, benchmark.candidates))
    headings = [f"× {baseline}" for baseline in benchmark.baselines]
    unit = f"{benchmark.unit}/s"
    lines = [
        "",
        f"{benchmark.title}, median of {rounds} rounds",
        f"  {'':<{width}}  {unit:>11}  {'lowest – highest':>21}  {'  '.join(headings)}",
    ]
    for name, rates in result.rates.items():
        spread = f"{min(rates):,.0f} – {max(rates):,.0f}"
        ratios = []
        for baseline, heading in zip(benchmark.baselines, headings, strict=True):
            ratios.append(f"{result.median_ratio(name, baseline):>{len(heading)}.3g}")
        lines.append(f"  {name:<{width}}  {statistics.median(rates):>11,.0f}  {spread:>21}  {'  '.join(ratios)}")
    return lines


def write(folder: Path, name: str, results: Sequence[BenchmarkResult], facts: Facts) -> list[Path]:
    """Writes the tables, a chart, and all numbers with a description of the machine.

    Args:
        folder: where to write.
        name: the name of the files without their endings.
        results: may be empty; then there is no chart.
        facts: further numbers.

    Returns:
        The paths of the files.
    """
    text_path = folder / f"{name}.txt"
    with atomic(text_path) as path:
        path.write_text(describe(results, facts) + "\n", encoding="utf-8")
    content = {
        "what": name,
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "environment": _environment(),
        "benchmarks": [_numbers(result) for result in results],
        "facts": facts,
    }
    json_path = folder / f"{name}.json"
    with atomic(json_path) as path:
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if not results:
        return [text_path, json_path]
    chart_path = folder / f"{name}.png"
    with atomic(chart_path) as path:
        chart(results).savefig(path, dpi=100)
    return [text_path, json_path, chart_path]


def _environment() -> dict[str, Any]:
    """Describes the machine and the versions of the packages."""
    description = environment(torch.device("cpu"))
    for package in PACKAGES:
        description[package] = version(package)
    description |= {"machine": platform.platform(), "cores": os.cpu_count(), "load": None}
    # Windows does not have it. This benchmark itself is 1 of the load.
    if hasattr(os, "getloadavg"):
        description["load"] = os.getloadavg()[0]
    return description


def _numbers(result: BenchmarkResult) -> dict[str, Any]:
    """Returns what the JSON file has of a benchmark."""
    ratios = {}
    for baseline in result.benchmark.baselines:
        ratios[baseline] = {name: result.median_ratio(name, baseline) for name in result.rates}
    return {
        "title": result.benchmark.title,
        "unit": result.benchmark.unit,
        "rates": result.rates,
        "ratios": ratios,
    }


def chart(results: Sequence[BenchmarkResult]) -> Figure:
    """Draws a panel per benchmark: medians as dots on a logarithmic scale, and a line from lowest to highest.

    No bars: a logarithmic axis has no 0 at which they could begin.
    """
    heights = [len(result.rates) + 2 for result in results]
    figure = Figure(figsize=(9, 0.3 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(results), height_ratios=heights, squeeze=False)[:, 0]
    for axes, result in zip(panels, results, strict=True):
        medians = []
        lowest = []
        highest = []
        for rates in result.rates.values():
            medians.append(statistics.median(rates))
            lowest.append(min(rates))
            highest.append(max(rates))
        axes.hlines(range(len(medians)), lowest, highest, color="C0", alpha=0.5, linewidth=3)
        axes.plot(medians, list(range(len(medians))), "o", color="C0")
        axes.set_yticks(range(len(medians)), list(result.rates))
        axes.set_ylim(-0.6, len(medians) - 0.4)
        axes.grid(alpha=0.4)
        for row, median in enumerate(medians):
            axes.annotate(f"  {median:,.0f}", (highest[row], row), va="center", fontsize=8)
        # Candidates may differ by factors of a thousand.
        axes.set_xscale("log")
        plain_powers(axes.xaxis)
        axes.margins(x=0.15)
        axes.invert_yaxis()
        axes.set_title(f"{result.benchmark.title}: {result.benchmark.unit} per second", fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure
