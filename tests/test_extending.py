"""A user's own loss, remedy, dataset and metric, by configuration alone: the very files and commands of
docs/architecture.md."""

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, classifier_cache, command, command_here

from gan_lab.assembly.build import load
from gan_lab.comparison.factors import factors
from gan_lab.config import sweep
from gan_lab.config.compatibility import COLUMNS
from gan_lab.core.run_folder import Run
from gan_lab.data.dataset import Dataset, Part
from gan_lab.data.images import digits
from gan_lab.evaluation.metrics.custom import Failed, measure
from gan_lab.evaluation.metrics.registry import METRICS, Undefined
from gan_lab.evaluation.verdict import evaluator_for
from gan_lab.gan.remedies import Remedies
from gan_lab.training.sampling import fresh_samples

TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, block in BLOCKS if not kind for line in block.splitlines() if line.startswith("python ")]
TINY = (
    "model.generator.hidden=[8]",
    "model.discriminator.hidden=[8]",
    "callbacks.verdict.samples=200",
    "~callbacks.pictures",
    "~callbacks.curves",
    "~callbacks.progress",
    "logger=table",
    f"cache_dir={classifier_cache()}",
)
SHORT = ("batch_size=8", "steps=2")
RING = ("dataset=ring", "dataset.samples=300", *SHORT)

ODD = """
import torch

from gan_lab.gan.losses import BCE
from gan_lab.gan.remedies.averaging import EMA
from gan_lab.gan.remedies.generator_losses import GeneratorLoss
from gan_lab.gan.remedies.penalties import Penalty


def far(samples, real):
    return real.norm(dim=1).max()


def drawn(samples, real):
    samples.fill_(torch.nan)
    return torch.rand(())


def fails(samples, real):
    raise KeyError("oh")


def fails_later(samples, real):
    if len(samples) > 100:
        raise MemoryError("so many")
    return 1


def many(samples, real):
    return samples


def none(samples, real):
    return None


class Whole(Penalty):
    def __call__(self, discriminator, real, fake, rng):
        return real.scores.sum()


class Each(GeneratorLoss):
    def __call__(self, discriminator, z, fake, shown_fake, shown_real):
        return discriminator(fake)


class Broken(Penalty):
    def __call__(self, discriminator, real, fake, rng):
        return discriminator(real, fake)


class Slow(EMA):
    def __init__(self, decay):
        super().__init__(decay=min(0.5, decay / 10))


class Plain:
    pass
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the files of the page, and some odd ones; this process forgets their modules."""
    for kind, block in BLOCKS:
        first, _, rest = block.partition("\n")
        if kind:
            path = tmp_path / first.removeprefix("# ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text((path.read_text() + "\n\n" if path.exists() else "") + rest)
    (tmp_path / "odd.py").write_text(ODD)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sweep, "current", None)
    yield tmp_path
    for name in ("mine", "odd"):
        sys.modules.pop(name, None)


def shown(part: str, **shortened: str) -> list[str]:
    """The one command of the page that has this part, as arguments; some of its words shortened."""
    (line,) = (line for line in COMMANDS if part in line)
    words = shlex.split(line.replace("<run folder>", "..."))[1:]
    return [shortened.get(word.partition("=")[0], word) for word in words]


def run(here: Path, *arguments: str) -> tuple[Path, dict]:
    """The folder of a training, a new one each time, and its summary."""
    folder = here / f"run_{len(list(here.glob('run_*')))}"
    done = command_here(*arguments, f"hydra.run.dir={folder}", cwd=here)
    assert done.returncode == 0, done.stderr
    return folder, json.loads((folder / "summary.json").read_text())


