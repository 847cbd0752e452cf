"""`cure.html`: what a cure found on one page: the answer, films before and after, what is wrong, race, proof, recipe.

The page is made of the content of cure.json and of the files that this names, at any time of the cure: it says what is
missing or damaged. Neither torch nor pandas is imported.
"""

import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple
from urllib.parse import quote as quote_url

from matplotlib.ticker import MaxNLocator

from gan_lab.comparison import pages
from gan_lab.comparison.collect import Record, as_number, read_record
from gan_lab.comparison.factors import class_name, value_text
from gan_lab.comparison.numbers import NO_NUMBER, format_estimate, format_number, format_p
from gan_lab.comparison.pages import (
    MAX_ROWS,
    Card,
    Strip,
    Table,
    data_uri,
    dict_at,
    embed_picture,
    long_text,
    picture_card,
    place_strip,
    render,
    short_text,
)
from gan_lab.comparison.run_page import Headline, sample_card, statement_and_numbers
from gan_lab.core.command_line import command, quote
from gan_lab.core.csv_table import read_step_table
from gan_lab.core.errors import LabError
from gan_lab.core.io import read_text
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import escape_texts, printable
from gan_lab.cure.plan import METRIC, UNCHANGED
from gan_lab.evaluation.metrics.registry import metric_of
from gan_lab.plotting.curves import mode_curves

NAME = "cure.html"
# Candidates of a stage that are drawn, and stages; a cure has two or three.
MAX_DRAWN = 15
MAX_STAGES = 6
# Failures of a stage beyond these are folded away.
MAX_FAILURES = 3
# Seeds of which each has a dot.
MAX_SEEDS = 100
# Sentences of the examination.
MAX_SENTENCES = 20
# No metric has larger values.
MAX_VALUE = 1e12
# The four states of a cure, and how the headline shows them.
HELPED = "helped"
NOT_SHOWN = "nothing shown to help"
HEALTHY = "healthy"
UNDER_WAY = "under way"
STYLES = {HELPED: "good", NOT_SHOWN: "fair", HEALTHY: "good", UNDER_WAY: "none"}


class Lane(NamedTuple):
    """A row of a chart.

    Attributes:
        name: what was trained.
        strip: its values; None if it has none.
        number: their mean, in words.
        style: patient, kept or dropped; in the proof, shown or dropped.
    """

    name: str
    strip: Strip | None
    number: str
    style: str


@dataclass
class Chart:
    """Values of several variants on one scale, one below the other.

    Attributes:
        axis: what the scale measures.
        ticks: x from 0 to 100, and the number there.
        lanes: its rows.
        line: x of the vertical line; None if there is none.
    """

    axis: str
    ticks: list[tuple[float, str]]
    lanes: list[Lane]
    line: float | None = None


@dataclass
class Stage:
    """A stage of the race.

    Attributes:
        title: which one it is, and what became of its candidates.
        caption: how long and on which seeds each was trained.
        chart: of the best candidates.
        hidden: how many candidates with values are not drawn.
        failures: what could not be trained, and why.
        numbers: all candidates.
    """

    title: str
    caption: str
    chart: Chart
    hidden: int
    failures: list[str]
    numbers: Table


@dataclass
class Proof:
    """The winner against the patient, on fresh seeds.

    Attributes:
        sentence: the result in words.
        how: how its numbers were computed.
        arms: the values of both.
        difference: the difference of the means with its interval, beside 0.
    """

    sentence: str
    how: str
    arms: Chart
    difference: Chart | None


@dataclass
class Result:
    """A candidate of a stage, as the race recorded it.

    Attributes:
        name: of the candidate.
        changes: the settings in which it differs from the patient.
        values: of the metric, one for each seed.
        mean: of the values; NaN if there are none.
        failure: why it could not be trained; '' if it could.
        style: patient, kept or dropped.
    """

    name: str
    changes: list[str]
    values: list[float] = field(default_factory=list)
    mean: float = math.nan
    failure: str = ""
    style: str = "dropped"


