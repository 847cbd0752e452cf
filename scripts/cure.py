"""Finds what helps a GAN that collapses: `python scripts/cure.py run=<run folder> budget=30m`; see `--help`."""

import sys
from typing import TYPE_CHECKING

from gan_lab.config.cli import command
from gan_lab.core.terminal import say

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("cure", collects="overrides")
def main(cfg: "DictConfig") -> None:
    from gan_lab.config.arguments import config_folders, quote_texts
    from gan_lab.config.check import check
    from gan_lab.cure.command import Request, cure

    cfg = check(cfg)
    folders = config_folders(sys.argv[1:])
    seeds = None if cfg.seeds == "auto" else cfg.seeds
    overrides = quote_texts(cfg.overrides)
    say(cure(Request(cfg.run, overrides, cfg.budget, seeds, cfg.target, folders[0] if folders else None)))


if __name__ == "__main__":
    main()
