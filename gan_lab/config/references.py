"""References such as `${optim.lr}` in a configuration: which of them a run's config.yaml may have.

A reference is resolved each time that it is read, so a value could be another one when it is used than when it was
checked. Therefore a configuration is resolved once, checked, and only the plain values are built from; and what is kept
in config.yaml refers to other keys of the same file and to nothing else: no environment, no clock, no function.
"""

import re
from collections.abc import Iterator
from typing import Any

from gan_lab.core.errors import LabError

PLAIN = re.compile(r"\$\{([A-Za-z_]\w*(?:\.\w+)*)\}")  # one key of the same file, e.g. ${optim.lr}
MOST_VALUES = 20_000  # of a configuration with its references resolved; the largest of conf/ has about 300
MOST_CHARACTERS = 2**20  # of all its texts together


def strings(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields every text in nested dicts and lists, with its dotted key."""
    if isinstance(node, str):
        yield prefix.rstrip("."), node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from strings(value, f"{prefix}{key}.")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from strings(value, f"{prefix}{index}.")


def is_plain(text: str) -> bool:
    """Tells whether a text has at most one reference, to a key, and nothing that could become one."""
    return "$" not in PLAIN.sub("", text, count=1) if "${" in text else True


def refuse_unresolved(values: dict[str, Any]) -> None:
    """Refuses values in which a reference is left, or would come to be when they are read again.

    Raises:
        LabError: naming the first such key.
    """
    for key, text in strings(values):
        if "${" in text:
            raise LabError(f"{key} holds ${{, which no value may.", "Write the value itself.", code="foreign", key=key)


def refuse_odd(raw: dict[str, Any]) -> None:
    """Refuses an unresolved configuration that refers to anything but its own keys, in circles, or without end.

    Args:
        raw: the content of a config.yaml as it stands there, its references as texts.

    Raises:
        LabError: naming the first such key.
    """
    for key, text in strings(raw):
        if not is_plain(text):
            raise LabError(f"{key} refers to something other than one key of the same file.", code="foreign", key=key)
        if key.rpartition(".")[2] == "_target_" and "${" in text:
            raise LabError(f"{key} is a reference; gan_lab writes the name itself.", code="foreign", key=key)
    _Size(raw).check()


class _Size:
    """Counts what a configuration will hold once resolved, without resolving it, which could go on without end."""

    def __init__(self, raw: dict[str, Any]):
        self.raw = raw
        self.known: dict[str, tuple[int, int]] = {}
        self.open: set[str] = set()

    def check(self) -> None:
        values, characters = self._of(self.raw)
        if values > MOST_VALUES or characters > MOST_CHARACTERS:
            raise LabError("With its references resolved it is larger than any configuration.", code="damaged")

    def _of(self, node: Any) -> tuple[int, int]:
        """Returns how many values and how many characters a node has."""
        if isinstance(node, dict | list):
            children = node.values() if isinstance(node, dict) else node
            sizes = [self._of(child) for child in children]
            return 1 + sum(values for values, _ in sizes), sum(characters for _, characters in sizes)
        if not isinstance(node, str):
            return 1, 0
        reference = PLAIN.search(node)
        values, characters = self._of_key(reference[1]) if reference else (1, 0)
        return values, characters + len(node)

    def _of_key(self, key: str) -> tuple[int, int]:
        if key in self.open:
            raise LabError(f"{key} refers to itself.", code="damaged", key=key)
        if key not in self.known:
            self.open.add(key)
            self.known[key] = self._of(self._at(key))
            self.open.remove(key)
        return self.known[key]

    def _at(self, key: str) -> Any:
        """Returns the node of a dotted key; None where there is none, which resolving will say."""
        node: Any = self.raw
        parts = key.split(".")
        for index, part in enumerate(parts):
            if isinstance(node, str) and (parent := PLAIN.fullmatch(node)):
                return self._at(".".join([parent[1], *parts[index:]]))
            if isinstance(node, list) and part.isdecimal() and int(part) < len(node):
                node = node[int(part)]
            elif isinstance(node, dict) and part in node:
                node = node[part]
            else:
                return None
        return node
