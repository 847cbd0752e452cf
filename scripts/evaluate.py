"""Measures a run again: `python scripts/evaluate.py run=<run folder> samples=26000`; or any samples; see `--help`."""

from functools import partial
from typing import TYPE_CHECKING

from gan_lab.config.cli import command
from gan_lab.core.imports import quick_imports
from gan_lab.core.terminal import say

if TYPE_CHECKING:
    from pathlib import Path

    from omegaconf import DictConfig


@command("evaluate")
def main(cfg: "DictConfig") -> None:
    from omegaconf import OmegaConf

    from gan_lab.config.check import check, check_evaluation
    from gan_lab.config.resume import load_config, output_folder
    from gan_lab.core.run_folder import Run

    if cfg.generated is not None:
        with output_folder() as folder:
            say(_evaluate_samples(cfg, folder))
        return
    cfg = check(cfg)
    check_evaluation(cfg)
    run = Run.existing(cfg.run)
    before = load_config(run, cfg.trust)
    features = cfg.features or before.get("features")
    cfg.metrics = OmegaConf.merge(before.metrics, cfg.metrics)
    with quick_imports():
        from gan_lab.assembly.build import prepare_libraries
        from gan_lab.assembly.instantiate import build_user_metrics
        from gan_lab.commands.evaluate import describe, evaluate

    prepare_libraries()
    size = (cfg.samples, cfg.seeds, cfg.threads)
    where = (cfg.data_dir or None, cfg.cache_dir, cfg.trust, cfg.data.path)
    user_metrics = partial(build_user_metrics, cfg)
    say(describe(evaluate(run, *size, *where, features, cfg.member, cfg.ema, user_metrics)))


def _evaluate_samples(cfg: "DictConfig", folder: "Path") -> str:
    """Evaluates the samples that `generated` names; files go to the folder."""
    from pathlib import Path

    from gan_lab.config.check import check, check_evaluation

    # Of a run, "" stands for the folder that it had.
    cfg.data_dir = cfg.data_dir or "data"
    cfg = check(cfg)
    check_evaluation(cfg)
    with quick_imports():
        from gan_lab.assembly.build import load_data, prepare_libraries
        from gan_lab.assembly.instantiate import build_user_metrics
        from gan_lab.commands.evaluate import describe, evaluate_samples
        from gan_lab.pack.sample_request import SampleRequest
        from gan_lab.pack.samples import read_real

    prepare_libraries()
    form = (cfg.size, cfg.labels, cfg.max_bad)
    if cfg.real is None:
        dataset, _ = load_data(cfg)
        notes = []
    else:
        dataset, notes = read_real(SampleRequest(Path(cfg.real), "real", *form))
    generated = SampleRequest(Path(cfg.generated), "generated", *form)
    settings = (cfg.samples, cfg.seeds, cfg.cache_dir, cfg.features)
    user_metrics = partial(build_user_metrics, cfg)
    evaluation = evaluate_samples(generated, dataset, *settings, user_metrics, folder, notes)
    return f"{describe(evaluation)}\nWritten: {folder}"


if __name__ == "__main__":
    main()
