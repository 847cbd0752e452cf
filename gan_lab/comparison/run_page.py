"""`index.html`: a run on one page, which a person can open anywhere: the verdict, what to do next, pictures, numbers.

The page is made from the files of the run folder alone, at the end of a training and whenever `compare.py` opens the
run: it says what is missing or damaged. Neither torch nor pandas is imported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_lab.comparison.collect import JOB, Record, as_number, read_record
from gan_lab.comparison.factors import class_name, resolve, value_text
from gan_lab.comparison.films import picture_path, picture_steps
from gan_lab.comparison.numbers import NO_NUMBER, format_number
from gan_lab.comparison.pages import (
    MAX_ROWS,
    Card,
    Table,
    dict_at,
    embed_picture,
    long_text,
    picture_card,
    render,
    short_text,
    write_page,
)
from gan_lab.comparison.settings import default_settings
from gan_lab.config.schema import scope_of
from gan_lab.core.command_line import command, quote, setting
from gan_lab.core.errors import LabError
from gan_lab.core.io import relative_path
from gan_lab.core.run_folder import Run, in_folder, resume_command
from gan_lab.core.terminal import escape_texts, printable
from gan_lab.evaluation.metrics.registry import metric_of

# A class of the style sheet for what the verdict says.
STYLES = {"covered": "good", "collapsed": "bad", "partial": "fair", "unknown": "fair"}
# In which order the parts of a run are named.
PARTS = ("loss", "activation", "norm", "optim")
LOSSES = {"d_real": "D on real", "d_fake": "D on fakes", "g": "G"}


@dataclass
class Headline:
    """What the page says first.

    Attributes:
        style: good, fair, bad or none.
        title: the first sentence of the verdict, or why there is none.
        sentences: the other sentences.
        numbers: the line of numbers behind them.
    """

    style: str
    title: str
    sentences: str = ""
    numbers: str = ""


def write_run_page(run: Run, path: Path | None = None) -> Path:
    """Writes a run's page.

    Args:
        run: the run, in whatever state.
        path: None: index.html in its folder.

    Returns:
        The path.

    Raises:
        LabError: if the folder is another program's.
        OSError: if the page can't be written.
    """
    record = read_record(run)
    if record.status == "foreign":
        raise LabError(f"{run.folder} is not a run folder: {record.reason}.", code="missing", key="runs")
    path = path or run.page
    write_page(_render(record), path)
    return path


def _render(record: Record) -> str:
    run = record.run
    summary = record.summary
    evaluation, evaluation_gap = _read_evaluation(run)
    film = Card("Film", "G's samples for the same latent vectors, from the first step to the last")
    film.picture = embed_picture(run.film, ("GIF",))[0]
    samples = sample_card(run)
    changed, others = _settings(record)
    return render(
        "run_page.html.jinja",
        script="",
        name=short_text(printable(run.folder.name)),
        dataset=_dataset(record),
        parts=_parts(record),
        headline=_headline(record),
        status=_status(record),
        error=_error(run),
        next_step=_next_step(record),
        evaluation=_evaluation_sentences(evaluation, summary),
        # Without a film the last samples are what is seen first.
        first=film if film.picture else samples,
        samples=_sample_cards(run, summary, samples if film.picture else None),
        training=_training_cards(run, summary),
        verdict=_verdict_table(summary),
        measured=_measured(summary),
        undefined=_undefined(summary),
        replicas=_replica_table(summary),
        evaluated=_evaluation_table(evaluation),
        evaluated_how=_evaluated_how(evaluation),
        changed=changed,
        others=others,
        started=_started(record),
        environment=_environment(summary),
        commands=_commands(record),
        gaps=[gap for gap in (evaluation_gap, _config_gap(record)) if gap],
        files=_files(run),
    )


# What happened


def _headline(record: Record) -> Headline:
    """Returns the verdict, or why there is none."""
    verdict = dict_at(record.summary, "verdict")
    sentence = verdict.get("sentence")
    if record.status == "failed":
        return Headline("bad", _capital(record.reason) or "Failed")
    if record.status in ("unfinished", "damaged"):
        return Headline("none", _capital(record.reason))
    if not isinstance(sentence, str) or not sentence.strip():
        return Headline("none", "Not evaluated: it has no verdict")
    statement, numbers = statement_and_numbers(sentence)
    if record.status == "interrupted":
        return Headline("none", _capital(record.reason), f"So far: {long_text(statement)}", long_text(numbers))
    title, stop, rest = long_text(statement).partition(". ")
    style = STYLES.get(str(verdict.get("collapse")), "none")
    is_narrow = verdict.get("within_modes") in ("collapsed", "narrow")
    # Of a single mode, the book's pattern, variety is no aim.
    if style == "good" and is_narrow and dict_at(record.summary, "metrics").get("modes_total") != 1:
        style = "fair"
    return Headline(style, f"{title}." if stop else title, rest, long_text(numbers))


def _status(record: Record) -> str:
    """Returns how the run ended: 'Finished: 15,000 steps in 19 s (783 steps/s), seed 0'."""
    summary = record.summary
    if not summary:
        return ""
    status = short_text(str(summary.get("status", "unknown"))).capitalize()
    steps = format_number(summary.get("steps"))
    planned = as_number(record.settings.get("steps"))
    if summary.get("status") != "finished" and planned == planned:
        steps += f" of {planned:,.0f}"
    sentence = f"{status}: {steps} steps in {format_number(summary.get('seconds'), 0)} s"
    rate = as_number(summary.get("steps_per_second"))
    if rate == rate:
        sentence += f" ({rate:,.0f} steps/s)"
    sentence += f", seed {short_text(record.seed)}"
    replicas = as_number(summary.get("replicas"))
    if replicas > 1:
        sentence += f", {replicas:.0f} replicas (seeds {short_text(record.seeds[0])} to {short_text(record.seeds[-1])})"
    return sentence


def _error(run: Run) -> str:
    """Returns the whole error of a run that failed; '' if it has none."""
    try:
        error = run.read_summary().get("error")
    except (LabError, OSError):
        return ""
    return long_text(printable(str(error), lines=True)) if error else ""


def _next_step(record: Record) -> tuple[str, str] | None:
    """Returns what to try next, in words and as a command; None if nothing is wrong."""
    folder = relative_path(record.run.folder)
    if record.status in ("interrupted", "unfinished") and record.run.checkpoint.is_file():
        return "It can go on from its last checkpoint", resume_command(folder)
    next_step = dict_at(record.summary, "verdict").get("next_step")
    if not isinstance(next_step, str):
        return None
    symptom, separator, line = in_folder(long_text(next_step), folder).partition(": python ")
    return symptom, f"python {line}" if separator else ""


def _dataset(record: Record) -> str:
    name = record.component("dataset") or str(record.summary.get("dataset", "unknown data"))
    return short_text(name.partition(" (")[0])


def _parts(record: Record) -> str:
    """Returns the classes that the run is made of, and its remedies: 'BCE, LeakyReLU, LayerNorm, Adam, r1'."""
    names = []
    for group in PARTS:
        name = record.component(group).partition(" (")[0]
        if name:
            names.append(f"{group} none" if name == "none" else name)
    if not names:
        return ""
    remedy = value_text(record.settings.get("remedy", "none"))
    return long_text(", ".join([*names, "no remedy" if remedy == "none" else remedy]))


# Pictures


def sample_card(run: Run) -> Card | None:
    """Returns the last picture of samples; None if none was drawn."""
    steps = picture_steps(run)
    if not steps:
        return None
    return picture_card(picture_path(run, steps[-1]), "Samples", "the last picture: generated ones, with real ones")


def _sample_cards(run: Run, summary: Mapping[str, Any], samples: Card | None) -> list[Card]:
    """Returns the pictures of samples at the end, as far as they are there; not all kinds of data have all."""
    cards = [samples] if samples else []
    has_one_mode = dict_at(summary, "metrics").get("modes_total") == 1
    for path, name, caption in (
        (run.plots / "neighbours.png", "Nearest training images", "a copy would look like its original"),
        (run.plots / "labels.png", "How often each mode is made", "beside its share of the data"),
        (run.images / "heatmap.png", "Heat map", "the output for one latent vector, dark for 1"),
        (run.images / "heatmap_0.png", "Heat map", "the first replica's output for one latent vector, dark for 1"),
    ):
        # That a single mode is always made says nothing.
        if path.is_file() and not (has_one_mode and path.name == "labels.png"):
            cards.append(picture_card(path, name, caption))
    return cards


def _training_cards(run: Run, summary: Mapping[str, Any]) -> list[Card]:
    """Returns the curves over the steps, and the gaps of a finished run."""
    losses = dict_at(summary, "losses")
    at_the_end = ""
    if losses:
        values = ", ".join(f"{label} {format_number(losses.get(name))}" for name, label in LOSSES.items())
        ideal = format_number(losses.get("equilibrium"))
        ideal_g = format_number(losses.get("equilibrium_g"))
        ideals = ideal if ideal == ideal_g else f"{ideal}, of G {ideal_g}"
        at_the_end = f"at the end {values}; ideal {ideals}"
    balance = dict_at(summary, "verdict").get("balance")
    metrics = dict_at(summary, "metrics")
    scores = dict_at(summary, "scores")
    answers = "at the ideal both are equal"
    if isinstance(balance, str):
        real = metrics.get("d_answer_real", scores.get("real"))
        fake = metrics.get("d_answer_fake", scores.get("fake"))
        answers = (
            f"{short_text(balance)}: at the end {format_number(real, 2)} on real samples,"
            f" {format_number(fake, 2)} on fakes"
        )
    cards = []
    for path, name, caption in (
        (run.plots / "losses.png", "Losses", at_the_end),
        (run.plots / "modes.png", "Modes and coverage", "a mode is made if enough samples lie among its real ones"),
        (run.plots / "scores.png", "D's answers", answers),
    ):
        # Curves are drawn when a training ends; one that ended before its first evaluation has no modes.
        is_due = summary.get("status") == "finished" and (metrics or path.name != "modes.png")
        if path.exists() or is_due:
            cards.append(picture_card(path, name, caption))
    return cards


# Numbers


def _verdict_table(summary: Mapping[str, Any]) -> Table | None:
    """Returns the metrics of the verdict beside those of fresh real data, the chief ones first; None without any."""
    metrics = dict_at(summary, "metrics")
    if not metrics:
        return None
    real = dict_at(summary, "real_data")
    spread = dict_at(summary, "replica_spread")
    heads = ["metric", "generated", "fresh real data"]
    columns = [metrics, real]
    if spread:
        heads = ["metric", "mean", "± spread", "fresh real data"]
        columns = [metrics, spread, real]
    return _metric_table(heads, columns)


def _metric_table(heads: list[str], columns: Sequence[Mapping[str, Any]]) -> Table:
    """Returns a table with a row for each metric of the first column; those that no report shows are folded away."""
    chief = []
    others = []
    for name in list(columns[0])[:MAX_ROWS]:
        row = [_label(name, columns[0]), *[format_number(values.get(name)) for values in columns]]
        if "report" in metric_of(name).shown:
            chief.append(row)
        else:
            others.append(row)
    return Table(heads, chief or others, others if chief else [])


def _measured(summary: Mapping[str, Any]) -> str:
    """Returns how the numbers of the verdict were computed."""
    metrics = dict_at(summary, "metrics")
    if not metrics:
        return ""
    of_each = ""
    if dict_at(summary, "replica_spread"):
        of_each = " of each replica; mean and standard deviation over the replicas"
    seed = short_text(value_text(summary.get("seed")))
    samples = format_number(metrics.get("samples"))
    features = short_text(str(summary.get("features")))
    reference = short_text(str(summary.get("reference")))
    return (
        f"{samples} samples of step {format_number(summary.get('steps'))}{of_each}. Latent vectors from seed {seed},"
        f" in a stream of their own. Compared by {features} with {reference}."
        " Fresh real data are the same measured of held-out samples; their modes and KL divergences are those of as"
        " many draws from the data's shares of the modes."
    )


def _undefined(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns the metrics that can't be computed, with the reasons."""
    reasons = []
    for name, reason in list(dict_at(summary, "undefined").items())[:MAX_ROWS]:
        reasons.append((short_text(metric_of(name).label), short_text(str(reason))))
    return reasons