def test_the_drawing_has_every_module_in_its_room_and_every_room_on_its_layer():
    (drawing,) = (block for _, block in BLOCKS if "│" in block)
    contract = re.search(r"^layers = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M | re.S)
    assert contract is not None
    layers = re.findall(r'"(.*)"', contract[1])
    boxes = re.split(r"├─+┤", drawing)
    assert len(boxes) == len(layers)
    for box, layer in zip(boxes, layers, strict=True):
        rooms: dict[str, str] = {}
        for line in re.findall(r"│ (.*)│", box):
            name = line[:12].strip() or name  # noqa: F821, that of the line before
            rooms[name] = rooms.get(name, "") + line[12:]
        names = layer.split(" | ")
        files = {name for name in names if (ROOT / "gan_lab" / f"{name}.py").is_file()}
        folders = [folder for name in names for folder in (ROOT / "gan_lab" / name).rglob("__init__.py")]
        assert rooms.keys() == {init.parent.name for init in folders} | files
        for init in folders:
            for module in init.parent.glob("[a-z]*.py"):
                assert re.search(rf" {module.stem} ", rooms[init.parent.name]), module


def test_every_command_of_the_page_is_run_here():
    parts = ("mine.Exponential trust", "drift.weight", "dataset.radius", "+metrics.radius", "evaluate.py", "-m ")
    assert sorted(COMMANDS) == sorted(line for part in parts for line in COMMANDS if part in line)


def test_a_users_loss_and_resuming_with_it(here):
    """With one sample a step: p = σ(s), so exp(−s/2) = √((1 − p)/p) on the real one, exp(s/2) = √(p/(1 − p)) on G's."""
    own = shown("mine.Exponential trust")
    folder, summary = run(here, *own, *TINY, *RING, "batch_size=1", "log_every=1", "steps=3")
    assert summary["loss"] == "Exponential"
    assert (summary["losses"]["equilibrium"], summary["losses"]["equilibrium_g"]) == (1.0, 1.0)
    rows = pd.read_csv(folder / "metrics.csv").dropna(subset="loss/g")
    real, fake = rows["score/real"], rows["score/fake"]
    assert len(rows) == 3
    assert rows["loss/d_real"].to_numpy() == pytest.approx(np.sqrt((1 - real) / real), rel=1e-4)
    assert rows["loss/d_fake"].to_numpy() == pytest.approx(np.sqrt(fake / (1 - fake)), rel=1e-4)

    going_on = ("train.py", f"resume={folder}", "steps=5")
    refused = command_here(*going_on, cwd=here)
    assert refused.returncode == 2
    assert "loss would run mine.Exponential" in refused.stderr
    assert "trust=[mine]" in refused.stderr
    assert command_here(*going_on, "trust=[mine]", cwd=here).returncode == 0
    assert json.loads((folder / "summary.json").read_text())["steps"] == 5


def test_a_users_remedy(here):
    """D's −s + w·s² on real samples and s + w·s² on fakes, which stay as they are, are least at s = ±1/(2w)."""
    own = shown("drift.weight")
    apart = ("loss=wasserstein", "optim_g.lr=0", "optim_d.lr=0.02", "dataset.radius=5", "batch_size=32", "steps=300")
    done = command_here(*own, *TINY, *RING, *apart, "hydra.run.dir=run", cwd=here)
    assert done.returncode == 0, done.stderr
    assert "with drift(weight=0.1), ema(decay=0.999)" in done.stdout
    summary = json.loads((here / "run" / "summary.json").read_text())
    assert summary["remedy"] == ["drift", "ema"]
    assert summary["scores"]["real"] == pytest.approx(5, abs=0.2)
    assert summary["scores"]["fake"] == pytest.approx(-5, abs=0.2)


def test_a_users_dataset(here):
    """All of its points lie at the distance 2 from 0: 600 to train on, 150 held out."""
    own = shown("dataset.radius")
    far = ("+metrics.far={_target_: odd.far, _partial_: true}", "trust=[mine,odd]")
    _, summary = run(here, *own, *TINY, *far, "dataset.samples=600", "batch_size=8", "steps=2")
    assert summary["dataset"] == "circle"
    assert summary["real_data"]["far"] == pytest.approx(2, abs=1e-6)
    assert summary["metrics"]["compared"] == 75, "as many as one half of those held out"
    assert summary["verdict"]["sentence"].startswith("Junk: 100% of the samples lie outside the data. ")


@pytest.mark.slow
def test_a_users_metric_in_a_training_and_of_another_run(here):
    own = shown("+metrics.radius")
    folder, summary = run(here, *own, *TINY, *RING, "replicas=2", "dataset.radius=3")
    each = [member["radius"] for member in summary["replica_metrics"]]
    assert summary["metrics"]["radius"] == pytest.approx(sum(each) / 2)
    assert summary["real_data"]["radius"] == pytest.approx(1, abs=0.01), "a share of the real ones'"
    module, dataset = load(Run(folder), trust=["mine"])
    usual = dataset.train.values.norm(dim=1).mean()
    for i, member in module.members():
        expected = fresh_samples(member, 200, "verdict/end").norm(dim=1).mean() / usual
        assert each[i] == pytest.approx(expected.item(), rel=0.01)
    assert each[0] != each[1]
    rows = pd.read_csv(folder / "metrics.csv")
    assert rows["metric/radius"].iloc[-1] == pytest.approx(summary["metrics"]["radius"])
    assert rows["metric/radius/1"].iloc[-1] == pytest.approx(each[1])

    plain, summary = run(here, "train.py", *TINY, *RING)
    assert "radius" not in summary["metrics"]
    asked = shown("evaluate.py", run=f"run={plain}")
    done = command_here(*asked, "samples=300", "seeds=2", TINY[-1], cwd=here)
    assert done.returncode == 0, done.stderr
    found = json.loads((plain / "evaluation.json").read_text())
    assert found["mean"]["radius"] > 0
    assert found["spread"]["radius"] > 0
    assert found["real_data"]["radius"] == pytest.approx(1, abs=0.01)
    assert re.search(r"^  radius +\S+ +\S+ +\S+$", done.stdout, flags=re.MULTILINE)

    done = command_here(*own, f"resume={plain}", "steps=4", cwd=here)
    assert done.returncode == 0, done.stderr
    summary = json.loads((plain / "summary.json").read_text())
    assert (summary["steps"], summary["metrics"]["radius"] > 0) == (4, True)


def test_a_metric_more_makes_no_other_variant():
    plain = {"loss._target_": "gan_lab.gan.losses.BCE", "seed": 0}
    assert factors([plain, plain | {"metrics.radius._target_": "mine.radius", "metrics.radius._partial_": True}]) == []


@pytest.mark.slow
def test_a_sweep_over_a_users_parts(here):
    own = shown("-m ", seed="seed=0")
    done = command_here(*own, *TINY, "dataset.samples=600", "batch_size=8", "steps=2", "hydra.sweep.dir=all", cwd=here)
    assert done.returncode == 0, done.stderr
    rows = pd.read_csv(here / "all" / "comparison.csv", keep_default_na=False)
    assert list(rows["remedy"]) == ["none", "drift", "r1"]
    for row in rows.to_dict("records"):
        summary = json.loads((here / "all" / row["run"] / "summary.json").read_text())
        assert row["radius"] == pytest.approx(summary["metrics"]["radius"])
        assert summary["remedy"] == [name for name in (row["remedy"],) if name != "none"]
    other_columns = set(rows.columns) - METRICS.keys() - {"radius", "remedy", "seed", "steps"}
    assert other_columns <= COLUMNS, "the names that are taken"
    effects = pd.read_csv(here / "all" / "effects.csv")
    assert "radius" in set(effects["metric"])


@pytest.mark.slow  # the same with processes of their own, as a user runs it
def test_a_module_in_the_current_folder_is_found_by_every_process(here):
    values = ("seed=0,1", "hydra/launcher=local", "hydra.sweep.dir=all")
    own = (*shown("dataset.radius"), "metrics=[radius]", *TINY, "dataset.samples=600", "batch_size=8", "steps=2")
    done = command(own[0], "-m", *own[1:], *values, cwd=here)
    assert done.returncode == 0, done.stderr
    assert "radius" in pd.read_csv(here / "all" / "comparison.csv")
    (folder, *_) = here.glob("all/*/")
    asked = shown("evaluate.py", run=f"run={folder}")
    done = command(*asked, "samples=300", "seeds=1", cwd=here)
    assert done.returncode == 0, done.stderr


def own_metric(function: str, name: str = "odd") -> str:
    return f"+metrics.{name}={{_target_: {function}, _partial_: true}}"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (
            [own_metric("odd.fails")],
            ["odd, tried on 100 samples of the shape (2,): KeyError: 'oh'", "Undefined"],
        ),
        ([own_metric("odd.many")], ["metrics.odd", "RuntimeError"]),
        ([own_metric("odd.none")], ["metrics.odd", "returns NoneType, not a number"]),
        ([own_metric("odd.nowhere")], ["metrics.odd", "nowhere"]),
        ([own_metric("lost.one"), "trust=[lost]"], ["No module named 'lost'", "current folder"]),
        ([own_metric("odd.far", "recall")], ["metrics.recall: that name has another meaning"]),
        ([own_metric("odd.far", "seed")], ["metrics.seed: that name has another meaning"]),
        ([own_metric("odd.far", "status")], ["metrics.status: that name has another meaning"]),
        ([own_metric("odd.far", "a-b")], ["metrics.a-b: the name of a metric has only letters"]),
        (["+metrics.odd={_target_: odd.far}"], ["metrics.odd names no function that can be called", "_partial_: true"]),
        (["+metrics.odd=odd.far"], ["metrics.odd names no function that can be called", "_target_"]),
        (["metrics=[odd]"], ["no options of metrics", "--config-dir"]),
        (["--config-dir=my_conf", "metrics=[odd]"], ["There is no metrics=odd", "Choose from: radius."]),
        (["--config-dir=my_conf", "remedy=[drif]"], ["Did you mean 'drift'?", "diffaugment, dragan, drift, ema"]),
        (["--config-dir=nowhere"], ["nowhere' not found"]),
        ([own_metric("os.system"), "trust=[]"], ["metrics.odd would run os.system", "trust=[os]"]),
        (["+remedy.odd={_target_: odd.Whole}"], ["remedy: Whole gives the shape (), where a step needs (2,)"]),
        (["+remedy.odd={_target_: odd.Each}"], ["remedy: Each gives the shape (2,), where a step needs ()"]),
        (["+remedy.odd={_target_: odd.Broken}"], ["remedy: Broken doesn't work as it is configured"]),
        (["+remedy.odd={_target_: odd.Plain}"], ["Plain is no remedy", "Penalty, GeneratorLoss", "EMA"]),
        (["+remedy.odd={_target_: odd.Whole, _partial_: true}"], ["remedy.odd._partial_ has to be false"]),
    ],
    ids=lambda value: None if value and isinstance(value[0], list) else " ".join(value)[:40],
)
def test_what_cannot_work_is_refused_before_the_training_and_leaves_nothing(here, arguments, parts):
    flags = [each for each in arguments if each.startswith("--")]  # Hydra wants them in front
    asked = [each for each in arguments if each not in flags]
    done = command_here("train.py", *flags, *TINY, *RING, "trust=[odd]", *asked, cwd=here)
    assert done.returncode == 2, done.stderr
    for part in parts:
        assert part in done.stderr
    assert not (here / "outputs").exists()


