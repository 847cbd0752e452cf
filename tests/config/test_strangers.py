"""What a stranger hands over, a run folder or a checkpoint, runs no code, writes nowhere and replaces nothing."""

import errno
import io
import json
import os
import shutil
import signal
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import classifier_cache, command_here, compose, make_packed_file, refused
from torch.optim import Adam

from gan_lab import __version__
from gan_lab.assembly.build import Training, build, build_data_and_gan
from gan_lab.assembly.instantiate import check_targets
from gan_lab.commands.train import fit
from gan_lab.comparison.collect import read_record
from gan_lab.comparison.snapshots import last_samples
from gan_lab.config import sweep
from gan_lab.config.references import refuse_nonplain_references
from gan_lab.config.resume import load_config
from gan_lab.config.targets import harmless_overrides, own_parts, refuse_foreign, refuse_foreign_object
from gan_lab.core.checkpoint_file import load_plain, refuse_invalid_rng_state
from gan_lab.core.errors import LabError
from gan_lab.core.io import MAX_YAML, read_bytes
from gan_lab.core.run_folder import APPENDED_FILES, RUN_SUBFOLDERS, Run, refuse_links
from gan_lab.data import images, synthetic
from gan_lab.data.dataset import Dataset, FlippedPart, Part, StackedPart
from gan_lab.data.digest import digest_of
from gan_lab.data.hdf5 import images as packed_images
from gan_lab.training.callbacks.loggers import read_table

pytestmark = [
    pytest.mark.xdist_group("strangers"),
    pytest.mark.usefixtures("undrawn", "quick_verdict"),
]  # its run is made once

