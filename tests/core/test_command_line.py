"""Command lines in messages: pasted into a shell, they give the value that they were made of."""

import random
import shlex
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from conftest import ROOT, make_packed_file
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from PIL import Image

from gan_lab.commands import train
from gan_lab.comparison import comparison, origin
from gan_lab.comparison.collect import Record
from gan_lab.config import sweep
from gan_lab.core.command_line import command, hydra_text, quote, setting
from gan_lab.core.errors import LabError
from gan_lab.core.run_folder import Run, resume_command
from gan_lab.core.terminal import printable
from gan_lab.data import hdf5
from gan_lab.pack.packer import PackSettings, pack

NASTY = (
    "outputs/ring/2026-01-01_00-00-00_abcdef",
    "my runs/a b",
    "a(1)",
    "a,b",
    "a=b",
    "it's",
    'say "hi"',
    "'\"'",
    "$HOME/${oc.env:HOME}",
    "\\${x}",
    "{a: b}",
    "[a,b]",
    "a#b #c",
    "wow!!",
    "~/runs",
    "~nobody/x",
    "실험/얼굴 (2).h5",
    "-x",
    "--multirun",
    "5",
    "1e3",
    "007",
    "null",
    "TRUE",
    "nan",
    ".5",
    ".",
    "..",
    "",
    " leading and trailing ",
    "C:\\data\\faces.h5",
    "ends with a backslash\\",
    "two\\\\",
    "\\",
    '\\"',
    "a;b&c|d>e<f`g`",
    "a*?[b]",
    "a:b@c%d+e^f",
    "tab\there",
    "new\nline",
    "bell\x07escape\x1b[31m",
    "not UTF-8: \udcff\udcfe",
    "right to left \u202e txt.h5",
    "é and e\u0301",
    "😀",
    "x" * 300,
)


def pasted(text: str) -> list[str]:
    """Returns the arguments that a shell makes of a command line."""
    shown = printable(text, lines=True)
    assert shown == text, "the terminal would show another text"
    script = f"printf '%s\\0' {text}"
    output = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout
    return [argument.decode("utf-8", "surrogateescape") for argument in output.split(b"\0")[:-1]]


def value_of(argument: str) -> object:
    """Returns the value that a command gets from an override."""
    override = OverridesParser.create().parse_override(argument)
    return OmegaConf.to_container(OmegaConf.create({"value": override.value()}), resolve=True)["value"]


def test_any_text_comes_back_through_the_shell_and_hydra():
    arguments = pasted(" ".join(setting("data.path", text) for text in NASTY))
    assert [argument.partition("=")[0] for argument in arguments] == ["data.path"] * len(NASTY)
    assert [value_of(argument) for argument in arguments] == list(NASTY)


def test_random_texts_come_back():
    rng = random.Random(0)
    texts = ["".join(rng.choices("\\\"'${} ,a=()", k=rng.randint(0, 8))) for _ in range(2000)]
    assert [value_of(f"x={hydra_text(text)}") for text in texts] == texts


def test_any_list_comes_back():
    (argument,) = pasted(setting("runs", map(Path, NASTY)))
    assert list(map(Path, value_of(argument))) == list(map(Path, NASTY))


@pytest.mark.parametrize("value", [None, True, False, 3, 0.25, [1, 2], [], ["a", None]])
def test_values_keep_their_type(value):
    assert value_of(f"x={hydra_text(value)}") == value


def test_a_folder_that_begins_with_a_tilde_is_no_home():
    assert pasted(setting("run", Path("~/x"))) == ['run="./~/x"']


def test_usual_paths_need_no_quotes():
    assert command("train.py", setting("resume", "outputs/ring/2026-01-01_00-00-00_ab")) == (
        "python train.py resume=outputs/ring/2026-01-01_00-00-00_ab"
    )
    assert (
        command("compare.py", setting("runs", ["outputs/a", "b"])) == "python scripts/compare.py 'runs=[outputs/a,b]'"
    )
    assert setting("data.path", "my faces.h5") == "'data.path=\"my faces.h5\"'"


def test_a_shell_without_the_notation_of_bash_reads_all_printable_texts():
    texts = [text for text in NASTY if printable(text) == text]
    output = subprocess.run(["sh", "-c", f"printf '%s\\0' {' '.join(map(quote, texts))}"], capture_output=True)
    assert output.stdout.decode().split("\0")[:-1] == texts
    assert shlex.split(" ".join(map(quote, texts))) == texts


# Messages: each of these functions makes gan_lab print a command about a folder or a file in it.