def test_settings_of_a_user_may_be_called_like_ours_and_mean_something_else(here):
    """A decay of 3, where gan_lab's EMA needs one below 1; a derived remedy takes the place of what it derives from."""
    _, summary = run(here, "train.py", *TINY, *RING, "trust=[odd]", "+remedy.slow={_target_: odd.Slow, decay: 3}")
    assert summary["remedy"] == ["slow"]
    refused = command_here("train.py", "remedy=[ema]", "remedy.ema.decay=3", cwd=here)
    assert "remedy.ema.decay=3 is not allowed" in refused.stderr
    made = Remedies.from_list([sys.modules["odd"].Slow(decay=3)])
    assert made.ema.decay == 0.3


def test_a_metric_that_fails_in_the_end_costs_nothing_else(here):
    _, summary = run(here, "train.py", *TINY, *RING, "trust=[odd]", own_metric("odd.fails_later"))
    assert summary["status"] == "finished"
    assert summary["metrics"]["odd"] is None
    assert summary["undefined"]["odd"] == "MemoryError: so many"
    assert summary["real_data"]["odd"] is None
    assert summary["metrics"]["coverage"] is not None


def test_a_metric_changes_neither_training_nor_verdict(here):
    """This one draws from torch's own stream and overwrites the samples."""
    folders = {}
    for name, more in {"without": (), "with": ("trust=[odd]", own_metric("odd.drawn"))}.items():
        folders[name], _ = run(here, "train.py", *TINY, *RING, "log_every=1", *more)
    tables = {name: pd.read_csv(folder / "metrics.csv") for name, folder in folders.items()}
    own = tables["with"].pop("metric/odd")
    pd.testing.assert_frame_equal(tables["with"], tables["without"], check_exact=True)
    torch.manual_seed(0)
    assert own.iloc[-1] == pytest.approx(torch.rand(()).item()), "the same each time"