def write_page(record: Mapping[str, Any], folder: Path) -> Path:
    """Writes the page of a cure.

    Args:
        record: the content of cure.json. All parts after the examination may be missing, as long as the cure is under
            way; nothing in it is trusted.
        folder: where cure.json lies.

    Returns:
        The path.

    Raises:
        OSError: if it can't be written.
    """
    path = folder / NAME
    pages.write_page(_render(escape_texts(dict(record)), folder), path)
    return path


def _render(record: Mapping[str, Any], folder: Path) -> str:
    state = _state(record)
    patient = _patient_run(record, folder)
    patient_record = read_record(patient) if patient else None
    metric = _metric(record)
    return render(
        "cure.html.jinja",
        Path(__file__).parent,
        script="",
        state=state,
        dataset=_string(dict_at(record, "patient").get("dataset")) or "unknown data",
        patient=_patient_settings(record),
        headline=_headline(record, state),
        next_step=_next_step(record, state),
        films=_films(record, folder, patient, state),
        examination=_examination(record),
        curve=_curve_card(patient, _since(record)) if patient else None,
        samples=sample_card(patient) if patient else None,
        stages=_stages(record, metric),
        candidates=_candidates(record),
        max_failures=MAX_FAILURES,
        proof=_proof(record, metric),
        prescription=_prescription(record, folder, patient_record),
        facts=_facts(record),
        links=_links(record, folder, patient),
        made_by="" if state == UNDER_WAY else _cure_command(record),
    )


def _patient_run(record: Mapping[str, Any], folder: Path) -> Run | None:
    """Returns the run that is to be cured; None if its folder is missing."""
    name = dict_at(record, "patient").get("folder")
    if not isinstance(name, str) or not name:
        return None
    run = Run(folder / name)
    return run if os.path.isdir(run.folder) else None


def _state(record: Mapping[str, Any]) -> str:
    """Returns one of the four states."""
    if dict_at(record, "examination").get("healthy") is True:
        return HEALTHY
    proof = dict_at(record, "proof")
    if proof:
        return HELPED if proof.get("helped") is True else NOT_SHOWN
    # A race that no candidate won has no proof; it ends with an answer.
    return NOT_SHOWN if _string(record.get("answer")) else UNDER_WAY


def _headline(record: Mapping[str, Any], state: str) -> Headline:
    """Returns the answer; as long as there is none, how far the cure is."""
    defaults = {
        HELPED: "A recipe helped",
        NOT_SHOWN: "Nothing within the budget was shown to help",
        HEALTHY: "Nothing is wrong with this run",
        UNDER_WAY: _progress(record),
    }
    # The answer for a healthy run ends with the verdict's line of numbers.
    title, numbers = statement_and_numbers(_raw_string(record.get("answer")))
    verdict = ""
    if state in (HEALTHY, UNDER_WAY):
        verdict = _statement(record)
    title = _string(title) or defaults[state]
    return Headline(STYLES[state], title, "" if verdict in title else verdict, _string(numbers))


def _statement(record: Mapping[str, Any]) -> str:
    """Returns the words of the patient's verdict, without its line of numbers."""
    statement, _ = statement_and_numbers(_raw_string(dict_at(record, "patient").get("sentence")))
    return _string(statement)


def _next_step(record: Mapping[str, Any], state: str) -> tuple[str, str] | None:
    """Returns what to do now, in words and as a command; None if there is nothing to do."""
    line = _string(dict_at(record, "prescription").get("command"))
    if state == HELPED:
        return ("Train this way", line) if line else None
    line = _cure_command(record)
    if state == UNDER_WAY:
        return ("If it was stopped, the same command goes on", line) if line else None
    budget = as_number(record.get("budget_seconds"))
    if state == HEALTHY or not line or not 0 < budget < MAX_VALUE:
        return None
    arguments = [argument for argument in _strings(record.get("command")) if not argument.startswith("budget=")]
    longer = command("cure.py", *map(quote, [*arguments, f"budget={math.ceil(2 * budget / 60)}m"]))
    return "Search twice as long", long_text(longer)


def _progress(record: Mapping[str, Any]) -> str:
    """Returns how far a cure is that has no answer yet."""
    stages = len(_dicts(record.get("race")))
    if not dict_at(record, "examination"):
        return "Under way: the run is being examined"
    if not stages:
        return "Under way: the run is examined, the race of remedies comes next"
    return f"Under way: {stages} {_plural('stage', stages)} of the race {'is' if stages == 1 else 'are'} done"


