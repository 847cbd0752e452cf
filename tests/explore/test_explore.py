"""Latent vector experiments (S13), on generators whose answer to any vector is known."""

import importlib.util
import math
import os
import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, classifier_cache, command_here, training
from PIL import Image

from gan_lab.assembly.build import load
from gan_lab.commands.train import fit
from gan_lab.core.errors import LabError
from gan_lab.core.run_folder import Run
from gan_lab.data import images, synthetic
from gan_lab.evaluation.classifier import label_classifier
from gan_lab.explore import Request, _compared, animation, explore, figures
from gan_lab.explore.reading import Reader, count

CACHE = f"cache_dir={classifier_cache()}"
BARE = ("model.generator.hidden=[]", "model.discriminator.hidden=[4]", "optim.lr=0", "steps=1", "batch_size=4")
QUIET = ("~callbacks.verdict", "~callbacks.pictures", "~callbacks.curves", "logger=table")


def trained(folder: Path, *overrides: str, weight=None, bias=None) -> Run:
    """A run whose generator is one linear layer (and a sigmoid for images): with these weights, if given."""
    made, run = training(folder, *BARE, *QUIET, *overrides)
    with torch.no_grad():
        for parameter, values in zip(made.module.generator.parameters(), (weight, bias), strict=True):
            if values is not None:
                parameter.copy_(values)
    fit(made, run)
    return run


@pytest.fixture(scope="module")
def ring(tmp_path_factory) -> Run:
    """G is the identity: a sample is its latent vector."""
    folder = tmp_path_factory.mktemp("ring") / "run"
    data = ("dataset=ring", "dataset.std=0.2", "dataset.samples=500", "latent_dim=2")
    return trained(folder, *data, weight=torch.eye(2), bias=torch.zeros(2))


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Run:
    """G's only latent number leads from a real 3 at −1 to a real 5 at 1."""
    part = images.digits().train
    three, five = (
        part[(part.labels == label).nonzero()[:1, 0]].flatten().clamp(0.02, 0.98).logit() for label in (3, 5)
    )
    folder = tmp_path_factory.mktemp("digits") / "run"
    return trained(folder, "latent_dim=1", weight=((five - three) / 2)[:, None], bias=(five + three) / 2)


@pytest.fixture(scope="module")
def pattern(tmp_path_factory) -> Run:
    return trained(tmp_path_factory.mktemp("pattern") / "run", "dataset=pattern1010", "latent_dim=1")


