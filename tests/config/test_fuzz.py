"""Whatever comes from a user or a stranger ends in a run or in one message: hundreds of wrong arguments and files.

Never a traceback, a hang, a changed file, or somebody else's code. The commands run in this process, to be quick.
"""

import contextlib
import gzip
import hashlib
import importlib.util
import io
import os
import pickle
import random
import shutil
import signal
import struct
import sys
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml
from conftest import ROOT, classifier_cache, compose
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from gan_lab.config.schema import leaves
from gan_lab.config.targets import CONF, groups
from gan_lab.core.checkpoint_file import load_plain
from gan_lab.core.errors import LabError
from gan_lab.core.run_folder import Run
from gan_lab.data import images
from gan_lab.data.dataset import Dataset, Part
from gan_lab.evaluation.classifier import label_classifier
from gan_lab.training.callbacks.loggers import read_table

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="cases are timed by SIGALRM"),
]

SECONDS = 60  # a case may take
TINY = [
    *("steps=2", "batch_size=4", "latent_dim=2", "model.generator.hidden=[4]", "model.discriminator.hidden=[4]"),
    *("dataset=pattern1010", "dataset.samples=64", "logger=table", "callbacks.verdict.samples=50", "seed=1"),
    *("~callbacks.pictures", "~callbacks.curves", "~callbacks.progress", f"cache_dir={classifier_cache()}"),
]
# Cases per test: known beforehand, so that a test can see to their sum although each may run in another process.
CASES = {
    **{"values": 55, "arguments": 55, "targets": 35, "harmful": 12, "cut": 100, "flipped": 100, "foreign": 20},
    **{"config": 35, "overrides": 10, "remedies": 12, "records": 50, "cache": 6, "idx": 80},
}


def cases(kind: str, times: int = 1) -> settings:
    quiet = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    return settings(
        max_examples=times * CASES[kind],
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=quiet,
    )


def test_there_are_five_hundred_cases():
    assert sum(CASES.values()) >= 500


class Hang(BaseException):
    pass


def _hangs(*_):
    raise Hang(f"more than {SECONDS} s")


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


def _main(script: str) -> Callable[[], None]:
    os.environ.pop("HYDRA_FULL_ERROR", None)  # a command leaves it behind; with it tracebacks are shown
    spec = importlib.util.spec_from_file_location(f"command_{Path(script).stem}", ROOT / script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


MAIN = {script: _main(script) for script in ("train.py", "scripts/evaluate.py")}


def _files(folder: Path) -> dict[str, str]:
    """What lies in a folder; the lock of a run may come and go."""
    found = (path for path in folder.rglob("*") if path.name != ".lock")
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in found
    }


def launch(script: str, *arguments: str, cwd: Path) -> Outcome:
    """Runs a command as a user would and holds it to its contract, whatever the arguments."""
    before, out, err, status = _files(cwd), io.StringIO(), io.StringIO(), 0
    old = sys.argv, os.getcwd(), signal.signal(signal.SIGALRM, _hangs)
    sys.argv = [script, *arguments]
    os.chdir(cwd)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            MAIN[script]()
    except SystemExit as stop:
        status = stop.code or 0
    finally:
        signal.alarm(0)
        sys.argv = old[0]
        os.chdir(old[1])
        signal.signal(signal.SIGALRM, old[2])
    told = err.getvalue()
    assert status in (0, 1, 2), (status, arguments)
    assert "Traceback" not in told
    assert not list(cwd.rglob("canary*")), f"{arguments} ran somebody else's code"
    if status:
        assert told.strip(), f"{arguments} are refused without a word"
    if status == 2:
        assert _files(cwd) == before, f"{arguments} are refused, but something is left or changed"
    return Outcome(status, out.getvalue(), told)


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def fresh(*overrides: str) -> None:
    with folder() as cwd:
        launch("train.py", *TINY, *overrides, cwd=cwd)


# Arguments. Sizes are tiny or far out of bounds; what goes to other folders or starts a shell's completion is left out.

