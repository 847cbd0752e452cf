"""How a run ended: the content of `summary.json`, and the same in words."""

import math
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from gan_lab.assembly.build import Training
from gan_lab.commands.next_step import after_training
from gan_lab.core.command_line import quote
from gan_lab.core.io import relative_path
from gan_lab.core.run_folder import Run, in_folder, resume_command
from gan_lab.core.terminal import join_lines, printable
from gan_lab.evaluation import aggregate
from gan_lab.evaluation.metrics.balance import balance
from gan_lab.training.callbacks.evaluation import Evaluation
from gan_lab.training.gan_module import GANModule
from gan_lab.training.step_log import NotFiniteError


def summarise(training: Training, status: str, error: str | None) -> dict[str, Any]:
    """Returns the content of `summary.json`.

    Losses and scores are the last row of metrics.csv: means over `losses.averaged_over_steps` steps.

    Args:
        training: the training, which has ended.
        status: finished, interrupted or failed.
        error: what made it fail.
    """
    module = training.module
    row = module.step_log.last_row
    seconds = training.clock.time_elapsed("train")
    processor_seconds = training.clock.processor_seconds()
    steps_per_second = None
    # 0 if training ended before its first step.
    if seconds:
        steps_per_second = round(module.step / seconds, 2)
    losses: dict[str, Any] = {name: _finite(row.get(f"loss/{name}")) for name in ("d_real", "d_fake", "g")}
    losses["equilibrium"] = module.loss.loss_at_optimum
    losses["equilibrium_g"] = module.loss.g_loss_at_optimum
    losses["averaged_over_steps"] = module.step_log.row_steps
    scores = {name: _finite(row.get(f"score/{name}")) for name in ("real", "fake")}
    return {
        "status": status,
        "error": error,
        "steps": module.step,
        "seconds": round(seconds, 3),
        "processor_seconds": processor_seconds if processor_seconds is None else round(processor_seconds, 3),
        "steps_per_second": steps_per_second,
        "replicas": module.replicas,
        # As it was, which a loss or a remedy may have changed; config.yaml has what was asked for.
        "joint_d_update": module.joint,
        **training.description,
        "data_digest": training.datamodule.digest,
        "losses": losses,
        "scores": scores,
        **_evaluated(training, status, scores),
        "environment": {
            **environment(training.trainer.strategy.root_device),
            "threads": _threads(module),
            "processes": training.process_group.size,
            "engine": module.engine,
        },
    }


def _evaluated(training: Training, status: str, scores: dict[str, float | None]) -> dict[str, Any]:
    """Returns what the evaluation at the end says: verdict, metrics, and those of each replica.

    Without it there is only the balance of D and G, from the last row's scores, where these are probabilities.

    Args:
        training: which has ended.
        status: how it has ended.
        scores: D's mean scores in the last row.
    """
    module = training.module
    evaluation = _evaluation(training)
    verdict: dict[str, Any] = {}
    if module.loss.d_output_is_probability and scores["real"] is not None and scores["fake"] is not None:
        verdict["balance"] = balance(scores["real"], scores["fake"])
    evaluated: dict[str, Any] = {"verdict": verdict}
    if evaluation is not None and evaluation.result is not None:
        result = evaluation.result
        d_metrics, balance_word = _split_balance(evaluation.balance)
        verdict |= result.verdict | balance_word
        run_so_far = {**training.description, "status": status, "steps": module.step}
        are_images = len(training.datamodule.dataset.shape) == 3
        verdict["next_step"] = after_training(verdict, result.metrics, run_so_far, are_images)
        evaluated |= {
            "metrics": {**result.metrics, **d_metrics},
            "undefined": result.undefined,
            "real_data": result.real,
            "labels": result.counts.tolist(),
            "features": result.features,
            "reference": result.reference,
            "measuring_seconds": round(evaluation.seconds, 3),
        }
    if module.replica_dims:
        evaluated |= _members(module, evaluation)
    return evaluated


def _evaluation(training: Training) -> Evaluation | None:
    """Returns the callback that evaluated the samples at the end of training; None if there is none."""
    for callback in training.callbacks:
        if isinstance(callback, Evaluation) and callback.result:
            return callback
    return None


