"""Writes samples of a run: `python scripts/sample.py run=<run folder> n=10000 to=samples.npz`; see `--help`."""

from typing import TYPE_CHECKING

from gan_lab.config.cli import command
from gan_lab.core.imports import quick_imports
from gan_lab.core.terminal import say

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("sample")
def main(cfg: "DictConfig") -> None:
    from gan_lab.config.check import check

    if cfg.classes is not None:
        cfg.classes = [str(name) for name in cfg.classes]  # names or numbers
    cfg = check(cfg)
    with quick_imports():
        from gan_lab.assembly.build import load_run, prepare_libraries
        from gan_lab.commands.sample import SampleSettings, write_samples

    prepare_libraries()
    settings = SampleSettings(**{key: cfg[key] for key in SampleSettings.__annotations__})
    run, module, dataset = load_run(cfg)
    say(write_samples(module, dataset, run, settings))


if __name__ == "__main__":
    main()
