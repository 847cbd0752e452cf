"""What a part says about itself: `@declares(...)` in front of a class or function that a configuration may name.

The facts are literals, so that they can be read from the source without importing it (and torch with it): see
`gan_lab.config.declarations`. A part that declares nothing is unrestricted, except that `trainer=ddp` takes only
remedies that declare `per_sample`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

Part = TypeVar("Part", bound=Callable[..., Any])

# What can be in the way of a part besides other parts: names for `conflicts`.
SITUATIONS = {
    "batch_of_one": "batch_size=1",
    "one_vector": "batch_size=1 in a network without feature maps",
    "replicas": "replicas=2 or more",
    "ddp": "several processes, which share each batch",
    "conditional": "conditional=true",
}


@dataclass(frozen=True)
class Declaration:
    """The facts about one part.

    Attributes:
        conflicts: what the part can't be combined with: a name of `SITUATIONS`, or another part by its class
            (`TopK`, `conv_book.Discriminator`), each with the reason and a way out.
        per_sample: of a remedy, whether it treats each sample independently and draws no random numbers: then several
            processes give what one gives.
        partial: of a remedy, whether it is built when the other parts are there (`_partial_: true`).
        settings: the values that its settings may have: `type` ("int", "float", "bool", "str", "list"), the bounds of
            `gan_lab.config.types.ValueSpec`, and `help`, one line.
        sample_shape: of a dataset, the shape of a sample.
        licence: of a dataset, what its authors allow; empty where that isn't known.
        shape_check: of a network, which shapes it can make: a name of `gan_lab.gan.networks.shape_checks.CHECKS`.
        vectors: of a network, whether its hidden layers are vectors, not feature maps.
        weak, strong: of a remedy, the settings with which it has less or more influence than with the published ones,
            which are those in conf/remedy/.
    """

    conflicts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    per_sample: bool = False
    partial: bool = False
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sample_shape: tuple[int, ...] | None = None
    licence: str = ""
    shape_check: str | None = None
    vectors: bool = False
    weak: Mapping[str, Any] = field(default_factory=dict)
    strong: Mapping[str, Any] = field(default_factory=dict)


_DECLARATIONS: dict[object, Declaration] = {}


def declares(
    *,
    conflicts: Mapping[str, tuple[str, str]] | None = None,
    per_sample: bool = False,
    partial: bool = False,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    sample_shape: tuple[int, ...] | None = None,
    licence: str = "",
    shape_check: str | None = None,
    vectors: bool = False,
    weak: Mapping[str, Any] | None = None,
    strong: Mapping[str, Any] | None = None,
) -> Callable[[Part], Part]:
    """Attaches facts to a class or function; see `Declaration`. All arguments have to be literals."""
    declaration = Declaration(
        conflicts=conflicts or {},
        per_sample=per_sample,
        partial=partial,
        settings=settings or {},
        sample_shape=sample_shape,
        licence=licence,
        shape_check=shape_check,
        vectors=vectors,
        weak=weak or {},
        strong=strong or {},
    )

    def attach(part: Part) -> Part:
        _DECLARATIONS[part] = declaration
        return part

    return attach


def declaration_of(part: object) -> Declaration:
    """Returns what an imported class or function declares itself; what it inherits doesn't count."""
    return _DECLARATIONS.get(part, Declaration())
