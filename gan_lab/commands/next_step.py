"""What to try next: which symptom in a verdict points to which remedy, as a command to paste.

What helps is what helped in docs/results.md: of the settings Adam, LeakyReLU and LayerNorm, of the remedies R1. The
relativistic loss is that of all recipes in conf/experiment/best (Huang et al. 2024).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gan_lab.core.command_line import Value, command, quote, setting
from gan_lab.core.run_folder import RESUME_THIS, THIS_RUN
from gan_lab.evaluation.metrics.modes import NO_MODE_JUNK, samples_needed
from gan_lab.evaluation.metrics.registry import MetricValues

# On the command line that started a run: keys that name its folder, and how it was started.
KEYS_OF_FOLDER = ("run.", "resume=", "hydra", "sweep.", "force=", "preflight=")
FAILURES = ("collapsed", "partial", "narrow")


class Remedy(NamedTuple):
    """What to try.

    Attributes:
        symptom: why.
        changes: of the next training's configuration, by key; empty: this one goes on, for as many steps again.
    """

    symptom: str
    changes: Mapping[str, Value | Sequence[str]] = {}


def after_training(
    verdict: Mapping[str, Any], metrics: MetricValues, summary: Mapping[str, Any], are_images: bool
) -> str | None:
    """Returns what to try after a training, with a command without the run's folder.

    Args:
        verdict: its words.
        metrics: of its samples.
        summary: of the run: `status`, `steps`, `loss`, `remedy`, `overrides`, …
        are_images: whether the data are images.

    Returns:
        One line; None if nothing is wrong, or the training was interrupted: then it has to go on first.
    """
    if summary["status"] != "finished":
        return None
    needed = _samples_needed(verdict, metrics)
    if needed:
        again = command("evaluate.py", THIS_RUN, setting("samples", needed))
        return f"Evaluate enough samples: {again}"
    remedy = _remedy(verdict, metrics, summary, are_images)
    if remedy is None:
        return None
    if remedy.changes:
        return f"{remedy.symptom}: {_train_again(summary['overrides'], remedy.changes)}"
    longer = command("train.py", RESUME_THIS, setting("steps", 2 * summary["steps"]))
    return f"{remedy.symptom}: {longer}"


def for_other_generators(verdict: Mapping[str, Any], metrics: MetricValues) -> str | None:
    """Returns what to try with samples that another program made; None if nothing is wrong."""
    needed = _samples_needed(verdict, metrics)
    if needed:
        return f"Generate at least {needed:,} samples."
    if verdict["copies"]:
        return "It repeats training images: train it for fewer steps, with augmentation, or on more data."
    if _is_mostly_junk(metrics) or verdict["likeness"] == "poor":
        return (
            "First compare samples.png with the data: images that were scaled, cropped or coloured in another way than"
            " the data are unlike them, whatever is in them. Then train longer."
        )
    if _is_collapsed(verdict, metrics):
        return (
            "A GAN: add a gradient penalty on D (R1), which helped most in docs/results.md. A guided diffusion model:"
            " less guidance, which trades variety for likeness."
        )
    return None


def _samples_needed(verdict: Mapping[str, Any], metrics: MetricValues) -> int | None:
    """Returns how many samples are needed, if these are too few to count modes."""
    needed = samples_needed(int(metrics.get("modes_total") or 1))
    if verdict["collapse"] == "unknown" and needed > (metrics["samples"] or 0):
        return needed
    return None


def _remedy(
    verdict: Mapping[str, Any], metrics: MetricValues, summary: Mapping[str, Any], are_images: bool
) -> Remedy | None:
    """Returns what answers the gravest symptom; None if there is none."""
    remedies = summary["remedy"]
    if verdict["copies"]:
        return _against_copies(summary, are_images)
    is_collapsed = _is_collapsed(verdict, metrics)
    is_unlike = verdict["likeness"] in ("poor", "borderline")
    if not is_collapsed and not is_unlike:
        return None
    balance = verdict.get("balance")
    if balance == "D is winning" and summary["loss"] == "Saturating":
        return Remedy("D is winning, and then the gradient of this loss vanishes for G", {"loss": "bce"})
    if summary.get("latent") == "Constant":
        return Remedy("All latent vectors are the same, so G can make only one sample", {"latent": "normal"})
    if summary["activation"] == "Sigmoid":
        return Remedy("Gradients vanish in layers of sigmoids", {"activation": "leaky_relu"})
    if summary["optim"] == "SGD":
        symptom = "Plain gradient descent is slow for two networks at once"
        return Remedy(symptom, {"optim": "adam", "optim.lr": 0.0005})
    if balance == "D is winning" and "r1" not in remedies:
        symptom = "D is winning, so its gradient tells G little; a gradient penalty keeps it smooth"
        return Remedy(symptom, _with_remedy(summary, "r1"))
    if is_unlike and (not is_collapsed or _is_mostly_junk(metrics)):
        return Remedy("Its samples are not yet like the data; train longer")
    if balance == "G is winning" and "n_critic" not in remedies:
        symptom = "G is winning: D learns too slowly to see what G leaves out"
        return Remedy(symptom, _with_remedy(summary, "n_critic"))
    return _against_collapse(summary)


def _against_copies(summary: Mapping[str, Any], are_images: bool) -> Remedy:
    if are_images and "diffaugment" not in summary["remedy"]:
        symptom = "G copies the training data, which augmentation makes harder"
        return Remedy(symptom, _with_remedy(summary, "diffaugment"))
    return Remedy("G copies the training data; stop earlier", {"steps": max(1, summary["steps"] // 2)})


def _against_collapse(summary: Mapping[str, Any]) -> Remedy:
    """Returns the first of the changes that help most that the training doesn't have."""
    if "r1" not in summary["remedy"]:
        return Remedy("A gradient penalty on D is what helps most often", _with_remedy(summary, "r1"))
    if not str(summary["loss"]).startswith("Relativistic"):
        symptom = "A relativistic loss compares each fake with a real sample, so G gains by making what it leaves out"
        return Remedy(symptom, {"loss": "relativistic"})
    return Remedy("It has what helps most often; train longer")


def _is_collapsed(verdict: Mapping[str, Any], metrics: MetricValues) -> bool:
    # The book's pattern has one mode: to make it is the aim, to vary it is not.
    within = verdict["within_modes"] if metrics.get("modes_total") != 1 else ""
    return verdict["collapse"] in FAILURES or within in FAILURES


def _is_mostly_junk(metrics: MetricValues) -> bool:
    return (metrics.get("junk") or 0) > NO_MODE_JUNK


def _with_remedy(summary: Mapping[str, Any], name: str) -> dict[str, list[str]]:
    """Returns the change that adds a remedy; those that have no option stay in overrides of their own."""
    without_option = []
    for argument in summary["overrides"]:
        if argument.startswith("+remedy."):
            without_option.append(argument.removeprefix("+remedy.").partition("=")[0].partition(".")[0])
    kept = [remedy for remedy in summary["remedy"] if remedy not in without_option]
    return {"remedy": [*kept, name]}


def _train_again(overrides: Sequence[str], changes: Mapping[str, Value | Sequence[str]]) -> str:
    """Returns the command line that started a run with some changes, for a new folder.

    Args:
        overrides: those of the run.
        changes: by key; they replace the overrides of these keys.
    """
    kept = []
    for argument in overrides:
        is_changed = argument.partition("=")[0].lstrip("~") in changes
        if not is_changed and not argument.startswith(KEYS_OF_FOLDER):
            kept.append(quote(argument))
    return command("train.py", *kept, *[setting(key, value) for key, value in changes.items()])
