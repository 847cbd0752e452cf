"""Latent vector experiments (S13), on generators whose output is known for every latent vector."""

import math
import os
import shutil
from collections import Counter
from pathlib import Path

import hydra
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, classifier_cache, command_here, command_main, refused, training
from PIL import Image

from gan_lab.assembly.build import load
from gan_lab.commands.train import fit
from gan_lab.config.check import check
from gan_lab.config.targets import CONF
from gan_lab.core.run_folder import Run
from gan_lab.data import images
from gan_lab.evaluation.classifier import label_classifier
from gan_lab.explore import Request, explore

CACHE = f"cache_dir={classifier_cache()}"
BARE = ("model.generator.hidden=[]", "model.discriminator.hidden=[4]", "optim.lr=0", "steps=1", "batch_size=4")
QUIET = ("~callbacks.verdict", "~callbacks.pictures", "~callbacks.curves", "logger=table")


def trained(folder: Path, *overrides: str, weight=None, bias=None) -> Run:
    """A run whose generator is one linear layer (and a sigmoid for images): with these weights, if given."""
    built, run = training(folder, *BARE, *QUIET, *overrides)
    with torch.no_grad():
        for parameter, values in zip(built.module.generator.parameters(), (weight, bias), strict=True):
            if values is not None:
                parameter.copy_(values)
    fit(built, run)
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

    def logits_of_first(label: int) -> torch.Tensor:
        index = (part.labels == label).nonzero()[:1, 0]
        return part[index].flatten().clamp(0.02, 0.98).logit()

    three, five = logits_of_first(3), logits_of_first(5)
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


def run_explore(run: Run, **settings) -> tuple[str, dict[str, Path]]:
    """The description of an experiment, and its files by their endings."""
    request = Request(**{key: settings.get(key, DEFAULTS[key]) for key in Request._fields})
    text = explore(run, request, 1, None, classifier_cache())
    files = [Path(line.strip()) for line in text.partition("Written:\n")[2].splitlines()]
    assert all(file.parent == run.explore and file.is_file() for file in files)
    stem = files[0].stem
    return text, {file.name.removeprefix(stem): file for file in files}


def table(run: Run, **settings) -> pd.DataFrame:
    return pd.read_csv(run_explore(run, **settings)[1][".csv"])


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
def test_arithmetic(ring, op, sign, by_hand):
    rows = table(ring, op=op, a="3", b="4", normalize="both")
    assert rows["name"].tolist() == ["a", "b", f"a {sign} b", f"a {sign} b, normalised"]
    assert rows["seed"].tolist()[:2] == [3, 4]
    a, b, result, normalised = x(rows).tolist()
    assert result == pytest.approx(by_hand(a, b), rel=1e-6)
    assert math.hypot(*normalised) == pytest.approx(math.sqrt(2), rel=1e-6)
    assert normalised[0] / normalised[1] == pytest.approx(result[0] / result[1], rel=1e-5)
    assert table(ring, op=op, a="3", b="4")["name"].tolist() == ["a", "b", f"a {sign} b"]
    assert table(ring, op=op, a="3", b="4", normalize="true")["name"].tolist() == ["a", "b", f"a {sign} b, normalised"]


def test_a_seed_gives_the_same_vector_everywhere(ring):
    grid = table(ring, op="grid", a="3", n=5)
    assert grid["seed"].tolist() == [3, 4, 5, 6, 7]
    ends = table(ring, op="interpolate", a="3", b="7", n=2)
    assert torch.equal(z(ends), z(grid)[[0, 4]])
    assert len({tuple(row) for row in z(grid).tolist()}) == 5


def test_interpolation(ring):
    line = table(ring, op="interpolate", n=5, mode="linear")
    arc = table(ring, op="interpolate", n=5, mode="slerp")
    a, b = z(line)[[0, -1]]
    for share, row in zip((0, 0.25, 0.5, 0.75, 1), z(line), strict=True):
        assert row.tolist() == pytest.approx(((1 - share) * a + share * b).tolist(), abs=1e-6)
    assert torch.equal(z(arc)[[0, -1]], torch.stack([a, b]))
    angles = torch.atan2(z(arc)[:, 1], z(arc)[:, 0])
    turns = [math.remainder(turn, 2 * math.pi) for turn in angles.diff().tolist()]
    assert turns == pytest.approx([turns[0]] * 4, abs=1e-4), "equal steps are equal angles"