CFG = OmegaConf.to_container(compose(*TINY))
KEYS = sorted(key for key, _ in leaves(CFG, private=True))
NODES = sorted({key.rpartition(".")[0] for key in KEYS if "." in key})
OPTIONS = [f"{group}={file.stem}" for group in sorted(groups()) for file in sorted((CONF / group).rglob("*.yaml"))]
OPTIONS = [option for option in OPTIONS if not any(large in option for large in ("mnist", "digits", "gpu", "mps"))]
PLAIN = [
    "1",
    "2",
    "3",
    "8",
    "0",
    "-1",
    "0.5",
    "1.5",
    "1e-9",
    "-0.0",
    "1e308",
    "1e400",
    "nan",
    "inf",
    "-inf",
    "null",
    "true",
    "False",
    "???",
    "''",
    '""',
    "[]",
    "{}",
    "[1,2]",
    "[8]",
    "[0.5,0.9]",
    "[[1]]",
    "{a:1}",
    "{a:{b:2}}",
    "{_target_:x}",
    "${seed}",
    "${oc.env:HOME}",
    "${oc.env:NO_SUCH}",
    "${nope}",
    "${steps}",
    "${.}",
    "${..steps}",
    "${steps",
    "${loss}",
    "${callbacks}",
    "${optim.lr}",
    "${oc.create:{a:1}}",
    "${oc.decode:3}",
    "${nope:3}",
    "${hydra:run.dir}",
    "${run_folder:1}",
    "é",
    "😀",
    "1_000",
    "0x10",
    "12345678901234567890",
    "1,2",
    "range(1,3)",
    "choice(1,2)",
    "glob(*)",
    "a=b",
    "a:b",
    "[",
    "]",
    "{",
    "}",
    "\\",
    "\\'",
    "'",
    "@",
    "#",
    "%",
    "&",
    "*",
    "~",
    "=",
    ",",
    ":",
]
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/."), max_size=12).filter(
    lambda text: not text.startswith("-")  # Hydra's own switches come one by one, below
)
VALUES = st.one_of(
    st.sampled_from(PLAIN),
    st.integers(10**12, 10**30).map(str),
    st.integers(-(10**20), 3).map(str),
    st.floats().map(str),
    TEXT,
)
SET = st.builds("{}={}".format, st.one_of(st.sampled_from(KEYS), st.sampled_from(NODES)), VALUES)
SWITCHES = [
    "--nope",
    "-x",
    "--steps=3",
    "--config-name=nope",
    "--config-dir=nowhere",
    "--cfg=job",
    "--info=x",
    "--hydra-help",
]
SWITCHES += ["--package=a", "hydra.verbose=x", "hydra/launcher=nope", "hydra.run.dir=", "hydra=3", "hydra.job=null"]
ARGUMENTS = st.one_of(
    st.sampled_from(OPTIONS),
    st.builds("{}={}".format, st.sampled_from(sorted(groups())), VALUES),
    st.builds(
        "{}{}={}".format, st.sampled_from(["+", "++", "~"]), st.one_of(st.sampled_from(KEYS + NODES), TEXT), VALUES
    ),
    st.builds("~{}".format, st.sampled_from(KEYS + NODES + sorted(groups()))),
    st.builds(
        "+{}.{}={}".format,
        st.sampled_from(NODES),
        st.sampled_from(["foo", "_partial_", "_recursive_", "_convert_", "_args_", "0", ""]),
        VALUES,
    ),
    st.builds("{}={}".format, TEXT, VALUES),
    st.sampled_from(SWITCHES),
    TEXT,
)
FOREIGN = [
    "os.system",
    "os.popen",
    "os.mkdir",
    "posix.mkdir",
    "builtins.eval",
    "builtins.exec",
    "builtins.open",
    "subprocess.Popen",
    "subprocess.run",
    "torch.load",
    "torch.hub.load",
    "torch.os.mkdir",
    "torch.os.system",
    "torch.save",
    "gan_lab.core.run_folder.Run.discard",
    "gan_lab.core.run_folder.atomic",
    "gan_lab.data.images.os.mkdir",
    "gan_lab.data.images.Path.mkdir",
    "gan_lab.data.images.Path.touch",
    "gan_lab.training.callbacks.loggers.pd.read_pickle",
    "pathlib.Path.touch",
    "pathlib.Path.unlink",
    "hydra.utils.instantiate",
    "hydra.utils.call",
    "shutil.rmtree",
    "importlib.import_module",
    "torch.nn.modules.module.warnings.warn",
    "torch.nn.__builtins__",
    "torch.nn.Module.__init__.__globals__",
    "pytorch_lightning.callbacks.os",
    "gan_lab.training.callbacks.evaluation.time.sleep",
    "yaml.unsafe_load",
    "pickle.loads",
    "numpy.load",
    "gan_lab",
    "torch",
    "pytorch_lightning.Trainer",
]
WRONG_KIND = [
    "gan_lab.gan.latent.Normal",
    "gan_lab.gan.latent.Latent",
    "gan_lab.gan.losses.BCE",
    "gan_lab.gan.losses.Loss",
    "gan_lab.gan.losses.F.relu",
    "gan_lab.gan.networks.norms.LayerNorm",
    "gan_lab.gan.networks.mlp.Generator",
    "gan_lab.gan.networks.mlp.Discriminator",
    "gan_lab.gan.networks.conv.Generator",
    "gan_lab.data.dataset.Dataset",
    "gan_lab.data.dataset.Part",
    "gan_lab.data.dataset.MAX_SHUFFLED",
    "gan_lab.data.dataset",
    "gan_lab.data.synthetic.ring",
    "torch.nn.ReLU",
    "gan_lab.training.callbacks.loggers.MetricsTable",
    "gan_lab.training.callbacks.evaluation.Evaluation",
    "gan_lab.training.callbacks.checkpoints.StopOnSignal",
    "torch.nn.Linear",
    "torch.nn.Module",
    "torch.nn.functional.relu",
    "torch.nn.init.normal_",
    "torch.nn",
    "torch.nn.Softmax",
    "torch.nn.GLU",
    "torch.nn.Flatten",
    "torch.nn.PReLU",
    "torch.nn.LSTM",
    "torch.nn.Parameter",
    "torch.nn.Sequential",
    "torch.nn.MSELoss",
    "torch.nn.BatchNorm1d",
    "torch.optim.SGD",
    "torch.optim.LBFGS",
    "torch.optim.SparseAdam",
    "torch.optim.Optimizer",
    "torch.optim.lr_scheduler.StepLR",
    "torch.nn.",
    "pytorch_lightning.callbacks.Timer",
    "pytorch_lightning.callbacks.Callback",
    "pytorch_lightning.callbacks.EarlyStopping",
    "..",
    "x",
    "3",
    "pytorch_lightning.callbacks.ModelSummary",
    "pytorch_lightning.loggers.WandbLogger",
    "pytorch_lightning.loggers.Logger",
]
MADE = [node for node in NODES if f"{node}._target_" in KEYS]
# These would leave a canary if they ran; parts without settings of their own would let them.
HARMFUL = [
    (target, "command") for target in ("os.system", "posix.system", "torch.os.system", "gan_lab.data.images.os.system")
]
HARMFUL += [
    ("os.popen", "cmd"),
    ("os.mkdir", "path"),
    ("torch.os.mkdir", "path"),
    ("gan_lab.data.images.os.mkdir", "path"),
]
BARE = [node for node in MADE if [key for key in KEYS if key.startswith(f"{node}.")] == [f"{node}._target_"]]


