"""What a value of the configuration may be, as an object that checks it and describes itself."""

import math
from dataclasses import dataclass
from typing import Any

# From this bound on, a description leaves it out: it only keeps numbers within what the program can hold.
NO_REAL_BOUND = 10**9


@dataclass(frozen=True)
class ValueSpec:
    """The values that a key may have.

    Attributes:
        kind: int, float, bool, str or list.
        low: smallest number.
        high: largest number.
        below: all numbers are smaller than this.
        length: of a list; None: any.
        entries: kind of a list's entries, to which the bounds apply.
        none: whether null is allowed.
        among: the texts that are allowed; of a number in addition to it; of a list as its entries.
        path: whether the texts are paths, in which a ~ at the start stands for the user's home.
    """

    kind: type
    low: float | None = None
    high: float | None = None
    below: float | None = None
    length: int | None = None
    entries: type = int
    none: bool = False
    among: tuple[str, ...] = ()
    path: bool = False

    def fits(self, value: Any) -> bool:
        """Tells whether a value, as YAML gives it, is allowed."""
        if value is None:
            return self.none
        if self.kind is list:
            return self._fits_list(value)
        if self.kind is bool or isinstance(value, bool):
            return isinstance(value, bool) and self.kind is bool
        if isinstance(value, str):
            return value in self.among if self.among else self.kind is str
        if self.kind is str:
            return False
        return self._fits_number(value)

    def _fits_list(self, value: Any) -> bool:
        if not isinstance(value, list) or self.length not in (None, len(value)):
            return False
        entry = ValueSpec(self.entries, self.low, self.high, self.below, among=self.among)
        return all(entry.fits(item) for item in value)

    def _fits_number(self, value: Any) -> bool:
        if not isinstance(value, int if self.kind is int else (int, float)):
            return False
        is_too_long = isinstance(value, int) and abs(value) >= 2**63
        if is_too_long or not math.isfinite(value):
            return False
        is_too_small = self.low is not None and value < self.low
        is_too_large = self.high is not None and value > self.high
        is_not_below = self.below is not None and value >= self.below
        return not (is_too_small or is_too_large or is_not_below)

    def __str__(self) -> str:
        """Returns the values in words, for a message: `a whole number ≥ 1 and ≤ 1,024 or auto`."""
        if self.kind is list:
            return self._list_in_words()
        if self.among and self.kind is str:
            return f"one of {', '.join(self.among)}"
        text = "text (where it looks like a number in quotes within quotes: \"'5'\")"
        name = {int: "a whole number", float: "a number", bool: "true or false", str: text}[self.kind]
        words = f"{name} {self._bounds()}".strip()
        return " or ".join([words, *self._words()])

    def _list_in_words(self) -> str:
        if self.among:
            return f"a list of some of {', '.join(self.among)}"
        entries = {int: "whole numbers", float: "numbers", str: "texts"}[self.entries]
        number = f"{self.length} " if self.length else ""
        bounds = self._bounds()
        return f"a list of {number}{entries}" + (f", each {bounds}" if bounds else "")

    def _words(self) -> list[str]:
        """Returns the texts that are allowed instead of a number, null among them."""
        words = list(self.among)
        if self.none:
            words.append("null")
        return words

    def _bounds(self) -> str:
        parts = []
        for sign, bound in (("≥", self.low), ("≤", self.high), ("<", self.below)):
            if bound is not None:
                parts.append(f"{sign} {bound:,}")
        return " and ".join(parts)

    def brief(self) -> str:
        """Returns the values as short as possible, for `--help`: `auto, tune, 1 to 1,024`; empty for any text."""
        if self.kind is bool:
            return "true, false"
        if self.kind is list:
            return self._brief_list()
        if self.kind is str:
            return ", ".join(self._words()) if self.among else ""
        return ", ".join([*self._words(), self._range()])

    def _brief_list(self) -> str:
        if self.among:
            entries = f" of {', '.join(self.among)}"
        elif self.entries is str:
            entries = ""
        else:
            entries = f" of {f'{self.length} numbers, ' if self.length else ''}{self._range()}"
        return f"{'null or ' if self.none else ''}a list{entries}"

    def _range(self) -> str:
        """Returns the bounds of numbers in short: `1 to 1,024`, `≥ 1`, `0 to < 1`."""
        has_high = self.high is not None and self.high < NO_REAL_BOUND
        if self.low is not None and has_high:
            return f"{self.low:,} to {self.high:,}"
        if self.low is not None and self.below is not None:
            return f"{self.low:,} to < {self.below:,}"
        return f"≥ {self.low:,}" if self.low is not None else "a number"
