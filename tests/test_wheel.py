"""The wheel by itself: its command, its module and a notebook, from an empty folder and without the repository."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT, classifier_cache

TINY = ("steps=20", "model.width=16", "callbacks.verdict.samples=200", f"cache_dir={classifier_cache()}")
RUN_NOTEBOOK = "import nbformat, nbclient; nbclient.execute(nbformat.read('short.ipynb', as_version=4))"

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An environment with the libraries of this one, where gan_lab comes from the wheel alone."""
    folder = tmp_path_factory.mktemp("wheel")
    _checked(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    environment = folder / "environment"
    _checked(sys.executable, "-m", "venv", "--without-pip", environment, cwd=folder)
    # A path of a .pth file is searched, but its own .pth files, and with them a gan_lab under development, are not.
    packages = next(environment.glob("lib/python*/site-packages"))
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "libraries.pth").write_text("\n".join(libraries))
    python = environment / "bin" / "python"
    (wheel,) = folder.glob("gan_lab-*.whl")
    _checked(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel, cwd=folder)
    return environment / "bin"


def _checked(*arguments: object, cwd: Path) -> str:
    """Runs a program outside of the repository, and returns what it prints."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(list(map(str, arguments)), cwd=cwd, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout


def test_every_command_explains_itself(environment, tmp_path):
    listed = _checked(environment / "gan-lab", "completion", "commands", cwd=tmp_path).split()
    assert set(listed) == {"train", "completion", *(path.stem for path in (ROOT / "scripts").glob("*.py"))}
    for name in listed:
        if name != "completion":
            assert "Example" in _checked(environment / "gan-lab", name, "--help", cwd=tmp_path), name
    assert not list(tmp_path.iterdir())


def test_it_trains_and_names_the_commands_that_are_there(environment, tmp_path):
    printed = _checked(environment / "gan-lab", "train", *TINY, cwd=tmp_path)
    assert "verdict:" in printed
    assert "python train.py" not in printed
    (run,) = (tmp_path / "outputs" / "digits").iterdir()
    assert (run / "index.html").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
    code = f"import gan_lab; print(gan_lab.__file__, gan_lab.load({str(run)!r}).verdict['collapse'])"
    where, collapse = _checked(environment / "python", "-c", code, cwd=tmp_path).split()
    assert Path(where).is_relative_to(environment.parent)
    assert collapse in ("covered", "partial", "collapsed")


def test_a_notebook_runs(environment, tmp_path):
    notebook = nbformat.read(ROOT / "notebooks" / "an_ablation.ipynb", as_version=4)
    position = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    notebook.cells.insert(position + 1, nbformat.v4.new_code_cell("steps = 20; seeds = 2"))
    nbformat.write(notebook, tmp_path / "short.ipynb")
    (tmp_path / ".cache").symlink_to(classifier_cache())
    _checked(environment / "python", "-c", RUN_NOTEBOOK, cwd=tmp_path)


def test_bash_completes_the_command(environment, tmp_path):
    def completed(line: str) -> list[str]:
        code = 'compopt() { :; }; eval "$(gan-lab completion)"; _gan_lab; echo "${COMPREPLY[@]}"'
        variables = f"PATH={environment}:$PATH COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)}"
        return _checked("bash", "-c", f"export {variables}; {code}", cwd=tmp_path).split()

    assert completed("gan-lab tra") == ["train"]
    assert completed("gan-lab train loss=l") == ["lsgan"], "bash keeps what stands before ="
    assert completed("gan-lab train -m loss=bce,mse optim.l") == ["optim.lr="]
    assert completed("gan-lab train 'remedy=[r1,ema]' optim.l") == ["optim.lr="]
    assert completed("gan-lab compare ru") == ["runs="]
    assert completed("gan-lab trian lo") == []
