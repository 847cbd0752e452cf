"""Which objects a configuration may name with `_target_`, so that an untrusted one runs no code of its author."""

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gan_lab.core.errors import LabError
from gan_lab.core.installation import CONF

# Layers and optimisers may be any of torch's. Where they must be defined: what else these modules import isn't theirs.
LAYERS = "torch.nn"
LAYERS_DEFINED_IN = "torch.nn.modules"
OPTIMIZERS = "torch.optim"

# A key or group, and a value without references or functions.
_PLAIN_OVERRIDE = re.compile(r"[+~]{0,2}[A-Za-z_][\w./]*(=[^$@()]*)?", re.DOTALL)

_NAMED_IN_YAML = re.compile(r"^\s*(?:_target_|auto_norm):\s*(gan_lab\.[\w.]+)", re.MULTILINE)


def groups() -> set[str]:
    """Lists the groups of conf/, Hydra's own aside, and `metrics`, all of whose options are a user's own."""
    return {path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra"} | {"metrics"}


@functools.cache
def own_parts() -> frozenset[str]:
    """Lists what gan_lab's own options name: these classes and functions of gan_lab may be called, no others."""
    names: set[str] = set()
    for group in sorted(groups() - {"metrics"}):
        for file in sorted((CONF / group).rglob("*.yaml")):
            names.update(_NAMED_IN_YAML.findall(file.read_text(encoding="utf-8")))
    return frozenset(names)


@functools.cache
def option_of(group: str, target: str) -> str | None:
    """Returns the choice of a class or function, `norm=batch`; None where no option of the group names it."""
    for file in sorted((CONF / group).rglob("*.yaml")):
        if re.search(rf"_target_: {re.escape(target)}\s", file.read_text(encoding="utf-8")):
            return f"{group}={file.relative_to(CONF / group).with_suffix('').as_posix()}"
    return None


def harmless_overrides(overrides: Sequence[str]) -> list[str]:
    """Keeps the overrides that started a run, if they only choose among conf/'s options and set plain values.

    Untrusted overrides could lead Hydra to modules and YAML files of their author: by its search path, by
    `loss=../../x`, by packages (`@`), or by references, which can make one choice depend on another.

    Returns:
        All except those of Hydra and of `trust`, which only a command line may set; none if one looks like that.
    """
    candidates = [line for line in overrides if not line.strip(" \t+~").startswith(("hydra", "trust"))]
    # One that looks like an attack makes all of them suspect.
    if not all(_is_harmless(line) for line in candidates):
        return []
    return candidates


def _is_harmless(override: str) -> bool:
    if not _PLAIN_OVERRIDE.fullmatch(override):
        return False
    key, _, value = override.lstrip("+~").partition("=")
    leads_away = ".." in value or "=/" in override or "[/" in value or ",/" in value
    return key.partition("/")[0] not in groups() or not leads_away


def targets(node: Any, prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each nested dict that names something to be made, with its dotted key."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield prefix.rstrip("."), node
        for key, value in node.items():
            yield from targets(value, f"{prefix}{key}.")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from targets(value, f"{prefix}{index}.")


def within(name: str, modules: Iterable[str]) -> bool:
    """Tells whether a dotted name lies in one of these packages or modules."""
    return any(f"{name}.".startswith(f"{module}.") for module in modules)


def is_known(target: str) -> bool:
    """Tells whether a name is of gan_lab's parts, or lies among torch's layers and optimisers."""
    return target in own_parts() or within(target, (LAYERS, OPTIMIZERS))


def refuse_foreign(key: str, target: Any, trust: Sequence[str]) -> None:
    """Refuses a name that is none of gan_lab's parts, torch's layers or torch's optimisers.

    Args:
        key: the key that names it.
        target: the name.
        trust: further packages and modules, from the command line.

    Raises:
        LabError: naming the key and the way out.
    """
    # A private name can lead out of a module to what it has imported.
    is_public = isinstance(target, str) and not any(name.startswith("_") for name in target.split("."))
    if is_public and (is_known(target) or within(target, trust)):
        return
    root = str(target).partition(".")[0]
    way_out = f"If you know it and trust it, say so: trust=[{root}]"
    if root == "gan_lab":
        way_out = f"--help lists {key.partition('.')[0]}'s options."
    raise LabError(
        f"{key} would run {target}, which is none of gan_lab's parts and no layer or optimiser of torch's.",
        way_out,
        code="foreign",
        key=key,
    )


def refuse_foreign_object(key: str, target: str, obj: Any, trust: Sequence[str]) -> None:
    """Refuses an object that has a known name but is of another kind, such as `torch.nn.….os.system`.

    Args:
        key: the key that names it.
        target: its name.
        obj: the object that importing the name gave.
        trust: further packages and modules, from the command line.

    Raises:
        LabError: naming the key and the way out.
    """
    if within(target, trust) or target in own_parts():
        return
    # Imported here: torch takes seconds, and the names are checked without it.
    from torch import nn, optim

    # What an object says about itself: most kinds of objects have neither attribute.
    module = getattr(obj, "__module__", "")
    # Where a class is defined counts, not where it was imported to.
    is_layer = isinstance(obj, type) and issubclass(obj, nn.Module) and within(module, (LAYERS_DEFINED_IN,))
    is_optimizer = isinstance(obj, type) and issubclass(obj, optim.Optimizer) and within(module, (OPTIMIZERS,))
    if not is_layer and not is_optimizer:
        name = f"{module}.{getattr(obj, '__qualname__', type(obj).__name__)}"
        raise LabError(
            f"{key} would run {target}, that is {name}, which is no layer and no optimiser of torch's.",
            f"If you know it and trust it, say so: trust=[{target.partition('.')[0]}]",
            code="foreign",
            key=key,
        )