# The patient


def _patient_settings(record: Mapping[str, Any]) -> str:
    """Returns what the patient's command line set; '' if nothing."""
    return long_text(" ".join(_strings(dict_at(record, "patient").get("overrides"))))


def _films(record: Mapping[str, Any], folder: Path, patient: Run | None, state: str) -> list[Card]:
    """Returns the films of both arms of the proof; before the proof that of the patient."""
    proof = dict_at(record, "proof")
    if not proof:
        if patient is None:
            return []
        return [_film(Card("This run" if state == HEALTHY else "Before"), patient.film)]
    films = dict_at(proof, "films")
    verdicts = dict_at(proof, "verdicts")
    after = "After" if state == HELPED else "The best try"
    cards = []
    for arm, name in (("patient", f"Before: {UNCHANGED}"), ("winner", f"{after}: {_winner(record)}")):
        card = Card(name, _string(verdicts.get(arm)))
        path = _inside(folder, films.get(arm))
        if path is None:
            card.gaps.append("The film is missing.")
            cards.append(card)
        else:
            cards.append(_film(card, path))
    return cards


def _film(card: Card, path: Path) -> Card:
    """Puts a film into a card, or why it can't be shown."""
    card.picture, gap = embed_picture(path, ("GIF",))
    if gap:
        card.gaps.append(gap)
    return card


def _examination(record: Mapping[str, Any]) -> list[str]:
    """Returns the findings, the chief one first."""
    return _strings(dict_at(record, "examination").get("sentences"))[:MAX_SENTENCES]


def _since(record: Mapping[str, Any]) -> int | None:
    """Returns the step since which the run fails; None if it doesn't, or none is known."""
    since = as_number(dict_at(record, "examination").get("since"))
    return int(since) if 0 <= since < MAX_VALUE else None


def _curve_card(run: Run, since: int | None) -> Card:
    """Draws the patient's modes with the steps shaded at which it fails; without modes, what it drew itself."""
    try:
        metrics = read_step_table(run.metrics)
        figure = mode_curves(metrics, since)
    except (OSError, LabError, LookupError, ValueError, OverflowError):
        # A table with other columns, or numbers that no axis can show.
        return picture_card(run.plots / "losses.png", "Losses", "metrics.csv is missing or damaged")
    if figure is None:
        return picture_card(run.plots / "losses.png", "Losses", "it was never evaluated")
    caption = f"shaded: failing since step {since:,}" if since is not None else ""
    content = io.BytesIO()
    figure.savefig(content)
    return Card("Over the steps", caption, data_uri(content.getvalue(), "png"))


# The race


def _metric(record: Mapping[str, Any]) -> str:
    """Returns the name of the metric that decides."""
    return short_text(_string(dict_at(record, "proof").get("metric"))) or METRIC


def _stages(record: Mapping[str, Any], metric: str) -> list[Stage]:
    """Returns the stages of the race, all on the same scale."""
    entries = _dicts(record.get("race"))[:MAX_STAGES]
    results = [_results(entry, metric) for entry in entries]
    values = []
    for stage_results in results:
        for result in stage_results:
            values += result.values
    scale = _scale(values)
    stages = []
    for number, (entry, stage_results) in enumerate(zip(entries, results, strict=True), start=1):
        stages.append(_stage(number, entry, stage_results, metric, scale))
    return stages


def _results(stage: Mapping[str, Any], metric: str) -> list[Result]:
    """Returns the candidates of a stage, the best first; those without values come last."""
    results = []
    for entry in _dicts(stage.get("results")):
        result = Result(short_text(_string(entry.get("name"))) or "?", _strings(entry.get("changes")))
        # Of some seeds it may have failed, of the others not.
        result.failure = short_text(_string(entry.get("failure")))
        result.values = _numbers(entry.get("values"))
        if result.values:
            result.mean = fmean(result.values)
        elif not result.failure:
            result.failure = "no value was recorded"
        if entry.get("is_patient") is True:
            result.style = "patient"
        elif entry.get("kept") is True:
            result.style = "kept"
        results.append(result)
    sign = 1 if metric_of(metric).higher_is_better is False else -1
    return sorted(results, key=lambda result: (not result.values, sign * result.mean if result.values else 0))


