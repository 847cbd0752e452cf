"""How a run ended: `summary.json`, and the same in words."""

import math
import platform
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from gan_lab.assembly.build import Training
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import join_lines, printable
from gan_lab.evaluation import aggregate
from gan_lab.evaluation.metrics.balance import balance
from gan_lab.training.callbacks.evaluation import Evaluation
from gan_lab.training.gan_module import GANModule


def summarise(training: Training, status: str, error: str | None) -> dict[str, Any]:
    """The content of `summary.json`.

    Losses and scores are the last row of metrics.csv: means over `losses.averaged_over_steps` steps.

    Args:
        status: finished, interrupted or failed.
        error: what made it fail.
    """
    module, row = training.module, training.module.last_row
    seconds = training.timer.time_elapsed("train")
    judged = next((c for c in training.callbacks if isinstance(c, Evaluation) and c.result), None)
    verdict: dict[str, Any] = {}
    scores = {name: _finite(row.get(f"score/{name}")) for name in ("real", "fake")}
    if module.loss.d_output_is_probability and scores["real"] is not None and scores["fake"] is not None:
        verdict["balance"] = balance(scores["real"], scores["fake"])
    measured: dict[str, Any] = {}
    if judged is not None and judged.result is not None:
        result, level = judged.result, dict(judged.balance)
        verdict |= result.verdict | ({"balance": level.pop("balance")} if level else {})
        measured = {
            "metrics": {**result.metrics, **level},
            "undefined": result.undefined,
            "real_data": result.real,
            "labels": result.counts.tolist(),
            "features": result.features,
            "measuring_seconds": round(judged.seconds, 3),
        }
    if module.replica_dims:
        measured |= _members(module, judged)
    return {
        "status": status,
        "error": error,
        "steps": module.step,
        "seconds": round(seconds, 3),
        "steps_per_second": round(module.step / seconds, 2) if seconds else None,
        "replicas": module.replicas,
        **training.about,
        "losses": {
            **{name: _finite(row.get(f"loss/{name}")) for name in ("d_real", "d_fake", "g")},
            "equilibrium": module.loss.loss_at_optimum,
            "equilibrium_g": module.loss.g_loss_at_optimum,
            "averaged_over_steps": module.row_steps,
        },
        "scores": scores,
        "verdict": verdict,
        **measured,
        "environment": {
            **environment(training.trainer.strategy.root_device),
            "processes": training.team.size,
        },
    }


def _members(module: GANModule, judged: Evaluation | None) -> dict[str, Any]:
    """Each member's metrics, with its seed and, if it blew up, the error; their spread; each member's verdict."""
    metrics, verdicts, numbers = [], [], []
    for i in range(module.replicas):
        result, level = judged.members.get(i, (None, {})) if judged else (None, {})
        words = {"balance": level["balance"]} if level else {}
        verdicts.append({**result.verdict, **words} if result else {})
        own = {**(result.metrics if result else {}), **{key: level[key] for key in level if key != "balance"}}
        if i in module.failed:
            step, what = module.failed[i]
            own = {"error": f"The numbers blew up at step {step:,}: {what}."}
        else:
            numbers.append(own)
        metrics.append({"seed": module.seed + i, **own})
    return {"replica_metrics": metrics, "replica_spread": aggregate.spread(numbers), "replica_verdicts": verdicts}


def announce(training: Training, run: Run) -> str:
    """A line that says what is about to be trained, and where it goes."""
    module, about = training.module, training.about
    parts = ", ".join(about[part] for part in ("loss", "activation", "norm", "optim"))
    doing = "Going on with" if run.checkpoint.is_file() else "Training on"
    threads = torch.get_num_threads()
    size = f"{module.steps:,} steps of {training.datamodule.batch_size}, {threads} thread{'s' * (threads > 1)}"
    turns = {"n_critic": module.n_critic, "n_generator": module.n_generator}
    size += "".join(f", {name}={n}" for name, n in turns.items() if n > 1)
    size += f", {module.replicas} replicas" if module.replica_dims else ""
    size += f" in each of {training.team.size} processes" if training.team.size > 1 else ""
    remedies = ", ".join(_told(name, own, module.steps) for name, own in training.remedies.items())
    against = f" with {remedies}" if remedies else ""
    return printable(f"{doing} {about['dataset']} ({parts}){against}, {size} → {_relative(run.folder)}")


def _told(remedy: str, settings: dict[str, Any], steps: int) -> str:
    """E.g. `r1(gamma=1.0)`; that it goes on for the whole training needs no word."""
    said = [f"{key}={value}" for key, value in settings.items() if (key, value) != ("steps", steps)]
    return f"{remedy}({', '.join(said)})" if said else remedy


def environment(device: torch.device) -> dict[str, Any]:
    """What the run ran on and with."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": pl.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "git": _git_commit(),
    }


def describe(summary: dict[str, Any], run: Run) -> str:
    """The end-of-run summary for the terminal."""
    losses = summary["losses"]
    rate = f"{summary['steps_per_second'] or 0:,.0f} steps/s"
    lines = [
        "",
        f"{summary['status'].capitalize()}: {summary['steps']:,} steps in {summary['seconds']:.0f} s ({rate})",
        f"  {'loss':<12}{'at the end':>12}{'ideal':>10}   (mean over {losses['averaged_over_steps']} steps)",
    ]
    for name, label, ideal in (
        ("d_real", "D on real", "equilibrium"),
        ("d_fake", "D on fakes", "equilibrium"),
        ("g", "G", "equilibrium_g"),
    ):
        lines.append(f"  {label:<12}{_number(losses[name]):>12}{_number(losses[ideal]):>10}")
    if word := summary["verdict"].get("balance"):
        answers, metrics = summary["scores"], summary.get("metrics", {})
        real, fake = metrics.get("d_answer_real", answers["real"]), metrics.get("d_answer_fake", answers["fake"])
        lines.append(f"  balance: {word} (D's mean answer is {real:.2f} on real, {fake:.2f} on fakes; ideal is 0.50)")
    if sentence := summary["verdict"].get("sentence"):
        lines += textwrap.wrap(f"verdict: {sentence}", 100, initial_indent="  ", subsequent_indent="    ")
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    folder = _relative(run.folder)
    lines += [
        f"  run folder:  {folder}",
        f"  pictures:    {folder / run.images.name}, {folder / run.plots.name}",
        f"  TensorBoard: {shlex.quote(str(python))} -m tensorboard.main --logdir {shlex.quote(str(folder))}",
    ]
    if summary["status"] == "interrupted" and run.checkpoint.is_file():
        lines.append(f"  go on with:  {shlex.quote(str(python))} train.py resume={shlex.quote(str(folder))}")
    return join_lines(lines)


def _relative(folder: Path) -> Path:
    folder = folder.absolute()
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _git_commit() -> str | None:
    """The commit of the checkout that gan_lab lies in, with -dirty if it was changed; None outside a checkout."""
    command: Sequence[str] = ("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
