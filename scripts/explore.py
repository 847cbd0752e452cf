"""Plays with latent vectors: `python scripts/explore.py run=<run folder> op=…`; `--help` lists the keys."""

from typing import TYPE_CHECKING

from gan_lab.config.cli import command
from gan_lab.core.imports import quick_imports
from gan_lab.core.terminal import say

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("explore")
def main(cfg: "DictConfig") -> None:
    from gan_lab.config.check import check

    cfg.a, cfg.b, cfg.normalize = str(cfg.a), str(cfg.b), str(cfg.normalize).lower()  # numbers, words, truth values
    cfg = check(cfg)
    with quick_imports():
        from gan_lab.assembly.build import prepare_libraries
        from gan_lab.core.run_folder import Run
        from gan_lab.explore import Request, explore

    prepare_libraries()
    run = Run.existing(cfg.run)
    request = Request(**{key: cfg[key] for key in Request.__annotations__})
    say(explore(run, request, cfg.threads, cfg.data_dir or None, cfg.cache_dir, cfg.trust, cfg.data.path))


if __name__ == "__main__":
    main()
