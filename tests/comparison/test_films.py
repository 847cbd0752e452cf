"""Films from run folders: which pictures and numbers are on them, and what damaged or hostile folders do."""

import io
import json

import pytest
from PIL import Image

from gan_lab.comparison import films
from gan_lab.comparison.films import ModeCount, mode_counts, picture_steps, sheet_film, write_film
from gan_lab.core.run_folder import Run

SENTENCE = "Collapsed: it makes only the 8. The samples do not look like the data.\n1 of 10 digits in 100 samples."


def _run(folder, steps=(0, 100, 200), size=(80, 40), table="") -> Run:
    run = Run(folder)
    run.images.mkdir(parents=True)
    for step in steps:
        Image.new("L", size, step % 256).save(run.images / f"samples_{step:07d}.png")
    run.metrics.write_text(table or "step,loss/g,metric/modes_valid,metric/modes_total\n100,1.5,4,10\n150,1.5,,\n")
    return run


def _summary(steps=200, **changes) -> dict:
    return {"steps": steps, "status": "finished", "error": None, "verdict": {"sentence": SENTENCE}, **changes}


@pytest.fixture
def shown(monkeypatch) -> list:
    """The pictures with their captions, and the last words, of each film that is made."""
    made = []
    film_frames = films.film_frames

    def record(shots, words):
        made.append(([shot.caption for shot in shots], words))
        return film_frames(shots, words)

    monkeypatch.setattr(films, "film_frames", record)
    return made


def _frames(content: bytes) -> int:
    with Image.open(io.BytesIO(content)) as film:
        return film.n_frames


def test_a_number_stands_only_where_it_was_counted(tmp_path, shown):
    run = _run(tmp_path / "run")
    assert write_film(run, _summary(), "digits") == [run.film]
    assert shown == [(["step 0", "step 100 · 4 of 10 digits", "step 200"], "Collapsed: it makes only the 8.")]
    assert _frames(run.film.read_bytes()) == 3
    first = run.film.read_bytes()
    write_film(run, _summary(), "digits")
    assert run.film.read_bytes() == first, "the same bytes"


def test_pictures_of_later_steps_than_the_run_has_are_left_out(tmp_path, shown):
    """A run that was killed after its last checkpoint has some; resumed, it may end before them."""
    run = _run(tmp_path / "run", steps=(0, 100, 200, 300))
    write_film(run, _summary(steps=200), "digits")
    assert [caption.split(" ·")[0] for caption in shown[0][0]] == ["step 0", "step 100", "step 200"]


def test_a_failed_run_says_why_and_an_interrupted_one_its_step(tmp_path, shown):
    run = _run(tmp_path / "run")
    write_film(run, _summary(error="NaN or infinity at step 120: G's loss.\nGo on", verdict={}), "modes")
    write_film(run, _summary(steps=100, status="interrupted", verdict={"balance": "balanced"}), "modes")
    assert [words for _, words in shown] == ["Failed: NaN or infinity at step 120: G's loss.", ""]
    assert shown[1][0] == ["step 0", "step 100 · 4 of 10 modes"]


def test_many_pictures_are_thinned_out_before_they_are_read(tmp_path, shown):
    run = _run(tmp_path / "run", steps=range(0, 1000, 5))
    write_film(run, _summary(steps=995), "modes")
    captions, _ = shown[0]
    assert len(captions) == films.MAX_FRAMES
    assert (captions[0], captions[-1]) == ("step 0", "step 995")


def test_damaged_pictures_are_left_out_and_one_picture_is_no_film(tmp_path, shown):
    run = _run(tmp_path / "run")
    (run.images / "samples_0000100.png").write_bytes(b"\x89PNG broken")
    (run.images / "samples_x.png").write_bytes(b"")
    assert picture_steps(run) == [0, 100, 200]
    write_film(run, _summary(), "modes")
    assert shown[0][0] == ["step 0", "step 200"]
    assert write_film(_run(tmp_path / "short", steps=(0,)), _summary(), "modes") == []


@pytest.mark.parametrize(
    ("table", "counts"),
    [
        ("step,metric/modes_valid,metric/modes_total\n20,3,8\n", {20: ModeCount(3, 8)}),
        ("step,metric/modes_valid,metric/modes_total\n20,6.25,8\n", {20: ModeCount(6.25, 8)}),
        ("step,metric/modes_valid,metric/modes_total\n20,1,1\n", {}),
        ("step,loss/g\n20,1\n", {}),
        ("step,metric/modes_valid,metric/modes_total\nx,nan,inf\n", {}),
        ("\x00", {}),
    ],
)
def test_counts_of_a_table(tmp_path, table, counts):
    assert mode_counts(_run(tmp_path / "run", table=table)) == counts


def test_a_count_in_words():
    assert str(ModeCount(4, 10)) == "4 of 10"
    # Of replicas.
    assert str(ModeCount(6.25, 8)) == "on average 6.2 of 8"
    assert str(ModeCount(912, 1000)) == "912 of 1,000"


def test_films_side_by_side_are_at_the_same_steps(tmp_path, shown):
    one = _run(tmp_path / "one")
    # Generated on the left, real on the right: only the left half is shown.
    two = _run(tmp_path / "two", steps=(0, 50, 200, 400), size=(40, 40))
    film = sheet_film([("<script>alert(1)</script>", one), ("$\\frac{", two)])
    assert shown[0] == (["step 0", "step 200"], "")
    assert _frames(film) == 2
    assert sheet_film([("one", one), ("none", _run(tmp_path / "none", steps=(7, 8)))]) is None
    assert sheet_film([]) is None


def test_the_generated_half_is_shown(tmp_path):
    run = _run(tmp_path / "run")
    assert films.generated_part(run, Image.new("L", (80, 40))).size == (40, 40)
    assert films.generated_part(run, Image.new("L", (50, 40))).size == (50, 40)
    run.summary.write_text(json.dumps({"replicas": 3}))
    assert films.generated_part(run, Image.new("L", (80, 40))).size == (80, 40)
