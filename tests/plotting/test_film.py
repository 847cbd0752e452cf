"""Films: which frames are kept, for how long they are shown, what stands on them, and how large they are."""

import io

import numpy as np
import pytest
from PIL import Image

from gan_lab.plotting import film
from gan_lab.plotting.film import MAX_BYTES, Panel, Shot, durations, evenly, film_frames, film_gif, gif, side_by_side

HOSTILE = ["<script>alert(1)</script>", "$\\frac{", "x" * 3_000, "숫자 둘", "a\nb\x1b[31m", ""]


def _noise(seed: int, size: tuple[int, int] = (60, 40), channels: int = 3) -> Image.Image:
    shape = (size[1], size[0], channels) if channels > 1 else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def _read(content: bytes) -> tuple[list[Image.Image], list[int]]:
    """The frames of a GIF and their durations."""
    frames = []
    times = []
    with Image.open(io.BytesIO(content)) as image:
        for i in range(image.n_frames):
            image.seek(i)
            frames.append(image.convert("RGB"))
            times.append(image.info["duration"])
    return frames, times


def test_frames_are_left_out_evenly_but_never_the_first_or_the_last():
    assert evenly(5, 8) == [0, 1, 2, 3, 4]
    assert evenly(9, 5) == [0, 2, 4, 6, 8]
    assert evenly(100, 4) == [0, 33, 66, 99]
    assert evenly(100, 2) == [0, 99]


def test_the_last_frame_stays_longer():
    # 8 seconds for all, at most 0.6 and at least 0.1 for one.
    assert durations(3) == [600, 600, 4000]
    assert durations(20) == [400] * 19 + [4000]
    assert durations(48) == [160] * 47 + [4000]
    assert durations(1) == [4000]


def test_a_film_shows_every_picture_with_its_caption_and_the_verdict_on_the_last():
    shots = [Shot(_noise(seed), f"step {seed}", seed / 2) for seed in range(3)]
    frames = film_frames(shots, "It makes only the 8.")
    assert {frame.size for frame in frames} == {(60, frames[0].height)}
    for shot, frame in zip(shots, frames, strict=True):
        assert np.array_equal(np.asarray(frame)[:40], np.asarray(shot.picture))
    strips = [np.asarray(frame.convert("L"))[40:] for frame in frames]
    # The bar is dark up to the part of the training that has passed.
    assert [(strip[0] < 128).mean() for strip in strips] == [0, 0.5, 1]
    # Text below the caption's line is on the last frame only.
    second_line = [(strip[film.STRIP_BAR + film.STRIP_MARGIN + film.STRIP_LINE :] < 128).any() for strip in strips]
    assert second_line == [False, False, True]
    read, times = _read(film_gif(frames))
    assert len(read) == 3
    assert times == [600, 600, 4000]


def test_equal_frames_give_equal_bytes():
    frames = [_noise(1), _noise(2)]
    assert gif(frames, 100) == gif([frame.copy() for frame in frames], [100, 100])


def test_a_long_film_is_thinned_out_until_it_is_small():
    """Noise can't be compressed; the first and the last frame are grey, and stay."""
    grey = [Image.new("L", (120, 120), level) for level in (10, 240)]
    frames = [grey[0], *(_noise(seed, (120, 120), 1) for seed in range(40)), grey[1]]
    whole = film_gif(frames)
    small = film_gif(frames, max_bytes=len(whole) // 2)
    assert len(small) <= len(whole) // 2
    read, _ = _read(small)
    assert 12 <= len(read) < 42
    assert [frame.getpixel((60, 60))[0] for frame in (read[0], read[-1])] == [10, 240]
    tiny, _ = _read(film_gif(frames, max_bytes=20_000))
    assert len(tiny) == 12, "not fewer, but smaller ones"
    assert tiny[0].width < 120
    assert MAX_BYTES == 3_000_000


@pytest.mark.parametrize("text", HOSTILE, ids=["script", "formula", "long", "korean", "control", "empty"])
def test_any_text_is_drawn_as_text(text):
    picture = _noise(0, (200, 50))
    frames = film_frames([Shot(picture, text, 0), Shot(picture, "", 1)], text)
    # At most one line for the caption and two for the words.
    highest = 50 + film.STRIP_BAR + 2 * film.STRIP_MARGIN + 3 * film.STRIP_LINE
    assert all(frame.width == 200 and frame.height <= highest for frame in frames)
    assert (np.asarray(frames[0].convert("L"))[50 + film.STRIP_BAR :] < 128).any() == bool(text)
    assert side_by_side([Panel(picture, text, text), Panel(picture, "b", "")]).width <= film.SHEET_WIDTH


def test_panels_side_by_side_are_in_rows_of_about_the_same_length():
    def size(number: int) -> tuple[int, int]:
        sheet = side_by_side([Panel(_noise(0, (100, 100)), "name", "1 of 8") for _ in range(number)])
        return sheet.size

    assert size(2)[0] == 2 * film.MAX_PANEL_WIDTH
    assert size(3)[0] == 3 * (film.SHEET_WIDTH // 3)
    assert size(6)[0] == 6 * (film.SHEET_WIDTH // 6)
    # 8 panels: two rows of 4.
    width, height = size(8)
    assert width == 4 * (film.SHEET_WIDTH // 4)
    assert height > width / 2