def _replica_table(summary: Mapping[str, Any]) -> Table | None:
    """Returns each replica's verdict; None without replicas."""
    members = summary.get("replica_metrics")
    verdicts = summary.get("replica_verdicts")
    if not isinstance(members, list) or not isinstance(verdicts, list):
        return None
    rows = []
    for metrics, verdict in list(zip(members, verdicts, strict=False))[:MAX_ROWS]:
        if not isinstance(metrics, dict) or not isinstance(verdict, dict):
            continue
        sentence, _ = statement_and_numbers(str(metrics.get("error") or verdict.get("sentence") or NO_NUMBER))
        coverage = format_number(metrics.get("coverage"))
        rows.append(
            [short_text(value_text(metrics.get("seed"))), format_number(metrics.get("modes_valid")), coverage, sentence]
        )
    return Table(["seed", "modes made", "coverage", "verdict"], [[short_text(cell) for cell in row] for row in rows])


def _read_evaluation(run: Run) -> tuple[dict[str, Any], str]:
    """Returns what evaluate.py wrote, {} if nothing, and what is wrong with it."""
    try:
        return escape_texts(run.read_evaluation()), ""
    except (LabError, OSError):
        return {}, "evaluation.json is damaged"


def _evaluation_sentences(evaluation: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    """Returns what evaluate.py said of the run, each different verdict with its number."""
    verdicts = evaluation.get("verdicts")
    if not isinstance(verdicts, list):
        return []
    counts: dict[str, int] = {}
    for verdict in verdicts[:MAX_ROWS]:
        if isinstance(verdict, dict):
            # What follows the first sentence differs from seed to seed, as the numbers do.
            statement, _ = statement_and_numbers(str(verdict.get("sentence", "")))
            statement = f"{long_text(statement).partition('. ')[0].removesuffix('.')}."
            counts[statement] = counts.get(statement, 0) + 1
    step = evaluation.get("step")
    at = "" if step == summary.get("steps") else f" of step {format_number(step)}"
    total = sum(counts.values())
    sentences = []
    for statement, count in counts.items():
        sentences.append(f"Evaluated again{at}, {count} of {total} times: {statement}")
    return sentences


def _evaluation_table(evaluation: Mapping[str, Any]) -> Table | None:
    """Returns the metrics of evaluate.py: mean and spread beside fresh real data."""
    means = dict_at(evaluation, "mean")
    if not means:
        return None
    spread = dict_at(evaluation, "spread")
    real = dict_at(evaluation, "real_data")
    return _metric_table(["metric", "mean", "± spread", "fresh real data"], [means, spread, real])


def _evaluated_how(evaluation: Mapping[str, Any]) -> str:
    if not evaluation:
        return ""
    samples = format_number(evaluation.get("samples"))
    seeds = format_number(evaluation.get("seeds"))
    return (
        f"evaluate.py, step {format_number(evaluation.get('step'))}: {samples} samples, with {seeds} seeds of latent"
        f" vectors; mean and standard deviation. Compared by {short_text(str(evaluation.get('features')))} with"
        f" {short_text(str(evaluation.get('reference')))}."
    )


# Settings and commands


def _settings(record: Record) -> tuple[list[list[str]], list[list[str]]]:
    """Returns the settings that differ from the default, with both values, and the others with theirs."""
    defaults = default_settings()
    changed = []
    others = []
    for key, value in list(record.settings.items())[:MAX_ROWS]:
        if key.endswith("._partial_") or scope_of(key) == "place":
            continue
        row = [short_text(_setting_name(key)), _setting_value(record.settings, key)]
        # A reference that is the default's says nothing of its own.
        if value == defaults.get(key, "") or key.startswith("logger."):
            others.append(row)
        else:
            changed.append([*row, _setting_value(defaults, key) if key in defaults else NO_NUMBER])
    return changed, others


def _setting_name(key: str) -> str:
    return key.removesuffix("._target_")


def _setting_value(settings: Mapping[str, Any], key: str) -> str:
    value = resolve(settings, key)
    if key.endswith("._target_"):
        return short_text(class_name(str(value)))
    return short_text(value_text(value))


def _started(record: Record) -> str:
    """Returns the command line that started the run; '' where it is unknown."""
    arguments = record.summary.get("overrides")
    if not isinstance(arguments, list):
        arguments = escape_texts(record.run.overrides())
    return long_text(command("train.py", *[quote(str(argument)) for argument in arguments[:MAX_ROWS]]))


def _environment(summary: Mapping[str, Any]) -> str:
    entries = []
    for name, value in list(dict_at(summary, "environment").items())[:MAX_ROWS]:
        entries.append(f"{short_text(str(name))} {short_text(str(value))}")
    return ", ".join(entries)


def _commands(record: Record) -> list[tuple[str, str]]:
    """Returns what can be done with the run, as commands to paste."""
    folder = relative_path(record.run.folder)
    this_run = setting("run", folder)
    commands = []
    if not record.run.checkpoint.is_file():
        commands.append(("Start it again; it has no checkpoint", resume_command(folder)))
    else:
        steps = as_number(record.summary.get("steps"))
        if record.status == "finished" and 0 < steps < 10**9:
            commands.append(("Train on, twice as long", resume_command(folder, f"steps={2 * int(steps)}")))
        else:
            commands.append(("Go on from its last checkpoint", resume_command(folder)))
        commands += [
            ("Evaluate it again, with five seeds of latent vectors", command("evaluate.py", this_run, "seeds=5")),
            ("Explore its latent space: samples of twelve seeds", command("explore.py", this_run)),
            ("From one latent vector to another", command("explore.py", this_run, "op=interpolate", "a=1", "b=2")),
        ]
    if record.run.has_event_files():
        commands.append(("Curves in TensorBoard", f"python -m tensorboard.main --logdir {quote(str(folder))}"))
    return commands


def _config_gap(record: Record) -> str:
    if record.settings:
        return ""
    return "Its settings can't be shown: config.yaml is missing or damaged."


def _files(run: Run) -> list[tuple[str, str]]:
    """Returns the files of the run that a person may want, with what they hold; links relative to the page."""
    files = []
    for path, content in (
        (run.metrics, "losses, scores and metrics by step"),
        (run.summary, "how it ended, in numbers"),
        (run.evaluation, "what evaluate.py measured"),
        (run.config, "all settings"),
        (run.folder / JOB, "what the sweep knows of it"),
    ):
        if path.is_file():
            files.append((path.name, content))
    for path, content in (
        (run.images, "samples over the steps"),
        (run.plots, "curves and pictures of the end"),
        (run.explore, "experiments with latent vectors"),
        (run.preflight, "the checks before it began"),
    ):
        if path.is_dir():
            files.append((f"{path.name}/", content))
    return files


# Texts and numbers of strangers


def statement_and_numbers(sentence: str) -> tuple[str, str]:
    """Returns a verdict's plain words and the line of numbers behind them; its newline is escaped, as in all texts."""
    statement, _, numbers = sentence.partition("\\n")
    return statement, numbers


def _label(name: str, metrics: Mapping[str, Any]) -> str:
    """Returns what a metric is called; of a count, with the number of modes: 'modes made, out of 10'."""
    metric = metric_of(str(name))
    if metric.unit.startswith("out of"):
        return f"{metric.label}, {metric.unit.format(modes_total=format_number(metrics.get('modes_total')))}"
    return short_text(metric.label)


def _capital(text: str) -> str:
    """Returns a text of a stranger with a capital first letter."""
    return short_text(text[:1].upper() + text[1:])
