"""The page of a cure says what was found at any time of it, shows what is there, and takes all of it for text."""

import io
import json
import shutil

import pytest
from PIL import Image
from test_report import Page
from test_run_page import HOSTILE, picture

from gan_lab.comparison.pages import data_uri
from gan_lab.cure.page import write_page

CURE = "python scripts/cure.py"
COMMAND = "python train.py loss=mse optim=adam"
STAGE = {
    "steps": 500,
    "seeds": [11, 12],
    "results": [
        {"name": "unchanged", "changes": [], "values": [0.1, 0.2], "failure": None, "kept": False, "is_patient": True},
        {"name": "SGD, fast", "changes": ["optim.lr=1"], "values": [], "failure": "NaN at step 3", "kept": False},
        {"name": "BCE", "changes": ["loss=bce"], "values": [0.3, 0.5], "failure": None, "kept": False},
        {"name": "Adam", "changes": ["optim=adam"], "values": [0.5, 1.0], "failure": None, "kept": True},
    ],
}
EXAMINED = {
    "command": ["loss=mse", "budget=10m"],
    "budget_seconds": 600,
    "spent_seconds": 571.3,
    "patient": {
        "folder": "patient",
        "overrides": ["loss=mse"],
        "steps": 1500,
        "dataset": "digits",
        "sentence": "Bad.\n1",
    },
    "examination": {"healthy": False, "failure": "one mode", "since": 40, "sentences": ["It makes one.", "D wins."]},
}
RACED = EXAMINED | {"race": [STAGE]}
PROOF = {
    "seeds": [21, 22],
    "steps": 1500,
    "metric": "coverage",
    "patient": [0.1, 0.2],
    "winner": [0.7, 0.8],
    "difference": 0.6,
    "low": 0.5,
    "high": 0.7,
    "p": 0.0123,
    "helped": True,
    "sentence": "Adam raised it.",
    "verdicts": {"patient": "collapsed in 2 of 2 runs", "winner": "covered in 2 of 2 runs"},
    "films": {"patient": "proof/a/training.gif", "winner": "proof/b/training.gif"},
    "report": "proof/report.html",
}
RECIPE = {
    "name": "Adam",
    "changes": ["optim=adam"],
    "command": COMMAND,
    "experiment": "prescription.yaml",
    "why": "Kingma",
}
HELPED = RACED | {"proof": PROOF, "prescription": RECIPE, "answer": "Adam helped."}
NOT_HELPED = RACED | {"proof": PROOF | {"helped": False}, "prescription": None, "answer": "Nothing helped."}
HEALTHY = EXAMINED | {
    "examination": {"healthy": True, "sentences": []},
    "answer": "Nothing is wrong: all made.\n10 of 10",
}


def film(colour: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 4), (colour, 0, 0)).save(content, "GIF")
    return content.getvalue()


@pytest.fixture
def folder(tmp_path):
    """A cure's folder with all its files."""
    for name in ("patient/images", "proof/a", "proof/b"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "patient/metrics.csv").write_text(
        "step,metric/junk,metric/modes_valid,metric/modes_total\n20,0,2,3\n40,0,1,3\n60,0,1,3\n"
    )
    (tmp_path / "patient/images/samples_0000060.png").write_bytes(picture())
    (tmp_path / "patient/training.gif").write_bytes(film(0))
    (tmp_path / "proof/a/training.gif").write_bytes(film(50))
    (tmp_path / "proof/b/training.gif").write_bytes(film(200))
    (tmp_path / "proof/report.html").write_text("")
    (tmp_path / "prescription.yaml").write_text("defaults: []")
    return tmp_path


def page_of(record, folder) -> Page:
    return Page(write_page(record, folder))


def sections(page: Page) -> list[str]:
    return [section["id"] for section in page.all("section")]


@pytest.mark.parametrize(
    ("record", "style", "words", "command", "shown"),
    [
        (HELPED, "good", "Adam helped.", COMMAND, ["films", "wrong", "race", "proof", "prescription", "how"]),
        (
            NOT_HELPED,
            "fair",
            "Nothing helped.",
            f"{CURE} loss=mse budget=20m",
            ["films", "wrong", "race", "proof", "how"],
        ),
        (HEALTHY, "good", "Nothing is wrong: all made.", None, ["films", "wrong", "how"]),
        (
            RACED,
            "none",
            "Under way: 1 stage of the race is done",
            f"{CURE} loss=mse budget=10m",
            ["films", "wrong", "race", "how"],
        ),
        ({"command": ["a=1"]}, "none", "Under way: the run is being examined", f"{CURE} a=1", ["wrong", "how"]),
    ],
    ids=["helped", "nothing helped", "healthy", "under way", "just begun"],
)
def test_each_state_has_its_answer_and_what_to_do_next(folder, record, style, words, command, shown):
    page = page_of(record, folder)
    assert page.all("h1")[0]["text"] == words
    assert page.all("h1")[0]["parents"][-1]["class"] == f"verdict {style}"
    in_header = [pre["text"] for pre in page.all("pre") if pre["parents"][-1]["tag"] == "header"]
    assert in_header == ([command] if command else [])
    assert sections(page) == shown


