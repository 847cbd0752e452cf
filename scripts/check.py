"""Looks before a training: `python scripts/check.py <overrides as for train.py>`; `--help` lists the checks."""

import sys
from typing import TYPE_CHECKING

from gan_lab.config.cli import command
from gan_lab.core.imports import quick_imports
from gan_lab.core.terminal import say

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("check")
def main(cfg: "DictConfig") -> None:
    from gan_lab.config.resume import open_check

    with open_check(cfg) as (cfg, folder):
        with quick_imports():
            from gan_lab.assembly.build import DryRun, prepare_libraries
            from gan_lab.preflight import describe, run_checks, worst_status, write

        prepare_libraries()
        results = run_checks(DryRun(cfg))
        write(results, folder)
    say(describe(results, folder))
    if worst_status(results) == "failure":
        sys.exit(1)


if __name__ == "__main__":
    main()
