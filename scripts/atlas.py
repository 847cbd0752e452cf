"""Trains a stage of the atlas: `python scripts/atlas.py stage=tuning`; see `--help` and docs/atlas.md."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gan_lab.config.cli import command

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("atlas", collects="overrides")
def main(cfg: "DictConfig") -> None:
    from gan_lab.config.arguments import quote_texts
    from gan_lab.config.check import check

    cfg = check(cfg)
    from gan_lab.atlas.stages import train_stage
    from gan_lab.atlas.table import read_costs

    sys.exit(train_stage(cfg.stage, Path(cfg.folder), read_costs([cfg.costs]), quote_texts(cfg.overrides)))


if __name__ == "__main__":
    main()
