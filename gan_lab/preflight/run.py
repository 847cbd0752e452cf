"""Runs the four checks for a configuration."""

from torch import Tensor

from gan_lab.assembly.build import DryRun
from gan_lab.core.errors import LabError
from gan_lab.core.rng import make_generator
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import join_lines
from gan_lab.data.dataset import choose
from gan_lab.evaluation.verdict import too_few_samples
from gan_lab.preflight import figures
from gan_lab.preflight.inspection import SampleStatistics, check_data, check_generator, collect_statistics
from gan_lab.preflight.objective import OptimizerProbe, check_objective, phases
from gan_lab.preflight.report import CheckResult, describe, write
from gan_lab.preflight.separation import check_separation
from gan_lab.preflight.trial import play_steps, trainable_module

IMAGES_IN_PICTURE = 64
POINTS_IN_PICTURE = 1_000
# Of the untrained G.
GENERATED_SAMPLES = 1_000


def run_checks(dry_run: DryRun) -> list[CheckResult]:
    """Runs all four checks, each with a figure; the networks they train are thrown away."""
    statistics = collect_statistics(dry_run.dataset.train, dry_run.seed)
    return [
        _check_data(dry_run, statistics),
        check_separation(dry_run, statistics),
        _check_generator(dry_run, statistics),
        _check_objective(dry_run),
    ]


def preflight(dry_run: DryRun, run: Run) -> str:
    """Runs the checks before a training and writes their pictures into the run folder.

    Returns:
        The description to print.

    Raises:
        LabError: if a check fails, before anything is written.
    """
    results = run_checks(dry_run)
    failures = []
    for check, _ in results:
        failures += [f"Pre-flight check failed ({check.title}): {text}" for text in check.failures]
    if failures:
        raise LabError(
            join_lines(failures),
            "Nothing was trained. scripts/check.py draws pictures of the checks; preflight=false trains without them.",
            code="failed",
            key="preflight",
        )
    write(results, run.preflight)
    return describe(results, run.preflight)


def _check_data(dry_run: DryRun, statistics: SampleStatistics) -> CheckResult:
    """Check 1 (S6)."""
    check = check_data(dry_run.dataset, statistics, dry_run.batch_size, dry_run.seed)
    warning = too_few_samples(dry_run.evaluated_samples, dry_run.dataset)
    if warning:
        check.warnings.append(f"callbacks.verdict.{warning}")
    return check, figures.data(_real_samples(dry_run), dry_run.dataset)


def _check_generator(dry_run: DryRun, statistics: SampleStatistics) -> CheckResult:
    """Check 3 (S8)."""
    module = dry_run.module()
    z = module.latent((GENERATED_SAMPLES, module.latent_dim), make_generator(dry_run.seed, "preflight/latent"))
    fake = module.sample(z).float()
    check = check_generator(module.generator, fake, z, dry_run.dataset, statistics, dry_run.seed)
    stds = (check.numbers["std"], statistics.std)
    return check, figures.untrained_generator(fake, z, _real_samples(dry_run), dry_run.dataset, stds)


def _check_objective(dry_run: DryRun) -> CheckResult:
    """Check 4 (S4, S10, S12): one step, played by the training's own code."""
    module = trainable_module(dry_run)
    probe = OptimizerProbe()
    problem = play_steps(dry_run, module, 1, probe)
    check = check_objective(module, probe.updates, problem, dry_run.parts)
    return check, figures.objective(probe.updates, phases(module), module.loss)


def _real_samples(dry_run: DryRun) -> Tensor:
    """Returns training samples `(n, *shape)` for a picture, chosen at random."""
    train = dry_run.dataset.train
    number = IMAGES_IN_PICTURE
    if dry_run.dataset.shape == (2,):
        number = POINTS_IN_PICTURE
    return train[choose(train, number, make_generator(dry_run.seed, "preflight/real"))]
