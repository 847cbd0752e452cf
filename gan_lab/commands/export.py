"""Writes the generator of a run as a file that other programs read, with a model card beside it."""

import copy
import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

from gan_lab.assembly.build import dataset_name
from gan_lab.commands.run_generator import choose_gan, describe_gan, refuse_existing, refuse_not_finite
from gan_lab.comparison.origin import training_command, without_places
from gan_lab.config.declarations import declared
from gan_lab.config.resume import load_config
from gan_lab.config.schema import is_hyperparameter, leaves
from gan_lab.core.command_line import setting
from gan_lab.core.errors import LabError
from gan_lab.core.io import atomic
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import join_lines, printable
from gan_lab.core.version import __version__
from gan_lab.data.dataset import Dataset
from gan_lab.evaluation.metrics.registry import METRICS
from gan_lab.gan.latent import Constant, LabelledLatent, Latent, Mixture, Normal, Uniform
from gan_lab.training.gan_module import GANModule
from gan_lab.training.sampling import fresh_latents, sampling_network

OPSET = 20  # of ONNX; onnxruntime 1.17 and later read it
CHECKED_SAMPLES = 8  # for which the file has to give what G gives
# The libraries compute in single precision, in another order.
TOLERANCE = 1e-4
SUFFIXES = (".safetensors", ".onnx", ".pt2")
PACKAGES = {".safetensors": ("safetensors",), ".onnx": ("onnx", "onnxscript", "onnxruntime"), ".pt2": ()}


class ExportSettings(NamedTuple):
    """What is written: the keys of conf/export.yaml, whose bounds gan_lab.config.schema checks."""

    to: str
    member: int | None
    ema: bool
    trust: Sequence[str]


class Exported(NamedTuple):
    """The generator that is written.

    Attributes:
        original: a copy in evaluation mode, `(n, latent_dim)` → `(n, *shape)`.
        network: the same, its spectral normalisation computed into the weights.
        layers: that as a sequence of torch's own layers, `(n, latent_dim)` → `(n, …)`; None if it has others.
        module: the single GAN that it is of.
        shape: of a sample.
    """

    original: nn.Module
    network: nn.Module
    layers: nn.Sequential | None
    module: GANModule
    shape: tuple[int, ...]


def export(module: GANModule, dataset: Dataset, run: Run, settings: ExportSettings) -> str:
    """Writes the generator, or the average of its weights, and a model card, both or neither.

    The ending of `to` says how: `.safetensors` holds the weights and the settings, `.onnx` (opset 20) and `.pt2`
    (torch.export, which has replaced TorchScript) the network as well. The file is read again, and has to make the same
    samples as G.

    Args:
        module: the run's GAN, as `gan_lab.assembly.build.load` gives it.
        dataset: its data.
        run: where it comes from.
        settings: what is written.

    Returns:
        A report for the user.

    Raises:
        LabError: if the target exists, a package is missing, or the network can't be written in this form.
        OSError: if the disk is full, read-only or broken; then there is no target.
    """
    target = Path(settings.to).expanduser()
    card = target.with_name(f"{target.name}.md")
    suffix = target.suffix.lower()
    _refuse_target(target, card, suffix)
    single = choose_gan(module, run, settings.member, settings.ema)
    generator = _exported(single, tuple(dataset.shape))
    z = next(fresh_latents(single, CHECKED_SAMPLES, "export"))
    with torch.no_grad():
        expected = generator.network(z)
    refuse_not_finite(expected)
    config = load_config(run, settings.trust)
    member = (settings.member or 0) if module.replica_dims else None
    text = _model_card(generator, dataset, run, config, target, member)
    with atomic(card) as card_path, atomic(target) as path:
        if suffix == ".safetensors":
            samples = _write_safetensors(generator, z, path, config)
        elif suffix == ".onnx":
            samples = _converted(_write_onnx, generator, z, path, target)
        else:
            samples = _converted(_write_pt2, generator, z, path, target)
        difference = (samples - expected).abs().max().item()
        if not difference <= TOLERANCE * max(1.0, expected.abs().max().item()):
            raise LabError(
                f"to={target}: read again, it makes samples that differ by {difference:.2g} from G's.",
                f"{_other_format(target)} may do.",
                code="failed",
                key="to",
            )
        card_path.write_text(text, encoding="utf-8")
    lines = [
        f"The generator of {describe_gan(module, run, settings.member)}.",
        f"{target}: {_form(generator, suffix)}; read again, its samples differ from G's by {difference:.1g} at most",
        f"{card}: what it is, and how to load it",
    ]
    return join_lines(lines)


