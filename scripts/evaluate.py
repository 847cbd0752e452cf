"""Measures a run again: `python scripts/evaluate.py run=<run folder> samples=26000`; `--help` lists the keys."""

from omegaconf import DictConfig

from gan_lab.command import command
from gan_lab.config import check, stored
from gan_lab.runs import Run


@command("evaluate")
def main(cfg: DictConfig) -> None:
    check(cfg)
    run = Run.existing(cfg.run)
    features = cfg.features or stored(run, cfg.trust).get("features")
    from gan_lab.evaluation import describe, evaluate

    size = (cfg.samples, cfg.seeds, cfg.threads)
    where = (cfg.data_dir or None, cfg.cache_dir, cfg.trust, cfg.data.path)
    print(describe(evaluate(run, *size, *where, features, cfg.member, cfg.ema)))


if __name__ == "__main__":
    main()