@pytest.mark.parametrize("mode", ["linear", "slerp"])
def test_a_walk_comes_back(ring, mode):
    _, files = run_explore(ring, op="walk", a="2", n=3, mode=mode)
    rows = pd.read_csv(files[".csv"])
    assert rows["seed"].dropna().tolist() == [2, 3, 4]
    steps = z(rows).diff(dim=0, append=z(rows)[:1]).norm(dim=1)
    assert steps.max() < 2 * steps.min() * (z(rows).norm(dim=1).max() + 3), "nowhere does it jump"
    assert steps[-1] == pytest.approx(steps[-2].item(), rel=0.2), "nor from the last to the first"
    with Image.open(files[".gif"]) as film:
        assert film.n_frames == len(rows) == 36
        assert film.info["loop"] == 0


def test_an_interpolations_animation_goes_forth_and_back(digits):
    _, files = run_explore(digits, op="interpolate", n=6)
    with Image.open(files[".gif"]) as film:
        assert film.n_frames == 10
        frames = []
        for frame in range(10):
            film.seek(frame)
            frames.append(film.convert("RGB").tobytes())
    assert frames[1:5] == frames[:5:-1]


def test_vectors_by_the_nearest_mode_of_their_samples(ring):
    rows = table(ring, op="add", a="3", b="(0, -1)", by="class", pairs=20)
    centres = {"a": (-math.sqrt(0.5), math.sqrt(0.5)), "b": (0.0, -1.0)}
    for name, centre in centres.items():
        distance = (x(rows[rows["name"] == name]) - torch.tensor(centre)).norm(dim=1)
        assert len(distance) == 20
        assert distance.max() < 3 * 0.2
    seeds = rows["seed"].dropna()
    assert len(seeds) == len(set(seeds)) == 40, "all pairs are of different vectors"
    same = table(ring, op="add", a="3", b="3", by="class", pairs=20)["seed"].dropna()
    assert len(same) == len(set(same)) == 40


def test_vectors_by_the_class_of_their_images(digits):
    rows = table(digits, op="subtract", a="five", b="three", pairs=10)
    a, b = rows[rows["name"] == "a"], rows[rows["name"] == "b"]
    assert z(a).min() > 0, "where G generates the 5"
    assert z(b).max() < 0, "where G generates the 3"
    assert a["prediction"].tolist() == [5] * 10
    assert pd.concat([a, b])["confidence"].min() >= 0.9
    by_word = run_explore(digits, op="subtract", a="Five", b="three")[1][".png"]
    assert by_word == run_explore(digits, op="subtract", a="5", b="3", by="class")[1][".png"]
    assert table(digits, op="grid", a="five", n=4)["prediction"].tolist() == [5] * 4


def test_the_search_takes_the_first_matches_from_its_first_seed_on(digits):
    first = table(digits, op="grid", n=3, a="five")["seed"].tolist()
    later = table(digits, op="grid", n=3, a="five", seed=int(first[0]) + 1)["seed"].tolist()
    assert later[:2] == first[1:]
    far = table(digits, op="grid", n=3, a="five", seed=20_000, tries=300)["seed"]
    assert ((far >= 20_000) & (far < 20_300)).all()
    everything = table(digits, op="grid", a="0", n=int(first[-1]) + 1)
    fives = everything[(everything["prediction"] == 5) & (everything["confidence"] >= 0.9)]
    assert fives["seed"].tolist() == first


def test_a_search_without_enough_matches(digits):
    with refused("failed", "tries") as error:
        run_explore(digits, op="add", a="seven", tries=300)
    for part in ("300 latent vectors", "0 generate 7", "≥ 0.9", "1 are needed", "most often", "tries=3000"):
        assert part in str(error.value)


def test_predictions_for_pairs_are_counted(digits):
    text, files = run_explore(digits, op="add", a="five", b="three", pairs=25, normalize="both")
    rows, counts = pd.read_csv(files[".csv"]), pd.read_csv(files["_counts.csv"])
    for result in ("a + b", "a + b, normalised"):
        frequencies = Counter(rows[rows["name"] == result]["prediction"])
        fives, threes = frequencies[5], frequencies[3]
        expected = {"5": fives, "3": threes, "5 or 3": fives + threes, "neither": 25 - fives - threes}
        group = counts[counts["result"] == result].set_index("prediction")
        assert group["count"].to_dict() == expected
        assert set(group["total"]) == {25}
        confidences = rows[(rows["name"] == result) & (rows["prediction"] == 5)]["confidence"]
        assert group["confidence"]["5"] == pytest.approx(confidences.mean(), rel=1e-5)
    assert set(counts["result"]) == {"a + b", "a + b, normalised", "fresh vectors"}
    assert set(counts[counts["result"] == "fresh vectors"]["total"]) == {1000}
    for part in ("25 pairs", "of 25 (", "95% interval", "of 1,000 (", "360 held-out"):
        assert part in text
    with Image.open(files["_counts.png"]) as picture:
        assert picture.width > 300