@cases("values")
@given(SET)
def test_any_value_trains_or_is_refused(override):
    fresh(override)


@cases("arguments")
@given(st.lists(ARGUMENTS, min_size=1, max_size=2))
def test_any_argument_trains_or_is_refused(arguments):
    fresh(*arguments)


REMEDIES = [file.stem for file in sorted((CONF / "remedy").glob("*.yaml"))]
OF_REMEDIES = [
    *(
        "remedy.*.gamma",
        "remedy.*.weight",
        "remedy.*.decay",
        "remedy.*.steps",
        "remedy.*.fraction",
        "remedy.*._partial_",
    ),
    *("remedy.*.k", "remedy.*.lr", "remedy.*.m", "remedy.*.group", "remedy.*.real", "remedy.*.std", "remedy.*.max_auc"),
    *(
        "remedy.*.warmup_steps",
        "remedy.*.kernels",
        "remedy.*.dims",
        "remedy.*",
        "n_critic",
        "n_generator",
        "conditional",
    ),
    *("joint_d_update", "replicas", "batch_size", "latent_dim"),
]
CHOICES = ["loss=relativistic", "loss=hinge", "loss=wasserstein", "norm=batch", "norm=spectral", "dataset=ring"]
CHOICES += ["latent=constant", "replicas=2", "conditional=true", "n_critic=2", "n_generator=2"]


