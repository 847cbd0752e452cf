"""The image a classifier holds ideal for a label: `python scripts/backquery.py dataset=mnist label=5`; see `--help`."""

from typing import TYPE_CHECKING

from gan_lab.config.cli import command
from gan_lab.core.imports import quick_imports
from gan_lab.core.terminal import say

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("backquery")
def main(cfg: "DictConfig") -> None:
    from gan_lab.config.check import check
    from gan_lab.config.resume import output_folder

    with output_folder() as folder:
        cfg.label = str(cfg.label)  # 5 is a number to Hydra
        cfg = check(cfg)
        with quick_imports():
            from gan_lab.assembly.build import load_data, prepare_libraries
            from gan_lab.commands.backquery import METHODS, backquery, describe, write

        prepare_libraries()
        dataset, module = load_data(cfg)
        methods = METHODS if cfg.method == "both" else [cfg.method]
        findings = backquery(dataset, cfg.label, methods, cfg.cache_dir, module)
        say(describe(findings))
        about = {"dataset": cfg.dataset._target_.rpartition(".")[2], "run": cfg.run}
        say(f"Written: {', '.join(map(str, write(findings, folder, about)))}")


if __name__ == "__main__":
    main()
