"""Where gan_lab's options and scripts lie: beside the package in a clone, inside it where a wheel was installed."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_CLONE = _PACKAGE.parent

IS_CLONE = not (_PACKAGE / "conf").is_dir()
CONF = (_CLONE if IS_CLONE else _PACKAGE) / "conf"


def script(command: str) -> Path:
    """Returns the file of a command (`train`, `check`, …), which need not exist."""
    if not IS_CLONE:
        return _PACKAGE / "scripts" / f"{command}.py"
    if command == "train":
        return _CLONE / "train.py"
    return _CLONE / "scripts" / f"{command}.py"


def commands() -> list[str]:
    """Returns the names of all commands, `train` first."""
    names = {path.stem for path in script("check").parent.glob("*.py")}
    return ["train", *sorted(names - {"train"})]


def program(command: str) -> str:
    """Returns how a command is called: `python scripts/check.py` in a clone, else `gan-lab check`."""
    if not IS_CLONE:
        return f"gan-lab {command}"
    if command == "train":
        return "python train.py"
    return f"python scripts/{command}.py"


def install_extra(extra: str) -> str:
    """Returns the command that installs an extra of pyproject.toml; double quotes, which Windows takes, too."""
    return f'pip install -e ".[{extra}]"' if IS_CLONE else f'pip install "gan_lab[{extra}]"'