def test_films_of_both_arms_stand_side_by_side(folder):
    page = page_of(HELPED, folder)
    assert [image["src"] for image in page.all("img", "films")] == [
        data_uri(film(50), "gif"),
        data_uri(film(200), "gif"),
    ]
    assert "covered in 2 of 2 runs" in page.text
    (folder / "proof/a/training.gif").unlink()
    (folder / "proof/b/training.gif").write_text("<script>")
    page = page_of(HELPED, folder)
    assert not page.all("img", "films")
    assert "The film is missing." in page.text
    assert "training.gif is damaged" in page.text
    # What lies elsewhere is not shown, whoever wrote cure.json.
    (folder / "cure").mkdir()
    elsewhere = PROOF | {
        "films": {"patient": "../patient/training.gif", "winner": str(folder / "patient/training.gif")}
    }
    assert not page_of(HELPED | {"proof": elsewhere}, folder / "cure").all("img")


def test_the_race_and_the_proof_draw_each_seed_on_a_scale(folder):
    page = page_of(HELPED, folder)
    # From 0 to the highest value, 1; the best mean first, 0.75 of Adam.
    assert [circle["cx"] for circle in page.all("circle", "race")] == [
        "50.0%",
        "100.0%",
        "30.0%",
        "50.0%",
        "10.0%",
        "20.0%",
    ]
    rows = [row["class"] for row in page.all("tr", "race") if "class" in row]
    assert rows == ["kept", "dropped", "patient"]
    assert {line["x1"] for line in page.all("line", "race") if line["class"] == "patient"} == {"15.0%"}
    assert "SGD, fast: NaN at step 3" in page.text
    assert "they overstate what it does" in page.text
    assert "difference +0.60 [0.50, 0.70], p = 0.012" in page.text
    assert "Proof: 2 seeds (21 to 22), none of which was in the race" in page.text
    assert "some of which were in the race" in page_of(HELPED | {"proof": PROOF | {"seeds": [12, 21]}}, folder).text


def test_of_many_candidates_the_best_are_drawn_and_always_the_patient(folder):
    patient = STAGE["results"][0]
    others = [{"name": f"R{i}", "changes": [], "values": [0.3 + i / 100], "kept": False} for i in range(30)]
    page = page_of(RACED | {"race": [STAGE | {"results": [patient, *others]}]}, folder)
    drawn = [row["class"] for row in page.all("tr", "race") if "class" in row]
    assert drawn == 14 * ["dropped"] + ["patient"]
    assert "The best 15 are drawn; 16 more are in the table." in page.text
    assert len([row for row in page.all("tr", "race") if "class" not in row]) == 1 + 1 + 31, "heads, and all candidates"


def test_the_prescription_says_what_it_changes(folder):
    record = HELPED | {"prescription": RECIPE | {"changes": ["loss=bce", "model.width=9"]}}
    page = page_of(record, folder)
    cells = [cell["text"] for cell in page.all("td", "prescription")]
    # The patient's run has no config.yaml that would say its width.
    assert cells == ["mse", "bce", "–", "9"]
    assert "./proof/report.html" in [link["href"] for link in page.all("a")]


def test_texts_of_strangers_are_shown_as_text(folder):
    def spoil(value):
        if isinstance(value, dict):
            return {key: spoil(content) for key, content in value.items()}
        if isinstance(value, list):
            return [spoil(content) for content in value]
        return HOSTILE + 10**5 * "x" if isinstance(value, str) else value

    page = page_of(spoil(HELPED), folder)
    assert not page.all("script")
    assert page.all("h1")[0]["text"].startswith("</title><script>alert(1)</script>")
    assert "\u202e" not in page.source
    for element in page.elements:
        assert not element.get("href", "").startswith("javascript:")
        assert not any(name.startswith("on") for name in element)
    assert len(page.source) < 200_000, "huge texts are cut"


DAMAGES = {
    "no record": {},
    "numbers for parts": dict.fromkeys(HELPED, 1),
    "lists for parts": {key: [1, None, {}] for key in HELPED},
    "parts of empty parts": {key: dict.fromkeys(PROOF | RECIPE | STAGE) for key in HELPED},
    "numbers that are none": HELPED
    | {
        "budget_seconds": float("inf"),
        "spent_seconds": "x",
        "proof": PROOF | {"low": float("nan"), "p": 7, "winner": [None]},
    },
    "huge numbers": HELPED | {"proof": PROOF | {"difference": 10**400, "patient": [1e300], "seeds": [1e99]}},
    "a race without values": RACED | {"race": [{"results": [{}, {"values": "x"}, {"name": 1}]}, {}, 3]},
    "a number for a folder": HELPED | {"patient": {"folder": 5}},
    "names that are no paths": HELPED
    | {"patient": {"folder": 9999 * "x"}, "prescription": RECIPE | {"experiment": "\0"}},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_gives_a_page(folder, damage):
    page = page_of(DAMAGES[damage], folder)
    assert page.all("h1")[0]["text"]
    assert "None" not in page.text
    assert "nan" not in page.text.split()


def test_what_a_damaged_run_lacks_is_said(folder):
    assert "failing since step 40" in page_of(HELPED, folder).text
    (folder / "patient/metrics.csv").write_text("step\nx")
    assert "metrics.csv is missing or damaged" in page_of(HELPED, folder).text
    shutil.rmtree(folder / "patient")
    page = page_of(json.loads(json.dumps(HELPED)), folder)
    assert len(page.all("img")) == 2, "both films"
