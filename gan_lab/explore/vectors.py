"""Latent vectors by number, and by what a generator makes of them."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gan_lab.core.errors import LabError
from gan_lab.core.rng import make_generator
from gan_lab.explore.reading import Reader
from gan_lab.gan.latent import set_labels
from gan_lab.training.gan_module import GANModule

BATCH = 500  # vectors tried, or fed to G, at once


class Wanted(NamedTuple):
    """A latent vector as the user names it: by its number, or by the class that its sample is read as.

    A conditional GAN's vector has a class in it, drawn like the rest; one that is named by its class asks for that one.
    """

    number: int | None = None
    label: int | None = None

    def following(self, steps: int, classes: int) -> "Wanted":
        """The vector, or the class, that comes so many after this one; after the last class comes the first."""
        if self.number is not None:
            return Wanted(number=self.number + steps)
        assert self.label is not None
        return Wanted(label=(self.label + steps) % classes)

    def __str__(self) -> str:
        return f"{self.number}" if self.number is not None else f"class{self.label}"


@dataclass
class Vectors:
    """A run's numbered latent vectors, what G makes of them, and what that is read as."""

    module: GANModule
    reader: Reader

    def of(self, numbers: Sequence[int], labels: Sequence[int | None] | int | None = None) -> Tensor:
        """The vectors of these numbers, `(n, latent_dim)`.

        Args:
            labels: of a conditional GAN, the class that each (or all) is to ask for; None: as drawn.
        """
        shape = (1, self.module.latent_dim)
        drawn = [self.module.latent(shape, make_generator(number, "explore")) for number in numbers]
        own = labels if isinstance(labels, Sequence) else [labels] * len(drawn)
        return torch.cat([self.asking(z, label) for z, label in zip(drawn, own, strict=True)])

    def asking(self, z: Tensor, label: int | None) -> Tensor:
        """Vectors that ask for a class if they can; None: as they are."""
        if not self.module.classes or label is None:
            return z
        return set_labels(z, torch.full(z.shape[:-1], label), self.module.classes)

    def sample(self, z: Tensor) -> Tensor:
        """Samples `(n, *shape)` of `z`, on the CPU."""
        return torch.cat([self.module.sample(part).float().cpu() for part in z.split(BATCH)])

    def numbers(self, wanted: Sequence[Wanted], confidence: float, first: int, tries: int) -> list[int]:
        """A number for each that is wanted; those wanted by class are all different.

        Args:
            confidence: with which a sample has to be read as the class, at least.
            first: the number from which on vectors are tried, in order.
            tries: how many are tried at most.

        Raises:
            LabError: if for some none is found among so many tried.
        """
        found = {index: each.number for index, each in enumerate(wanted) if each.number is not None}
        open_places: dict[int, deque[int]] = {}
        for index, each in enumerate(wanted):
            if each.label is not None:
                open_places.setdefault(each.label, deque()).append(index)
        made: Counter[int] = Counter()
        end = first + tries
        for start in range(first, end, BATCH):
            if not any(open_places.values()):
                break
            tried = range(start, min(start + BATCH, end))
            still = [label for label, places in open_places.items() if places]
            makers: set[tuple[int, int]] = set()  # vectors and the classes that they make
            for asked in still if self.module.classes else [None]:
                labels, confidences = self.reader(self.sample(self.of(tried, asked)))
                made.update(labels.tolist())
                read = zip(tried, labels.tolist(), confidences.tolist(), strict=True)
                makers |= {(k, label) for k, label, sure in read if sure >= confidence and asked in (None, label)}
            for number in tried:
                label = next((each for each in still if open_places[each] and (number, each) in makers), None)
                if label is not None:
                    found[open_places[label].popleft()] = number
        if lacking := [label for label, places in open_places.items() if places]:
            asked = sum(each.label == lacking[0] for each in wanted)
            got = asked - len(open_places[lacking[0]])
            most = ", ".join(f"{self.reader.name(each)} ({times:,} times)" for each, times in made.most_common(3))
            raise LabError(
                f"Among {tries:,} latent vectors tried, {got:,} make {self.reader.name(lacking[0])}, "
                f"read with confidence ≥ {confidence:g}; asked for: {asked:,}.\n"
                f"What this run makes most: {most}.",
                f"Try more (tries={10 * tries}), ask for less (confidence={confidence / 2:g}), or take another class.",
            )
        return [found[index] for index in range(len(wanted))]
