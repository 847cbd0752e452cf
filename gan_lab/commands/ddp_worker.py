"""A process that helps another one to train: `python -m gan_lab.commands.ddp_worker <run folder>`; see `gan_lab.training.ddp`."""

import os
import sys

from gan_lab.assembly.build import build, prepare_libraries
from gan_lab.config.resume import load_config
from gan_lab.core.errors import LabError
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import escape_tracebacks, say
from gan_lab.training.ddp import LEADER, follow


def main() -> None:
    escape_tracebacks()
    prepare_libraries()
    if len(sys.argv) < 2:
        sys.exit("python -m gan_lab.commands.ddp_worker <run folder>, with NODE_RANK, MASTER_ADDR and MASTER_PORT set.")
    if leader := os.environ.setdefault(LEADER, ""):
        follow(int(leader))
    os.environ.setdefault("LOCAL_RANK", "0")
    folder, *trust = sys.argv[1:]
    try:
        run = Run.existing(folder)
        training = build(load_config(run, trust), run)
        training.team.start(run.folder)
        try:
            training.trainer.fit(training.module, training.datamodule, ckpt_path=training.resumed, weights_only=True)
        finally:
            training.team.end()
    except LabError as error:
        say(error, stderr=True)
        sys.exit(error.status)
    except OSError as error:
        if not error.filename:
            raise
        say(f"{error.filename}: {error.strerror}.", stderr=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