def _stage(number: int, entry: Mapping[str, Any], results: Sequence[Result], metric: str, scale: list[float]) -> Stage:
    """Returns a stage with its chart on a scale, which the stages share."""
    measured = [result for result in results if result.values]
    patient = next((result for result in measured if result.style == "patient"), None)
    drawn = measured[:MAX_DRAWN]
    if patient is not None and patient not in drawn:
        drawn[-1] = patient
    lanes = []
    for result in drawn:
        name = f"{result.name} (the patient)" if result.style == "patient" else result.name
        lanes.append(_lane(name, result.values, result.style, scale))
    chart = _chart(metric, lanes, scale)
    if patient is not None:
        chart.line = place_strip([], (scale[0], scale[-1]), patient.mean).mean
    candidates = sum(result.style != "patient" for result in results)
    kept = sum(result.style == "kept" for result in results)
    title = f"Stage {number}: {candidates} {_plural('candidate', candidates)}"
    if kept:
        title += f", {kept} kept"
    seeds = _seeds(entry.get("seeds"))
    caption = f"{format_number(entry.get('steps'))} steps each, {seeds}"
    failures = [f"{result.name}: {result.failure}" for result in results if result.failure]
    rows = []
    for result in results:
        values = ", ".join(format_estimate(value, digits=3) for value in result.values)
        outcome = {"patient": "the patient"}.get(result.style, result.style)
        if not result.values:
            outcome = "failed"
        changes = short_text(" ".join(result.changes)) or NO_NUMBER
        rows.append([result.name, changes, values or NO_NUMBER, format_estimate(result.mean), outcome])
    heads = ["candidate", "changes", f"{metric_of(metric).label} by seed", "mean", ""]
    return Stage(title, caption, chart, len(measured) - len(drawn), failures, Table(heads, rows))


def _candidates(record: Mapping[str, Any]) -> int:
    """Returns how many candidates there were; pairs of the best ones may have joined in a later stage."""
    names = set()
    for stage in _dicts(record.get("race")):
        for entry in _dicts(stage.get("results")):
            if entry.get("is_patient") is not True:
                names.add(_string(entry.get("name")))
    return len(names)


# The proof


def _proof(record: Mapping[str, Any], metric: str) -> Proof | None:
    """Returns the proof; None if there is none yet."""
    proof = dict_at(record, "proof")
    if not proof:
        return None
    patient = _numbers(proof.get("patient"))
    winner = _numbers(proof.get("winner"))
    scale = _scale([*patient, *winner])
    style = "shown" if proof.get("helped") is True else "dropped"
    lanes = [
        _lane(f"{UNCHANGED} (the patient)", patient, "patient", scale),
        _lane(_winner(record), winner, style, scale),
    ]
    arms = _chart(metric, lanes, scale)
    if patient:
        arms.line = place_strip([], (scale[0], scale[-1]), fmean(patient)).mean
    difference = as_number(proof.get("difference"))
    low = as_number(proof.get("low"))
    high = as_number(proof.get("high"))
    p = as_number(proof.get("p"))
    has_interval = math.isfinite(low) and math.isfinite(high)
    bounds = (low, high) if has_interval else None
    difference_chart = None
    if math.isfinite(difference):
        ends = _scale([difference, *(bounds or ())])
        ends_of_interval = bounds or (None, None)
        number = format_estimate(difference, ends_of_interval[0], ends_of_interval[1], digits=2, signed=True)
        name = f"difference {number}"
        if 0 <= p <= 1:
            name += f", {format_p(p)}"
        lane = Lane(name, place_strip([difference], (ends[0], ends[-1]), difference, ends_of_interval), "", style)
        difference_chart = _chart(metric, [lane], ends)
        difference_chart.axis = "difference, 95 % interval"
        difference_chart.line = place_strip([], (ends[0], ends[-1]), 0).mean
    how = (
        f"Both recipes were trained anew for {format_number(proof.get('steps'))} steps, on {_seeds(proof.get('seeds'))}"
        " that had no part in the race. One test, planned beforehand: the difference of the means with Welch's 95 %"
        " interval, and p from a permutation test of the runs."
    )
    if {len(patient), len(winner)} != {len(set(_numbers(proof.get("seeds"))))}:
        how += f" {len(patient)} runs of the patient and {len(winner)} of the other have a value."
    return Proof(_string(proof.get("sentence")), how, arms, difference_chart)


