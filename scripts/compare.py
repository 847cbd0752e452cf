"""Which remedy helped: `python scripts/compare.py runs=<folder>`; `--help` lists the keys."""

from typing import TYPE_CHECKING

from gan_lab.config.cli import command
from gan_lab.core.terminal import say

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("compare")
def main(cfg: "DictConfig") -> None:
    from omegaconf import OmegaConf

    from gan_lab.config.check import check

    if not OmegaConf.is_missing(cfg, "runs") and isinstance(cfg.runs, str):
        cfg.runs = [cfg.runs]
    cfg = check(cfg)
    from gan_lab.comparison.comparison import conclude

    say(conclude(cfg.runs, cfg.target))


if __name__ == "__main__":
    main()
