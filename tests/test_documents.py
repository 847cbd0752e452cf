"""README and docs keep their promises: commands run, pictures and links exist, both languages give the same tour."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, classifier_cache, command, command_here, mnist_folder

README, TOUR, KOREAN = ROOT / "README.md", ROOT / "docs" / "tour.md", ROOT / "docs" / "tour.ko.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^[^\n]*<<'EOF'\n.*?^EOF$|^[^\n]+$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)\)")

CACHE = f"cache_dir={classifier_cache()}"
# Overrides appended to a script's command so that it takes seconds.
SHORTER = {
    "train.py": ("steps=20", "batch_size=8", "callbacks.verdict.samples=300", CACHE),
    "scripts/backquery.py": (CACHE,),
    "scripts/benchmark.py": ("rounds=1", "seconds=0.05", "images=100", CACHE),
    "scripts/check.py": (CACHE,),
    "scripts/compare.py": (),
    "scripts/export.py": (),
    "scripts/evaluate.py": ("samples=300", CACHE),
    "scripts/explore.py": ("a=1", "b=2", "pairs=1", "n=4", CACHE),
    "scripts/pack.py": (),
    "scripts/results.py": (),
    "scripts/sample.py": ("n=4",),
}
# Arguments that name what a command makes.
OUTPUT_ARGUMENTS = ("hydra.run.dir=", "hydra.sweep.dir=", "target=")
# Commands that a test can't run, and why.
LEFT_OUT = {
    r"git clone |cd |\S*pip install |source |make ": "sets up another environment than the tests'",
    r".*hydra/launcher=(slurm|ray)|.*hydra/sweeper=": "needs a plugin that isn't in the tests' environment",
    r".*(fashion_mnist|cifar10|celeba)": "needs a download",
    r".*sweep/remedies": "399 runs",
    r"python scripts/cure\.py": "takes its whole budget; tests/cure cures",
    r"python scripts/studio\.py": "serves until it is stopped; tests/studio starts it",
}


def commands(text: str) -> list[str]:
    """Returns a document's commands: the lines of its code blocks without a language or with `sh`.

    A line continued by a backslash is one command, and so is a here-document.
    """
    lines = []
    for language, block in FENCE.findall(text):
        if language in ("", "sh"):
            lines += COMMAND.findall(block.replace("\\\n", " "))
    return lines


def _cases() -> Iterator:
    # A command that is in both documents runs once.
    yielded = set()
    for document in (README, TOUR):
        for number, text in enumerate(commands(document.read_text(encoding="utf-8")), 1):
            line, _, script = text.partition("\n")
            words = (*shlex.split(line, comments=True), script)
            if words not in yielded:
                short = line.partition("  #")[0].strip()
                yield pytest.param(document.stem, text, id=f"{document.stem} {number}: {short}")
            yielded.add(words)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """For each document a folder in which its commands run one after the other, and a set of what was not made."""
    folders = {}

    def place(document: str) -> tuple[Path, set[str]]:
        if document not in folders:
            folder = tmp_path_factory.mktemp(document)
            mnist = mnist_folder()
            if mnist is not None:
                (folder / "data").mkdir()
                (folder / "data" / "MNIST").symlink_to(mnist.resolve() / "MNIST")
            folders[document] = (folder, set())
        return folders[document]

    return place


@pytest.mark.slow
@pytest.mark.xdist_group("documents")
@pytest.mark.parametrize(("document", "text"), list(_cases()))
def test_every_command_runs(document, text, places):
    cwd, not_made = places(document)
    line, _, script = text.partition("\n")
    words = shlex.split(line.replace("<run folder>", _newest_run(cwd)), comments=True)
    outputs = {word.partition("=")[2] for word in words if word.startswith(OUTPUT_ARGUMENTS)}
    reason = _reason_to_skip(line, words, cwd, not_made)
    if reason:
        not_made |= outputs
        pytest.skip(reason)
    completed = _run(words, script.removesuffix("EOF"), cwd)
    assert completed.returncode == 0, completed.stderr or completed.stdout
    assert all((cwd / path).exists() for path in outputs)


def _reason_to_skip(line: str, words: list[str], cwd: Path, not_made: set[str]) -> str:
    """Returns why a test can't run a command; "" if it can."""
    if "mnist" in line and not (cwd / "data" / "MNIST").exists():
        return "no MNIST here: put it into data/MNIST/raw or name its data_dir in GAN_LAB_DATA"
    for pattern, reason in LEFT_OUT.items():
        if re.match(pattern, line):
            return reason
    for path in not_made:
        if any(word.endswith(f"={path}") for word in words):
            return f"{path} wasn't made: the command that makes it was left out"
    return ""