@cases("remedies")
@given(
    st.lists(st.sampled_from(REMEDIES), min_size=1, max_size=4),
    st.lists(st.tuples(st.sampled_from(OF_REMEDIES), st.one_of(st.sampled_from(PLAIN), VALUES)), max_size=1),
    st.lists(st.sampled_from(CHOICES), max_size=2),
    st.integers(0, 3),
)
def test_any_remedies_train_or_are_refused(names, settings, choices, which):
    own = names[which % len(names)]
    fresh(
        f"remedy=[{','.join(names)}]",
        *choices,
        *(f"{key.replace('*', own)}={value}" for key, value in settings),
    )


@cases("targets")
@given(st.sampled_from(MADE), st.sampled_from(FOREIGN + WRONG_KIND))
def test_any_target_trains_or_is_refused(node, target):
    fresh(f"{node}._target_={target}")


@cases("harmful")
@given(st.sampled_from(BARE), st.sampled_from(HARMFUL))
def test_no_foreign_target_runs(node, harmful):
    target, key = harmful
    fresh(f"{node}._target_={target}", f"+{node}.{key}='{'canary' if key == 'path' else 'touch canary'}'")


# Files of a run. One is trained; each case works on a copy.


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("fuzz")
    assert launch("train.py", *TINY, "callbacks.checkpoint.every=1", "hydra.run.dir=run", cwd=cwd).status == 0
    config = cwd / "run" / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace("steps: 2\n", "steps: 3\n"), encoding="utf-8")
    return cwd / "run"


COMMANDS = {
    "resume": ("train.py", "resume=run"),
    "resume more": ("train.py", "resume=run", "steps=4"),
    "evaluate": ("scripts/evaluate.py", "run=run", "samples=50", "seeds=1"),
}


def use(trained: Path, change: Callable[[Path], object], *commands: str) -> Outcome:
    """What the last of the commands answers for a copy of the run that `change` has changed."""
    for name in commands:
        with folder() as cwd:
            shutil.copytree(trained, cwd / "run")
            change(cwd / "run")
            outcome = launch(*COMMANDS[name], cwd=cwd)
    return outcome


def flip(content: bytes, bits: list[int]) -> bytes:
    changed = bytearray(content)
    for bit in bits:
        changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    return bytes(changed)


BITS = st.lists(st.integers(0, 2**40), min_size=1, max_size=4, unique=True)


def refused_or_replaced(trained: Path, content: bytes, number: int) -> None:
    """Damage to last.ckpt is told, or its predecessor taken; every tenth case goes through the commands as well."""
    told = 2
    with folder() as cwd, contextlib.redirect_stderr(io.StringIO()) as err:
        run = Run(cwd / "run")
        run.checkpoint.parent.mkdir(parents=True)
        run.checkpoint.write_bytes(content)
        try:
            loaded = run.load_checkpoint()
        except LabError:
            shutil.copy(trained / "checkpoints" / "previous.ckpt", run.previous_checkpoint)
            before = _files(cwd)
            assert run.load_checkpoint()["gan_lab"]["step"] == 1
            assert "Going back to previous.ckpt" in err.getvalue()
            assert _files(cwd) == before
        else:  # a bit that says nothing, such as the padding between the parts of the file
            told = 0
            assert str(loaded) == str(load_plain((trained / "checkpoints" / "last.ckpt").read_bytes()))
    if number % 10 == 0:

        def change(run: Path) -> None:
            (run / "checkpoints" / "last.ckpt").write_bytes(content)
            if number % 20 == 0:
                (run / "checkpoints" / "previous.ckpt").unlink()

        outcome = use(trained, change, "evaluate" if number % 40 < 20 else "resume")
        assert outcome.status == (told if number % 20 == 0 else 0), outcome.err


def test_a_checkpoint_cut_anywhere_is_told_or_its_predecessor_taken(trained):
    whole = (trained / "checkpoints" / "last.ckpt").read_bytes()
    for percent in range(CASES["cut"]):
        refused_or_replaced(trained, whole[: len(whole) * percent // 100], percent)


@cases("flipped")
@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=4, unique=True), st.integers(0, 39))
def test_a_checkpoint_with_flipped_bits_is_told_or_its_predecessor_taken(trained, bits, number):
    refused_or_replaced(trained, flip((trained / "checkpoints" / "last.ckpt").read_bytes(), bits), number)


