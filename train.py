"""Trains a GAN: `python train.py loss=bce optim=adam`; `--help` lists the groups and keys."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gan_lab.config.cli import command
from gan_lab.core.imports import quick_imports
from gan_lab.core.terminal import say

if TYPE_CHECKING:
    from omegaconf import DictConfig


def compare(sweep: Path) -> None:
    from gan_lab.comparison.comparison import conclude

    say(conclude([sweep]))


def plan(swept: dict[str, list[str]], seeds: list[int], replicas: int) -> str:
    from gan_lab.comparison.plan import describe_plan

    return describe_plan(swept, seeds, replicas)


@command("train", after_sweep=compare, before_sweep=plan)
def main(cfg: "DictConfig") -> None:
    from gan_lab.config.resume import open_run

    with open_run(cfg) as (cfg, run):
        # torch and Lightning: only for a configuration that is known to be good
        with quick_imports():
            from gan_lab.assembly.build import DryRun, build, prepare_libraries
            from gan_lab.commands.summary import announce, describe
            from gan_lab.commands.train import fit

        prepare_libraries()
        if cfg.get("preflight") and not run.checkpoint.is_file():  # what goes on was checked before it began
            from gan_lab.preflight import preflight

            say(preflight(DryRun(cfg), run))
        training = build(cfg, run)
        say(announce(training, run))
        # From here on a signal lets the run end with a checkpoint.
        training.stop.start()

    summary, code = fit(training, run)
    say(describe(summary, run))
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
