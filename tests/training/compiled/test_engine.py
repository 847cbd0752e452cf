"""A training by the compiled step: what it leaves, how it goes on, and what it does with NaN."""

import ctypes
import math
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from both_engines import TINY, difference, train
from conftest import BARE, training
from pytorch_lightning import Callback
from torture import differences

from gan_lab.assembly.build import Training
from gan_lab.commands.train import fit
from gan_lab.core.errors import RunError
from gan_lab.core.run_folder import Run
from gan_lab.training.compiled import step
from gan_lab.training.gan_module import GANModule
from gan_lab.training.step_log import LOSSES, Failure

pytestmark = pytest.mark.usefixtures("undrawn", "quick_verdict")

SMALL = (*BARE, "dataset=ring", "dataset.samples=50", "model.width=8", "steps=24", "log_every=4")
SMALL = (*SMALL, "callbacks.checkpoint.every=5")
# All that has a state of its own.
STATES = (
    *("replicas=2", "n_critic=2", "n_generator=2", "remedy=[ema,decay,ttur,lecam,historical_averaging,top_k,r1]"),
    *("remedy.ema.decay=0.8", "remedy.lecam.warmup_steps=9", "remedy.r1.end=0.01"),
)


def _trained(folder: Path, *overrides: str) -> tuple[Training, Run]:
    job, run = training(folder, *SMALL, *overrides)
    fit(job, run)
    return job, run