def _split_balance(measured: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns D's metrics, and the word for its balance with G under `balance`; both empty if it was not measured."""
    metrics = {name: value for name, value in measured.items() if name != "balance"}
    words = {name: value for name, value in measured.items() if name == "balance"}
    return metrics, words


def _members(module: GANModule, evaluation: Evaluation | None) -> dict[str, Any]:
    """Returns each replica's metrics with its seed and, if it failed, the error; their spread; each one's verdict."""
    replica_metrics = []
    replica_verdicts = []
    finished = []
    for i in range(module.replicas):
        metrics: dict[str, Any] = {}
        verdict: dict[str, Any] = {}
        if evaluation is not None and i in evaluation.members:
            result, member_balance = evaluation.members[i]
            d_metrics, balance_word = _split_balance(member_balance)
            metrics = {**result.metrics, **d_metrics}
            verdict = {**result.verdict, **balance_word}
        if i in module.step_log.failed:
            # A failed member has no metrics, and the spread is of the others.
            step, reason = module.step_log.failed[i]
            metrics = {"error": str(NotFiniteError(step, reason))}
        else:
            finished.append(metrics)
        replica_metrics.append({"seed": module.seed + i, **metrics})
        replica_verdicts.append(verdict)
    return {
        "replica_metrics": replica_metrics,
        "replica_spread": aggregate.spread(finished),
        "replica_verdicts": replica_verdicts,
    }


def announce(training: Training, run: Run) -> str:
    """Returns one line that says what is about to be trained, how long, and in which folder."""
    module = training.module
    about = training.description
    parts = ", ".join(about[group] for group in ("loss", "activation", "norm", "optim"))
    verb = "Training on"
    if run.checkpoint.is_file():
        verb = "Resuming training on"
    size = [f"{module.steps:,} steps of {training.datamodule.batch_size}"]
    pack = module.remedies.pack_size
    if pack > 1:
        size = [f"{module.steps:,} steps of {training.datamodule.batch_size // pack} packs of {pack}"]
    size.append(f"{module.engine} step")
    threads = _threads(module)
    if threads > 1:
        size.append(f"{threads} threads")
    else:
        size.append("1 thread")
    for name, updates in (("n_critic", module.n_critic), ("n_generator", module.n_generator)):
        if updates > 1:
            size.append(f"{name}={updates}")
    if module.joint and not module.settings.joint_d_update:
        causes = ", ".join(module.settings.joint_causes)
        size.append(f"D updated on real samples and fakes together (as with joint_d_update=true, for {causes})")
    if module.replica_dims:
        size.append(f"{module.replicas} replicas")
    processes = ""
    if training.process_group.size > 1:
        processes = f" in each of {training.process_group.size} processes"
    remedies = [_remedy(name, settings, module.steps) for name, settings in training.remedies.items()]
    data = f"{about['dataset']} ({parts})"
    if remedies:
        data += f" with {', '.join(remedies)}"
    return printable(f"{verb} {data}, {', '.join(size)}{processes} → {relative_path(run.folder)}")


def _remedy(name: str, settings: dict[str, Any], steps: int) -> str:
    """Returns e.g. `r1(gamma=1.0)`; that it lasts for the whole training, or lacks something, isn't mentioned."""
    words = []
    for key, value in settings.items():
        if value is not None and (key, value) != ("steps", steps):
            words.append(f"{key}={value}")
    if not words:
        return name
    return f"{name}({', '.join(words)})"


def _threads(module: GANModule) -> int:
    """Returns how many threads train: torch's, or those that share the members among them."""
    return max(torch.get_num_threads(), module.member_threads)


def environment(device: torch.device) -> dict[str, Any]:
    """Returns the versions, the device, the threads and the commit that a run ran with."""
    device_name = device.type
    if device.type == "cuda":
        device_name = torch.cuda.get_device_name(device)
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": pl.__version__,
        "device": device_name,
        "threads": torch.get_num_threads(),
        "git": _git_commit(),
    }


def describe(summary: dict[str, Any], run: Run) -> str:
    """Returns the summary at the end of a training, for the terminal."""
    folder = relative_path(run.folder)
    python = quote(str(relative_path(Path(sys.executable))))
    rate = f"{summary['steps_per_second'] or 0:,.0f} steps/s"
    lines = [
        "",
        f"{summary['status'].capitalize()}: {summary['steps']:,} steps in {summary['seconds']:.0f} s ({rate})",
        *_loss_table(summary["losses"]),
        *_verdict_lines(summary, folder),
        f"  run folder:  {folder}",
    ]
    if run.page.is_file():
        lines.append(f"  page:        {relative_path(run.page)}")
    pictures = ", ".join(str(relative_path(path)) for path in run.picture_folders())
    if pictures:
        lines.append(f"  pictures:    {pictures}")
    if run.has_event_files():
        lines.append(f"  TensorBoard: {python} -m tensorboard.main --logdir {quote(str(folder))}")
    if summary["status"] == "interrupted" and run.checkpoint.is_file():
        lines.append(f"  resume with: {resume_command(folder, python=python)}")
    return join_lines(lines)


def _loss_table(losses: dict[str, Any]) -> list[str]:
    """Returns the table of the last losses next to their ideal values."""
    average = f"(mean over {losses['averaged_over_steps']} steps)"
    lines = [f"  {'loss':<12}{'at the end':>12}{'ideal':>10}   {average}"]
    for name, label, ideal in (
        ("d_real", "D on real", "equilibrium"),
        ("d_fake", "D on fakes", "equilibrium"),
        ("g", "G", "equilibrium_g"),
    ):
        lines.append(f"  {label:<12}{_number(losses[name]):>12}{_number(losses[ideal]):>10}")
    return lines


def _verdict_lines(summary: dict[str, Any], folder: Path) -> list[str]:
    """Returns the lines on the balance of D and G and on the verdict, as far as there are any."""
    lines = []
    word = summary["verdict"].get("balance")
    if word:
        scores = summary["scores"]
        metrics = summary.get("metrics", {})
        # The evaluation scores many samples; without it there are the scores of the last row.
        real = metrics.get("d_answer_real", scores["real"])
        fake = metrics.get("d_answer_fake", scores["fake"])
        lines.append(f"  balance: {word} (D's mean output is {real:.2f} on real, {fake:.2f} on fakes; ideal is 0.50)")
    sentence = summary["verdict"].get("sentence")
    if sentence:
        statement, *numbers = sentence.splitlines()
        lines += [f"  verdict: {statement}", *(f"    {line}" for line in numbers)]
    next_step = summary["verdict"].get("next_step")
    if next_step:
        lines.append(f"    {in_folder(next_step, folder)}")
    return lines


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}"


def _finite(value: float | None) -> float | None:
    """Returns a number; None for NaN and infinity, which JSON doesn't have."""
    if value is None or not math.isfinite(value):
        return None
    return value


def _git_commit() -> str | None:
    """Returns the commit of gan_lab's checkout, with -dirty if files were changed; None outside a checkout."""
    command: Sequence[str] = ("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12")
    try:
        # A tag may have any name.
        process = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return process.stdout.strip() or None
