"""Measures a run again: `python scripts/evaluate.py run=<run folder> samples=26000`; `--help` lists the keys."""

from functools import partial
from typing import TYPE_CHECKING

from gan_lab.config.cli import command
from gan_lab.core.terminal import say

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("evaluate")
def main(cfg: "DictConfig") -> None:
    from omegaconf import OmegaConf

    from gan_lab.config.check import check
    from gan_lab.config.resume import load_config
    from gan_lab.core.run_folder import Run

    cfg = check(cfg)
    run = Run.existing(cfg.run)
    before = load_config(run, cfg.trust)
    features = cfg.features or before.get("features")
    cfg.metrics = OmegaConf.merge(before.metrics, cfg.metrics)
    from gan_lab.assembly.build import prepare_libraries
    from gan_lab.assembly.instantiate import build_user_metrics
    from gan_lab.commands.evaluate import describe, evaluate

    prepare_libraries()
    size = (cfg.samples, cfg.seeds, cfg.threads)
    where = (cfg.data_dir or None, cfg.cache_dir, cfg.trust, cfg.data.path)
    user_metrics = partial(build_user_metrics, cfg)
    say(describe(evaluate(run, *size, *where, features, cfg.member, cfg.ema, user_metrics)))


if __name__ == "__main__":
    main()