def _run(words: list[str], script: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    assert words[0] == "python", f"{words[0]}: neither python nor among LEFT_OUT"
    if words[1] not in SHORTER:
        arguments = [word for word in words[1:] if not word.startswith("<<")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, *arguments], input=script, cwd=cwd, env=environment, capture_output=True, text=True
        )
    resumes = any(word.startswith("resume=") for word in words)
    names_folder = any(word.startswith("hydra.run.dir=") for word in words)
    # A resumed run keeps its settings.
    further = ["steps=40"] if resumes else SHORTER[words[1]]
    # In one process all runs without a folder of their own would go to the same one.
    if words[1] == "train.py" and not resumes and not names_folder:
        return command(*words[1:], *further, cwd=cwd, timeout=600)
    return command_here(*words[1:], *further, cwd=cwd)


def _newest_run(cwd: Path) -> str:
    """Returns the run folder that was made last, which stands for <run folder>; "" if there is none."""
    summaries = sorted(cwd.glob("outputs/**/summary.json"), key=lambda file: file.stat().st_mtime_ns)
    if not summaries:
        return ""
    return str(summaries[-1].parent.relative_to(cwd))


def test_commands_are_found_in_code_blocks_only():
    text = """
Words. `python not_this.py`
```
python train.py loss=bce   # a comment
python train.py \\
    steps=3
```
```text
Finished: 3 steps
```
```sh
python - <<'EOF'
print(1)

print(2)
EOF
python scripts/pack.py
```
"""
    assert commands(text) == [
        "python train.py loss=bce   # a comment",
        "python train.py      steps=3",
        "python - <<'EOF'\nprint(1)\n\nprint(2)\nEOF",
        "python scripts/pack.py",
    ]


@pytest.mark.parametrize("document", [README, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda file: file.name)
def test_every_picture_and_every_link_exists(document):
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    broken = [link for link in LINK.findall(text) if "://" not in link and not _leads_somewhere(document, link)]
    assert broken == []


def _leads_somewhere(document: Path, link: str) -> bool:
    file, _, heading = link.partition("#")
    target = document.parent / file if file else document
    return target.exists() and (not heading or heading in _headings(target.read_text(encoding="utf-8")))


def _headings(text: str) -> set[str]:
    """Returns the headings of a document as GitHub names them in links."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_a_broken_link_is_noticed(tmp_path):
    (tmp_path / "there.md").write_text("# One of these: it's\n", encoding="utf-8")
    links = ("there.md", "gone.md", "there.md#one-of")
    answers = {link: _leads_somewhere(tmp_path / "here.md", link) for link in links}
    assert answers == {"there.md": True, "gone.md": False, "there.md#one-of": False}
    assert _leads_somewhere(tmp_path / "here.md", "there.md#one-of-these-its")


def test_the_tour_is_the_same_in_both_languages():
    english = TOUR.read_text(encoding="utf-8")
    korean = KOREAN.read_text(encoding="utf-8")
    assert commands(korean) == commands(english)
    assert re.findall(r"pictures/\w+\.png", korean) == re.findall(r"pictures/\w+\.png", english)


@pytest.mark.parametrize("tour", [TOUR, KOREAN], ids=lambda file: file.name)
def test_the_tour_passes_every_statement_of_the_notes(tour):
    cited = set(re.findall(r"\bS\d+\b", tour.read_text(encoding="utf-8")))
    assert cited == {f"S{n}" for n in range(1, 19)}
