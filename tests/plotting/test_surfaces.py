"""D's answer as a surface: arrows by hand, colours of the answers, and a figure that shows the newest landscape."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from gan_lab.plotting.surfaces import (
    ANSWER_COLOURS,
    AnswerScale,
    Landscape,
    SampleAnswers,
    SurfaceFigure,
    arrow_lengths,
    draw_answers,
)

PROBABILITY = AnswerScale(is_probability=True, neutral=0.5, is_absolute=True)


def _landscape(answer: float, scale: AnswerScale = PROBABILITY) -> Landscape:
    points = torch.tensor([[0.1, 0.2], [5.0, 0.0]])
    return Landscape(
        window=(-1.0, 1.0, -1.0, 1.0),
        answers=torch.full((4, 4), answer),
        scale=scale,
        real=points[:1],
        fakes=points,
        starts=points[:1],
        pulls=torch.tensor([[1.0, 0.0]]),
        latent_lines=torch.zeros(0, 3, 2),
    )


def test_arrows_have_the_direction_of_the_pull_and_a_bounded_length():
    pulls = torch.tensor([[3.0, 4.0], [0.0, 0.0], [float("nan"), 1.0], [3e6, 4e6]])
    arrows = arrow_lengths(pulls, width=2.0)
    # u = 5 · 2 = 10, so the length is 0.12 · 2 · 10 / (10 + 4).
    length = 0.12 * 2 * 10 / 14
    assert arrows[0].tolist() == pytest.approx([0.6 * length, 0.8 * length])
    assert arrows[1].tolist() == [0, 0]
    assert arrows[2].isfinite().all()
    assert arrows[3].norm().item() == pytest.approx(0.12 * 2, rel=1e-5)


@pytest.mark.parametrize(
    ("scale", "neutral", "fake", "real"),
    [
        (PROBABILITY, 0.5, 0.0, 1.0),
        # With smoothed labels D answers 0.45 when it can't tell.
        (AnswerScale(is_probability=True, neutral=0.45, is_absolute=True), 0.45, 0.0, 1.0),
        (AnswerScale(is_probability=False, neutral=7.0, is_absolute=False), 7.0, 4.0, 10.0),
    ],
)
def test_the_neutral_answer_is_white_fake_is_orange_and_real_is_blue(scale, neutral, fake, real):
    surface = SurfaceFigure()
    colours = []
    for answer in (neutral, fake, real):
        figure = surface.show(_landscape(answer, scale), "title")
        (image,) = figure.axes[0].images
        colours.append(image.to_rgba(image.get_array())[0, 0, :3])
    assert colours[0] == pytest.approx([1, 1, 1], abs=0.02)
    assert colours[1] == pytest.approx(to_rgb("#f5a455"), abs=0.01)
    assert colours[2] == pytest.approx(to_rgb("#6ba6da"), abs=0.01)
    assert np.allclose(ANSWER_COLOURS(0.0)[:3], to_rgb("#f5a455"), atol=0.01)


def test_a_figure_shows_the_newest_landscape_in_the_same_window():
    surface = SurfaceFigure()
    surface.show(_landscape(0.2), "step 0")
    limits = surface.figure.axes[0].get_xlim()
    figure = surface.show(_landscape(0.9), "step 1")
    axes = figure.axes[0]
    assert axes.get_title() == "step 1"
    assert axes.get_xlim() == limits == (-1, 1)
    assert axes.images[0].get_array().max() == pytest.approx(0.9)
    assert [text.get_text() for text in axes.texts] == ["1 of 2 samples lie outside"]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 4, 4), (4,)])
def test_answers_stand_under_generated_and_real_samples(shape):
    samples = torch.rand(2, *shape)
    pulls = torch.randn(2, *shape)
    answers = SampleAnswers(samples, torch.tensor([0.1, 0.2]), pulls, samples, torch.tensor([0.8, 0.9]), PROBABILITY)
    figure = draw_answers(answers, "$\\frac{ <script>")
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts == ["0.10", "0.20", "0.80", "0.90"]
    # Three rows of samples and the colour bar; without pulls only generated and real ones.
    assert len(figure.axes) == 4
    without = draw_answers(replace(answers, pulls=pulls[:0]), "title")
    assert len(without.axes) == 2
