"""Reads what parts declare (`gan_lab.core.declare`) from their source, without importing them."""

import ast
import functools
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gan_lab.config.types import ValueSpec
from gan_lab.core.declare import Declaration, declares
from gan_lab.core.errors import LabError
from gan_lab.core.io import read_text

# Bytes of a module's source, at most.
MAX_SOURCE = 2**20
TYPES: dict[str, type] = {"int": int, "float": float, "bool": bool, "str": str, "list": list}

# The folder that contains gan_lab.
PACKAGES = Path(__file__).resolve().parents[2]


def declared(target: Any) -> Declaration:
    """Returns what the class or function of a dotted name declares.

    Call it only for names that may be imported anyway: the source is read, not run, but what it declares is believed.

    Args:
        target: a `_target_`. A part that isn't found, or declares nothing, is unrestricted.

    Raises:
        LabError: for a declaration that isn't made of literals, or has fields that `Declaration` doesn't have.
    """
    if not isinstance(target, str):
        return Declaration()
    module, _, name = target.rpartition(".")
    path = _source_of(module)
    if path is None:
        return Declaration()
    status = path.stat()
    return _declarations_in(path, status.st_mtime_ns, status.st_size).get(name, Declaration())


def settings_of(target: Any) -> dict[str, ValueSpec]:
    """Returns the values that the settings of a part may have, as far as it declares them."""
    return {name: _spec(target, name, setting) for name, setting in declared(target).settings.items()}


def _source_of(module: str) -> Path | None:
    """Returns the file of a module: in gan_lab, in what Python can import, or in the current folder."""
    root, *submodules = module.split(".")
    if root == "torch" or not root:
        return None
    for folder in _folders_of(root):
        stem = folder.joinpath(root, *submodules)
        for path in (stem.with_suffix(".py"), stem / "__init__.py"):
            if path.is_file():
                return path
    return None


def _folders_of(root: str) -> list[Path]:
    """Returns the folders that may have a top-level package or module."""
    if root == "gan_lab":
        return [PACKAGES]
    folders = [Path.cwd()]
    # Built-in modules have no file.
    if root in sys.builtin_module_names:
        return folders
    try:
        spec = find_spec(root)
    except (ImportError, ValueError):
        return folders
    if spec and spec.submodule_search_locations:
        folders += [Path(location).parent for location in spec.submodule_search_locations]
    elif spec and spec.origin:
        folders.append(Path(spec.origin).parent)
    return folders


@functools.lru_cache(maxsize=256)
def _declarations_in(path: Path, modified: int, size: int) -> dict[str, Declaration]:
    """Returns the declarations in a file by class or function; `modified` and `size` tell its states apart."""
    try:
        tree = ast.parse(read_text(path, MAX_SOURCE))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # Importing it will say why.
        return {}
    declarations = {}
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and _name_of(decorator.func) == declares.__name__:
                declarations[node.name] = _evaluated(decorator, f"{path}: {node.name}")
    return declarations


def _name_of(function: ast.expr) -> str:
    """Returns the name by which a decorator is called, without its module; empty for any other expression."""
    if isinstance(function, ast.Attribute):
        return function.attr
    if isinstance(function, ast.Name):
        return function.id
    return ""


def _evaluated(decorator: ast.Call, place: str) -> Declaration:
    """Returns the declaration of a decorator `declares(...)`; `place` names it in a message.

    Raises:
        LabError: see `declared`.
    """
    try:
        # Only literals are evaluated, so that reading a declaration runs no code.
        fields = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in decorator.keywords}
        return Declaration(**fields)
    except (ValueError, TypeError) as error:
        raise LabError(
            f"{place} has a declaration that can't be read: {error}.",
            "declares(...) takes the fields of gan_lab.core.declare.Declaration, as literals.",
            key="declares",
        ) from error


def _spec(target: str, name: str, setting: Any) -> ValueSpec:
    """Returns the values that a declared setting may have.

    Raises:
        LabError: if the declaration of the setting is wrong.
    """
    try:
        bounds = {key: value for key, value in setting.items() if key not in ("type", "help")}
        if "entries" in bounds:
            bounds["entries"] = TYPES[bounds["entries"]]
        return ValueSpec(TYPES[setting["type"]], **bounds)
    except (AttributeError, KeyError, TypeError) as error:
        raise LabError(
            f"{target} declares its setting {name} in a way that can't be read: {error}.",
            "It needs a type and may have bounds, as in {'type': 'float', 'low': 0}.",
            key="declares",
        ) from error
