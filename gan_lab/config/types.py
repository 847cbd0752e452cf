"""What a value of the configuration has to be, as an object that can tell and say so."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ValueSpec:
    """What a value has to be: a `kind`, within bounds for numbers; for lists `entries` of such a kind.

    `among`: the texts there are; of a number those that may stand in its place; of a list its entries.
    """

    kind: type
    low: float | None = None
    high: float | None = None
    below: float | None = None
    length: int | None = None
    entries: type = int
    none: bool = False
    among: tuple[str, ...] = ()

    def fits(self, value: Any) -> bool:
        if value is None:
            return self.none
        if self.kind is list:
            entry = ValueSpec(self.entries, self.low, self.high, self.below, among=self.among)
            return isinstance(value, list) and self.length in (None, len(value)) and all(map(entry.fits, value))
        if self.kind is bool or isinstance(value, bool):
            return isinstance(value, bool) and self.kind is bool
        if isinstance(value, str):
            return value in self.among if self.among else self.kind is str
        if self.kind is str:
            return False
        if not isinstance(value, int if self.kind is int else (int, float)):
            return False
        if (isinstance(value, int) and abs(value) >= 2**63) or not math.isfinite(value):
            return False
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        if self.among and self.kind is str:
            return f"one of {', '.join(self.among)}"
        if self.among and self.kind is list:
            return f"a list of some of {', '.join(self.among)}"
        bounds = " and ".join(
            f"{sign} {bound:,}"
            for sign, bound in (("≥", self.low), ("≤", self.high), ("<", self.below))
            if bound is not None
        )
        if self.kind is list:
            several = {int: "whole numbers", float: "numbers", str: "texts"}[self.entries]
            return f"a list of {f'{self.length} ' if self.length else ''}{several}" + (
                f", each {bounds}" if bounds else ""
            )
        text = "text (where it looks like a number in quotes within quotes: \"'5'\")"
        name = {int: "a whole number", float: "a number", bool: "true or false", str: text}[self.kind]
        others = "".join(f" or {other}" for other in (*self.among, *["null"] * self.none))
        return f"{name} {bounds}".strip() + others