def test_counts_are_compared_with_those_of_fresh_vectors(digits):
    """The sum of a positive and a negative number can be either; their difference is a larger number: a sharper 5."""
    text, files = run_explore(digits, op="subtract", a="five", b="three", pairs=30)
    counts = pd.read_csv(files["_counts.csv"]).set_index(["result", "prediction"])["count"]
    fraction = counts["a − b", "5 or 3"] / 30
    assert fraction > 0.5
    fresh = counts["fresh vectors", "5 or 3"] / 1000
    fractions = f"({fraction:.0%} of 30, {fresh:.0%} of 1,000; p < 0.001)"
    assert f"a − b is classified as 5 or 3 more often than fresh vectors {fractions}." in text


@pytest.mark.slow
def test_the_same_request_gives_the_same_bytes_and_another_one_other_files(digits):
    base = dict(op="add", a="five", b="three", pairs=2)
    files = run_explore(digits, **base)[1].values()
    before = {file: file.read_bytes() for file in files}
    changes = [
        dict(op="multiply"),
        dict(a="three"),
        dict(b="five"),
        dict(pairs=3),
        dict(normalize="both"),
        dict(seed=1),
        dict(confidence=0.8),
    ]
    paths = [dict(op="walk", n=3), dict(op="walk", n=3, mode="slerp"), dict(op="grid", n=3)]
    changes += [{"a": "1", "pairs": 1, **path} for path in paths]
    written = set(before)
    for change in changes:
        names = set(run_explore(digits, **{**base, **change})[1].values())
        assert not names & written, change
        written |= names
    assert {file: file.read_bytes() for file in before} == before
    for file in before:
        file.unlink()
    run_explore(digits, **base)
    assert {file: file.read_bytes() for file in before} == before
    assert not [file for file in digits.explore.iterdir() if ".half." in file.name]


def test_the_table_repeats_the_experiment(ring, digits):
    rows = table(ring, op="walk", n=3, mode="slerp")
    module, _ = load(ring)
    assert torch.equal(module.sample(z(rows)), x(rows))
    rows = table(digits, op="interpolate", a="five", b="three")
    module, dataset = load(digits)
    labels, confidences = label_classifier(dataset, classifier_cache()).labels_and_confidences(module.sample(z(rows)))
    assert labels.tolist() == rows["prediction"].tolist()
    assert confidences.tolist() == pytest.approx(rows["confidence"].tolist(), abs=1e-5)


def test_vectors_without_labels_are_described_by_their_numbers(pattern):
    text, files = run_explore(pattern, op="interpolate", n=3)
    rows = pd.read_csv(files[".csv"])
    module, _ = load(pattern)
    samples = module.sample(z(rows))
    columns = [f"x_{i}" for i in (1, 2, 3, 4)]
    assert torch.equal(samples, torch.tensor(rows[columns].to_numpy(), dtype=torch.float32))
    assert " ".join(f"{value:.2f}" for value in samples[1].tolist()) in text
    assert rows["prediction"].isna().all()
    assert set(files) == {".png", ".gif", ".csv"}


def test_equal_latent_vectors_are_reported(constant, ring):
    text, files = run_explore(constant, op="interpolate", n=3)
    assert "All latent vectors of this run are the same" in text
    assert len(pd.read_csv(files[".csv"])) == 3
    assert "a and b are the same vector" in run_explore(ring, op="interpolate", a="4", b="4")[0]
    assert "the same" not in run_explore(ring, op="interpolate", a="4", b="5")[0]


def test_tensorboard_has_the_files_once(digits):
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    run_explore(digits, op="interpolate", n=3)
    files = run_explore(digits, op="interpolate", n=3)[1]
    stem = files[".png"].stem
    (events,) = digits.explore.glob(f"events.out.tfevents.*.{stem}")
    values = {}
    for event in EventFileLoader(str(events)).Load():
        values |= {value.tag: value for value in event.summary.value}
    for ending in (".png", ".gif"):
        assert values[f"explore/{stem}{ending}"].tensor.string_val[2] == files[ending].read_bytes()
    text = values[f"explore/{stem}/text_summary"].tensor.string_val[0].decode()
    assert "from a (vector 1) to b (vector 2) in 3 steps" in text


# Mistakes


