"""Opens a live page on this machine: `python scripts/studio.py`; `--help` lists the keys."""

from typing import TYPE_CHECKING

from gan_lab.config.cli import command

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("studio")
def main(cfg: "DictConfig") -> None:
    from importlib.util import find_spec

    from gan_lab.config.check import check
    from gan_lab.core.errors import LabError
    from gan_lab.core.installation import install_extra

    cfg = check(cfg)
    if find_spec("nicegui") is None:
        raise LabError(
            "The live page needs NiceGUI, which isn't installed.",
            f"It comes with: {install_extra('studio')}",
            code="unsupported",
            key="studio",
        )
    from gan_lab.studio.app import serve

    serve(cfg.folder, cfg.port, cfg.open, cfg.cache_dir)


if __name__ == "__main__":
    main()