def _winner(record: Mapping[str, Any]) -> str:
    """Returns the name of what the race chose."""
    name = short_text(_string(dict_at(record, "prescription").get("name")))
    if name:
        return name
    stages = _dicts(record.get("race"))
    for result in _results(stages[-1], _metric(record)) if stages else []:
        if result.style == "kept":
            return result.name
    return "the best try"


# The prescription


@dataclass
class Prescription:
    """What to use instead of the patient's recipe.

    Attributes:
        name: of the recipe.
        why: one or more sentences.
        changes: a row for each setting that differs.
        command: the command line that trains it.
        experiment: the file's name, with its content, '' if it can't be read; None without a file.
    """

    name: str
    why: str
    changes: Table
    command: str
    experiment: tuple[str, str] | None


def _prescription(record: Mapping[str, Any], folder: Path, patient: Record | None) -> Prescription | None:
    """Returns the prescription; None if there is none."""
    entry = dict_at(record, "prescription")
    if not entry:
        return None
    overrides = _settings_of(_strings(dict_at(record, "patient").get("overrides")))
    rows = []
    for key, value in _settings_of(_strings(entry.get("changes"))).items():
        before = overrides.get(key) or _setting_of_run(patient, key)
        rows.append([short_text(key), short_text(before), short_text(value)])
    path = _inside(folder, entry.get("experiment"))
    experiment = None
    if path is not None:
        experiment = (str(entry["experiment"]), _content(path))
    return Prescription(
        _string(entry.get("name")),
        _string(entry.get("why")),
        Table(["setting", "patient", "prescription"], rows),
        _string(entry.get("command")),
        experiment,
    )


def _settings_of(overrides: Sequence[str]) -> dict[str, str]:
    """Returns overrides of a command line by key."""
    settings = {}
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        settings[key.lstrip("~")] = value
    return settings


def _setting_of_run(record: Record | None, key: str) -> str:
    """Returns a setting of a run, or the class chosen in a group; '–' if it is unknown."""
    if record is None:
        return NO_NUMBER
    target = record.settings.get(f"{key}._target_")
    if target is not None:
        return short_text(class_name(str(target)))
    return short_text(value_text(record.settings.get(key, NO_NUMBER)))


def _content(path: Path) -> str:
    """Returns the content of a small text file; '' if it can't be read."""
    try:
        return long_text(printable(read_text(path), lines=True))
    except (OSError, LabError, UnicodeDecodeError):
        return ""


# How it was done


