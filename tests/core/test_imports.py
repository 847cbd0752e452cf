"""What a command imports, and how its process ends: seen in processes of their own."""

import subprocess
import sys

import pytest


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=120)


def test_the_plan_of_a_sweep_needs_no_tables_or_charts():
    code = (
        "import sys, gan_lab.comparison.plan; print({'pandas', 'matplotlib', 'torch', 'scipy.stats'} & {*sys.modules})"
    )
    assert _run(code).stdout == "set()\n"


@pytest.mark.parametrize(("status", "rest"), [("3", ""), ("None", "ended by Python\n")])
def test_a_quick_end_comes_after_all_other_actions(status, rest):
    code = f"""
import atexit, os
from gan_lab.config.cli import _QuickEnd
class Module:
    def __del__(self, write=os.write):
        write(1, b"ended by Python\\n")
module = Module()
end = _QuickEnd()
atexit.register(end)
atexit.register(print, "another action")
end.status = {status}
print("work")
"""
    process = _run(code)
    assert process.stdout == f"work\nanother action\n{rest}"
    assert process.returncode == (0 if status == "None" else int(status))


QUICKLY = """
import gc, sys
from gan_lab.core.imports import quick_imports
with quick_imports():
    import gan_lab.assembly.build
assert gc.isenabled() and gc.get_freeze_count()
LATER = {"torch._dynamo", "torchvision", "torchmetrics.functional", "scipy.stats", "sklearn", "pandas"}
print("at once:", sorted(LATER & {*sys.modules}))

import torch
import pytorch_lightning as pl
print("is compiled:", isinstance(pl.LightningModule(), pl.utilities.compile.OptimizedModule))
parameter = torch.nn.Parameter(torch.ones(1))
optimizer = torch.optim.SGD([parameter], lr=1)
optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 2})
optimizer.load_state_dict(optimizer.state_dict())
optimizer.zero_grad()
print("with optimizers:", sorted(LATER & {*sys.modules}))

import torchmetrics
from torchmetrics import Metric
from torchmetrics.image.fid import FrechetInceptionDistance
print("a metric:", issubclass(FrechetInceptionDistance, Metric), issubclass(torchmetrics.Accuracy, object))
class Compiled(pl.LightningModule):
    def training_step(self, batch):
        self.log("x", torchmetrics.MeanMetric().to("cpu"))
compiled = torch.compile(Compiled(), backend="eager")
print("is compiled:", type(compiled).__name__, isinstance(compiled, pl.utilities.compile.OptimizedModule))
"""


@pytest.mark.slow
def test_what_is_imported_later_is_there_when_it_is_needed():
    process = _run(QUICKLY)
    assert process.stdout.splitlines() == [
        "at once: []",
        "is compiled: False",
        "with optimizers: []",
        "a metric: True True",
        "is compiled: OptimizedModule True",
    ], process.stderr
