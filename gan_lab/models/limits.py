"""What networks and normalisations can't do, known without torch: a command refuses it at once."""

from collections.abc import Sequence

from gan_lab.errors import LabError


def halvings(shape: Sequence[int]) -> list[int]:
    """The sides of a convolutional network's feature maps, from the picture down: 28 → 14 → 7, 64 → 32 → 16 → 8 → 4.

    Raises:
        LabError: for anything but square images of 28 to 64 pixels that halve to a side of 4 to 7.
    """
    sides = [shape[-1]]
    while sides[-1] > 7 and sides[-1] % 2 == 0:
        sides.append(sides[-1] // 2)
    if len(shape) != 3 or shape[1] != shape[2] or not 28 <= shape[1] <= 64 or sides[-1] > 7:
        raise LabError(
            f"model=conv takes square images of 28 to 64 pixels whose side can be halved down to 4–7; "
            f"this dataset's samples have the shape {tuple(shape)}.",
            "Use model=mlp, or a dataset of such images (mnist, fashion_mnist).",
        )
    return sides


def check_norm(norm: str, shape: Sequence[int], groups: int = 1) -> None:
    """Refuses a normalisation that makes nothing of a layer's output.

    Args:
        norm: a class of `gan_lab.models.blocks`, by name.
        shape: of the output without the batch axis, `(F,)` or `(C, H, W)`.

    Raises:
        LabError: where every output would be 0, or `groups` doesn't divide the features.
    """
    flat = len(shape) == 1
    if norm == "LayerNorm" and tuple(shape) == (1,):
        raise LabError("norm=layer over a single feature would always give 0.", "Take more than one hidden unit.")
    if norm == "InstanceNorm" and flat:
        raise LabError(
            "norm=instance needs feature maps: over one value per feature it would always give 0.",
            "Use model=conv on images, or norm=layer.",
        )
    if norm == "GroupNorm" and shape[0] % groups:
        raise LabError(
            f"norm.groups={groups} does not divide a layer's {shape[0]} features.",
            f"Choose norm.groups among the divisors of {shape[0]}, or another width in model.",
        )
    if norm == "GroupNorm" and flat and shape[0] == groups:
        raise LabError(
            f"norm.groups={groups} leaves one feature in each group, which would normalise to 0.",
            "Choose fewer groups, or norm=layer.",
        )
