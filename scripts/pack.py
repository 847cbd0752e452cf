"""Images into one HDF5 file: `python scripts/pack.py source=<archive or folder> target=<file.h5>`; see `--help`."""

from typing import TYPE_CHECKING

from gan_lab.config.cli import command
from gan_lab.core.terminal import say

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("pack")
def main(cfg: "DictConfig") -> None:
    from gan_lab.config.check import check

    cfg.column = None if cfg.column is None else str(cfg.column)  # a title or a number
    cfg = check(cfg)
    from gan_lab.pack.packer import PackSettings, pack

    say(pack(PackSettings(**{key: cfg[key] for key in PackSettings.__annotations__})))


if __name__ == "__main__":
    main()