class Bomb:
    """Leaves a canary where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("canary",)


def _zipped(**members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"archive/{name.replace('_', '.')}", data)
    return content.getvalue()


def _saved(thing: object) -> bytes:
    content = io.BytesIO()
    torch.save(thing, content)
    return content.getvalue()


BOMBS = [
    pickle.dumps(Bomb()),
    _zipped(data_pkl=pickle.dumps(Bomb()), version=b"3", byteorder=b"little"),
    _saved(Bomb()),
    _saved({"gan_lab": {"step": 2}, "state_dict": Bomb()}),
]
NO_CHECKPOINTS = [b"", b"PK", bytes(1000), random.Random(0).randbytes(5000), b"<html>404</html>", _zipped(x=b"y")]
NO_CHECKPOINTS += [
    _saved(thing) for thing in ([], {}, 3, None, {"gan_lab": 1}, {"gan_lab": {"step": "x"}, "state_dict": 3})
]


def _places(node: object, path: tuple = ()):
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        yield (*path, key)
        yield from _places(value, (*path, key))


def _put(node: object, path: tuple, value: object) -> None:
    for key in path[:-1]:
        node = node[key]
    if value is GONE:
        del node[path[-1]]
    else:
        node[path[-1]] = value


GONE = object()
ODD = [GONE, GONE, GONE, None, -1, 3.5, float("nan"), 10**30, "x", [], {}, [1, 2], True, {"a": 1}]
TENSORS = [torch.zeros(0), torch.zeros(3), torch.zeros(3, dtype=torch.uint8), torch.zeros(2, 2, dtype=torch.int64)]


@pytest.mark.parametrize("number", range(len(BOMBS + NO_CHECKPOINTS)))
def test_what_is_no_checkpoint_is_refused_and_not_executed(trained, number):
    content = (BOMBS + NO_CHECKPOINTS)[number]

    def change(run: Path) -> None:
        (run / "checkpoints" / "last.ckpt").write_bytes(content)
        (run / "checkpoints" / "previous.ckpt").unlink()

    assert use(trained, change, "evaluate").status == 2
    assert use(trained, change, "resume").status == 2


@cases("foreign")
@given(st.data())
def test_a_whole_checkpoint_with_other_content_is_used_or_refused(trained, data):
    """Such as an optimiser's memory of other shapes, by which training would write where it must not."""
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    places = list(_places(content))
    few = [place for place in places if len(place) < 3]
    _put(
        content,
        data.draw(st.one_of(st.sampled_from(few), st.sampled_from(places))),
        data.draw(st.sampled_from(ODD + TENSORS)),
    )
    command = data.draw(st.sampled_from(["resume", "resume", "resume", "evaluate"]))
    use(trained, lambda run: torch.save(content, run / "checkpoints" / "last.ckpt"), command)


WRONG_FORMS = [
    (("optimizer_states", 0, "state", 0, "exp_avg"), torch.zeros(3)),  # torch's fused kernel would write past its end
    (("optimizer_states", 1, "state", 1, "exp_avg_sq"), None),
    (("optimizer_states", 1, "state", 2, "step"), torch.tensor(0.0)),  # divides by 1 - beta ** 0
    (("optimizer_states", 0, "state"), []),
    (("optimizer_states", 0), GONE),
    (("callbacks", "Timer", "time_elapsed", "train"), "x"),
    (("gan_lab", "latent_stream"), torch.zeros(3, dtype=torch.uint8)),
    (("gan_lab", "unlogged"), [torch.zeros(2)]),
    (("gan_lab", "optimizers"), GONE),
]


@pytest.mark.parametrize(("place", "value"), WRONG_FORMS)
def test_a_whole_checkpoint_of_another_form_is_refused_before_anything_is_trained(trained, place, value):
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    _put(content, place, value)
    outcome = use(trained, lambda run: torch.save(content, run / "checkpoints" / "last.ckpt"), "resume")
    assert outcome.status == 2
    assert "run can't be resumed from its checkpoint" in outcome.err


