"""What networks and normalisations can't do, known without torch: a command refuses it at once."""

from collections.abc import Sequence

from gan_lab.core.errors import LabError


def halved_sides(shape: Sequence[int], model: str = "conv", least: int = 28) -> list[int]:
    """The sides of a convolutional network's feature maps, from the picture down: 28 → 14 → 7, 64 → 32 → 16 → 8 → 4.

    Args:
        model: the network's option, which the message names.
        least: pixels of the smallest picture that it takes.

    Raises:
        LabError: for anything but square images of `least` to 128 pixels that halve to a side of 4 to 7.
    """
    sides = [shape[-1]]
    while sides[-1] > 7 and sides[-1] % 2 == 0:
        sides.append(sides[-1] // 2)
    if len(shape) != 3 or shape[1] != shape[2] or not least <= shape[1] <= 128 or sides[-1] > 7:
        raise LabError(
            f"model={model} takes square images of {least} to 128 pixels whose side can be halved down to 4–7; "
            f"this dataset's samples have the shape {tuple(shape)}.",
            "Use model=mlp, or a dataset of such images (mnist, patches).",
        )
    return sides


def halved_sides_rounded_up(shape: Sequence[int], stages: int) -> list[int]:
    """The sides of so many feature maps, behind the picture's, odd ones halved upwards: 28 → 14 → 7 → 4 → 2.

    Raises:
        LabError: for anything but square images of at most 128 pixels, and where a map would have a side below 2.
    """
    sides = [-(-shape[-1] // 2**i) for i in range(stages + 1)]
    if len(shape) != 3 or shape[1] != shape[2] or shape[1] > 128 or sides[-1] < 2:
        raise LabError(
            f"model.stages={stages} takes square images of {2**stages + 1} to 128 pixels; this dataset's samples have "
            f"the shape {tuple(shape)}.",
            "Use model=mlp, or a dataset of such images (mnist, patches).",
        )
    return sides


Sides = tuple[int, int]


def book_generator_sides(shape: Sequence[int]) -> tuple[Sides, list[Sides], Sides]:
    """The book's convolutional generator: the sides of its first map, of the maps behind each layer, and what the last
    layer has to leave out along each edge. 128×128: 11, then 28, 62, 128, without 1 pixel.

    Raises:
        LabError: for anything but images whose sides are even and at least 50 pixels.
    """
    if len(shape) != 3 or any(side < 50 or side % 2 for side in shape[1:]):
        raise LabError(
            f"model=conv_book takes images whose sides are even and at least 50 pixels; this dataset's samples have "
            f"the shape {tuple(shape)}.",
            "Use model=conv, or pack the images with another size=.",
        )
    firsts = [-(-(side - 42) // 8) for side in shape[1:]]  # three layers make 8·first + 42
    surplus = [(8 * first + 42 - side) // 2 for first, side in zip(firsts, shape[1:], strict=True)]
    second = [2 * first + 6 for first in firsts]
    maps = [second, [2 * side + 6 for side in second], shape[1:]]
    return (firsts[0], firsts[1]), [(height, width) for height, width in maps], (surplus[0], surplus[1])


def check_norm(norm: str, shape: Sequence[int], groups: int = 1) -> None:
    """Refuses a normalisation that makes nothing of a layer's output.

    Args:
        norm: a class of `gan_lab.gan.networks.norms`, by name.
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
