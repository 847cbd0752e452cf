"""What may help: the changes that are tried, those first that are suggested for the failure at hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from gan_lab.config.experiment_file import STRENGTHS, entries_of, values_of_option, with_changes
from gan_lab.core.installation import CONF
from gan_lab.cure.plan import UNCHANGED

FILE = Path(__file__).with_name("candidates.yaml")
# Between the names of a pair.
AND = " + "


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
    by_effect: dict[frozenset[str], Candidate] = {}
    for candidate in candidates():
        effect = frozenset(change for change in candidate.changes if not _is_so_already(change, settings, remedies))
        if not effect or not _has_its_keys(candidate, settings):
            continue
        # Of a patient that has a part of a recipe, two candidates may change the same: the shorter one says what.
        same = by_effect.get(effect, candidate)
        by_effect[effect] = min(same, candidate, key=lambda either: len(either.changes))
    tried = list(by_effect.values())

    def rank(candidate: Candidate) -> int:
        places = [failures.index(failure) for failure in candidate.against if failure in failures]
        return min(places, default=len(failures))

    # Sorting is stable: within a failure the order of the file counts.
    return sorted(tried, key=rank)


def pairs(best: Sequence[Candidate]) -> list[Candidate]:
    """Returns the pairs of candidates that can be combined: of other groups, and remedies of the same strength."""
    combined = []
    for first, second in combinations(best, 2):
        common = (_heads(first) & _heads(second)) - {"remedy"}
        remedies = [*_remedies(first), *_remedies(second)]
        is_twice = len(set(remedies)) < len(remedies)
        is_other_strength = bool(_remedies(first) and _remedies(second)) and _strength(first) != _strength(second)
        if common or is_twice or is_other_strength:
            continue
        changes = [change for change in (*first.changes, *second.changes) if not change.startswith("remedy=")]
        if remedies:
            strength = _strength(first) or _strength(second)
            names = [name for name in remedies if name not in STRENGTHS]
            changes.append(f"remedy=[{','.join([*names, *strength])}]")
        against = tuple(dict.fromkeys([*first.against, *second.against]))
        name = f"{first.name}{AND}{second.name}"
        combined.append(Candidate(name, tuple(changes), against, first.cost * second.cost))
    return combined


def candidate_named(name: str, tried: Sequence[Candidate]) -> Candidate:
    """Returns the patient, a candidate or a pair of candidates by its name.

    Raises:
        KeyError: if there is none of this name.
    """
    by_name = {candidate.name: candidate for candidate in (PATIENT, *tried)}
    if name in by_name:
        return by_name[name]
    first, _, second = name.partition(AND)
    (pair,) = pairs([by_name[first], by_name[second]])
    return pair


def _heads(candidate: Candidate) -> set[str]:
    """Returns the groups, and the keys without one, that a candidate says something of."""
    return {change.partition("=")[0].partition(".")[0] for change in candidate.changes}


def _strength(candidate: Candidate) -> list[str]:
    return [name for name in _remedies(candidate) if name in STRENGTHS]


def _has_its_keys(candidate: Candidate, settings: Mapping[str, Any]) -> bool:
    """Returns whether each value that a candidate sets is read: convolutional networks have no `model.width`."""
    chosen = {change.partition("=")[0] for change in candidate.changes}
    for key in chosen:
        is_of_choice = key.partition(".")[0] in chosen
        if not (CONF / key).is_dir() and not is_of_choice and settings and key not in settings:
            return False
    return True


def _remedies(candidate: Candidate) -> list[str]:
    for change in candidate.changes:
        if change.startswith("remedy="):
            return entries_of(change.removeprefix("remedy="))
    return []


def _is_so_already(change: str, settings: Mapping[str, Any], remedies: Sequence[str]) -> bool:
    key, _, value = change.partition("=")
    if key == "remedy":
        return set(entries_of(value)) <= set(remedies)
    option = CONF / key / f"{value}.yaml"
    if not option.is_file():
        return str(settings.get(key)) == str(yaml.safe_load(value))
    target = yaml.safe_load(option.read_text(encoding="utf-8")).get("_target_")
    values = values_of_option(key, value)
    # A preset that builds on another option has no target of its own.
    is_chosen = target is not None and settings.get(f"{key}._target_") == target
    return is_chosen and all(settings.get(f"{key}.{name}") == entry for name, entry in values.items())
