"""A run's verdict again: any number of samples, several evaluation seeds, mean and spread."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gan_lab.build import load
from gan_lab.callbacks.verdict import draw
from gan_lab.judge import judge_for, protocol_samples
from gan_lab.runs import Run


def evaluate(
    run: Run,
    samples: int | None,
    seeds: int,
    threads: int | str,
    data_dir: str | None,
    cache_dir: str,
    trust: Sequence[str] = (),
) -> dict[str, Any]:
    """Judges the run's last checkpoint and writes `evaluation.json`.

    Args:
        samples: per evaluation; None: as papers do, see `gan_lab.judge.protocol_samples`.
        seeds: number of evaluations; each draws its own latent vectors, everything else stays.
        data_dir: where the data lie, None for where the run had them.
        trust: see `gan_lab.build.load`.

    Returns:
        `run`, `step`, `samples`, `seeds`; per metric `mean`, `spread` (standard deviation over the seeds, None for one)
        and `real_data`; under `undefined` the metrics that some evaluation doesn't define; `verdicts`, one per seed.

    Raises:
        LabError: if the run has no readable checkpoint, or its data are missing.
    """
    module, dataset = load(run, data_dir, trust, threads)
    judge = judge_for(dataset, Path(cache_dir))
    number = samples or protocol_samples(dataset)
    judgements = [judge.judge(draw(module, number, "evaluate", seed)) for seed in range(seeds)]
    undefined = {name: reason for judgement in judgements for name, reason in judgement.undefined.items()}
    values = {
        name: [float(j.metrics[name] or 0) for j in judgements]
        for name in judgements[0].metrics
        if name not in undefined
    }
    evaluation = {
        "run": str(run.folder),
        "step": module.step,
        "samples": number,
        "seeds": seeds,
        "mean": {name: statistics.fmean(each) for name, each in values.items()},
        "spread": {name: statistics.stdev(each) if seeds > 1 else None for name, each in values.items()},
        "real_data": judgements[0].real,
        "undefined": undefined,
        "verdicts": [judgement.verdict for judgement in judgements],
    }
    run.write_json("evaluation.json", evaluation)
    return evaluation


def describe(evaluation: dict[str, Any]) -> str:
    """The same as a table."""
    lines = [
        f"{evaluation['run']}, step {evaluation['step']:,}: {evaluation['samples']:,} samples, "
        f"mean and standard deviation over {evaluation['seeds']} evaluation seed(s)",
        f"  {'':<20}{'mean':>12}{'± spread':>12}{'fresh real':>12}",
    ]
    for name, mean in evaluation["mean"].items():
        spread, real = evaluation["spread"][name], evaluation["real_data"].get(name)
        cells = map(_cell, (mean, spread, real))
        lines.append(f"  {name:<20}" + "".join(f"{cell:>12}" for cell in cells))
    lines += [f"  {name:<20}{'undefined':>12}  {reason}" for name, reason in evaluation["undefined"].items()]
    return "\n".join([*lines, *(f"  {verdict['sentence']}" for verdict in evaluation["verdicts"])])


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value == int(value) else f"{value:.4g}"
