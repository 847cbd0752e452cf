"""Writes the generator of a run: `python scripts/export.py run=<run folder> to=generator.onnx`; see `--help`."""

from typing import TYPE_CHECKING

from gan_lab.config.cli import command
from gan_lab.core.imports import quick_imports
from gan_lab.core.terminal import say

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("export")
def main(cfg: "DictConfig") -> None:
    from gan_lab.config.check import check

    cfg = check(cfg)
    with quick_imports():
        from gan_lab.assembly.build import load_run, prepare_libraries
        from gan_lab.commands.export import ExportSettings, export

    prepare_libraries()
    settings = ExportSettings(**{key: cfg[key] for key in ExportSettings.__annotations__})
    run, module, dataset = load_run(cfg)
    say(export(module, dataset, run, settings))


if __name__ == "__main__":
    main()
