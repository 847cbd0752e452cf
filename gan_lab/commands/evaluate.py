"""A run's verdict again: any number of samples, several evaluation seeds, mean and spread."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gan_lab.assembly.build import load
from gan_lab.core.errors import LabError
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import join_lines
from gan_lab.data.dataset import Dataset
from gan_lab.evaluation import aggregate
from gan_lab.evaluation.metrics.custom import Metric
from gan_lab.evaluation.verdict import EvaluationResult, Metrics, VerdictEvaluator, evaluator_for, protocol_samples
from gan_lab.training.callbacks.evaluation import asked, draw
from gan_lab.training.gan_module import GANModule


def evaluate(
    run: Run,
    samples: int | None,
    seeds: int,
    threads: int | str,
    data_dir: str | None,
    cache_dir: str,
    trust: Sequence[str] = (),
    path: str | None = None,
    features: str | None = None,
    member: int | None = None,
    ema: bool = True,
    own: Callable[[Dataset], Mapping[str, Metric]] = lambda _: {},
) -> dict[str, Any]:
    """Judges the run's last checkpoint and writes `evaluation.json`.

    Args:
        samples: per evaluation; None: as papers do, see `gan_lab.evaluation.verdict.protocol_samples`.
        seeds: number of evaluations; each draws its own latent vectors, everything else stays.
        data_dir, trust, path: see `gan_lab.assembly.build.load`.
        features: in which space samples are compared, see `gan_lab.evaluation.feature_spaces.features_of`.
        member: of replicas, the one to judge; None: all that didn't blow up.
        ema: of a run with remedy=[ema], judge what the average of G's weights makes; False: what they themselves make.
        own: makes the metrics of the user's own, by name, see `gan_lab.assembly.instantiate.own_metrics`.

    Returns:
        `run`, `step`, `samples`, `seeds`, `features` (in words), `weights` (average or own: whose samples these are),
        `members`; per metric `mean`, `spread` (standard deviation over the seeds, or of several members over their
        means; None for one) and `real_data`; under `undefined` the metrics that some evaluation doesn't define, which
        of several members leaves that one out; `verdicts`, one per member and seed.

    Raises:
        LabError: if the run has no readable checkpoint, its data are missing, or it has no average to leave out.
    """
    module, dataset = load(run, data_dir, trust, path, threads)
    if not ema:
        _leave_out_average(module, run)
    evaluator = evaluator_for(dataset, Path(cache_dir), features, own(dataset))
    number = samples or protocol_samples(dataset)
    chosen = module.members() if member is None else [(member, module.member(member))]
    judgements = {i: [_judgement(evaluator, each, number, seed) for seed in range(seeds)] for i, each in chosen}
    rows = [_defined(each) for each in judgements.values()]
    values = [aggregate.mean(each) for each in rows] if len(rows) > 1 else rows[0]
    every = [(i, result) for i, each in judgements.items() for result in each]
    evaluation = {
        "run": str(run.folder),
        "step": module.step,
        "samples": number,
        "seeds": seeds,
        "features": evaluator.features.name,
        "weights": "own" if module.averaged is None else "average",
        "members": list(judgements),
        "mean": aggregate.mean(values),
        "spread": aggregate.spread(values),
        "real_data": every[0][1].real,
        "undefined": {name: reason for _, result in every for name, reason in result.undefined.items()},
        "verdicts": [{"member": i, **result.verdict} for i, result in every],
    }
    run.write_json("evaluation.json", evaluation)
    return evaluation


def _judgement(evaluator: VerdictEvaluator, module: GANModule, number: int, seed: int) -> EvaluationResult:
    return evaluator.evaluate(draw(module, number, "evaluate", seed), asked(module, number, "evaluate", seed))


def _leave_out_average(module: GANModule, run: Run) -> None:
    if module.averaged is None:
        raise LabError(f"{run.folder} has no average of G's weights: ema=false changes nothing.", "Leave it out.")
    module.averaged = None


def _defined(judgements: Sequence[EvaluationResult]) -> list[Metrics]:
    """The metrics of each, without those that one of them doesn't define."""
    undefined = {name for result in judgements for name in result.undefined}
    return [{name: value for name, value in j.metrics.items() if name not in undefined} for j in judgements]


def describe(evaluation: dict[str, Any]) -> str:
    """The same as a table."""
    members, several = evaluation["members"], len(evaluation["members"]) > 1
    over = f"{len(members)} members, each judged {evaluation['seeds']} time(s)" if several else ""
    lines = [
        f"{evaluation['run']}, step {evaluation['step']:,}: {evaluation['samples']:,} samples, "
        f"mean and standard deviation over {over or str(evaluation['seeds']) + ' evaluation seed(s)'}",
        *["  Samples are made by the moving average of G's weights."] * (evaluation["weights"] == "average"),
        f"  Samples are compared by {evaluation['features']}.",
        f"  {'':<20}{'mean':>12}{'± spread':>12}{'fresh real':>12}",
    ]
    for name, mean in evaluation["mean"].items():
        spread, real = evaluation["spread"][name], evaluation["real_data"].get(name)
        cells = map(_cell, (mean, spread, real))
        lines.append(f"  {name:<20}" + "".join(f"{cell:>12}" for cell in cells))
    lines += [f"  {name:<20}{'undefined':>12}  {reason}" for name, reason in evaluation["undefined"].items()]
    for verdict in evaluation["verdicts"][:: evaluation["seeds"] if several else 1]:
        lines.append("  " + f"member {verdict['member']}: " * several + verdict["sentence"])
    return join_lines(lines)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value == int(value) else f"{value:.4g}"