TINY = (
    *("steps=4", "batch_size=4", "model.generator.hidden=[8]", "model.discriminator.hidden=[8]", "log_every=2"),
    *("callbacks.checkpoint.every=2", "callbacks.verdict.samples=50", "callbacks.verdict.every=4", "logger=table"),
    *("callbacks.pictures.every=4", f"cache_dir={classifier_cache()}", "~callbacks.progress"),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with `run`, a training on digits of four steps, and its packed data, `faces.h5`."""
    cwd = tmp_path_factory.mktemp("strangers")
    completed = command_here("train.py", *TINY, "hydra.run.dir=run", cwd=cwd)
    assert completed.returncode == 0, completed.stderr
    return cwd


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of it, which a test may change."""
    shutil.copytree(trained / "run", tmp_path / "run")
    return tmp_path / "run"


COMMANDS = {
    "resume": ("train.py", "resume=run", "steps=6"),
    "evaluate": ("scripts/evaluate.py", "run=run", "samples=50", "seeds=1", f"cache_dir={classifier_cache()}"),
    "explore": ("scripts/explore.py", "run=run", "op=grid", "n=2", f"cache_dir={classifier_cache()}"),
    "backquery": ("scripts/backquery.py", "run=run", "dataset=digits", "label=5", f"cache_dir={classifier_cache()}"),
}


def snapshot(folder: Path) -> dict[str, bytes]:
    """The content of each file, except what a command may write before it looks: its lock and Hydra's record."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name != ".lock"}


# 1. Configurations.

RUNS_CODE = {
    "the environment changes between check and use": {
        "experiment": {"none": "torch.nn.Identity", "7": "torch.utils.collect_env.run"},
        "activation": {"_target_": "${experiment.${oc.env:PL_GLOBAL_SEED,none}}", "_partial_": True},
    },
    "gan_lab writes threads between check and use": {
        "experiment": {"k": "t${threads}", "tauto": "torch.nn.Identity", "t1": "torch.utils.collect_env.run"},
        "threads": "auto",
        "activation": {"_target_": "${experiment.${experiment.k}}", "_partial_": True},
    },
    "a function of torch, not of its layers": {
        "activation": {"_target_": "torch.utils.collect_env.run", "_partial_": True, "command": "touch canary"}
    },
    "what a module of torch.nn imports": {
        "activation": {"_target_": "torch.nn.modules.module.warnings.warn", "_partial_": True}
    },
    "a function of torch.nn that isn't a layer": {
        "activation": {"_target_": "torch.nn.utils.clip_grad_norm_", "_partial_": True}
    },
    "a helper of gan_lab that downloads": {
        "dataset": {
            "_target_": "gan_lab.data.images.mnist_like",
            "source": "MNIST",
            "data_dir": "canary",
            "classes": [],
        }
    },
    "a helper of gan_lab that writes": {
        "loss": {"_target_": "gan_lab.data.hdf5_writer.ImageBuffer", "target": "x", "count": 1}
    },
    "a callback of Lightning's that writes": {
        "callbacks": {"x": {"_target_": "pytorch_lightning.callbacks.ModelCheckpoint", "dirpath": "canary"}}
    },
    "a clock": {"activation": {"_target_": "${now:%S}", "_partial_": True}},
    "a relative reference": {"activation": {"_target_": "${.name}", "name": "os.system", "_partial_": True}},
    "a reference within a reference": {"data_dir": "${${name}}"},
    "an escaped reference, which becomes one when it is read again": {"data_dir": "\\${oc.env:HOME}"},
    "the environment in a text": {"data_dir": "${oc.env:HOME}/x"},
    "a reference to Hydra": {"data_dir": "${hydra:runtime.cwd}"},
    "a target among nested settings": {
        "loss": {"_target_": "gan_lab.gan.losses.BCE", "x": [{"_target_": "os.getcwd"}]}
    },
    "a debug option that isn't a name": {"debug": ["os.system"]},
    "an experiment that isn't a name": {"experiment": {"a": "b"}},
    "a key of Hydra's own": {"loss": {"_target_": "gan_lab.gan.losses.BCE", "_recursive_": False}},
    "references that double": {f"a{i}": {"x": f"${{a{i + 1}}}", "y": f"${{a{i + 1}}}"} for i in range(60)},
    "references in a circle": {"data_dir": "${cache_dir}", "cache_dir": "${data_dir}"},
}


def go_on(run: Path) -> Training:
    """What `train.py resume=<run> steps=6` builds."""
    cfg = load_config(Run(run))
    cfg.steps = 6
    return build(cfg, Run(run))


def change_config(run: Path, changes: dict) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    (run / "config.yaml").write_text(yaml.safe_dump(config | changes), encoding="utf-8")


@pytest.mark.parametrize("case", RUNS_CODE)
def test_a_strangers_configuration_is_refused(run, monkeypatch, case):
    change_config(run, RUNS_CODE[case])
    monkeypatch.chdir(run.parent)
    with pytest.raises(LabError):
        check_targets(load_config(Run(run)))


@pytest.mark.parametrize(("name", "case"), list(zip(COMMANDS, list(RUNS_CODE)[:2] * 2, strict=True)))
def test_no_command_that_opens_it_runs_its_code(run, monkeypatch, name, case):
    change_config(run, RUNS_CODE[case])
    monkeypatch.setattr("torch.utils.collect_env.run", lambda *_: pytest.fail("a stranger's code ran"))
    before = snapshot(run)
    completed = command_here(*COMMANDS[name], cwd=run.parent)
    assert completed.returncode == 2, completed.stdout + completed.stderr
    assert "config.yaml can't be used" in completed.stderr
    assert snapshot(run) == before


def test_what_is_built_cannot_be_resolved_again(monkeypatch):
    """`check` gives plain values: nothing that changes later changes them, and nothing else is built from."""
    monkeypatch.setenv("PLACE", "here")
    cfg = compose("dataset=mnist", "data_dir=${oc.env:PLACE}")
    monkeypatch.setenv("PLACE", "there")
    assert cfg.dataset.data_dir == cfg.data_dir == "here"
    cfg.data_dir = "elsewhere"
    assert cfg.dataset.data_dir == "here"
    cfg.latent_dim = "${batch_size}"
    with refused("foreign", "latent_dim"):
        build_data_and_gan(cfg)


def test_the_kept_configuration_refers_only_to_its_own_keys(tmp_path, monkeypatch):
    monkeypatch.setenv("PLACE", "there")
    completed = command_here(
        "train.py", *TINY, "data_dir=${oc.env:PLACE}", "dataset=digits", "hydra.run.dir=run", cwd=tmp_path
    )
    assert completed.returncode == 0, completed.stderr
    text = (tmp_path / "run" / "config.yaml").read_text(encoding="utf-8")
    assert "data_dir: there\n" in text
    assert "oc.env" not in text
    assert "${cache_dir}" in text, "so that resuming with another one changes both"


@pytest.mark.parametrize("number", [None, 2, 4, "3", True, [3], "${steps}"])
def test_a_run_of_another_format_is_refused(run, number):
    change_config(run, {"format": number})
    with refused("format", "format") as error:
        load_config(Run(run))
    assert f"this is gan_lab {__version__}, which reads format 3 only" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_opens_a_run_of_gan_lab_0_1(run, name):
    config = run / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace("format: 3\n", ""), encoding="utf-8")
    before = snapshot(run)
    completed = command_here(*COMMANDS[name], cwd=run.parent)
    assert completed.returncode == 2, completed.stdout + completed.stderr
    assert "config.yaml is of gan_lab 0.1, which wrote no format number" in completed.stderr
    assert snapshot(run) == before


LEADS_TO_YAML = {
    "the search path": ["dataset=bait", "hydra.searchpath=[file://{run}/options]"],
    "a package": ["hydra.searchpath=[pkg://evil]"],
}


def test_only_plain_overrides_of_a_run_are_composed_again():
    plain = [
        "optim=sgd",
        "+x=3",
        "~callbacks.curves",
        "data.path=/a/../b.h5",
        "experiment=book/pattern",
        "remedy=[r1,ema]",
    ]
    assert harmless_overrides([*plain, "trust=[evil]", "++hydra.searchpath=[pkg://evil]", " hydra.run.dir=x"]) == plain
    for odd in (
        "loss=../../x",
        "loss=/x",
        "remedy=[/x]",
        "loss@x=bce",
        "name=${oc.env:HOME}",
        "optim.lr=cast(1)",
        "=3",
    ):
        assert harmless_overrides([*plain, odd]) == [], odd


@pytest.mark.parametrize("case", LEADS_TO_YAML)
def test_the_overrides_of_a_strangers_run_lead_to_no_yaml_of_the_stranger(run, monkeypatch, case):
    """Resuming composes them anew with what the command line adds, here optim=sgd, on which the bait depends."""
    options = run / "options"
    for group, option, text in (
        ("dataset", "bait", "defaults:\n  - digits\n  - /payload@_global_: ${optim}\n"),
        ("payload", "adam", "bait: 0\n"),
        ("payload", "sgd", 'bait: 0\n"[trust]": [evil]\ncallbacks:\n  x:\n    _target_: evil.Run\n'),
    ):
        (options / group).mkdir(parents=True, exist_ok=True)
        (options / group / f"{option}.yaml").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(run.parent)
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    (run.parent / "evil.py").write_text("open('canary', 'w')\nfrom pytorch_lightning import Callback as Run\n")
    lines = [line.format(run=run) for line in LEADS_TO_YAML[case]]
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(lines), encoding="utf-8")
    completed = command_here("train.py", "resume=run", "optim=sgd", "force=true", "steps=6", cwd=run.parent)
    assert not (run.parent / "canary").exists()
    assert completed.returncode == 0, completed.stderr
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert config["trust"] == []
    assert "x" not in config["callbacks"]
    assert config["optim"]["_target_"] == "torch.optim.SGD"


def test_a_picture_of_a_strangers_run_starts_no_other_program(run, monkeypatch):
    """PIL gives EPS, whatever the file is called, to Ghostscript."""
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    (run / "images" / "samples_99999999.png").write_bytes(eps)
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("another program ran"))
    image, gap = last_samples(Run(run))
    assert image is None
    assert "is damaged" in gap


def test_references_are_counted_before_they_are_resolved():
    refuse_nonplain_references({"a": "${b.0}", "b": ["x", {"c": "${a}"}]})
    doubling = {f"a{i}": [f"${{a{i + 1}}}", f"${{a{i + 1}.0}}"] for i in range(80)}
    with refused("damaged"):
        refuse_nonplain_references(doubling | {"a80": "x" * 10})
    with pytest.raises(LabError, match="refers to itself"):
        refuse_nonplain_references({"a": {"b": "${a}"}})


def test_only_parts_that_options_name_and_torchs_layers_and_optimisers_may_be_called():
    for target in ("gan_lab.gan.losses.BCE", "gan_lab.data.images.mnist", "torch.nn.ELU", "torch.optim.Adam"):
        refuse_foreign("x", target, [])
    for foreign in (
        "gan_lab.gan.losses",
        "gan_lab.config.sweep.Sweep",
        "gan_lab.core.io.atomic",
        "torch.load",
        "torch.hub.load",
    ):
        with refused("foreign", "x"):
            refuse_foreign("x", foreign, [])
    for name, found in (("torch.nn.F", os.system), ("torch.nn.X", torch.nn.init.zeros_), ("torch.optim.X", Path)):
        with refused("foreign", "x"):
            refuse_foreign_object("x", name, found, [])
    refuse_foreign_object("x", "torch.optim.Adam", Adam, [])
    refuse_foreign_object("x", "mine.run", os.system, ["mine"])
    assert "gan_lab.config.sweep.Sweep" not in own_parts()


# 2. Checkpoints.


def _sparse() -> torch.Tensor:
    return torch.zeros(8, 8).to_sparse()


def _like(tensor: torch.Tensor, how: str) -> torch.Tensor:
    """A tensor of the same shape and type, but of another layout."""
    if how == "expanded":
        return torch.zeros(1).expand(tensor.shape)
    if how == "meta":
        return torch.zeros(tensor.shape, device="meta")
    if how == "sparse":
        return torch.zeros(tensor.shape).to_sparse()
    if how == "transposed":
        return torch.zeros(tensor.shape[::-1]).T
    if how == "every second":
        return torch.zeros(tensor.shape[0], 2 * tensor.shape[1])[:, ::2]
    return tensor.double() if how == "double" else torch.complex(tensor, tensor)


FORMS = ("expanded", "meta", "sparse", "transposed", "every second", "double", "complex")  # of float32


@pytest.mark.parametrize("place", ["memory", "weights"])
@pytest.mark.parametrize("how", FORMS)
def test_tensors_of_another_layout_are_refused_before_anything_is_trained(run, how, place):
    """An expanded `exp_avg` ended in SIGSEGV in the fused optimiser."""
    path = run / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    where = content["optimizer_states"][0]["state"][0] if place == "memory" else content["state_dict"]
    key = "exp_avg" if place == "memory" else "discriminator.layers.0.weight"
    where[key] = _like(where[key], how)
    torch.save(content, path)
    before = snapshot(run)
    with pytest.raises(LabError):
        go_on(run)
    assert snapshot(run) == before


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_that_opens_a_checkpoint_uses_such_tensors(run, name):
    path = run / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["state_dict"] = {name: torch.zeros(1).expand(10**6, 10**6) for name in content["state_dict"]}
    torch.save(content, path)
    completed = command_here(*COMMANDS[name], cwd=run.parent)
    assert completed.returncode == 2, completed.stdout + completed.stderr
    assert "is not a checkpoint of gan_lab" in completed.stderr


def _saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def _endless() -> list:
    content: list = []
    content.append(content)
    return content


def _doubling() -> list:
    content: list = ["x"]
    for _ in range(40):
        content = [content, content]
    return content


def _shared() -> dict:
    tensor = torch.zeros(2**18)
    return {str(number): tensor[:] for number in range(2_000)}


ODD_CONTENT = {
    "a list that holds itself": _endless,
    "lists that double": _doubling,
    "one tensor two thousand times": _shared,
    "a quantised tensor": lambda: torch.quantize_per_tensor(torch.zeros(3), 1.0, 0, torch.qint8),
    "a nested tensor": lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
    "a conjugate": lambda: torch.zeros(3, dtype=torch.complex64).conj(),
    "a set": lambda: {1, 2},
    "a number as a key": lambda: {1.5: 2},
    "a tensor as a key": lambda: {(1, 2): 2},
    "a type": lambda: torch.float32,
    "a CSR matrix": lambda: torch.eye(3).to_sparse_csr(),
    "an empty tensor that claims to be large": lambda: torch.zeros(1).as_strided((2**20, 2**20), (0, 0)),
}


@pytest.mark.parametrize("case", ODD_CONTENT)
@pytest.mark.filterwarnings("ignore")
def test_odd_content_is_refused(case):
    with pytest.raises(Exception) as error:  # noqa: PT011, torch refuses some itself, each in its own way
        load_plain(_saved({"x": ODD_CONTENT[case]()}))
    assert not isinstance(error.value, MemoryError)


def test_what_is_loaded_owns_its_memory():
    tensor = torch.arange(6.0)
    loaded = load_plain(_saved({"a": tensor, "b": tensor[2:4], "c": [(1, "x", None, True, 2.5)]}))
    assert torch.equal(loaded["a"], tensor)
    assert torch.equal(loaded["b"], tensor[2:4])
    assert loaded["c"] == [(1, "x", None, True, 2.5)]
    loaded["a"].zero_()
    assert torch.equal(loaded["b"], torch.tensor([2.0, 3.0])), "the two shared their memory in the file"


ODD_ENTRIES = {
    "param_groups missing": (("optimizer_states", 0, "param_groups"), None),
    "param_groups of another form": (("optimizer_states", 0, "param_groups"), [{"lr": "x", "fused": [1]}]),
    "memory of one parameter more": (("optimizer_states", 0, "state", 99), {"step": torch.tensor(1.0)}),
    "memory that isn't a tensor": (("optimizer_states", 0, "state", 0, "exp_avg"), 3.0),
    "an endless step": (("optimizer_states", 0, "state", 0, "step"), torch.tensor(float("inf"))),
    "callbacks that are a list": (("callbacks",), [{"a": 1}]),
    "a clock without an end": (("callbacks", "Timer", "time_elapsed", "train"), float("inf")),
    "a step that isn't a number": (("gan_lab", "step"), "4"),
    "a step below zero": (("gan_lab", "step"), -1),
    "a step that is true": (("gan_lab", "step"), True),
    "failed that isn't a dict": (("gan_lab", "failed"), [1]),
    "members that there aren't": (("gan_lab", "failed"), {7: [1, "x"]}),
    "random numbers of another form": (("gan_lab", "torch_rng"), torch.zeros(3)),
    "optimisers that are a number": (("gan_lab", "optimizers"), 3),
    "unlogged of another form": (("gan_lab", "unlogged"), {"a": torch.zeros(3)}),
    "a clock with two thousand bits": (("callbacks", "Timer", "time_elapsed", "train"), 2**2000),
    "the only GAN failed": (("gan_lab", "failed"), {0: [3, "x"]}),
    "no digest of the data": (("GANDataModule", "digest"), 3),
}


@pytest.mark.parametrize("case", ODD_ENTRIES)
def test_odd_entries_are_used_or_refused(run, case):
    path = run / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    place, value = ODD_ENTRIES[case]
    node = content
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    torch.save(content, path)
    if case.startswith("param_groups"):  # those of the configuration count, never those of the file
        summary, status = fit(go_on(run), Run(run))
        assert (summary["status"], status) == ("finished", 0)
    else:
        with pytest.raises(LabError):
            go_on(run)


def test_the_checkpoint_that_was_checked_is_the_one_that_is_loaded(run):
    """The file could be another one by the time that training reads it."""
    training = go_on(run)
    for name in ("last.ckpt", "previous.ckpt"):
        (run / "checkpoints" / name).write_bytes(b"something else")
    summary, status = fit(training, Run(run))
    assert (summary["status"], summary["steps"], status) == ("finished", 6, 0)


def _rng_state(left: int, place: int, seeded: int = 1) -> torch.Tensor:
    content = bytearray(torch.Generator().get_state().numpy().tobytes())
    struct.pack_into("<QiiQ", content, 0, 1, left, seeded, place)
    return torch.frombuffer(content, dtype=torch.uint8).clone()


def test_states_of_random_numbers_that_reach_beyond_their_array_are_refused(run):
    rng = torch.Generator().manual_seed(3)
    for number in (0, 1, 5, 618, 1, 623, 624, 2_000):
        torch.randint(10, (number,), generator=rng)
        refuse_invalid_rng_state(rng.get_state())
    for odd in (_rng_state(624, 624), _rng_state(1, 0, seeded=0), _rng_state(0, 625), _rng_state(300, 326)):
        with pytest.raises(LabError, match="random numbers"):
            refuse_invalid_rng_state(odd)
    path = run / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["gan_lab"]["latent_stream"] = _rng_state(624, 624)
    torch.save(content, path)
    with pytest.raises(LabError, match="random numbers"):
        go_on(run)


# 3. Errors of the system.


def _failing(name: str, number: int) -> Callable[[Path, int | None], bytes]:
    def read(path: Path, most: int | None = None) -> bytes:
        if path.name == name:
            raise OSError(number, os.strerror(number), str(path))
        return read_bytes(path, most)

    return read


@pytest.mark.parametrize(
    ("number", "name"),
    [(errno.EACCES, "resume"), (errno.EIO, "evaluate"), (errno.ESTALE, "explore"), (errno.EMFILE, "backquery")],
)
def test_a_checkpoint_that_cannot_be_read_is_not_taken_for_a_damaged_one(run, monkeypatch, number, name):
    before = snapshot(run)
    monkeypatch.setattr("gan_lab.core.run_folder.read_bytes", _failing("last.ckpt", number))
    completed = command_here(*COMMANDS[name], cwd=run.parent)
    assert completed.returncode == 2
    assert os.strerror(number) in completed.stderr
    assert "damaged" not in completed.stderr
    assert snapshot(run) == before


def test_an_unreadable_folder_is_not_taken_for_a_missing_checkpoint(run, monkeypatch):
    stat = Path.stat

    def failing(path, **options):
        if path.name == "last.ckpt":
            raise OSError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", failing)
    with pytest.raises(OSError, match="Permission denied"):
        Run(run).load_checkpoint()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permissions_is_refused(run):
    (run / "checkpoints" / "last.ckpt").chmod(0)
    with pytest.raises(PermissionError):
        Run(run).load_checkpoint()


def test_a_cached_classifier_that_cannot_be_read_is_not_trained_again(run, monkeypatch):
    number = errno.EIO

    def read(path: Path, most: int | None = None) -> bytes:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("gan_lab.evaluation.classifier.read_bytes", read)
    completed = command_here(*COMMANDS["evaluate"], cwd=run.parent)
    assert completed.returncode == 2
    assert "Input/output error" in completed.stderr


@pytest.fixture
def alarm() -> Iterator[None]:
    """Ends a test that waits for ever."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits"))
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(run, alarm):
    for name in ("checkpoints/last.ckpt", "config.yaml", "summary.json", ".hydra/overrides.yaml", "metrics.csv"):
        (run / name).unlink()
        os.mkfifo(run / name)
    assert Run(run).overrides() == []
    assert Run(run).read_summary() == {}
    with pytest.raises(LabError, match="pipe or device"):
        Run(run).load_checkpoint()
    with refused("missing", "run"):
        Run.existing(run)
    with pytest.raises(LabError, match="pipe or device"):
        load_config(Run(run))
    with pytest.raises(LabError, match="pipe or device"):
        read_table(run / "metrics.csv")
    assert read_record(Run(run)).status == "damaged"