CONFIGS = [
    "3",
    "[1]",
    "",
    "a: &a [x,x]\nb: [*a,*a]",
    "x: " + "[" * 3000,
    "x: " + "{a: " * 600 + "1" + "}" * 600,
    "\t",
    "a: !!set {b}",
]
CONFIGS += [
    "\n".join(" " * depth + "a:" for depth in range(1500)),
    "x: !!python/object/apply:os.mkdir [canary]",
    "---\n---\n",
]
CONFIGS += [
    "seed: " + "9" * 5000,
    "seed: 0x" + "f" * 5000,
    'data_dir: "a\\0b"',
    'cache_dir: "\\ud800"',
    "steps: ${seed}\nseed: ${steps}",
]
CONFIGS += [
    "loss: ${oc.create:{_target_:os.mkdir,path:canary}}",
    "<<: {a: 1}",
    "? [1]\n: 2",
    "true: 1",
    '"": 1',
    "3: 4",
]
ODD_VALUES = [
    *ODD[:-4],
    "",
    "${seed}",
    "${nope}",
    "???",
    ["x"],
    {"_target_": "os.mkdir", "path": "canary"},
    "os.system",
    "${loss}",
]
ODD_VALUES += [{"_target_": "torch.nn.ReLU"}, "gan_lab.gan.latent.Normal", True, {"a": 1}]


def _configs(trained: Path, data: st.DataObject) -> bytes:
    text = (trained / "config.yaml").read_text(encoding="utf-8")
    kind = data.draw(st.sampled_from(["flip", "cut", "put", "put", "put", "fixed", "joined"]))
    if kind == "flip":
        return flip(text.encode(), data.draw(st.lists(st.integers(0, 2**40), min_size=1, max_size=4)))
    if kind == "cut":
        return text[: data.draw(st.integers(0, len(text)))].encode()
    if kind == "put":
        config = yaml.safe_load(text)
        _put(config, data.draw(st.sampled_from(list(_places(config)))), data.draw(st.sampled_from(ODD_VALUES)))
        return yaml.safe_dump(config, allow_unicode=True).encode()
    fixed = data.draw(st.sampled_from(CONFIGS))
    if kind == "joined":  # the run's own, its key replaced
        key = fixed.partition(":")[0]
        fixed += "\n" + "\n".join(line for line in text.splitlines() if not line.startswith(f"{key}:"))
    return fixed.encode()


@cases("config")
@given(st.data())
def test_any_configuration_of_a_run_is_used_or_refused(trained, data):
    config = _configs(trained, data)
    use(trained, lambda run: (run / "config.yaml").write_bytes(config), data.draw(st.sampled_from(list(COMMANDS))))


OVERRIDES = [
    "3",
    "[1]",
    "null",
    "[" * 3000,
    "- x=[1",
    "- -m",
    "- --help",
    "- +=%",
    "- optim=[[1]]",
    "- steps=1,2",
    "- 3\n- null\n- [a]",
]
OVERRIDES += [
    "- ~steps\n- ~loss",
    '- "\\0"',
    "- loss._target_=os.system",
    "- hydra.searchpath=[file:///nowhere]",
    "- '~'",
    "- loss@x=bce",
]


@cases("overrides")
@given(st.one_of(st.sampled_from(OVERRIDES), st.text(max_size=50), st.builds("- {}".format, ARGUMENTS)))
def test_any_record_of_the_arguments_is_used_or_ignored(trained, text):
    content = text.encode(errors="replace")
    use(trained, lambda run: (run / ".hydra" / "overrides.yaml").write_bytes(content), "resume more")


RECORDS = [
    b"",
    b"null",
    b"[]",
    b"{",
    b"NaN",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"9" * 5000,
    b"\xff\xfe\0",
    b"x" * 10**6,
]
RECORDS += [
    b"step,a\n" + row
    for row in (b"1,nan\n", b"nan,1\n", b"2,1\n1,1\n", b"1e999,1\n", b"1,2,3\n4\n", b'1,"', b"9" * 400 + b",1\n")
]
RECORDS += [
    b"a,b\n1,2\n",
    b"step,step\n1,2\n",
    b"step\n1\n1\n",
    b"step,a\n1," + b"9" * 200_000,
    b"step,a\n1,x\n",
    b"step,a\n-1,2\n",
]


@cases("records")
@given(st.data())
def test_any_summary_or_table_is_read_or_refused(trained, data):
    name = data.draw(st.sampled_from(["summary.json", "metrics.csv"]))
    whole = (trained / name).read_bytes()
    content = data.draw(
        st.one_of(
            st.sampled_from(RECORDS),
            st.binary(max_size=100),
            st.integers(0, len(whole)).map(lambda n: whole[:n]),
            st.lists(st.integers(0, 2**40), min_size=1, max_size=4).map(lambda bits: flip(whole, bits)),
        )
    )
    with folder() as cwd:
        (cwd / name).write_bytes(content)
        with contextlib.suppress(LabError):
            if name == "summary.json":
                assert isinstance(Run(cwd).read_summary(), dict)
            else:
                assert read_table(cwd / name)["step"].is_monotonic_increasing
        assert (cwd / name).read_bytes() == content
    if data.draw(st.integers(0, 9)) == 7:
        use(trained, lambda run: (run / name).write_bytes(content), "resume")


