"""Experiments with latent vectors (S13): samples between two of them, their sum, difference and product, closed walks.

Latent vectors are numbered: vector k is drawn with the RNG seed k, whatever run it is fed to, so that two runs with the
same distribution can be compared. One that makes a five is the first whose sample is read as one; it has a number too.

The last numbers of a conditional GAN's vectors are the class that they ask for. A grid shows each vector asking for
each class; paths go evenly from class to class; sums are of the rest, and need two vectors of one class.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gan_lab.assembly.build import load
from gan_lab.core.errors import LabError
from gan_lab.core.rng import make_generator
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import join_lines, printable
from gan_lab.explore import exhibits
from gan_lab.explore.reading import Count, Reader, count
from gan_lab.explore.request import BETWEEN, FRAMES, LONGEST, PATHS, SUMS, Request, check, file_name, titled
from gan_lab.explore.vectors import Vectors, Wanted
from gan_lab.gan.latent import LabelledLatent, closed_walk, normalise, typical_norm, with_linear_labels
from gan_lab.training.callbacks.sample_grids import in_rows
from gan_lab.training.gan_module import GANModule

FRESH = 1_000  # samples that say how often a class comes up anyway
LISTED = 30  # rows at most that are printed one by one


def explore(
    run: Run,
    request: Request,
    threads: int | str,
    data_dir: str | None,
    cache_dir: str | Path,
    trust: Sequence[str] = (),
    path: str | None = None,
) -> str:
    """Makes one experiment with the run's last checkpoint and writes it into the run's `explore` folder.

    Args:
        data_dir, path: where the data lie (`path`: a packed file), None for where the run had them.
        cache_dir: where evaluator networks are kept.
        trust: see `gan_lab.assembly.build.load`.

    Returns:
        What was found, in words, and the files. The same request gives the same files; another one gives others.

    Raises:
        LabError: if the run can't be loaded, the request doesn't fit together, or no vector makes what is asked for.
    """
    together, dataset = load(run, data_dir, trust, path, threads)
    module = together.member(request.member or 0)
    check(request)
    reader = Reader(dataset, cache_dir)
    vectors = Vectors(module, reader)
    a, b = (_wanted(key, word, request.by, reader) for key, word in (("a", request.a), ("b", request.b)))
    if request.pairs > 1 and (a.label is None or b.label is None):
        raise LabError("pairs repeats with other vectors that make the same classes.", "Say which: a=five b=three.")
    show, notes = _made(request, a, b, vectors)
    show.name = file_name(request, a, b, module.step)
    what = titled(request, a, b, reader)
    if show.rows:
        which = "every class" if len(show.rows) == show.classes else f"the first {len(show.rows)} classes"
        what = f"{request.n} vectors, from vector {a.number} on, each asking for {which}, a row a class"
    at = f"step {module.step:,}" + (f", member {request.member or 0}" if together.replica_dims else "")
    show.title = printable(f"{what}. {run.folder.absolute().name}, {at}")
    lines = [f"{run.folder}, {at}. {what}.", *notes]
    if len(show.names) <= LISTED:
        lines += exhibits.table(show, reader)
    if request.op in SUMS:
        counts = _counts(request, a, b, vectors, show)
        lines += _told(request, a, b, counts, reader)
        show.counts = {name: each for name, (each, _) in counts.items()}
    files = exhibits.write(show, run, reader, module.step, join_lines(lines))
    return join_lines([*lines, "Written:", *(f"  {file}" for file in files)])


def _wanted(key: str, word: str, by: str, reader: Reader) -> Wanted:
    if by == "seed" and re.fullmatch("[0-9]+", word):
        return Wanted(number=int(word))
    try:
        return Wanted(label=reader.class_of(word))
    except LabError as error:
        raise LabError(f"{key}={word}: {error}") from error


def _made(request: Request, a: Wanted, b: Wanted, vectors: Vectors) -> tuple[exhibits.Exhibit, list[str]]:
    """The experiment's vectors, samples and readings, and what is to be said about them."""
    classes = max(1, len(vectors.reader.dataset.classes))
    if request.op == "interpolate":
        wanted = [a, b]
    elif request.op == "walk":
        wanted = [a.following(step, classes) for step in range(request.n)]
    elif request.op == "grid":
        wanted = [a.following(step, classes) if a.label is None else a for step in range(request.n)]
    else:
        wanted = [each for _ in range(request.pairs) for each in (a, b)]
    numbers = vectors.numbers(wanted, request.confidence, request.seed, request.tries)
    if _asks_for_each(request, a, vectors.module):
        return _each_class(request, numbers, vectors), []
    z = vectors.of(numbers, [each.label for each in wanted])
    notes = _classes(request, z, vectors)
    if (z == z[0]).all():
        same = len(set(numbers)) == 1
        notes.append(
            "  a and b are the same vector: there is nothing between them."
            if same
            else "  All latent vectors of this run are the same: it can make one sample only, and going from one to "
            "another shows nothing."
        )
    names, known, z, columns = _arranged(request, numbers, z, vectors.module)
    samples = vectors.sample(z)
    labels, confidences = vectors.reader(samples)
    made = exhibits.Exhibit(request.op, names, known, z, samples, labels, confidences, columns, vectors.module.classes)
    return made, notes


