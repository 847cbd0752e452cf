"""The notebooks run from an empty folder, are stored without outputs, and say the same in both languages."""

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import ROOT, classifier_cache

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# What the cell with the tag `parameters` says, for runs of seconds.
SHORT = {
    "the_books_path": "steps = 20",
    "the_books_path.ko": "steps = 20",
    "your_own_images": "steps = 5",
    "an_ablation": "steps = 20; seeds = 2",
}


def _cells(notebook: Path) -> list[dict[str, Any]]:
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def _code(notebook: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in _cells(notebook) if cell["cell_type"] == "code"]


def test_there_are_three_notebooks_and_a_korean_one():
    assert {path.stem for path in NOTEBOOKS} == set(SHORT)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs_and_installs_only_what_is_missing(notebook):
    nbformat.validate(nbformat.read(notebook, as_version=4))
    cells = _cells(notebook)
    for cell in cells:
        assert (cell.get("execution_count"), cell.get("outputs", [])) == (None, [])
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in cells) == 1
    first, *others = _code(notebook)
    *condition, install = first.splitlines()
    assert install == "    %pip install --quiet $SOURCE"
    assert condition[-1].startswith("if package is None or package.origin is None:")
    assert not any("%pip" in code or "!pip" in code for code in others)


def test_the_korean_notebook_has_the_code_of_the_english_one():
    english, korean = ROOT / "notebooks" / "the_books_path.ipynb", ROOT / "notebooks" / "the_books_path.ko.ipynb"
    assert _code(korean) == _code(english)
    assert [cell["cell_type"] for cell in _cells(korean)] == [cell["cell_type"] for cell in _cells(english)]


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook, tmp_path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # The label classifier of the digits, which other tests have trained.
    (tmp_path / ".cache").symlink_to(classifier_cache())
    content = nbformat.read(notebook, as_version=4)
    position = next(i for i, cell in enumerate(content.cells) if "parameters" in cell.metadata.get("tags", []))
    content.cells.insert(position + 1, nbformat.v4.new_code_cell(SHORT[notebook.stem]))
    # It raises the error of a cell.
    NotebookClient(content, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in content.cells if cell.cell_type == "code" for output in cell.outputs]
    streams = [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"]
    assert streams == [], "a notebook shows it in red"
    pages = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert any("data:image/gif;base64," in page for page in pages), "a film"
