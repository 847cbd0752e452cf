"""Speed, as ratios measured in one run: `python scripts/benchmark.py what=storage`; `--help` lists the keys."""

import tempfile
from pathlib import Path

from omegaconf import DictConfig

from gan_lab.command import command
from gan_lab.config import check, output_folder


@command("benchmark")
def main(cfg: DictConfig) -> None:
    with output_folder() as folder:
        check(cfg)
        import torch

        from gan_lab.benchmark import contest, storage

        torch.set_num_threads(cfg.threads)
        with tempfile.TemporaryDirectory(dir=folder) as files:
            contests, facts = storage.contests(Path(files), cfg.images)
            results = contest.hold(contests, cfg.rounds)
        print(contest.describe(results, facts))
        print(f"\nWritten: {', '.join(map(str, contest.write(folder, cfg.what, results, facts)))}")


if __name__ == "__main__":
    main()
