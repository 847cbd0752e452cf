"""Measures a run again: `python scripts/evaluate.py run=<run folder> samples=26000`; `--help` lists the keys."""

from omegaconf import DictConfig

from gan_lab.command import command
from gan_lab.config import check
from gan_lab.runs import Run


@command("evaluate")
def main(cfg: DictConfig) -> None:
    check(cfg)
    run = Run.existing(cfg.run)
    from gan_lab.evaluation import describe, evaluate

    data_dir = cfg.data_dir or None
    print(describe(evaluate(run, cfg.samples, cfg.seeds, cfg.threads, data_dir, cfg.cache_dir, cfg.trust, cfg.member)))


if __name__ == "__main__":
    main()