FOLDERS = (
    "실험 (a, b)=c \"d\" 'e' $HOME ${x} {1} #!~ [z]\\",
    "-a; b & c | d * ? ` ~ % @ :",
    "two\nlines\tand \x1b[31m",
    "not UTF-8 \udcff \udcfe",
)


def error_of(function, *arguments, **keys) -> str:
    with pytest.raises(LabError) as error:
        function(*arguments, **keys)
    return str(error.value)


def folder_is_taken(folder: Path, monkeypatch) -> tuple[str, str]:
    (folder / "config.yaml").touch()
    return error_of(Run(folder).refuse_if_taken), str(folder)


def run_has_no_checkpoint(folder: Path, monkeypatch) -> tuple[str, str]:
    return error_of(Run(folder).load_checkpoint), str(folder)


def training_ended_early(folder: Path, monkeypatch) -> tuple[str, str]:
    monkeypatch.setattr(Run, "load_checkpoint", lambda _: {"gan_lab": {"step": 7}})
    return train._how_to_continue(Run(folder), ["force=true"]), str(folder)


def sweep_was_interrupted(folder: Path, monkeypatch) -> tuple[str, str]:
    messages = []
    monkeypatch.setattr(sweep, "say", lambda text, **_: messages.append(text))
    current = object.__new__(sweep.Current)
    current.folder = folder
    current.say_how_to_continue()
    return messages[0].replace("Continue with the same command and", "python train.py -m"), str(folder)


def book_file_is_not_packed(folder: Path, monkeypatch) -> tuple[str, str]:
    path = folder / "book.h5"
    h5py.File(path, "w").close()
    return error_of(hdf5.images, str(path)), str(path)


def celeba_is_not_packed(folder: Path, monkeypatch) -> tuple[str, str]:
    return error_of(hdf5.celeba, str(folder)), str(folder / "celeba.h5")


def pack_settings(source: Path, target: Path) -> PackSettings:
    defaults = yaml.safe_load((ROOT / "conf" / "pack.yaml").read_text())
    keys = {key: value for key, value in defaults.items() if key in PackSettings._fields}
    return PackSettings(**{**keys, "source": str(source), "target": str(target), "size": 2, "workers": 0})


def source_is_packed(folder: Path, monkeypatch) -> tuple[str, str]:
    path = make_packed_file(folder / "a.h5", np.zeros((2, 2, 2, 3), np.uint8))
    return error_of(pack, pack_settings(path, folder / "t.h5")), str(path)


def images_were_packed(folder: Path, monkeypatch) -> tuple[str, str]:
    (folder / "images").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (2, 2)).save(folder / "images" / f"{name}.png")
    return pack(pack_settings(folder / "images", folder / "t.h5")), str(folder / "t.h5")


def report_could_not_be_written(folder: Path, monkeypatch) -> tuple[str, list[str]]:
    def fail(_):
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr(comparison, "compare", lambda *_: None)
    monkeypatch.setattr(comparison, "write_tables", fail)
    return error_of(comparison.conclude, [str(folder)]), [str(folder)]


def runs_are_made_again(folder: Path, monkeypatch) -> tuple[str, str]:
    record = Record(Run(folder), summary={"overrides": ["steps=3", f"name={hydra_text(str(folder))}"]})
    monkeypatch.setattr(origin, "scope_of", lambda _: "experiment")
    return origin.commands([record])[0], str(folder)


MESSAGES = (
    folder_is_taken,
    run_has_no_checkpoint,
    training_ended_early,
    sweep_was_interrupted,
    book_file_is_not_packed,
    celeba_is_not_packed,
    source_is_packed,
    images_were_packed,
    report_could_not_be_written,
    runs_are_made_again,
)


@pytest.mark.parametrize("name", FOLDERS, ids=range(len(FOLDERS)))
@pytest.mark.parametrize("message", MESSAGES)
def test_every_command_of_a_message_can_be_pasted(tmp_path, monkeypatch, message, name):
    folder = tmp_path / name
    folder.mkdir()
    text, path = message(folder, monkeypatch)
    # A command ends its message. What is said as `key=…`, or as <a file>, is for the user to fill in.
    printed_command = text[text.rindex("python ") :]
    arguments = pasted(printed_command.replace("<file.h5>", "file.h5"))
    overrides = [argument for argument in arguments if "=" in argument]
    assert path in [value_of(override) for override in overrides if not override.endswith("=…")]


def test_a_new_name_for_python_is_used_as_it_stands():
    assert resume_command(Path("a b"), python=".venv/bin/python") == ".venv/bin/python train.py 'resume=\"a b\"'"