def _form(value: Any) -> Any:
    """Replaces the numbers of a checkpoint by their types, and tensors by shape and dtype."""
    if isinstance(value, dict):
        # The order in which an optimizer has put things into its state doesn't matter.
        return {key: _form(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [_form(item) for item in value]
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape
    return type(value)


@pytest.mark.parametrize(
    "overrides",
    [
        STATES,
        ("optim=sgd",),
        pytest.param(("optim_d=rmsprop", "optim_g=sgd", "optim_g.momentum=0.9"), marks=pytest.mark.slow),
    ],
)
def test_checkpoints_of_both_engines_have_the_same_form(tmp_path, overrides):
    checkpoints = []
    for engine in ("autograd", "compiled"):
        _, run = _trained(tmp_path / engine, *overrides, f"engine={engine}", "steps=5")
        checkpoints.append(run.load_checkpoint())
    ours, reference = checkpoints
    assert _form(ours) == _form(reference)


class CopyAt(Callback):
    """Copies the run's folder after a step, as SIGKILL would leave it."""

    def __init__(self, step: int, run: Run, to: Path):
        self.step = step
        self.run = run
        self.to = to

    def on_train_batch_end(self, trainer, module, *_):
        if module.step == self.step:
            shutil.copytree(self.run.folder, self.to)


def _killed(folder: Path, at: int, *overrides: str) -> tuple[Run, Training, Run]:
    """Returns a run that was killed at a step, and the training that nothing interrupted with its run."""
    job, whole = training(folder / "whole", *SMALL, *overrides)
    job.datamodule.boundaries = [*job.datamodule.boundaries, at]
    job.trainer.callbacks.append(CopyAt(at, whole, folder / "killed"))
    fit(job, whole)
    return Run(folder / "killed"), job, whole


@pytest.mark.parametrize("at", [7, *(pytest.param(at, marks=pytest.mark.slow) for at in (3, 10))])
def test_a_killed_run_goes_on_to_the_bit(tmp_path, at):
    """Before the first checkpoint, between two rows, and at a checkpoint while LeCam begins; with fewer threads."""
    killed, _, whole = _killed(tmp_path, at, *STATES, "threads=2")
    torch.manual_seed(99)
    _trained(killed.folder, *STATES, "threads=1")
    assert differences(killed, whole) == []
    assert [run.read_summary()["environment"]["threads"] for run in (whole, killed)] == [2, 1]


def test_no_bit_depends_on_the_number_of_threads():
    """Five members, of which one has failed and one fails; with these numbers blocks are divided among the threads."""

    def trained(threads: int) -> dict[str, torch.Tensor]:
        def prepare(module: GANModule) -> None:
            module.member_threads = threads
            module.step_log.failed[1] = Failure(0, "")
            with torch.no_grad():
                module.generator.networks.layers[0].weight[3] *= 1e30

        gan = train([*TINY, *STATES[1:], "replicas=5"], "compiled", steps=40, block=20, prepare=prepare)
        return {**dict(gan.state()), "recorded": gan.values}

    expected = trained(1)
    assert expected["recorded"][:, :, 3].isnan().any()
    assert not expected["recorded"][:, :, 1].any()
    assert expected["recorded"][:, :, [0, 2, 4]].isfinite().all()
    for threads in (2, 3):
        for name, tensor in trained(threads).items():
            # Bytes, as NaN doesn't equal itself.
            assert tensor.numpy().tobytes() == expected[name].numpy().tobytes(), (threads, name)


def test_each_member_is_trained_in_a_thread_in_which_blas_uses_no_others(monkeypatch):
    if not torch.backends.mkl.is_available():
        pytest.skip("this build of torch has no MKL to ask")
    mkl = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    training_steps = step.training_steps
    both = threading.Barrier(2, timeout=60)
    blas_threads = []

    def watched(*arguments: Any) -> None:
        both.wait()
        blas_threads.append(mkl.MKL_Get_Max_Threads())
        training_steps(*arguments)

    def prepare(module: GANModule) -> None:
        module.member_threads = 2

    monkeypatch.setattr(step, "training_steps", watched)
    # The number for threads that set none of their own, as it would be without OMP_NUM_THREADS=1.
    mkl.mkl_serv_set_num_threads(2)
    try:
        train([*TINY, "replicas=2"], "compiled", steps=3, block=3, prepare=prepare)
    finally:
        mkl.mkl_serv_set_num_threads(1)
    assert blas_threads == [1, 1]


def test_an_interrupted_block_leaves_no_thread_at_work(monkeypatch):
    """As after a second Ctrl-C, when the weights must not change any more."""
    training_steps = step.training_steps
    ended = []

    def interrupt_second_block() -> None:
        if ended:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    both = threading.Barrier(2, action=interrupt_second_block, timeout=60)

    def watched(*arguments: Any) -> None:
        both.wait()
        time.sleep(0.05)
        training_steps(*arguments)
        ended.append(1)

    def prepare(module: GANModule) -> None:
        module.member_threads = 2

    monkeypatch.setattr(step, "training_steps", watched)
    with pytest.raises(KeyboardInterrupt):
        train([*TINY, "replicas=2"], "compiled", steps=6, block=3, prepare=prepare)
    assert len(ended) == 4


@pytest.mark.parametrize(("first", "second"), [("compiled", "autograd"), ("autograd", "compiled")])
def test_the_other_engine_goes_on_and_says_so(tmp_path, capsys, first, second):
    # With a large ε, as rounding could become whole steps.
    overrides = (*STATES, "+optim.eps=1e-3")
    killed, whole, _ = _killed(tmp_path, 12, *overrides, f"engine={first}")
    capsys.readouterr()
    job, run = _trained(killed.folder, *overrides, f"engine={second}")
    said = f"The {second} step continues what the other engine began"
    assert capsys.readouterr().out.count(said) == 1
    assert run.read_summary()["environment"]["engine"] == second
    expected = whole.module.state_dict()
    for name, tensor in job.module.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)
    # From now on it is a run of the second one.
    _trained(run.folder, *overrides, f"engine={second}", "steps=25")
    assert said not in capsys.readouterr().out


def _weights(module: GANModule) -> list[torch.Tensor]:
    return list(module.state_dict().values())


def test_neither_the_length_of_blocks_nor_what_is_shown_changes_the_training(tmp_path):
    reference, _ = _trained(tmp_path / "reference", *STATES)
    shown = [override for override in SMALL if override not in ("~callbacks.verdict", "~callbacks.pictures")]
    job, run = training(
        tmp_path / "shown",
        *shown,
        *STATES,
        "log_every=7",
        "callbacks.verdict.samples=50",
        "callbacks.checkpoint.every=3",
    )
    fit(job, run)
    assert all(map(torch.equal, _weights(job.module), _weights(reference.module)))


def test_a_divergence_is_explained_as_under_autograd(tmp_path):
    overrides = ("loss=lsgan", "optim=sgd", "optim.lr=0.5", "norm=none")
    messages = []
    for engine in ("autograd", "compiled"):
        job, run = training(tmp_path / engine, *SMALL, *overrides, f"engine={engine}")
        with torch.no_grad():
            job.module.discriminator.layers[0].weight *= 100
        with pytest.raises(RunError) as error:
            fit(job, run)
        messages.append(str(error.value).splitlines()[0])
        assert run.read_summary()["status"] == "failed"
    assert messages[0] == messages[1]
    assert "in phase (" in messages[0]


def test_a_member_that_diverges_is_frozen_and_the_others_are_as_alone(tmp_path, capsys):
    overrides = ("seed=5", "optim=sgd", "remedy=[ema,lecam,historical_averaging]", "remedy.lecam.warmup_steps=5")
    job, run = training(tmp_path / "replicas", *SMALL, *overrides, "replicas=3")
    with torch.no_grad():
        job.module.generator.networks.layers[0].weight[1] *= 1e30
    fresh = job.module.member(1)
    summary, code = fit(job, run)
    assert (summary["status"], code) == ("finished", 0)
    assert "Member 1 (seed 6) produced NaN or infinity at step 1" in capsys.readouterr().err
    assert list(job.module.step_log.failed) == [1]
    table = pd.read_csv(run.metrics)
    assert table["loss/g/1"].isna().all()
    assert table["loss/g"].notna().all()
    for name, tensor in job.module.member(1).state_dict().items():
        if "calls" not in name:
            assert torch.equal(tensor, fresh.state_dict()[name]), name
    for i in (0, 2):
        alone, _ = _trained(tmp_path / str(i), *overrides, f"seed={5 + i}")
        assert all(map(torch.equal, _weights(job.module.member(i)), _weights(alone.module)))


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "silu"])
def test_activations_saturate_as_in_torch(activation):
    """exp(−x) and its square are infinite in float32 from |x| = 89 and 45 on."""
    # So small a rate leaves the weights as they are, but for NaN.
    overrides = [*TINY, "loss=lsgan", "optim=sgd", "optim.lr=1e-20", "norm=none", "remedy=[r1]"]
    overrides.append(f"activation={activation}")

    def enlarge(module: GANModule) -> None:
        with torch.no_grad():
            for network in (module.generator, module.discriminator):
                network.layers[0].weight *= 1000

    ours = train(overrides, "compiled", steps=5, prepare=enlarge)
    reference = train(overrides, "autograd", steps=5, prepare=enlarge)
    assert math.isfinite(float(ours.values.sum()))
    assert difference(reference.values[:, :LOSSES], ours.values[:, :LOSSES]) < 1e-5