def _refuse_target(target: Path, card: Path, suffix: str) -> None:
    """Refuses a target that exists, has another ending, or needs a package that isn't installed."""
    if suffix not in SUFFIXES:
        advice = ""
        if suffix in (".pt", ".pth", ".ts"):
            advice = " torch.export's .pt2 has replaced TorchScript."
        raise LabError(
            f"to={target}: the ending says the format, one of {', '.join(SUFFIXES)}.{advice}",
            f"For example: {setting('to', target.with_suffix('.onnx'))}",
            code="invalid",
            key="to",
        )
    for path in (target, card):
        refuse_existing(path)
    missing = [package for package in PACKAGES[suffix] if find_spec(package) is None]
    if missing:
        raise LabError(
            f"to={target} needs {' and '.join(missing)}: pip install {' '.join(missing)}", code="missing", key="to"
        )


def _exported(module: GANModule, shape: tuple[int, ...]) -> Exported:
    """Copies the generator of a single GAN."""
    original = copy.deepcopy(sampling_network(module)).cpu().float().eval().requires_grad_(False)
    network = copy.deepcopy(original)
    for layer in list(network.modules()):
        if is_parametrized(layer):
            _fix_weights(layer)
    return Exported(original, network, _torch_layers(network, module), module, shape)


def _fix_weights(layer: nn.Module) -> None:
    """Replaces the weights that spectral normalisation computes by their values in evaluation mode.

    torch's remove_parametrizations would take them from the original, too: a copy has the same class.
    """
    weights = {name: getattr(layer, name) for name in cast(nn.ModuleDict, layer.parametrizations)}
    kind = type_before_parametrizations(layer)
    del layer.parametrizations
    layer.__class__ = kind
    for name, weight in weights.items():
        layer.register_parameter(name, nn.Parameter(weight.detach(), requires_grad=False))


@torch.no_grad()
def _torch_layers(network: nn.Module, module: GANModule) -> nn.Sequential | None:
    """Returns a network as a sequence of torch's own layers that makes the same numbers; None if that is none."""
    layers = getattr(network, "layers", None)
    if not isinstance(layers, nn.Sequential):
        return None
    for layer in layers:
        is_of_torch = type(layer).__module__.startswith("torch.nn.modules.")
        if not is_of_torch or list(layer.children()):
            return None
    z = next(fresh_latents(module, CHECKED_SAMPLES, "export"))
    values = layers(z)
    samples = network(z)
    if values.numel() == samples.numel() and torch.equal(values.reshape(samples.shape), samples):
        return layers
    return None


def _write_safetensors(generator: Exported, z: Tensor, path: Path, config: DictConfig) -> Tensor:
    """Writes the weights, and the settings as metadata; returns the samples of the weights that were written."""
    from safetensors.torch import load_file, save_file

    network = generator.original
    metadata = {
        "format": "pt",
        "gan_lab": __version__,
        "settings": json.dumps(_hyperparameters(config)),
        "latent_dim": str(generator.module.latent_dim),
        "shape": json.dumps(generator.shape),
    }
    if generator.layers is not None:
        network = generator.layers
        metadata["network"] = _code(generator.layers)
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(weights, path, metadata)
    loaded = copy.deepcopy(network)
    loaded.load_state_dict(load_file(path))
    return loaded(z).reshape(-1, *generator.shape)


def _converted(
    write: Callable[[Exported, Tensor, Path], Tensor], generator: Exported, z: Tensor, path: Path, target: Path
) -> Tensor:
    """Writes the network as a graph, and returns what the file makes of latent vectors.

    Raises:
        LabError: if torch can't do that with this network.
        OSError: if the disk is full, read-only or broken.
    """
    try:
        return write(generator, z, path)
    except OSError:
        raise
    except Exception as error:  # torch's exporters raise errors of many types
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise LabError(
            f"to={target}: torch can't convert {type(generator.network).__name__}: {printable(reason[0])[:200]}",
            f"{setting('to', target.with_suffix('.safetensors'))} keeps its weights.",
            code="unsupported",
            key="to",
        ) from error