def test_measure():
    samples, real = torch.arange(6.0).view(3, 2), torch.zeros(4, 2)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert measure(lambda s, r: s.max() - r.max(), samples, real) == 5
    assert measure(lambda s, r: np.float32(0.5), samples, real) == 0.5
    assert measure(lambda s, r: len(s) / len(r), samples, real) == 0.75
    draws = [measure(lambda s, r: torch.rand(()) + s.zero_().sum(), samples, real) for _ in range(2)]
    assert draws[0] == draws[1]
    assert torch.equal(torch.get_rng_state(), before)
    assert samples.sum() == 15
    for answer, words in ((None, "NoneType"), ("1", "str"), (samples, "RuntimeError"), (10**400, "OverflowError")):
        with pytest.raises(Failed, match=words):
            measure(lambda s, r, answer=answer: answer, samples, real)
    with pytest.raises(Failed, match=r"TypeError: .*positional"):
        measure(lambda s: 1, samples, real)
    for answer in (torch.nan, torch.inf):
        with pytest.raises(Undefined, match="it gives (nan|inf)") as refused:
            measure(lambda s, r, answer=answer: answer, samples, real)
        assert not isinstance(refused.value, Failed)
    with pytest.raises(Undefined, match="no finite sample"):
        measure(lambda s, r: 1, samples[:0], real)


def test_the_names_that_are_taken_are_those_of_a_summary(here):
    """Of points with classes that are asked for, of labelled images, and of data without labels: all there are."""
    _, classes = run(here, "train.py", *TINY, *RING, "conditional=true")
    samples = torch.rand(60, 1, 8, 8)
    labelled = evaluator_for(digits(), Path(classifier_cache())).evaluate(samples)
    unlabelled = evaluator_for(Dataset(Part(samples), Part(samples)), Path(classifier_cache())).evaluate(samples)
    assert classes["metrics"].keys() | labelled.metrics.keys() | unlabelled.metrics.keys() == METRICS.keys()


def test_a_judge_measures_by_equal_numbers():
    """As many training samples as samples, whichever are judged: metrics depend on both numbers."""
    from gan_lab.data import synthetic

    seen = []
    own = {"odd": lambda samples, real: seen.append((len(samples), len(real))) or 1}
    evaluator = evaluator_for(synthetic.ring(samples=5_000), Path(classifier_cache()), user_metrics=own)
    evaluator.evaluate(torch.rand(300, 2))
    assert sorted(seen) == [(300, 300), (2_500, 2_500)]
