"""Any file of a run folder is used or refused, whatever its content: checkpoints, config.yaml, records."""

import contextlib
import io
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from fuzzing import (
    ARGUMENTS,
    BITS,
    BOMBS,
    CASES,
    TINY,
    Outcome,
    cases,
    digests,
    flip,
    launch,
    needs_alarm,
    saved,
    temporary_folder,
    zipped,
)
from hypothesis import given
from hypothesis import strategies as st

from gan_lab.core.checkpoint_file import load_plain
from gan_lab.core.errors import LabError
from gan_lab.core.run_folder import Run
from gan_lab.training.callbacks.loggers import read_table

# Its run is trained once; each case works on a copy.
pytestmark = [
    needs_alarm,
    pytest.mark.xdist_group("fuzz_run_folder"),
    pytest.mark.usefixtures("undrawn", "quick_verdict"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
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


def use(trained: Path, change: Callable[[Path], object], command: str) -> Outcome:
    """Changes a copy of the run and returns what a command does with it."""
    with temporary_folder() as cwd:
        shutil.copytree(trained, cwd / "run")
        change(cwd / "run")
        return launch(*COMMANDS[command], cwd=cwd)


# Checkpoints.


def refused_or_replaced(trained: Path, content: bytes, number: int) -> None:
    """Checks that damage to last.ckpt is refused, or its predecessor used.

    Every tenth case goes through the commands as well.
    """
    status = 2
    with temporary_folder() as cwd, contextlib.redirect_stderr(io.StringIO()) as stderr:
        run = Run(cwd / "run")
        run.checkpoint.parent.mkdir(parents=True)
        run.checkpoint.write_bytes(content)
        try:
            checkpoint = run.load_checkpoint()
        except LabError:
            shutil.copy(trained / "checkpoints" / "previous.ckpt", run.previous_checkpoint)
            before = digests(cwd)
            assert run.load_checkpoint()["gan_lab"]["step"] == 1
            assert "Going back to previous.ckpt" in stderr.getvalue()
            assert digests(cwd) == before
        else:
            # A bit that means nothing, such as one of the padding between the parts of the file.
            status = 0
            assert str(checkpoint) == str(load_plain((trained / "checkpoints" / "last.ckpt").read_bytes()))
    if number % 10 != 0:
        return
    without_previous = number % 20 == 0

    def change(folder: Path) -> None:
        (folder / "checkpoints" / "last.ckpt").write_bytes(content)
        if without_previous:
            (folder / "checkpoints" / "previous.ckpt").unlink()

    outcome = use(trained, change, "evaluate" if number % 40 < 20 else "resume")
    assert outcome.status == (status if without_previous else 0), outcome.stderr


def test_a_checkpoint_cut_anywhere_is_refused_or_its_predecessor_used(trained):
    content = (trained / "checkpoints" / "last.ckpt").read_bytes()
    for percent in range(CASES["cut"]):
        refused_or_replaced(trained, content[: len(content) * percent // 100], percent)


@cases("flipped")
@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=4, unique=True), st.integers(0, 39))
def test_a_checkpoint_with_flipped_bits_is_refused_or_its_predecessor_used(trained, bits, number):
    refused_or_replaced(trained, flip((trained / "checkpoints" / "last.ckpt").read_bytes(), bits), number)


@pytest.mark.parametrize("place", [-26, -30, -66])
def test_damage_in_the_directory_of_a_checkpoints_archive_has_its_predecessor_used(trained, place):
    """No checksum covers these fields, such as numbers of disks, and Python ignores them; torch does not."""
    content = bytearray((trained / "checkpoints" / "last.ckpt").read_bytes())
    content[place] ^= 4
    with temporary_folder() as cwd:
        run = Run(cwd / "run")
        run.checkpoint.parent.mkdir(parents=True)
        run.checkpoint.write_bytes(content)
        shutil.copy(trained / "checkpoints" / "previous.ckpt", run.previous_checkpoint)
        assert run.load_checkpoint()["gan_lab"]["step"] == 1


NOT_CHECKPOINTS = [
    b"",
    b"PK",
    bytes(1000),
    random.Random(0).randbytes(5000),
    b"<html>404</html>",
    zipped(x=b"y"),
    saved([]),
    saved({}),
    saved(3),
    saved(None),
    saved({"gan_lab": 1}),
    saved({"gan_lab": {"step": "x"}, "state_dict": 3}),
]


def _paths(node: object, path: tuple = ()) -> Iterator[tuple]:
    """Yields the path of each entry below a node: keys of dicts, indices of lists."""
    if isinstance(node, dict):
        items = list(node.items())
    elif isinstance(node, list):
        items = list(enumerate(node))
    else:
        return
    for key, value in items:
        yield (*path, key)
        yield from _paths(value, (*path, key))


def _put(node: object, path: tuple, value: object) -> None:
    for key in path[:-1]:
        node = node[key]
    if value is MISSING:
        del node[path[-1]]
    else:
        node[path[-1]] = value


MISSING = object()
ODD = [MISSING, MISSING, MISSING, None, -1, 3.5, float("nan"), 10**30, "x", [], {}, [1, 2], True, {"a": 1}]
TENSORS = [torch.zeros(0), torch.zeros(3), torch.zeros(3, dtype=torch.uint8), torch.zeros(2, 2, dtype=torch.int64)]


@pytest.mark.parametrize("number", range(len(BOMBS + NOT_CHECKPOINTS)))
def test_a_file_that_is_no_checkpoint_is_refused_and_not_executed(trained, number):
    content = (BOMBS + NOT_CHECKPOINTS)[number]

    def change(folder: Path) -> None:
        (folder / "checkpoints" / "last.ckpt").write_bytes(content)
        (folder / "checkpoints" / "previous.ckpt").unlink()

    assert use(trained, change, "evaluate").status == 2
    assert use(trained, change, "resume").status == 2


@cases("foreign")
@given(st.data())
def test_an_undamaged_checkpoint_with_other_content_is_used_or_refused(trained, data):
    """Such as an optimiser's memory of other shapes, by which training would write where it must not."""
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    paths = list(_paths(content))
    short_paths = [path for path in paths if len(path) < 3]
    path = data.draw(st.one_of(st.sampled_from(short_paths), st.sampled_from(paths)))
    _put(content, path, data.draw(st.sampled_from(ODD + TENSORS)))
    command = data.draw(st.sampled_from(["resume", "resume", "resume", "evaluate"]))
    use(trained, lambda folder: torch.save(content, folder / "checkpoints" / "last.ckpt"), command)


WRONG_FORMS = [
    # torch's fused kernel would write past its end
    (("optimizer_states", 0, "state", 0, "exp_avg"), torch.zeros(3)),
    (("optimizer_states", 1, "state", 1, "exp_avg_sq"), None),
    # divides by 1 - beta ** 0
    (("optimizer_states", 1, "state", 2, "step"), torch.tensor(0.0)),
    (("optimizer_states", 0, "state"), []),
    (("optimizer_states", 0), MISSING),
    (("callbacks", "Timer", "time_elapsed", "train"), "x"),
    (("gan_lab", "latent_stream"), torch.zeros(3, dtype=torch.uint8)),
    (("gan_lab", "unlogged"), [torch.zeros(2)]),
    (("gan_lab", "optimizers"), MISSING),
]


@pytest.mark.parametrize(("path", "value"), WRONG_FORMS)
def test_an_undamaged_checkpoint_of_another_form_is_refused_before_anything_is_trained(trained, path, value):
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    _put(content, path, value)
    outcome = use(trained, lambda folder: torch.save(content, folder / "checkpoints" / "last.ckpt"), "resume")
    assert outcome.status == 2
    assert "can't be resumed from its checkpoint" in outcome.stderr


# config.yaml and Hydra's record of the arguments.

CONFIGS = [
    "3",
    "[1]",
    "",
    "a: &a [x,x]\nb: [*a,*a]",
    "x: " + "[" * 3000,
    "x: " + "{a: " * 600 + "1" + "}" * 600,
    "\t",
    "a: !!set {b}",
    "\n".join(" " * depth + "a:" for depth in range(1500)),
    "x: !!python/object/apply:os.mkdir [canary]",
    "---\n---\n",
    "seed: " + "9" * 5000,
    "seed: 0x" + "f" * 5000,
    'data_dir: "a\\0b"',
    'cache_dir: "\\ud800"',
    "steps: ${seed}\nseed: ${steps}",
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
    {"_target_": "torch.nn.ReLU"},
    "gan_lab.gan.latent.Normal",
    True,
    {"a": 1},
]


def _changed_config(trained: Path, data: st.DataObject) -> bytes:
    text = (trained / "config.yaml").read_text(encoding="utf-8")
    kind = data.draw(st.sampled_from(["flip", "cut", "put", "put", "put", "fixed", "joined"]))
    if kind == "flip":
        return flip(text.encode(), data.draw(BITS))
    if kind == "cut":
        return text[: data.draw(st.integers(0, len(text)))].encode()
    if kind == "put":
        config = yaml.safe_load(text)
        _put(config, data.draw(st.sampled_from(list(_paths(config)))), data.draw(st.sampled_from(ODD_VALUES)))
        return yaml.safe_dump(config, allow_unicode=True).encode()
    fixed = data.draw(st.sampled_from(CONFIGS))
    if kind == "joined":
        # The run's config.yaml, one key of it replaced.
        key = fixed.partition(":")[0]
        lines = [line for line in text.splitlines() if not line.startswith(f"{key}:")]
        fixed += "\n" + "\n".join(lines)
    return fixed.encode()


@cases("config")
@given(st.data())
def test_any_configuration_of_a_run_is_used_or_refused(trained, data):
    config = _changed_config(trained, data)
    command = data.draw(st.sampled_from(list(COMMANDS)))
    use(trained, lambda folder: (folder / "config.yaml").write_bytes(config), command)


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
    use(trained, lambda folder: (folder / ".hydra" / "overrides.yaml").write_bytes(content), "resume more")


# summary.json and metrics.csv.

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
    original = (trained / name).read_bytes()
    content = data.draw(
        st.one_of(
            st.sampled_from(RECORDS),
            st.binary(max_size=100),
            st.integers(0, len(original)).map(lambda length: original[:length]),
            BITS.map(lambda bits: flip(original, bits)),
        )
    )
    with temporary_folder() as cwd:
        (cwd / name).write_bytes(content)
        with contextlib.suppress(LabError):
            if name == "summary.json":
                assert isinstance(Run(cwd).read_summary(), dict)
            else:
                assert read_table(cwd / name)["step"].is_monotonic_increasing
        assert (cwd / name).read_bytes() == content
    if data.draw(st.integers(0, 9)) == 7:
        use(trained, lambda folder: (folder / name).write_bytes(content), "resume")