def _asks_for_each(request: Request, a: Wanted, module: GANModule) -> bool:
    """Whether the picture has a row a class."""
    return request.op == "grid" and a.label is None and bool(module.classes)


def _each_class(request: Request, numbers: list[int], vectors: Vectors) -> exhibits.Exhibit:
    """A row a class, in which each of the vectors asks for it."""
    if request.n > LONGEST:
        raise LabError(f"n={request.n} is too long a row; there is one a class.", f"Take n={LONGEST}.")
    classes, shown = vectors.module.classes, in_rows(vectors.module)
    z = torch.cat([vectors.of(numbers, label) for label in shown])
    rows = [vectors.reader.dataset.classes[label] for label in shown]
    names = [f"{row}, vector {number}" for row in rows for number in numbers]
    known: list[int | None] = [*numbers] * len(rows)
    samples = vectors.sample(z)
    read = vectors.reader(samples)
    return exhibits.Exhibit(request.op, names, known, z, samples, *read, request.n, classes, rows)


def _classes(request: Request, z: Tensor, vectors: Vectors) -> list[str]:
    """What is to be said about the classes that a conditional GAN's vectors `z` ask for.

    Raises:
        LabError: for sums of vectors that ask for different ones.
    """
    labels = vectors.module.labels_of(z)
    if labels is None:
        return []
    names = [vectors.reader.dataset.classes[label] for label in labels.tolist()]
    if request.op in SUMS and (labels[0::2] != labels[1::2]).any():
        raise LabError(
            f"a asks for {names[0]}, b for {names[1]}: {SUMS[request.op][0]} would ask for no class.",
            "Take two of one class (a=five b=five); op=interpolate goes from one class to another.",
        )
    told = f"  a asks for {names[0]}, b for {names[1]}" if request.op not in ("walk", "grid") else ""
    told = f"  The vectors ask for {', '.join(names)}" if request.op == "walk" else told
    if request.op in PATHS and len(set(names)) > 1:
        told += "; between them for a share of each, which G was never trained on"
    return [f"{told}."] if told else []