@pytest.fixture(scope="module")
def constant(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("constant") / "run"
    return trained(folder, "dataset=pattern1010", "latent_dim=1", "latent=constant")


DEFAULTS = yaml.safe_load((ROOT / "conf" / "explore.yaml").read_text())
DEFAULTS |= {key: str(DEFAULTS[key]).lower() for key in ("a", "b", "normalize")}


def ask(run: Run, **asked) -> tuple[str, dict[str, Path]]:
    """What an experiment says, and its files by their ending."""
    request = Request(**{key: asked.get(key, DEFAULTS[key]) for key in Request._fields})
    said = explore(run, request, 1, None, classifier_cache())
    files = [Path(line.strip()) for line in said.partition("Written:\n")[2].splitlines()]
    assert all(file.parent == run.explore and file.is_file() for file in files)
    stem = files[0].stem
    return said, {file.name.removeprefix(stem): file for file in files}


def table(run: Run, **asked) -> pd.DataFrame:
    return pd.read_csv(ask(run, **asked)[1][".csv"])


def z(rows: pd.DataFrame) -> torch.Tensor:
    columns = [name for name in rows if name.startswith("z_")]
    return torch.tensor(rows[columns].to_numpy(), dtype=torch.float32)


def x(rows: pd.DataFrame) -> torch.Tensor:
    return torch.tensor(rows[["x_1", "x_2"]].to_numpy(), dtype=torch.float32)


@pytest.mark.parametrize(
    ("op", "sign", "by_hand"),
    [
        ("add", "+", lambda a, b: [a[0] + b[0], a[1] + b[1]]),
        ("subtract", "−", lambda a, b: [a[0] - b[0], a[1] - b[1]]),
        ("multiply", "·", lambda a, b: [a[0] * b[0], a[1] * b[1]]),
    ],
)
def test_sums(ring, op, sign, by_hand):
    rows = table(ring, op=op, a="3", b="4", normalize="both")
    assert rows["name"].tolist() == ["a", "b", f"a {sign} b", f"a {sign} b, normalised"]
    assert rows["number"].tolist()[:2] == [3, 4]
    a, b, result, normalised = x(rows).tolist()
    assert result == pytest.approx(by_hand(a, b), rel=1e-6)
    assert math.hypot(*normalised) == pytest.approx(math.sqrt(2), rel=1e-6)
    assert normalised[0] / normalised[1] == pytest.approx(result[0] / result[1], rel=1e-5)
    assert table(ring, op=op, a="3", b="4")["name"].tolist() == ["a", "b", f"a {sign} b"]
    assert table(ring, op=op, a="3", b="4", normalize="true")["name"].tolist() == ["a", "b", f"a {sign} b, normalised"]


def test_a_number_stands_for_the_same_vector_everywhere(ring):
    grid = table(ring, op="grid", a="3", n=5)
    assert grid["number"].tolist() == [3, 4, 5, 6, 7]
    ends = table(ring, op="interpolate", a="3", b="7", n=2)
    assert torch.equal(z(ends), z(grid)[[0, 4]])
    assert len({tuple(row) for row in z(grid).tolist()}) == 5


def test_interpolation(ring):
    line, arc = (table(ring, op="interpolate", n=5, mode=mode) for mode in ("linear", "slerp"))
    a, b = z(line)[[0, -1]]
    for share, row in zip((0, 0.25, 0.5, 0.75, 1), z(line), strict=True):
        assert row.tolist() == pytest.approx(((1 - share) * a + share * b).tolist(), abs=1e-6)
    assert torch.equal(z(arc)[[0, -1]], torch.stack([a, b]))
    angles = torch.atan2(z(arc)[:, 1], z(arc)[:, 0])
    turns = [math.remainder(turn, 2 * math.pi) for turn in angles.diff().tolist()]
    assert turns == pytest.approx([turns[0]] * 4, abs=1e-4), "equal steps are equal angles"


@pytest.mark.parametrize("mode", ["linear", "slerp"])
def test_a_walk_comes_back(ring, mode):
    _, files = ask(ring, op="walk", a="2", n=3, mode=mode)
    rows = pd.read_csv(files[".csv"])
    assert rows["number"].dropna().tolist() == [2, 3, 4]
    steps = z(rows).diff(dim=0, append=z(rows)[:1]).norm(dim=1)
    assert steps.max() < 2 * steps.min() * (z(rows).norm(dim=1).max() + 3), "nowhere does it jump"
    assert steps[-1] == pytest.approx(steps[-2].item(), rel=0.2), "nor from the last to the first"
    with Image.open(files[".gif"]) as film:
        assert film.n_frames == len(rows) == 36
        assert film.info["loop"] == 0


def test_an_interpolations_film_goes_to_and_fro(digits):
    _, files = ask(digits, op="interpolate", n=6)
    with Image.open(files[".gif"]) as film:
        assert film.n_frames == 10
        shown = []
        for frame in range(10):
            film.seek(frame)
            shown.append(film.convert("RGB").tobytes())
    assert shown[1:5] == shown[:5:-1]


def test_vectors_by_what_they_make_in_the_plane(ring):
    rows = table(ring, op="add", a="3", b="(0, -1)", by="class", pairs=20)
    centres = {"a": (-math.sqrt(0.5), math.sqrt(0.5)), "b": (0.0, -1.0)}
    for name, centre in centres.items():
        distance = (x(rows[rows["name"] == name]) - torch.tensor(centre)).norm(dim=1)
        assert len(distance) == 20
        assert distance.max() < 3 * 0.2
    known = rows["number"].dropna()
    assert len(known) == len(set(known)) == 40, "all pairs are of different vectors"
    same = table(ring, op="add", a="3", b="3", by="class", pairs=20)["number"].dropna()
    assert len(same) == len(set(same)) == 40


def test_vectors_by_what_they_make_of_images(digits):
    rows = table(digits, op="subtract", a="five", b="three", pairs=10)
    a, b = (rows[rows["name"] == name] for name in "ab")
    assert z(a).min() > 0, "where G makes the 5"
    assert z(b).max() < 0, "where G makes the 3"
    assert a["reading"].tolist() == [5] * 10
    assert pd.concat([a, b])["confidence"].min() >= 0.9
    same = [ask(digits, op="subtract", **words)[1][".png"] for words in (dict(a="Five", b="three"), CLASSES)]
    assert same[0] == same[1]
    assert table(digits, op="grid", a="five", n=4)["reading"].tolist() == [5] * 4


CLASSES = dict(a="5", b="3", by="class")


def test_the_search_takes_the_first_and_starts_where_told(digits):
    first = table(digits, op="grid", n=3, a="five")["number"].tolist()
    later = table(digits, op="grid", n=3, a="five", seed=int(first[0]) + 1)["number"].tolist()
    assert later[:2] == first[1:]
    far = table(digits, op="grid", n=3, a="five", seed=20_000, tries=300)["number"]
    assert ((far >= 20_000) & (far < 20_300)).all()
    everything = table(digits, op="grid", a="0", n=int(first[-1]) + 1)
    fives = everything[(everything["reading"] == 5) & (everything["confidence"] >= 0.9)]
    assert fives["number"].tolist() == first


def test_none_found(digits):
    with pytest.raises(
        LabError, match=r"Among 300 latent vectors tried, 0 make 7.*≥ 0\.9; asked for: 1(.|\n)*makes most"
    ):
        ask(digits, op="add", a="seven", tries=300)


def test_pairs_are_counted(digits):
    said, files = ask(digits, op="add", a="five", b="three", pairs=25, normalize="both")
    rows, counts = pd.read_csv(files[".csv"]), pd.read_csv(files["_counts.csv"])
    for result in ("a + b", "a + b, normalised"):
        read = Counter(rows[rows["name"] == result]["reading"])
        expected = {"5": read[5], "3": read[3], "5 or 3": read[5] + read[3], "neither": 25 - read[5] - read[3]}
        found = counts[counts["result"] == result].set_index("reading")
        assert found["count"].to_dict() == expected
        assert set(found["total"]) == {25}
        fives = rows[(rows["name"] == result) & (rows["reading"] == 5)]["confidence"]
        assert found["confidence"]["5"] == pytest.approx(fives.mean(), rel=1e-5)
    assert set(counts["result"]) == {"a + b", "a + b, normalised", "fresh vectors"}
    assert set(counts[counts["result"] == "fresh vectors"]["total"]) == {1000}
    for part in ("25 pairs", "of 25 (", "95 % interval", "of 1,000 (", "360 held-out"):
        assert part in said
    with Image.open(files["_counts.png"]) as picture:
        assert picture.width > 300


def test_exact_intervals():
    labels = torch.tensor([5] * 10)
    five, three, either, neither = count(labels, torch.full((10,), 0.75), [5, 3], ["5", "3"])
    assert (five.count, three.count, either.count, neither.count) == (10, 0, 10, 0)
    assert (five.low, five.high) == (pytest.approx(0.025**0.1), 1)  # Clopper and Pearson: (α/2)^(1/n)
    assert (three.low, three.high) == (0, pytest.approx(1 - 0.025**0.1))
    assert (five.confidence, three.confidence) == (0.75, None)
    assert [each.reading for each in count(labels, None, [5], ["5"])] == ["5", "another or none"]


def test_what_the_counts_mean(digits):
    """The sum of a positive and a negative number can be either; their difference is a larger number: a sharper 5."""
    said, files = ask(digits, op="subtract", a="five", b="three", pairs=30)
    counts = pd.read_csv(files["_counts.csv"]).set_index(["result", "reading"])["count"]
    share = counts["a − b", "5 or 3"] / 30
    assert share > 0.5
    fresh = counts["fresh vectors", "5 or 3"] / 1000
    assert f"So a − b reads as 5 or 3 more often than fresh vectors ({share:.0%} of 30, {fresh:.0%} of 1,000)." in said
    both = [each[0] for each in (count(torch.tensor(labels), None, [5], ["5"]) for labels in ([5] * 9 + [1], [5, 1]))]
    assert "about as often" in _compared("a + b", *both)
    few = count(torch.tensor([1] * 20), None, [5], ["5"])[0]
    assert "less often" in _compared("a + b", few, both[0])


def test_the_same_request_gives_the_same_bytes_and_another_one_other_files(digits):
    base = dict(op="add", a="five", b="three", pairs=2)
    files = ask(digits, **base)[1].values()
    before = {file: file.read_bytes() for file in files}
    others = [dict(op="multiply"), dict(a="three"), dict(b="five"), dict(pairs=3), dict(normalize="true"), dict(seed=1)]
    others += [dict(normalize="both"), dict(confidence=0.8)]
    paths = [dict(op="walk", n=3), dict(op="grid", n=4), dict(op="walk", n=3, mode="slerp"), dict(op="grid", n=3)]
    others += [{"a": "1", "pairs": 1, **path} for path in paths]
    seen = set(before)
    for change in others:
        names = set(ask(digits, **{**base, **change})[1].values())
        assert not names & seen, change
        seen |= names
    assert {file: file.read_bytes() for file in before} == before
    for file in before:
        file.unlink()
    ask(digits, **base)
    assert {file: file.read_bytes() for file in before} == before
    assert not [file for file in digits.explore.iterdir() if ".half." in file.name]


def test_the_table_repeats_the_experiment(ring, digits):
    rows = table(ring, op="walk", n=3, mode="slerp")
    module, _ = load(ring)
    assert torch.equal(module.sample(z(rows)), x(rows))
    rows = table(digits, op="interpolate", a="five", b="three")
    module, dataset = load(digits)
    labels, confidences = label_classifier(dataset, classifier_cache()).readings(module.sample(z(rows)))
    assert labels.tolist() == rows["reading"].tolist()
    assert confidences.tolist() == pytest.approx(rows["confidence"].tolist(), abs=1e-5)


def test_numbers_for_what_cannot_be_read(pattern):
    said, files = ask(pattern, op="interpolate", n=3)
    rows = pd.read_csv(files[".csv"])
    module, _ = load(pattern)
    made = module.sample(z(rows))
    assert torch.equal(made, torch.tensor(rows[[f"x_{i}" for i in (1, 2, 3, 4)]].to_numpy(), dtype=torch.float32))
    assert " ".join(f"{value:.2f}" for value in made[1].tolist()) in said
    assert rows["reading"].isna().all()
    assert set(files) == {".png", ".gif", ".csv"}


def test_latent_vectors_that_are_all_the_same_are_told_and_shown(constant, ring):
    said, files = ask(constant, op="interpolate", n=3)
    assert "All latent vectors of this run are the same" in said
    assert len(pd.read_csv(files[".csv"])) == 3
    assert "a and b are the same vector" in ask(ring, op="interpolate", a="4", b="4")[0]
    assert "the same" not in ask(ring, op="interpolate", a="4", b="5")[0]


def test_tensorboard_has_the_files_once(digits):
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    ask(digits, op="interpolate", n=3)
    files = ask(digits, op="interpolate", n=3)[1]
    stem = files[".png"].stem
    (events,) = digits.explore.glob(f"events.out.tfevents.*.{stem}")
    values = {value.tag: value for event in EventFileLoader(str(events)).Load() for value in event.summary.value}
    for ending in (".png", ".gif"):
        assert values[f"explore/{stem}{ending}"].tensor.string_val[2] == files[ending].read_bytes()
    text = values[f"explore/{stem}/text_summary"].tensor.string_val[0].decode()
    assert "3 steps from a, vector 1, to b, vector 2" in text


def test_what_is_read_as_nothing():
    dataset = synthetic.ring(std=0.1, samples=100)
    points = torch.tensor([[1.0, 0.0], [0.0, 0.0], [float("nan"), 0.0], [0.0, -1.29], [0.0, -1.31]])
    labels, confidences = Reader(dataset, "")(points)
    assert labels.tolist() == [0, -1, -1, 6, -1]
    assert confidences.tolist() == [1, 0, 0, 1, 0]
    assert Reader(dataset, "")(points[2:3])[0].tolist() == [-1]
    reader = Reader(images.digits(), classifier_cache())
    real = reader.dataset.heldout[torch.arange(4)]
    broken = real.clone()
    broken[1, 0, 3, 3] = float("inf")
    assert reader(broken)[0].tolist() == [label if i != 1 else -1 for i, label in enumerate(reader(real)[0].tolist())]
    assert reader(real)[0].tolist() == reader.dataset.heldout.labels[:4].tolist()


def test_stacked_readings_multiply_the_channels():
    dataset = images.stacked_digits(samples=50)
    colours = dataset.heldout[torch.arange(3)]
    labels, confidences = label_classifier(dataset, classifier_cache()).readings(colours)
    single = label_classifier(dataset.base, classifier_cache())
    for colour, label, sure in zip(colours, labels.tolist(), confidences.tolist(), strict=True):
        digit, share = single.readings(colour.unsqueeze(1))
        assert label == digit[0] * 100 + digit[1] * 10 + digit[2]
        assert sure == pytest.approx(share.prod().item(), rel=1e-5)


def test_frames_show_what_they_are_given():
    picture = torch.zeros(1, 1, 2, 2)
    picture[0, 0, 0, 1] = 1
    (frame,) = animation.frames(picture, ["one"], images.digits())
    assert [frame.getpixel(place) for place in ((10, 10), (250, 10), (10, 250), (250, 250))] == [
        (0, 0, 0),
        (255, 255, 255),
        (0, 0, 0),
        (0, 0, 0),
    ]
    assert [frame.getpixel((x, 10))[0] for x in (138, 141)] == [0, 255], "pixels keep their edges"
    dataset = synthetic.ring(samples=200)
    points = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    left, right, up, down = animation.frames(points, [""] * 4, dataset)

    def dot(frame):  # the middle of the black disc, which nothing else is as large as
        columns = [(i, j) for i in range(400) for j in range(400) if frame.getpixel((i, j)) == (0, 0, 0)]
        fat = (
            [(i, j) for i, j in columns if all((i + k, j) in set_of for k in (-3, 3)) and (i, j + 4) in set_of]
            if (set_of := set(columns))
            else []
        )
        return [sum(axis) / len(fat) for axis in zip(*fat, strict=True)]

    assert dot(left)[0] < dot(up)[0] - 50 < dot(right)[0] - 100
    assert dot(up)[1] < dot(left)[1] - 50 < dot(down)[1] - 100


def test_vectors_become_rows_of_cells():
    cells = figures.as_images(torch.tensor([[0.0, 1.0, float("nan")]]))
    assert cells.shape == (1, 3, 1, 3)
    brightness = cells.mean(1)[0, 0]
    assert brightness[0] == brightness[2] > brightness[1] + 0.5, "dark is high; what is missing is 0"


@pytest.fixture(scope="module")
def main():
    os.environ.pop("HYDRA_FULL_ERROR", None)
    spec = importlib.util.spec_from_file_location("command_explore", ROOT / "scripts" / "explore.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", "run is missing"),
        ("run=nowhere", "nowhere is not a run folder"),
        ("run=EMPTY", "no checkpoint"),
        ("run=BROKEN", "can't be used"),
        ("run=RING op=divide", "op has to be one of grid, interpolate, add, subtract, multiply, walk"),
        ("run=RING op=interpolate mode=cubic", "mode has to be one of linear, slerp"),
        ("run=RING n=1", "n has to be a whole number ≥ 2"),
        ("run=RING op=add normalize=maybe", "normalize has to be one of false, true, both"),
        ("run=RING op=add pairs=0", "pairs has to be a whole number ≥ 1"),
        ("run=RING op=add pairs=5", "a=five b=three"),
        ("run=RING op=grid normalize=true", "add, subtract, multiply"),
        ("run=RING op=walk pairs=5", "add, subtract, multiply"),
        ("run=RING op=add mode=slerp", "interpolate, walk"),
        ("run=RING op=walk n=101", "Take n=100"),
        ("run=RING op=add a=five", "a=five: There is no class five in these data. Their classes: (1, 0), (0.71, 0.71)"),
        ("run=RING op=add b=8 by=class", "b=8: There is no class 8"),
        ("run=RING op=add a=-1", "a=-1: There is no class -1"),
        ("run=DIGITS op=add a=ten", "Their classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9."),
        ("run=PATTERN op=add a=five", "no classes that could be read"),
        ("run=PATTERN op=add a=1 by=class", "no classes that could be read"),
        ("run=RING ops=add", "Did you mean 'op'?"),
    ],
)
def test_mistakes(main, ring, digits, pattern, tmp_path, monkeypatch, capsys, arguments, told):
    for name in ("empty", "broken"):
        (tmp_path / name).mkdir()
    shutil.copy(ring.config, tmp_path / "empty" / "config.yaml")
    (tmp_path / "broken" / "config.yaml").write_text("steps: [")
    places = {"RING": ring, "DIGITS": digits, "PATTERN": pattern, "EMPTY": "empty", "BROKEN": "broken"}
    for name, place in places.items():
        arguments = arguments.replace(f"={name}", f"={os.fspath(place)}")
    before = {path for run in (ring, digits, pattern) for path in run.folder.rglob("*")}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["explore.py", *arguments.split(), CACHE])
    with pytest.raises(SystemExit) as stop:
        main()
    err = capsys.readouterr().err
    assert stop.value.code == 2, err
    assert told in err
    assert "Traceback" not in err
    assert {path for run in (ring, digits, pattern) for path in run.folder.rglob("*")} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "empty"]


def test_as_a_user(digits):
    before = {path: path.read_bytes() for path in digits.folder.rglob("*") if path.is_file()}
    arguments = ("op=add", "a=5", "b=three", "by=class", "normalize=True", "seed=4")
    done = command_here("scripts/explore.py", f"run={digits.folder}", *arguments, CACHE, cwd=digits.folder.parent)
    assert done.returncode == 0, done.stderr
    assert "a + b: a is a vector that makes 5, b a vector that makes 3." in done.stdout
    assert "One pair is one observation" in done.stdout
    assert all(path.read_bytes() == content for path, content in before.items()), "nothing else is touched"
    assert [path.name for path in digits.folder.parent.iterdir()] == [digits.folder.name], "and nothing beside it"


def test_help_names_every_key(main, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["explore.py", "--help"])
    with pytest.raises(SystemExit):
        main()
    told = capsys.readouterr().out
    keys = DEFAULTS.keys() - {"defaults", "hydra", "data"} | {"data.path"}
    assert [key for key in keys if f"  {key} " not in told] == ["b"]
    assert "a, b " in told
