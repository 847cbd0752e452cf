"""Frames and pictures of samples, pixel by pixel."""

import torch
from PIL import Image

from gan_lab.data import images, synthetic
from gan_lab.explore import animation, figures


def test_a_frame_enlarges_an_image_without_blurring():
    picture = torch.zeros(1, 1, 2, 2)
    picture[0, 0, 0, 1] = 1
    (frame,) = animation.frames(picture, ["one"], images.digits())
    corners = [frame.getpixel(place) for place in ((10, 10), (250, 10), (10, 250), (250, 250))]
    assert corners == [(0, 0, 0), (255, 255, 255), (0, 0, 0), (0, 0, 0)]
    assert [frame.getpixel((x, 10))[0] for x in (138, 141)] == [0, 255], "pixels keep their edges"


def middle_of_disc(frame: Image.Image) -> list[float]:
    """The middle of the black disc: of the black pixels with black ones around them, which thin lines don't have."""
    black = {(i, j) for i in range(400) for j in range(400) if frame.getpixel((i, j)) == (0, 0, 0)}
    inner = [(i, j) for i, j in black if {(i - 3, j), (i + 3, j), (i, j + 4)} <= black]
    return [sum(axis) / len(inner) for axis in zip(*inner, strict=True)]


def test_a_frame_shows_a_point_where_it_lies():
    points = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    left, right, up, down = map(middle_of_disc, animation.frames(points, [""] * 4, synthetic.ring(samples=200)))
    assert left[0] < up[0] - 50 < right[0] - 100
    assert up[1] < left[1] - 50 < down[1] - 100


def test_vectors_become_rows_of_cells():
    cells = figures.as_images(torch.tensor([[0.0, 1.0, float("nan")]]))
    assert cells.shape == (1, 3, 1, 3)
    brightness = cells.mean(1)[0, 0]
    assert brightness[0] == brightness[2] > brightness[1] + 0.5, "dark is high; what is missing is 0"


def test_a_sheet_names_each_row_after_its_first_sample():
    """130 samples are 11 rows of 12 with 2 places left; no sample has a caption, which would be too small to read."""
    axes = figures.sheet(torch.zeros(130, 1, 8, 8), [f"vector {i}" for i in range(130)], "title").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"vector {12 * row}" for row in range(11)]
    assert axes.images[0].get_array().shape == (11 * 9 + 1, 12 * 9 + 1, 3)
    assert not axes.texts