@pytest.mark.parametrize("name", [*RUN_SUBFOLDERS, *APPENDED_FILES])
def test_links_in_a_strangers_folder_are_not_followed(run, name):
    """What they lead to would be written over."""
    elsewhere = run.parent / "elsewhere"
    if (run / name).exists():
        shutil.move(run / name, elsewhere)
    else:
        elsewhere.mkdir()
    (run / name).symlink_to(elsewhere)
    for use in (Run(run).claim, lambda: Run.existing(run)):
        with pytest.raises(LabError, match="is a link"):
            use()


SWEEP = ("-m", "loss=bce", "steps=1", "hydra.sweep.dir=sweep", f"cache_dir={classifier_cache()}")


@pytest.mark.parametrize("content", ["x", '{"overrides": [5]}', "[" * 100_000, "other"])
def test_a_sweep_goes_into_no_folder_whose_sweep_is_not_known(tmp_path, content):
    (tmp_path / "sweep").mkdir()
    text = json.dumps({"overrides": ["steps=2"]}) if content == "other" else content
    (tmp_path / "sweep" / "sweep.json").write_text(text, encoding="utf-8")
    completed = command_here("train.py", *SWEEP, cwd=tmp_path)
    assert completed.returncode == 2, completed.stderr
    assert "holds another sweep" in completed.stderr if content == "other" else "can't be read" in completed.stderr
    assert sorted(path.name for path in (tmp_path / "sweep").iterdir()) in ([".lock", "sweep.json"], ["sweep.json"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_sweep_waits_for_no_pipe(tmp_path, alarm):
    (tmp_path / "sweep").mkdir()
    os.mkfifo(tmp_path / "sweep" / "sweep.json")
    completed = command_here("train.py", *SWEEP, cwd=tmp_path)
    assert completed.returncode == 2
    assert "can't be read" in completed.stderr
    os.mkfifo(tmp_path / "log.txt")
    with pytest.raises(LabError, match="a pipe"):
        refuse_links(tmp_path)


@pytest.mark.parametrize("content", ['{"status": ["x"]}', "[" * 100_000, '{"verdict": [1]}', '{"metrics": 3}', "3"])
def test_odd_records_of_jobs_count_as_none(tmp_path, content):
    (tmp_path / "job.json").write_text(content, encoding="utf-8")
    assert sweep.read_record(tmp_path / "job.json") == {}


ODD_SETTINGS = {
    "more digits than a number has": {"steps": 10**400},
    "an option of Lightning's trainer": {"trainer": {"accelerator": "cpu", "accumulate_grad_batches": 2}},
    "a run for a callback": {
        "callbacks": {"c": {"_target_": "gan_lab.training.callbacks.loss_curves.LossCurves", "run": {"a": 1}}}
    },
}


@pytest.mark.parametrize("case", ODD_SETTINGS)
def test_odd_settings_are_refused(run, case):
    change_config(run, ODD_SETTINGS[case])
    with pytest.raises(LabError):
        check_targets(load_config(Run(run)))


def test_large_files_are_refused_before_they_are_read(run, monkeypatch):
    with (run / "config.yaml").open("ab") as file:
        file.truncate(MAX_YAML + 1)  # sparse: it takes no room on the disk
    with pytest.raises(LabError, match=r"at most [0-9,]+ can be read"):
        load_config(Run(run))
    monkeypatch.setattr("gan_lab.core.io.memory_of_this_machine", lambda: 2**40)
    with (run / "checkpoints" / "last.ckpt").open("ab") as file:
        file.truncate(2**40 + 1)
    with pytest.raises(LabError, match=r"at most [0-9,]+ can be read"):
        Run(run).load_checkpoint()


def test_parts_of_a_checkpoint_that_overlap_are_damage(run):
    """A zip's directory may name one part many times: a small file would be loaded as a large one."""
    path = run / "checkpoints" / "last.ckpt"
    with zipfile.ZipFile(path, "a") as archive:
        entries = archive.infolist()
        archive.filelist.extend([max(entries, key=lambda entry: entry.file_size)] * 50)
        archive._didModify = True
    (run / "checkpoints" / "previous.ckpt").unlink()
    with pytest.raises(LabError, match="parts overlap"):
        Run(run).load_checkpoint()


# 4. Other data.


def _packed(folder: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    return make_packed_file(folder / "faces.h5", rng.integers(256, size=(20, 8, 8, 3), dtype=np.uint8))


def test_other_data_are_refused_when_a_run_is_resumed_or_evaluated(tmp_path):
    settings = ("dataset=images", "data.path=faces.h5", "features=pca", "hydra.run.dir=run")
    _packed(tmp_path, seed=0)
    assert command_here("train.py", *TINY, *settings, cwd=tmp_path).returncode == 0
    os.remove(tmp_path / "faces.h5")
    _packed(tmp_path, seed=1)
    before = snapshot(tmp_path)
    for name in ("resume", "evaluate"):  # explore and backquery load a run as evaluate does
        completed = command_here(*COMMANDS[name], cwd=tmp_path)
        assert completed.returncode == 2, name
        assert "run was trained on other data" in completed.stderr
        assert snapshot(tmp_path) == before
    completed = command_here("train.py", "resume=run", "steps=6", "force=true", cwd=tmp_path)
    assert completed.returncode == 0, completed.stderr
    assert command_here("train.py", "resume=run", "steps=8", cwd=tmp_path).returncode == 0, (
        "now these are the run's data"
    )


def _part(seed: int = 0, n: int = 30, **changes: object) -> Part:
    values = torch.randint(256, (n, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(n) % 3
    if "pixel" in changes:
        values[7, 0, 2, 1] ^= 1
    if "label" in changes:
        labels[5] = 0
    if "order" in changes:
        values, labels = values.flip(0), labels.flip(0)
    return Part(values, labels)


def test_a_digest_differs_for_other_data_and_for_nothing_else():
    base = Dataset(_part(), _part(1), classes=["a", "b", "c"])
    others = [
        Dataset(_part(pixel=1), _part(1), classes=["a", "b", "c"]),
        Dataset(_part(label=1), _part(1), classes=["a", "b", "c"]),
        Dataset(_part(order=1), _part(1), classes=["a", "b", "c"]),
        Dataset(_part(), _part(1, pixel=1), classes=["a", "b", "c"]),
        Dataset(_part(), _part(1, n=29), classes=["a", "b", "c"]),
        Dataset(_part(), _part(1), classes=["a", "b", "d"]),
        Dataset(_part(), _part(1), classes=["ab", "c"]),
        Dataset(_part(), _part(1), classes=["a", "b", "c"], source="other"),
        Dataset(FlippedPart(_part()), _part(1), classes=["a", "b", "c"]),
        Dataset(StackedPart(_part()), StackedPart(_part(1)), classes=["a", "b", "c"]),
        Dataset(StackedPart(_part(), torch.zeros(2, 3, dtype=torch.int64)), StackedPart(_part(1)), classes=["a"]),
    ]
    digests = [digest_of(dataset) for dataset in (base, *others)]
    assert len(set(digests)) == len(digests)
    assert digest_of(Dataset(_part(), _part(1), classes=["a", "b", "c"])) == digests[0]
    assert digest_of(images.digits()) == digest_of(images.digits())
    assert digest_of(synthetic.ring(modes=8)) != digest_of(synthetic.ring(modes=7))


def test_a_digest_is_the_same_whether_memory_holds_the_images_or_not(tmp_path):
    path = str(_packed(tmp_path, seed=0))
    assert digest_of(packed_images(path, memory=0)) == digest_of(packed_images(path, memory=100))