@pytest.mark.parametrize(
    ("settings", "code", "key"),
    [
        (dict(op="add", pairs=5), "missing", "pairs"),
        (dict(op="grid", normalize="true"), "conflict", "normalize"),
        (dict(op="walk", pairs=5), "conflict", "pairs"),
        (dict(op="add", mode="slerp"), "conflict", "mode"),
        (dict(op="walk", n=101), "invalid", "n"),
        (dict(op="grid", n=1), "invalid", "n"),
        (dict(op="grid", n=1001), "invalid", "n"),
        (dict(op="add", a="five"), "unknown", "a"),
        (dict(op="add", b="8", by="class"), "unknown", "b"),
        (dict(op="add", a="-1"), "unknown", "a"),
    ],
)
def test_requests_that_are_refused(ring, settings, code, key):
    before = set(ring.folder.rglob("*"))
    with refused(code, key):
        run_explore(ring, **settings)
    assert set(ring.folder.rglob("*")) == before


def test_an_unknown_class_lists_the_classes(ring, digits):
    with refused("unknown", "a") as error:
        run_explore(ring, op="add", a="five")
    assert "(1, 0), (0.71, 0.71)" in str(error.value)
    with refused("unknown", "a") as error:
        run_explore(digits, op="add", a="ten")
    assert "0, 1, 2, 3, 4, 5, 6, 7, 8, 9." in str(error.value)


@pytest.mark.parametrize("settings", [dict(op="add", a="five"), dict(op="add", a="1", by="class")])
def test_data_without_classes_have_none_to_choose(pattern, settings):
    with refused("unsupported", "a"):
        run_explore(pattern, **settings)


@pytest.mark.parametrize(
    ("override", "key"),
    [("op=divide", "op"), ("mode=cubic", "mode"), ("n=0", "n"), ("normalize=maybe", "normalize"), ("pairs=0", "pairs")],
)
def test_values_that_are_not_allowed(override, key):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("explore", ["run=outputs/ring", override])
    for name in ("a", "b", "normalize"):  # as scripts/explore.py does
        cfg[name] = str(cfg[name]).lower()
    with refused("invalid", key):
        check(cfg)


@pytest.fixture(scope="module")
def main():
    os.environ.pop("HYDRA_FULL_ERROR", None)
    return command_main("scripts/explore.py")


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        ("", "run"),
        ("run=nowhere", "nowhere"),
        ("run=EMPTY", "checkpoint"),
        ("run=BROKEN", "config.yaml"),
        ("run=RING op=divide", "op=divide"),
        ("run=RING op=grid normalize=true", "normalize=true"),
        ("run=RING op=add a=five", "a=five"),
        ("run=RING ops=add", "'ops'"),
    ],
)
def test_the_command_refuses_mistakes_in_one_message(main, ring, tmp_path, monkeypatch, capsys, arguments, phrase):
    for name in ("empty", "broken"):
        (tmp_path / name).mkdir()
    shutil.copy(ring.config, tmp_path / "empty" / "config.yaml")
    (tmp_path / "broken" / "config.yaml").write_text("steps: [")
    for name, folder in {"RING": ring, "EMPTY": "empty", "BROKEN": "broken"}.items():
        arguments = arguments.replace(f"={name}", f"={os.fspath(folder)}")
    before = set(ring.folder.rglob("*"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["explore.py", *arguments.split(), CACHE])
    with pytest.raises(SystemExit) as stop:
        main()
    err = capsys.readouterr().err
    assert stop.value.code == 2, err
    assert phrase in err
    assert "Traceback" not in err
    assert set(ring.folder.rglob("*")) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "empty"]


def test_as_a_user(digits):
    before = {path: path.read_bytes() for path in digits.folder.rglob("*") if path.is_file()}
    arguments = ("op=add", "a=5", "b=three", "by=class", "normalize=True", "seed=4")
    done = command_here("scripts/explore.py", f"run={digits.folder}", *arguments, CACHE, cwd=digits.folder.parent)
    assert done.returncode == 0, done.stderr
    assert "a + b, where a is a vector that generates 5 and b is a vector that generates 3." in done.stdout
    assert "A single pair is a single observation" in done.stdout
    assert all(path.read_bytes() == content for path, content in before.items()), "nothing else is touched"
    assert [path.name for path in digits.folder.parent.iterdir()] == [digits.folder.name], "and nothing outside it"


def test_the_surface_of_the_plane(ring):
    """The same file, byte for byte; TensorBoard shows it, too."""
    text, files = run_explore(ring, op="surface")
    (picture,) = files.values()
    assert picture.name == "surface_step1.png"
    assert "step 1. What D answers." in text
    content = picture.read_bytes()
    run_explore(ring, op="surface")
    assert picture.read_bytes() == content
    assert len(list(ring.explore.glob("events.out.tfevents.*.surface_step1"))) == 1


def test_answers_under_samples_that_are_no_points(pattern):
    _, files = run_explore(pattern, op="surface", n=4)
    assert [file.name for file in files.values()] == ["surface_n4_step1.png"]
    with refused("invalid", "n"):
        run_explore(pattern, op="surface", n=21)