def _write_onnx(generator: Exported, z: Tensor, path: Path) -> Tensor:
    # Imported here: it takes a second.
    import onnxruntime

    torch.onnx.export(
        generator.network,
        (z,),
        str(path),
        input_names=["z"],
        output_names=["samples"],
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        dynamic_shapes=_any_batch(),
        verbose=False,
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    # One sample and several: the length of a batch must not be fixed.
    parts = [session.run(None, {"z": part.numpy()})[0] for part in (z[:1], z[1:])]
    return torch.cat([torch.from_numpy(part) for part in parts])


def _write_pt2(generator: Exported, z: Tensor, path: Path) -> Tensor:
    program = torch.export.export(generator.network, (z,), dynamic_shapes=_any_batch())
    torch.export.save(program, path)
    network = torch.export.load(path).module()
    return torch.cat([network(part) for part in (z[:1], z[1:])])


def _any_batch() -> tuple[dict[int, Any]]:
    """Returns which axis of the input may have any length."""
    return ({0: torch.export.Dim("batch")},)


def _other_format(target: Path) -> str:
    """Returns the setting of another format."""
    others = [suffix for suffix in SUFFIXES if suffix != target.suffix.lower()]
    return setting("to", target.with_suffix(others[0]))


def _hyperparameters(config: DictConfig) -> dict[str, Any]:
    """Returns the settings that say what is trained, by dotted key."""
    values = leaves(OmegaConf.to_container(config), private=True)
    return {key: value for key, value in values if is_hyperparameter(key)}


def _form(generator: Exported, suffix: str) -> str:
    """Returns what is in the file."""
    count = sum(weight.numel() for weight in generator.network.parameters())
    if suffix == ".safetensors":
        return f"{count:,} weights, and the settings as metadata"
    name = f"ONNX, opset {OPSET}" if suffix == ".onnx" else "a program of torch.export"
    return f"{name}, {count:,} weights, z {_axes((generator.module.latent_dim,))} → samples {_axes(generator.shape)}"


def _axes(shape: Sequence[int]) -> str:
    """Returns `(n, 1, 28, 28)` for samples of the shape `(1, 28, 28)`."""
    return f"({', '.join(['n', *map(str, shape)])})"


def _code(layers: nn.Sequential) -> str:
    """Returns Python code that makes these layers: torch prints a layer as it is made."""
    return f"torch.nn.Sequential({', '.join(f'torch.nn.{layer!r}' for layer in layers)})"


def _latents_code(latent: Latent, latent_dim: int, classes: int) -> str:
    """Returns Python code that draws 16 latent vectors as in training; of a conditional GAN of one class after another.

    For a distribution of the user's own it draws normal ones.
    """
    if isinstance(latent, LabelledLatent):
        z = _latents_code(latent.latent, latent_dim - classes, 0)
        return f"torch.cat([{z}, torch.eye({classes})[torch.arange(16) % {classes}]], 1)"
    if isinstance(latent, Uniform):
        return f"torch.empty(16, {latent_dim}).uniform_({latent.low}, {latent.high})"
    if isinstance(latent, Mixture):
        corners = f"torch.randint(0, 2, (16, {latent_dim})) * 2 - 1"
        return f"{corners} + {latent.std} * torch.randn(16, {latent_dim})"
    if isinstance(latent, Constant):
        return f"torch.full((16, {latent_dim}), {latent.value})"
    return f"torch.randn(16, {latent_dim})"


def _loading_code(generator: Exported, run: Run, name: str) -> list[str]:
    """Returns Python code that loads the file and makes 16 samples."""
    module = generator.module
    z = f"z = {_latents_code(module.latent, module.latent_dim, module.classes)}"
    suffix = Path(name).suffix.lower()
    if suffix == ".onnx":
        load = f"G = onnxruntime.InferenceSession({name!r})"
        return ["import onnxruntime, torch", load, z, "samples = G.run(None, {'z': z.numpy()})[0]"]
    if suffix == ".pt2":
        return ["import torch", f"G = torch.export.load({name!r}).module()", z, "samples = G(z)"]
    imports = ["import torch", "from safetensors.torch import load_file"]
    load = f"G.load_state_dict(load_file({name!r}))"
    if generator.layers is None:
        own = f"G = gan_lab.load({run.folder.name!r}).generator"
        return ["import gan_lab, torch", imports[1], own, load, f"samples = G({z.removeprefix('z = ')})"]
    shape = ", ".join(map(str, generator.shape))
    samples = f"samples = G.eval()({z.removeprefix('z = ')}).reshape(-1, {shape})"
    return [*imports, f"G = {_code(generator.layers)}", load, samples]


def _model_card(
    generator: Exported, dataset: Dataset, run: Run, config: DictConfig, target: Path, member: int | None
) -> str:
    """Returns the text of the model card, in Markdown.

    Args:
        member: of replicas: which one; None for a single GAN.
    """
    module = generator.module
    summary = run.read_summary()
    verdict = summary.get("verdict", {})
    metrics = summary.get("metrics", {})
    if member is not None and member < len(summary.get("replica_metrics", [])):
        verdict = summary["replica_verdicts"][member]
        metrics = summary["replica_metrics"][member]
    is_image = len(dataset.shape) == 3
    kind = "images in [0, 1]" if is_image else "samples"
    licence = declared(config.dataset._target_).licence or "not known to gan_lab: ask whoever made the data"
    weights = "G's own, of the last step" if module.averaged is None else "moving average of G's (remedy=[ema])"
    seed = f"{module.seed}"
    if member is not None:
        seed += f" (member {member} of {config.replicas} trained together)"
    command = training_command(without_places(run.overrides()))
    rows = [
        ("data", dataset_name(config)),
        ("licence of the data", licence),
        ("trained by", f"`{command}`"),
        ("steps", f"{module.step:,} of {config.batch_size} samples"),
        ("seed", seed),
        ("weights", weights),
        ("input", _input(generator, dataset)),
        ("output", f"samples {_axes(generator.shape)}, float32: {kind}"),
    ]
    lines = [
        f"# {target.name}",
        "",
        f"The generator of a GAN, trained on {rows[0][1]} by gan_lab; exported by gan_lab {__version__}.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {_cell(text)} |" for name, text in rows),
        "",
        "## How to load it",
        "",
    ]
    if target.suffix.lower() == ".safetensors" and generator.layers is None:
        lines += [
            f"The network is {type(generator.network).__module__}.{type(generator.network).__name__}, so loading needs",
            "gan_lab and the run's folder. An export to .onnx or .pt2 needs neither.",
            "",
        ]
    lines += ["```python", *_loading_code(generator, run, target.name), "```", "", "## How good it is", ""]
    if verdict.get("sentence"):
        lines += [*map(_cell, verdict["sentence"].splitlines()), ""]
        lines += [f"Measured at the end of this one training, on {metrics.get('samples', 0):,} samples:", ""]
        lines += ["| metric | | value |", "|---|---|---|"]
        for name, value in metrics.items():
            if name in METRICS and METRICS[name].kind == "result" and isinstance(value, int | float):
                lines.append(f"| {name} | {_cell(METRICS[name].label)} | {value:.4g} |")
        if "ema" in config.remedy and module.averaged is None:
            lines += ["", "These are numbers of the moving average; this file has G's own weights instead."]
        lines += ["", "One training says little about a recipe: another seed can end otherwise."]
    else:
        lines.append("Not evaluated: the training has not ended, or had no verdict.")
    return "\n".join(printable(line) for line in lines) + "\n"


def _input(generator: Exported, dataset: Dataset) -> str:
    """Returns what the latent vectors are."""
    module = generator.module
    latent = module.latent
    text = f"latent vectors z {_axes((module.latent_dim,))}, float32"
    if isinstance(latent, LabelledLatent):
        latent = latent.latent
        classes = ", ".join(dataset.classes)
        text += f"; the last {module.classes} are a class, one-hot: {classes}"
    if isinstance(latent, Normal):
        return f"{text}; standard normal"
    return f"{text}; drawn by {latent!r}"


def _cell(text: str) -> str:
    """Escapes what would end a cell of a table, or a text from strangers that would be a tag."""
    return text.replace("|", "\\|").replace("<", "&lt;")