# Files of the data.


def test_a_damaged_evaluator_is_trained_anew_and_a_bomb_in_its_place_is_not_executed(tmp_path, monkeypatch, capsys):
    generator = torch.Generator().manual_seed(0)
    part = Part(torch.rand(20, 1, 8, 8, generator=generator), torch.arange(20) % 2)
    dataset = Dataset(part, part, classes=["a", "b"])
    monkeypatch.setattr("gan_lab.evaluation.classifier.EPOCHS", (1, 1))
    monkeypatch.chdir(tmp_path)
    trained = label_classifier(dataset, tmp_path).network.state_dict()
    (file,) = tmp_path.glob("evaluator_*.pt")
    whole = file.read_bytes()
    middle = len(whole) // 2
    for content in (whole[:middle], b"", flip(whole, [8 * middle]), *BOMBS[:3])[: CASES["cache"]]:
        file.write_bytes(content)
        again = label_classifier(dataset, tmp_path).network.state_dict()
        assert "is trained again" in capsys.readouterr().err
        assert all(torch.equal(again[name], trained[name]) for name in trained)
        assert not list(tmp_path.glob("canary*"))


NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def _idx(name: str, *shape: int) -> bytes:
    pixels = bytes(n * 7 % 256 if "images" in name else n % 10 for n in range(int(torch.tensor(shape).prod())))
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + pixels


@cases("idx")
@given(st.data())
def test_any_idx_file_is_read_or_refused(data):
    name, packed = data.draw(st.sampled_from(NAMES)), data.draw(st.booleans())
    whole = {each: _idx(each, *((12, 28, 28) if "images" in each else (12,))) for each in NAMES}
    kind = data.draw(st.sampled_from(["cut", "flip", "header", "label", "cut gzip", "flip gzip"]))
    content, bits = whole[name], data.draw(st.lists(st.integers(0, 2**40), min_size=1, max_size=4))
    if kind == "cut":
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    elif kind == "flip":
        content = flip(content[:16], bits) + content[16:]
    elif kind == "header":
        axes = content[3]
        huge = data.draw(st.lists(st.sampled_from([0, 1, 2**16, 2**31, 2**32 - 1]), min_size=axes, max_size=axes))
        content = content[:4] + struct.pack(f">{axes}I", *huge) + content[4 + 4 * axes :]
    elif kind == "label":
        content = content[:-1] + b"\xc8"
    packed = packed or "gzip" in kind
    content = gzip.compress(content, mtime=0) if packed else content
    if kind == "cut gzip":
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    if kind == "flip gzip":
        content = flip(content, bits)
    with folder() as cwd:
        raw = cwd / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for each in NAMES:
            (raw / each).write_bytes(whole[each])
        (raw / name).unlink()
        (raw / f"{name}{'.gz' if packed else ''}").write_bytes(content)
        before = _files(cwd)
        try:
            dataset = images.mnist(str(cwd))
        except LabError as error:
            assert name.partition("-")[0] in str(error)
        else:
            for part in (dataset.train, dataset.heldout):
                assert len(part) == len(part.labels) > 0
                assert part.shape == (1, 28, 28)
                assert 0 <= part.labels.min() <= part.labels.max() <= 9
        assert _files(cwd) == before


def test_a_file_that_unpacks_to_more_than_it_says_takes_no_memory(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    with gzip.open(raw / f"{NAMES[0]}.gz", "wb", compresslevel=1) as file:
        file.write(_idx(NAMES[0], 12, 28, 28))
        for _ in range(50):
            file.write(bytes(2**20))
    tracemalloc.start()
    try:
        with pytest.raises(LabError, match=NAMES[0]):
            images.mnist(str(tmp_path))
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_ten_times_as_many_cases():
    """The same strategies, drawn further."""
    cases("values", 10)(given(SET)(lambda override: fresh(override)))()
    cases("arguments", 10)(given(st.lists(ARGUMENTS, min_size=1, max_size=2))(lambda each: fresh(*each)))()
