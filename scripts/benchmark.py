"""Speed as ratios, and the trials of the verdict and of the statistics: `what=storage`, …; `--help` lists the keys."""

import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from gan_lab.config.cli import command
from gan_lab.core.terminal import say

if TYPE_CHECKING:
    from omegaconf import DictConfig

SPEED = ("step", "replicas", "storage", "startup", "sweep")
TRIALS = ("verdict", "statistics")


def compose_training(*overrides: str) -> "DictConfig":
    """Composes and checks the configuration of train.py."""
    from hydra import compose

    from gan_lab.config.check import check
    from gan_lab.config.resume import resolve_defaults

    cfg = compose("train", list(overrides))
    resolve_defaults(cfg, overrides)
    return check(cfg)


@command("benchmark")
def main(cfg: "DictConfig") -> None:
    from gan_lab.config.check import check
    from gan_lab.config.resume import output_folder

    with output_folder() as folder:
        cfg = check(cfg)
        import torch

        from gan_lab.assembly.build import prepare_libraries
        from gan_lab.benchmark import timing

        prepare_libraries()
        torch.set_num_threads(cfg.threads)
        if cfg.what in TRIALS:
            paths = import_module(f"gan_lab.benchmark.{cfg.what}").run(folder, cfg)
            say((folder / f"{cfg.what}.md").read_text(encoding="utf-8"))
            say(f"Written: {', '.join(map(str, paths))}")
            return
        for what in SPEED if cfg.what == "all" else (cfg.what,):
            module = import_module(f"gan_lab.benchmark.{what}")
            with tempfile.TemporaryDirectory(dir=folder) as files:
                benchmarks, facts = module.benchmarks(Path(files), cfg, compose_training)
                results = timing.run_benchmarks(benchmarks, cfg.rounds)
            say(timing.describe(results, facts))
            paths = timing.write(folder, what, results, facts)
            say(f"\nWritten: {', '.join(map(str, paths))}")


if __name__ == "__main__":
    main()