def _arranged(
    request: Request, numbers: list[int], z: Tensor, module: GANModule
) -> tuple[list[str], list[int | None], Tensor, int]:
    """Names, numbers (None: not a numbered one), vectors, and how many make a row of the picture."""
    if request.op == "grid":
        return [f"vector {number}" for number in numbers], [*numbers], z, 12
    classes = module.classes
    between = with_linear_labels(BETWEEN[request.mode], classes)
    rest = module.latent_dim - classes
    gaps: list[int | None]
    if request.op == "interpolate":
        t = torch.linspace(0, 1, request.n)
        gaps = [None] * (request.n - 2)
        names = ["a", *(f"{share:.2f}" for share in t[1:-1].tolist()), "b"]
        return names, [numbers[0], *gaps, numbers[1]], between(z[0], z[1], t), 12
    if request.op == "walk":
        gaps = [None] * (FRAMES - 1)
        shares = [f"+ {step}/{FRAMES}" for step in range(1, FRAMES)]
        names = [name for number in numbers for name in (f"vector {number}", *shares)]
        known = [each for number in numbers for each in (number, *gaps)]
        return names, known, closed_walk(z, FRAMES, between), FRAMES
    name, operation = SUMS[request.op]
    columns = {"a": z[0::2], "b": z[1::2]}
    result, asked = operation(z[0::2, :rest], z[1::2, :rest]), z[0::2, rest:]
    if request.normalize != "true":
        columns[name] = torch.cat([result, asked], -1)
    if request.normalize != "false":
        latent = module.latent.latent if isinstance(module.latent, LabelledLatent) else module.latent
        columns[f"{name}, normalised"] = torch.cat([normalise(result, typical_norm(latent, rest)), asked], -1)
    gaps = [None] * (len(columns) - 2)
    known = [each for pair in zip(numbers[0::2], numbers[1::2], strict=True) for each in (*pair, *gaps)]
    return list(columns) * request.pairs, known, torch.stack(list(columns.values()), 1).flatten(0, 1), len(columns)


Counts = dict[str, tuple[list[Count], Counter[int]]]


def _counts(request: Request, a: Wanted, b: Wanted, vectors: Vectors, show: exhibits.Exhibit) -> Counts:
    """How often the results of several pairs, and fresh samples, are read as a's class, b's class, neither."""
    if request.pairs == 1:
        return {}
    wanted = [label for label in dict.fromkeys((a.label, b.label)) if label is not None]
    names = [vectors.reader.name(label) for label in wanted]
    module = vectors.module
    fresh = vectors.asking(
        module.latent((FRESH, module.latent_dim), make_generator(request.seed, "explore/fresh")), a.label
    )
    read = {
        name: (show.labels[column :: show.columns], show.confidences[column :: show.columns])
        for column, name in enumerate(show.names[: show.columns])
        if column > 1
    }
    read["fresh vectors"] = vectors.reader(vectors.sample(fresh))
    return {
        name: (
            count(labels, confidences if vectors.reader.label_classifier else None, wanted, names),
            Counter(label for label in labels.tolist() if label not in wanted),
        )
        for name, (labels, confidences) in read.items()
    }


def _told(request: Request, a: Wanted, b: Wanted, counts: Counts, reader: Reader) -> list[str]:
    if not counts:
        repeatable = a.label is not None and b.label is not None
        return ["  One pair is one observation; pairs=100 repeats it with others and counts."] if repeatable else []
    lines = [
        f"  {request.pairs:,} pairs, all of different vectors, each read as its class with confidence ≥ "
        f"{request.confidence:g}. What comes out is read as:"
    ]
    for name, (each, others) in counts.items():
        lines.append(f"  {name}")
        width = max(len(line.reading) for line in each)
        lines += [f"    {line.reading:<{width}}  {line}" for line in each]
        if others:
            most = ", ".join(f"{reader.name(label)} ({times:,})" for label, times in others.most_common(3))
            lines[-1] += f"; most often {most}"
    *results, (fresh, _) = counts.values()
    for name, (each, _) in zip(counts, results, strict=False):
        lines.append(f"  {_compared(name, each[-2], fresh[-2])}")
    if reader.label_classifier:
        real = len(reader.dataset.heldout)
        lines.append(
            f"  The evaluator reads {reader.label_classifier.accuracy:.1%} of {real:,} held-out real images rightly."
        )
    return lines


def _compared(name: str, result: Count, fresh: Count) -> str:
    """Whether the classes come up more often than by chance: only where the intervals lie apart."""
    how, hedge = "about as often as", ", as far as can be told"
    if result.low > fresh.high or result.high < fresh.low:
        how, hedge = "more often than" if result.low > fresh.high else "less often than", ""
    shares = (
        f"{result.count / result.total:.0%} of {result.total:,}, {fresh.count / fresh.total:.0%} of {fresh.total:,}"
    )
    return f"So {name} reads as {result.reading} {how} fresh vectors{hedge} ({shares})."
