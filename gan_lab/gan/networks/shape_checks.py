"""Which shapes networks and normalisations can handle.

Imports no torch, so that a command can refuse a configuration immediately.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gan_lab.core.errors import LabError

# Pixels of the largest image that the networks take.
MAX_SIDE = 128

# Feature maps of at most this side are not halved any more.
MAX_SMALLEST_SIDE = 7

OTHER_MODEL = "Use model=mlp, or a dataset of such images (mnist, patches)."

# Height and width of an image or feature map.
Sides = tuple[int, int]


def _is_square_image(shape: Sequence[int]) -> bool:
    return len(shape) == 3 and shape[1] == shape[2]


def halved_sides(shape: Sequence[int], model: str = "conv", min_side: int = 28) -> list[int]:
    """Returns the sides of a convolutional network's feature maps, from the image down, each half of the one before.

    28 → 14 → 7, 64 → 32 → 16 → 8 → 4.

    Args:
        shape: of an image, `(C, H, W)`.
        model: option of the network, for the message.
        min_side: of the smallest image that the network takes.

    Raises:
        LabError: for anything but square images of `min_side` to 128 pixels that can be halved to a side of 4 to 7.
    """
    sides = [shape[-1]]
    while sides[-1] > MAX_SMALLEST_SIDE and sides[-1] % 2 == 0:
        sides.append(sides[-1] // 2)
    in_range = min_side <= shape[-1] <= MAX_SIDE and sides[-1] <= MAX_SMALLEST_SIDE
    if not (_is_square_image(shape) and in_range):
        raise LabError(
            f"model={model} takes square images of {min_side} to {MAX_SIDE} pixels whose side can be halved to 4–7; "
            f"this dataset's samples have the shape {tuple(shape)}.",
            OTHER_MODEL,
            code="conflict",
            key="model",
        )
    return sides


def halved_sides_rounded_up(shape: Sequence[int], stages: int) -> list[int]:
    """Returns the sides of an image and of `stages` feature maps, odd sides rounded up: 28 → 14 → 7 → 4 → 2.

    Raises:
        LabError: for anything but square images of at most 128 pixels whose smallest map has a side of at least 2.
    """
    # −(−a // b) is a / b, rounded up.
    sides = [-(-shape[-1] // 2**i) for i in range(stages + 1)]
    in_range = shape[-1] <= MAX_SIDE and sides[-1] >= 2
    if not (_is_square_image(shape) and in_range):
        raise LabError(
            f"model.stages={stages} takes square images of {2**stages + 1} to {MAX_SIDE} pixels; this dataset's "
            f"samples have the shape {tuple(shape)}.",
            OTHER_MODEL,
            code="conflict",
            key="model.stages",
        )
    return sides


def book_generator_sides(shape: Sequence[int]) -> tuple[Sides, list[Sides], Sides]:
    """Returns the sides of the feature maps in the book's convolutional generator (`gan_lab.gan.networks.conv_book`).

    For 128×128 the first map has a side of 11, the three layers give 28, 62 and 128, and nothing is cropped.

    Args:
        shape: of an image, `(C, H, W)`.

    Returns:
        The sides of the first map; the sides after each of the three layers; how many pixels the last layer crops at
        each edge, vertically and horizontally.

    Raises:
        LabError: for anything but images whose sides are even and at least 50 pixels.
    """
    if len(shape) != 3 or any(side < 50 or side % 2 for side in shape[1:]):
        raise LabError(
            f"model=conv_book takes images whose sides are even and at least 50 pixels; this dataset's samples have "
            f"the shape {tuple(shape)}.",
            "Use model=conv, or pack the images with another size=.",
            code="conflict",
            key="model",
        )
    heights, crop_height = _book_generator_axis(shape[1])
    widths, crop_width = _book_generator_axis(shape[2])
    maps = list(zip(heights, widths, strict=True))
    return maps[0], maps[1:], (crop_height, crop_width)


def _book_generator_axis(side: int) -> tuple[list[int], int]:
    """Returns the sizes of all maps along one axis and how many pixels to crop at each end."""
    # A layer makes 2 · size + 6 of a size, so three make 8 · first + 42: the smallest that is enough, then cropped.
    first = -(-(side - 42) // 8)
    second = 2 * first + 6
    third = 2 * second + 6
    crop = (8 * first + 42 - side) // 2
    return [first, second, third, side], crop


def check_norm(norm: str, shape: Sequence[int], groups: int = 1) -> None:
    """Refuses a normalisation that would be constant or impossible.

    Args:
        norm: name of a class of `gan_lab.gan.networks.norms`.
        shape: of the layer's output without the batch axis, `(F,)` or `(C, H, W)`.
        groups: number of groups of GroupNorm.

    Raises:
        LabError: if every output would be 0, or `groups` doesn't divide the features.
    """
    is_vector = len(shape) == 1
    features = shape[0]
    if norm == "LayerNorm" and tuple(shape) == (1,):
        raise LabError(
            "norm=layer over a single feature would always give 0.",
            "Take more than one hidden unit.",
            code="conflict",
            key="norm",
        )
    if norm == "InstanceNorm" and is_vector:
        raise LabError(
            "norm=instance needs feature maps: over one value per feature it would always give 0.",
            "Use model=conv on images, or norm=layer.",
            code="conflict",
            key="norm",
        )
    if norm == "GroupNorm" and features % groups:
        raise LabError(
            f"norm.groups={groups} does not divide a layer's {features} features.",
            f"Choose norm.groups among the divisors of {features}, or another width in model.",
            code="conflict",
            key="norm.groups",
        )
    if norm == "GroupNorm" and is_vector and features == groups:
        raise LabError(
            f"norm.groups={groups} leaves one feature in each group, which would normalise to 0.",
            "Choose fewer groups, or norm=layer.",
            code="conflict",
            key="norm.groups",
        )


def _check_conv(shape: Sequence[int], settings: Mapping[str, Any]) -> None:
    stages = settings.get("stages")
    if stages:
        halved_sides_rounded_up(shape, stages)
    else:
        halved_sides(shape)


def _check_resnet(shape: Sequence[int], settings: Mapping[str, Any]) -> None:
    halved_sides(shape, "resnet", 8)


def _check_conv_book(shape: Sequence[int], settings: Mapping[str, Any]) -> None:
    book_generator_sides(shape)


# What networks name in their declaration (`shape_check`): called with the shape of a sample and the network's settings.
CHECKS: dict[str, Callable[[Sequence[int], Mapping[str, Any]], None]] = {
    "conv": _check_conv,
    "resnet": _check_resnet,
    "conv_book": _check_conv_book,
}
