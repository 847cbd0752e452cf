"""What may help: the changes that are tried, those first that are suggested for the failure at hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from gan_lab.config.experiment_file import with_changes
from gan_lab.core.installation import CONF

FILE = Path(__file__).with_name("candidates.yaml")
UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Candidate:
    """A change that may help.

    Attributes:
        name: for people.
        changes: overrides of the patient's training; none for the patient itself.
        against: the failures for which it is suggested.
        cost: of a step, relative to the patient's; a guess.
        source: who suggests it; "" for nobody.
    """

    name: str
    changes: tuple[str, ...]
    against: tuple[str, ...] = ()
    cost: float = 1.0
    source: str = ""

    @property
    def slug(self) -> str:
        """Its name as that of a file: 'R1 (weak)' → 'r1-weak'."""
        letters = [letter if letter.isascii() and letter.isalnum() else "-" for letter in self.name.lower()]
        return "-".join("".join(letters).replace("-", " ").split())

    @property
    def is_patient(self) -> bool:
        return not self.changes

    def overrides(self, patient: Sequence[str], remedies: Sequence[str]) -> list[str]:
        """Returns the overrides of a training with these changes.

        Args:
            patient: overrides of the patient.
            remedies: of the patient, by the names of their options.
        """
        return with_changes(patient, self.changes, remedies)


PATIENT = Candidate(UNCHANGED, ())


def candidates() -> list[Candidate]:
    """Reads the candidates, a remedy's strengths after its published one."""
    entries = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    found = []
    for entry in entries:
        changes = tuple(entry["changes"])
        details = (tuple(entry.get("against", ())), float(entry.get("cost", 1)), str(entry.get("source", "")))
        found.append(Candidate(entry["name"], changes, *details))
        for strength in entry.get("strengths", ()):
            stronger = tuple(change.replace("]", f",{strength}]") for change in changes)
            found.append(Candidate(f"{entry['name']} ({strength})", stronger, *details))
    return found


def in_order(failures: Sequence[str], settings: Mapping[str, Any], remedies: Sequence[str]) -> list[Candidate]:
    """Returns the candidates in the order in which they are tried; without those that would change nothing.

    Args:
        failures: of the patient, the main one first.
        settings: of the patient, by dotted key.
        remedies: of the patient, by the names of their options.
    """
    tried = [candidate for candidate in candidates() if not _changes_nothing(candidate, settings, remedies)]

    def rank(candidate: Candidate) -> int:
        places = [failures.index(failure) for failure in candidate.against if failure in failures]
        return min(places, default=len(failures))

    # Sorting is stable: within a failure the order of the file counts.
    return sorted(tried, key=rank)


def pairs(best: Sequence[Candidate]) -> list[Candidate]:
    """Returns the pairs of candidates that can be combined: no two that say something of the same group."""
    combined = []
    for first, second in combinations(best, 2):
        keys = [
            {change.partition("=")[0].partition(".")[0] for change in candidate.changes}
            for candidate in (first, second)
        ]
        common = (keys[0] & keys[1]) - {"remedy"}
        is_same_remedy = set(_remedies(first)) & set(_remedies(second))
        if common or is_same_remedy:
            continue
        changes = [*first.changes, *second.changes]
        remedies = [*_remedies(first), *_remedies(second)]
        changes = [change for change in changes if not change.startswith("remedy=")]
        if remedies:
            changes.append(f"remedy=[{','.join(remedies)}]")
        against = tuple(dict.fromkeys([*first.against, *second.against]))
        cost = first.cost * second.cost
        combined.append(Candidate(f"{first.name} + {second.name}", tuple(changes), against, cost))
    return combined


def _remedies(candidate: Candidate) -> list[str]:
    for change in candidate.changes:
        if change.startswith("remedy="):
            return change.removeprefix("remedy=").strip("[]").split(",")
    return []


def _changes_nothing(candidate: Candidate, settings: Mapping[str, Any], remedies: Sequence[str]) -> bool:
    return all(_is_so_already(change, settings, remedies) for change in candidate.changes)


def _is_so_already(change: str, settings: Mapping[str, Any], remedies: Sequence[str]) -> bool:
    key, _, value = change.partition("=")
    if key == "remedy":
        return set(value.strip("[]").split(",")) <= set(remedies)
    option = CONF / key / f"{value}.yaml"
    if not option.is_file():
        return str(settings.get(key)) == str(yaml.safe_load(value))
    content = yaml.safe_load(option.read_text(encoding="utf-8")) or {}
    values = {name: entry for name, entry in content.items() if name not in ("_partial_", "defaults")}
    # A preset that builds on another option has no target of its own.
    return "_target_" in values and all(settings.get(f"{key}.{name}") == entry for name, entry in values.items())
