"""scripts/export.py as a user runs it, and its files as other programs read them."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import BARE, FACES, ROOT, command_here, refused, training

import gan_lab
from gan_lab.assembly.build import load
from gan_lab.commands.export import SUFFIXES, ExportSettings, _exported, export
from gan_lab.commands.train import fit
from gan_lab.core.run_folder import Run
from gan_lab.training.sampling import fresh_latents

TINY = (*BARE, "steps=2", "model.generator.hidden=[6]", "model.discriminator.hidden=[6]")
SETTINGS = ExportSettings("g.safetensors", member=None, ema=True, trust=())

needs_safetensors = pytest.mark.skipif(find_spec("safetensors") is None, reason="needs the package safetensors")
needs_onnx = pytest.mark.skipif(
    any(find_spec(package) is None for package in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs the packages onnx, onnxscript and onnxruntime",
)


def _trained(folder: Path, *settings: str) -> Run:
    built, run = training(folder / "run", *settings)
    fit(built, run)
    return run


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Run:
    return _trained(tmp_path_factory.mktemp("digits"), *TINY, "remedy=[ema]", "norm=batch", "remedy.ema.decay=0.5")


def _samples(run: Run, member: int = 0, n: int = 7) -> tuple[torch.Tensor, np.ndarray]:
    """Returns latent vectors and what G makes of them."""
    module = load(run)[0].member(member)
    z = next(fresh_latents(module, n, "sample"))
    return z, module.sample(z).numpy()


def _run_elsewhere(code: list[str], z: torch.Tensor, folder: Path) -> np.ndarray:
    """Runs the lines of a model card in a new process that can't import gan_lab, for these latent vectors."""
    np.save(folder / "z.npy", z.numpy())
    drawn = r"torch\.(cat\(\[.*\], 1\)|randn\(16, \d+\))"
    text = re.sub(drawn, "torch.from_numpy(numpy.load('z.npy'))", "\n".join(code))
    assert "z.npy" in text, code
    start = "import numpy, sys\nsys.modules['gan_lab'] = None"
    end = "samples = getattr(samples, 'detach', lambda: samples)()\nnumpy.save('samples.npy', samples)"
    text = f"{start}\n{text}\n{end}"
    done = subprocess.run(
        [sys.executable, "-c", text],
        cwd=folder,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert done.returncode == 0, done.stderr
    return np.load(folder / "samples.npy")


def _code_of(card: Path) -> list[str]:
    """Returns the lines of the Python code in a model card."""
    (block,) = re.findall(r"```python\n(.*?)```", card.read_text(encoding="utf-8"), re.DOTALL)
    return block.splitlines()


@needs_safetensors
def test_weights_are_loaded_in_five_lines_without_gan_lab(digits, tmp_path):
    text = command_here("scripts/export.py", f"run={digits.folder}", "to=g.safetensors", cwd=tmp_path).stdout
    assert "moving average" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g.safetensors", "g.safetensors.md"]
    code = _code_of(tmp_path / "g.safetensors.md")
    assert len(code) == 5
    # In this process, which has torch: only what the lines import counts.
    z, expected = _samples(digits)
    names: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setattr(torch, "randn", lambda *shape: z if shape == (16, 3) else None)
        exec("\n".join(code), names)
    assert np.allclose(names["samples"].detach(), expected, rtol=0, atol=1e-6)


@needs_safetensors
def test_metadata_and_card_say_what_it_is(digits, tmp_path):
    from safetensors import safe_open

    module, dataset = load(digits)
    export(module, dataset, digits, SETTINGS._replace(to=str(tmp_path / "g.safetensors")))
    with safe_open(tmp_path / "g.safetensors", "pt") as file:
        metadata = file.metadata()
    settings = json.loads(metadata["settings"])
    assert (settings["batch_size"], settings["seed"], settings["remedy.ema.decay"]) == (4, 0, 0.5)
    assert "data_dir" not in settings
    assert (metadata["latent_dim"], metadata["shape"]) == ("3", "[1, 8, 8]")
    card = (tmp_path / "g.safetensors.md").read_text(encoding="utf-8")
    for fact in ("digits", "CC BY 4.0", "python train.py", "2 of 4 samples", "moving average", "| z (n, 3)"[2:]):
        assert fact in card, fact
    assert str(ROOT) not in card


def test_from_python_the_average_is_ready_to_make_samples(digits):
    z, expected = _samples(digits)
    # Its batch statistics are recomputed, although nothing was sampled before.
    samples = gan_lab.load(digits.folder).generator(z)
    assert np.allclose(samples.detach(), expected, rtol=0, atol=1e-6)


@needs_safetensors
def test_from_python_it_returns_the_file(digits, tmp_path):
    target = tmp_path / "new" / "g.safetensors"
    assert gan_lab.load(digits.folder).export(target) == target
    assert target.is_file()


def test_spectral_normalisation_is_computed_into_the_weights_of_the_copy_only(tmp_path):
    module, dataset = load(_trained(tmp_path, *TINY, "norm=spectral"))
    z = next(fresh_latents(module, 7, "sample"))
    before = module.sample(z)
    network = _exported(module, dataset.shape).network
    assert all(type(layer).__module__.startswith("torch.nn.modules") for layer in network.layers)
    assert torch.allclose(network(z), before, rtol=0, atol=1e-6)
    assert torch.equal(module.sample(z), before)


REFUSALS = {
    "ending": ({"to": "g.pt"}, "invalid", "to"),
    "no ending": ({"to": "g"}, "invalid", "to"),
    "target": ({"to": "there.pt2"}, "exists", "to"),
    "card": ({"to": "carded.pt2"}, "exists", "to"),
    "member": ({"to": "g.pt2", "member": 1}, "unknown", "member"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(digits, tmp_path, monkeypatch, name):
    settings, code, key = REFUSALS[name]
    monkeypatch.chdir(tmp_path)
    files = ["carded.pt2.md", "there.pt2"]
    for file in files:
        Path(file).touch()
    module, dataset = load(digits)
    with refused(code, key):
        export(module, dataset, digits, SETTINGS._replace(**settings))
    assert sorted(os.listdir()) == files


def test_a_missing_package_is_named_with_the_command_that_installs_it(digits, tmp_path, monkeypatch):
    monkeypatch.setattr("gan_lab.commands.export.find_spec", lambda name: None if name == "onnxscript" else True)
    module, dataset = load(digits)
    with refused("missing", "to") as error:
        export(module, dataset, digits, SETTINGS._replace(to=str(tmp_path / "g.onnx")))
    assert str(error.value).endswith("needs onnxscript: pip install onnxscript")
    assert not list(tmp_path.iterdir())


def test_a_generator_that_fails_is_not_exported(digits, tmp_path):
    module, dataset = load(digits)
    for weight in module.averaged.network.parameters():
        torch.nn.init.constant_(weight, torch.nan)
    with refused("not_finite", "run"):
        export(module, dataset, digits, SETTINGS._replace(to=str(tmp_path / "g.pt2")))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_torch_cannot_convert_is_refused_in_one_sentence(digits, tmp_path, monkeypatch):
    module, dataset = load(digits)

    def forward(z):
        return torch.full((len(z), 1, 8, 8), z.sum().item() if z.max() > 0 else 0.0)

    module.averaged.network.forward = forward
    with refused("unsupported", "to") as error:
        export(module, dataset, digits, SETTINGS._replace(to=str(tmp_path / "g.pt2")))
    assert "to=" in str(error.value).splitlines()[1]
    assert not list(tmp_path.iterdir())


@needs_safetensors
def test_a_file_that_makes_other_samples_is_not_kept(digits, tmp_path, monkeypatch):
    module, dataset = load(digits)
    monkeypatch.setattr("gan_lab.commands.export._write_safetensors", lambda _, z, *__: torch.ones(len(z), 1, 8, 8))
    with refused("failed", "to"):
        export(module, dataset, digits, SETTINGS._replace(to=str(tmp_path / "g.safetensors")))
    assert not list(tmp_path.iterdir())


# A network of each kind, and of each normalisation, each with the data that it is for.
CONVOLUTIONAL = ("dataset=mnist", "model.channels=8")
NETWORKS = {
    "mlp": TINY,
    "conditional": (*TINY, "conditional=true"),
    "points": (*TINY, "dataset=ring", "norm=group", "norm.groups=2"),
    "member": (*TINY, "dataset=ring", "replicas=2"),
    "spectral": (*TINY, "norm=spectral"),
    "uniform": (*TINY, "latent=uniform"),
    "mixture": (*TINY, "latent=mixture", "latent.std=0.25"),
    "pacgan": (*BARE, "steps=2", "model=pacgan", "dataset=ring"),
    "conv": (*BARE, "steps=2", "model=conv", *CONVOLUTIONAL, "norm=batch"),
    "dcgan": (*BARE, "steps=2", "model=dcgan", *CONVOLUTIONAL, "norm=instance"),
    "resnet": (*BARE, "steps=2", "model=resnet", *CONVOLUTIONAL, "norm=spectral"),
    "conv_book": (*BARE, "steps=2", "model=conv_book", "dataset=images", f"data.path={FACES}"),
}


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_makes_the_same_samples_in_another_process(name, suffix, tmp_path, little_images):
    needed = {".safetensors": ("safetensors",), ".onnx": ("onnx", "onnxscript", "onnxruntime"), ".pt2": ()}
    for package in needed[suffix]:
        pytest.importorskip(package)
    run = _trained(tmp_path, *NETWORKS[name])
    member = 1 if name == "member" else 0
    module, dataset = load(run)
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / f"g{suffix}"
    export(module, dataset, run, SETTINGS._replace(to=str(target), member=member))
    code = _code_of(Path(f"{target}.md"))
    assert len(code) <= 5
    z, expected = _samples(run, member)
    if any("gan_lab" in line for line in code):
        assert (name, suffix) in (("resnet", ".safetensors"), ("conv_book", ".safetensors"))
        from safetensors.torch import load_file

        network = load(run)[0].generator.eval()
        torch.nn.init.zeros_(next(network.parameters()))
        network.load_state_dict(load_file(target))
        samples = network(z).detach().numpy()
    elif name == "mixture":
        # The card draws from a mixture.
        drawn = "torch.randint(0, 2, (16, 3)) * 2 - 1 + 0.25 * torch.randn(16, 3)"
        assert any(drawn in line for line in code)
        code = [line.replace(drawn, "torch.randn(16, 3)") for line in code]
    elif name == "uniform":
        # The card draws uniform vectors.
        assert any("uniform_(-1.0, 1.0)" in line for line in code)
        code = [re.sub(r"torch\.empty\(16, 3\)\.uniform_\(-1\.0, 1\.0\)", "torch.randn(16, 3)", line) for line in code]
        samples = _run_elsewhere(code, z, tmp_path / "out")
    else:
        samples = _run_elsewhere(code, z, tmp_path / "out")
    assert samples.shape == expected.shape
    assert np.abs(samples - expected).max() <= 1e-6 * max(1, np.abs(expected).max())
