"""References such as `${optim.lr}` in a configuration: which of them a run's config.yaml may have.

A reference is resolved each time that it is read, so a value could be another one when it is used than when it was
checked. Therefore a configuration is resolved once, checked, and only the plain values are built from; and what is kept
in config.yaml refers to other keys of the same file and to nothing else: no environment, no clock, no function.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from gan_lab.core.errors import LabError

# One key of the same file, such as ${optim.lr}.
PLAIN = re.compile(r"\$\{([A-Za-z_]\w*(?:\.\w+)*)\}")
# Values of a configuration with its references resolved; the largest of conf/ has about 300.
MAX_VALUES = 20_000
# Characters of all its texts together.
MAX_CHARACTERS = 2**20


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
    if "${" not in text:
        return True
    return "$" not in PLAIN.sub("", text, count=1)


def refuse_unresolved(values: dict[str, Any]) -> None:
    """Refuses values in which a reference is left, or would come to be when they are read again.

    Raises:
        LabError: naming the first such key.
    """
    for key, text in strings(values):
        if "${" in text:
            raise LabError(f"{key} holds ${{, which no value may.", "Write the value itself.", code="foreign", key=key)


def refuse_nonplain_references(raw: dict[str, Any]) -> None:
    """Refuses an unresolved configuration that refers to anything but its own keys, in circles, or without end.

    Args:
        raw: the content of a config.yaml, with its references as texts.

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
        # By key: how many values and how many characters it has.
        self._sizes: dict[str, tuple[int, int]] = {}
        # The keys whose references are being followed: one that is reached again refers to itself.
        self._pending: set[str] = set()

    def check(self) -> None:
        """Refuses a configuration that is too large, or in which a key refers to itself.

        Raises:
            LabError: saying which of both.
        """
        values, characters = self._size(self.raw)
        if values > MAX_VALUES or characters > MAX_CHARACTERS:
            raise LabError("With its references resolved it is larger than any configuration.", code="damaged")

    def _size(self, node: Any) -> tuple[int, int]:
        """Returns how many values and how many characters a node has."""
        if isinstance(node, dict):
            return self._size_of_children(node.values())
        if isinstance(node, list):
            return self._size_of_children(node)
        if not isinstance(node, str):
            return 1, 0
        reference = PLAIN.search(node)
        if reference is None:
            return 1, len(node)
        # What the key holds takes the reference's place; the text around it is counted as well.
        values, characters = self._size_of_key(reference[1])
        return values, characters + len(node)

    def _size_of_children(self, children: Iterable[Any]) -> tuple[int, int]:
        values = 1
        characters = 0
        for child in children:
            child_values, child_characters = self._size(child)
            values += child_values
            characters += child_characters
        return values, characters

    def _size_of_key(self, key: str) -> tuple[int, int]:
        if key in self._pending:
            raise LabError(f"{key} refers to itself.", code="damaged", key=key)
        # Each key is counted once: following chains of references again and again could take forever.
        if key not in self._sizes:
            self._pending.add(key)
            self._sizes[key] = self._size(self._at(key))
            self._pending.remove(key)
        return self._sizes[key]

    def _at(self, key: str) -> Any:
        """Returns the node of a dotted key; None where there is none, which resolving will say."""
        node: Any = self.raw
        names = key.split(".")
        for index, name in enumerate(names):
            reference = PLAIN.fullmatch(node) if isinstance(node, str) else None
            if reference:
                # A part that refers to another one has the keys of that.
                return self._at(".".join([reference[1], *names[index:]]))
            if isinstance(node, list) and name.isdecimal() and int(name) < len(node):
                node = node[int(name)]
            elif isinstance(node, dict) and name in node:
                node = node[name]
            else:
                return None
        return node