def _facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns time and seeds, with their names."""
    facts = []
    budget = as_number(record.get("budget_seconds"))
    spent = as_number(record.get("spent_seconds"))
    if math.isfinite(budget) or math.isfinite(spent):
        facts.append(("time", f"{_duration(spent)} of a budget of {_duration(budget)}"))
    seeds: list[Any] = []
    for stage in _dicts(record.get("race"))[:MAX_STAGES]:
        seeds += _numbers(stage.get("seeds"))
    proof = dict_at(record, "proof")
    if seeds:
        facts.append(("race", _seeds(seeds)))
    if proof:
        fresh = _numbers(proof.get("seeds"))
        common = set(seeds) & set(fresh)
        relation = "some of which were in the race" if common else "none of which was in the race"
        facts.append(("proof", f"{_seeds(fresh)}, {relation}"))
    steps = as_number(dict_at(record, "patient").get("steps"))
    if math.isfinite(steps):
        facts.append(("full length", f"{format_number(steps)} steps"))
    return facts


def _links(record: Mapping[str, Any], folder: Path, patient: Run | None) -> list[tuple[str, str]]:
    """Returns links to files and folders, with what they hold; only to those that are there."""
    entries = [
        (dict_at(record, "proof").get("report"), "the proof's report, run by run"),
        (dict_at(record, "prescription").get("experiment"), "the prescription as an experiment"),
        ("cure.json", "all numbers of this page"),
    ]
    links = []
    for name, content in entries:
        path = _inside(folder, name)
        if path is not None and os.path.isfile(path):
            links.append((_url(path, folder), content))
    if patient is not None:
        target = patient.page if patient.page.is_file() else patient.folder
        links.append((_url(target, folder), "the patient's run"))
    return links


def _url(path: Path, folder: Path) -> str:
    """Returns a path as a link from the page."""
    relative = os.path.relpath(path.absolute(), folder.absolute())
    # "./", as a name with a colon would be taken for an address.
    return "./" + quote_url(os.fsencode(relative.replace(os.sep, "/")))


def _cure_command(record: Mapping[str, Any]) -> str:
    """Returns the command line of the cure; '' if it is unknown."""
    arguments = _strings(record.get("command"))
    return long_text(command("cure.py", *map(quote, arguments))) if arguments else ""


# Scales and charts


def _scale(values: Sequence[float]) -> list[float]:
    """Returns the ticks of an axis from 0 to beyond the most extreme value, whose ends are those of the axis."""
    low = min([0.0, *values])
    high = max([0.0, *values])
    if low == high:
        high = 1.0
    return [float(tick) for tick in MaxNLocator(3, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]


def _chart(metric: str, lanes: list[Lane], scale: list[float]) -> Chart:
    """Returns a chart of a metric without a line."""
    ticks = []
    for tick in scale:
        ticks.append((place_strip([], (scale[0], scale[-1]), tick).mean, f"{tick:,.4g}"))
    return Chart(metric_of(metric).label, ticks, lanes)


def _lane(name: str, values: Sequence[float], style: str, scale: list[float]) -> Lane:
    """Returns a lane with a dot for each value, and their mean."""
    if not values:
        return Lane(name, None, NO_NUMBER, style)
    mean = fmean(values)
    # As many places as tell values of this scale apart.
    places = min(6, max(0, 2 - math.ceil(math.log10(scale[-1] - scale[0]))))
    return Lane(name, place_strip(values, (scale[0], scale[-1]), mean), f"{mean:,.{places}f}", style)


# Texts and numbers of strangers


def _string(value: Any) -> str:
    """Returns a text of the record; '' for what is none."""
    return long_text(_raw_string(value).strip().replace("\\n", " "))


def _raw_string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _strings(value: Any) -> list[str]:
    """Returns the texts in a list of the record."""
    entries = value if isinstance(value, list | tuple) else []
    return [long_text(entry) for entry in entries[:MAX_ROWS] if isinstance(entry, str) and entry.strip()]


def _numbers(value: Any) -> list[float]:
    """Returns the finite numbers in a list of the record."""
    entries = value if isinstance(value, list | tuple) else []
    numbers = [as_number(entry) for entry in entries[:MAX_SEEDS]]
    return [number for number in numbers if abs(number) < MAX_VALUE]


def _dicts(value: Any) -> list[dict[str, Any]]:
    """Returns the dicts in a list of the record."""
    entries = value if isinstance(value, list | tuple) else []
    return [entry for entry in entries[:MAX_ROWS] if isinstance(entry, dict)]


def _seeds(value: Any) -> str:
    """Returns seeds in words: '5 seeds (2001 to 2005)'."""
    seeds = sorted({int(seed) for seed in _numbers(value)})
    if not seeds:
        return "unknown seeds"
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{len(seeds)} seeds ({seeds[0]} to {seeds[-1]})"
    return short_text(f"{len(seeds)} seeds ({', '.join(map(str, seeds))})")


def _duration(seconds: float) -> str:
    """Returns a duration in words: '9 min 31 s'."""
    if not 0 <= seconds < 1e9:
        return "unknown length"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"


def _inside(folder: Path, name: Any) -> Path | None:
    """Returns the path of a file below the folder of the cure; None if it is missing, or leads elsewhere."""
    if not isinstance(name, str) or not name.strip():
        return None
    path = Path(name)
    is_inside = not path.is_absolute() and ".." not in path.parts
    return folder / path if is_inside and os.path.exists(folder / path) else None
