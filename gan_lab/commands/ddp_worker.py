"""A process that takes part in a training: `python -m gan_lab.commands.ddp_worker <run folder>`.

See `gan_lab.training.ddp`.
"""

import os
import sys

from gan_lab.core import interrupts
from gan_lab.core.errors import LabError
from gan_lab.core.terminal import prepare_streams, say


def main() -> None:
    """Joins the training in the run folder that the command line names, and ends with it."""
    interrupts.watch(as_worker=True)
    prepare_streams()
    from gan_lab.config.hydra_app import prepare_process

    prepare_process()
    # torch and Lightning: only in a prepared process
    from gan_lab.assembly.build import build, prepare_libraries
    from gan_lab.config.resume import load_config
    from gan_lab.core.run_folder import Run
    from gan_lab.training.ddp import LEADER_PID, end_with

    prepare_libraries()
    if len(sys.argv) < 2:
        sys.exit("python -m gan_lab.commands.ddp_worker <run folder>, with NODE_RANK, MASTER_ADDR and MASTER_PORT set.")
    # Set even if the user gave this command: then no process leads this one, but it is not rank 0 either.
    leader = os.environ.setdefault(LEADER_PID, "")
    if leader:
        end_with(int(leader))
    else:
        os.environ["LOCAL_RANK"] = "0"
    folder, *trust = sys.argv[1:]
    try:
        run = Run.existing(folder)
        training = build(load_config(run, trust), run)
        training.stop.start()
        training.process_group.start(run.folder)
        try:
            training.trainer.fit(
                training.module, training.datamodule, ckpt_path=training.resumed_from, weights_only=True
            )
        finally:
            training.process_group.end()
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
