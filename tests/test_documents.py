"""README and docs hold what they say: commands run, pictures and links are there, both languages tell the same tour."""

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
SHORTER = {  # what is said at the end of a script's command, so that it takes seconds
    "train.py": ("steps=20", "batch_size=8", "callbacks.verdict.samples=300", CACHE),
    "scripts/backquery.py": (CACHE,),
    "scripts/benchmark.py": ("rounds=1", "seconds=0.05", "images=100", CACHE),
    "scripts/check.py": (CACHE,),
    "scripts/compare.py": (),
    "scripts/evaluate.py": ("samples=300", CACHE),
    "scripts/explore.py": ("a=1", "b=2", "pairs=1", "n=4", CACHE),  # after 20 steps nothing is read as a five
    "scripts/pack.py": (),
    "scripts/results.py": (),
}
MAKES = ("hydra.run.dir=", "hydra.sweep.dir=", "target=")  # what follows is there afterwards
LEFT_OUT = {  # what a test can't have
    r"git clone |cd |\S*pip install |source |make ": "sets up another environment than the tests'",
    r".*hydra/launcher=(slurm|ray)|.*hydra/sweeper=": "needs an engine that isn't part of the tests' environment",
    r".*(fashion_mnist|cifar10|celeba)": "needs a download",
    r".*sweep/remedies": "138 runs",
}


def commands(text: str) -> list[str]:
    """A document's commands: the lines of its fences without a language or with `sh`, continued and here-documents
    in one."""
    blocks = [block for language, block in FENCE.findall(text) if language in ("", "sh")]
    return [each for block in blocks for each in COMMAND.findall(block.replace("\\\n", " "))]


def _cases() -> Iterator:
    known = set()  # what both say is run once
    for document in (README, TOUR):
        for number, each in enumerate(commands(document.read_text(encoding="utf-8")), 1):
            line, _, script = each.partition("\n")
            words = (*shlex.split(line, comments=True), script)
            if words not in known:
                short = line.partition("  #")[0].strip()
                yield pytest.param(document.stem, each, id=f"{document.stem} {number}: {short}")
            known.add(words)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A document's folder, in which its commands run one after the other, and what those left out would have made."""
    folders = {}

    def place(document: str) -> tuple[Path, set[str]]:
        if document not in folders:
            folder = tmp_path_factory.mktemp(document)
            if mnist := mnist_folder():
                (folder / "data").mkdir()
                (folder / "data" / "MNIST").symlink_to(mnist.resolve() / "MNIST")
            folders[document] = (folder, set())
        return folders[document]

    return place


@pytest.mark.slow
@pytest.mark.xdist_group("documents")
@pytest.mark.parametrize(("document", "said"), list(_cases()))
def test_every_command_runs(document, said, places):
    cwd, missing = places(document)
    line, _, script = said.partition("\n")
    words = shlex.split(line.replace("<run folder>", _newest(cwd)), comments=True)
    makes = {word.partition("=")[2] for word in words if word.startswith(MAKES)}
    reason = next((reason for which, reason in LEFT_OUT.items() if re.match(which, line)), None)
    if "mnist" in line and not (cwd / "data" / "MNIST").exists():
        reason = "no MNIST here: put it into data/MNIST/raw or name its data_dir in GAN_LAB_DATA"
    if lost := [path for path in missing if any(word.endswith(f"={path}") for word in words)]:
        reason = reason or f"{lost[0]} wasn't made: the command that makes it was left out"
    if reason:
        missing |= makes
        pytest.skip(reason)
    done = _played(words, script.removesuffix("EOF"), cwd)
    assert done.returncode == 0, done.stderr or done.stdout
    assert all((cwd / path).exists() for path in makes)


def _played(words: list[str], script: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    assert words[0] == "python", f"{words[0]}: neither python nor among LEFT_OUT"
    if words[1] not in SHORTER:
        arguments = [word for word in words[1:] if not word.startswith("<<")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, *arguments], input=script, cwd=cwd, env=environment, capture_output=True, text=True
        )
    going_on = any(word.startswith("resume=") for word in words)
    more = ["steps=40"] if going_on else SHORTER[words[1]]  # what goes on keeps its settings
    named = going_on or any(word.startswith("hydra.run.dir=") for word in words)
    if words[1] == "train.py" and not named:  # in one process they would all go to the same folder
        return command(*words[1:], *more, cwd=cwd, timeout=600)
    return command_here(*words[1:], *more, cwd=cwd)


def _newest(cwd: Path) -> str:
    """The run folder that was made last, in the place of <run folder>; "" if there is none."""
    made = sorted(cwd.glob("outputs/**/summary.json"), key=lambda file: file.stat().st_mtime_ns)
    return str(made[-1].parent.relative_to(cwd)) if made else ""


def test_commands_are_found_where_they_stand():
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
def test_every_picture_and_every_link_is_there(document):
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    assert not [each for each in LINK.findall(text) if "://" not in each and not _leads_somewhere(document, each)]


def _leads_somewhere(document: Path, link: str) -> bool:
    file, _, heading = link.partition("#")
    target = document.parent / file if file else document
    return target.exists() and (not heading or heading in _headings(target.read_text(encoding="utf-8")))


def _headings(text: str) -> set[str]:
    """The headings of a document as GitHub names them in links."""
    found = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in found}


def test_a_broken_link_is_told(tmp_path):
    (tmp_path / "there.md").write_text("# One of these: it's\n", encoding="utf-8")
    found = {link: _leads_somewhere(tmp_path / "here.md", link) for link in ("there.md", "gone.md", "there.md#one-of")}
    assert found == {"there.md": True, "gone.md": False, "there.md#one-of": False}
    assert _leads_somewhere(tmp_path / "here.md", "there.md#one-of-these-its")


def test_the_tour_is_the_same_in_both_languages():
    english, korean = (file.read_text(encoding="utf-8") for file in (TOUR, KOREAN))
    assert commands(korean) == commands(english)
    assert re.findall(r"pictures/\w+\.png", korean) == re.findall(r"pictures/\w+\.png", english)


@pytest.mark.parametrize("tour", [TOUR, KOREAN], ids=lambda file: file.name)
def test_the_tour_passes_every_statement_of_the_notes(tour):
    cited = set(re.findall(r"\bS\d+\b", tour.read_text(encoding="utf-8")))
    assert cited == {f"S{n}" for n in range(1, 19)}
