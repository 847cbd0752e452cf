"""Makes imports quicker: importing torch and Lightning is most of the time from a command to its first step."""

import gc
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import Any


@contextmanager
def quick_imports() -> Iterator[None]:
    """Imports what stands within, torch and Lightning, in two thirds of the time.

    No garbage is looked for among the million objects that modules consist of; later collections, and the one at the
    end of the process, leave them out, too.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    _import_torchmetrics_in_part()
    try:
        yield
    finally:
        # Once: what a later job in this process leaves behind has to be collected.
        if gc.get_freeze_count() == 0:
            gc.freeze()
        if was_enabled:
            gc.enable()


def _import_torchmetrics_in_part() -> None:
    """Imports of torchmetrics only what Lightning needs, two classes.

    All of it takes a second: a hundred metrics, scipy.signal, torchvision. It is imported as soon as anything else of
    it is asked for, for example by a metric of the user's own.
    """
    spec = find_spec("torchmetrics")
    if "torchmetrics" in sys.modules or spec is None or spec.loader is None:
        return
    loader = spec.loader
    package: Any = module_from_spec(spec)

    def import_all(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        del package.__getattr__
        loader.exec_module(package)
        return getattr(package, name)

    sys.modules["torchmetrics"] = package
    package._logger = logging.getLogger("torchmetrics")
    try:
        # Its modules import each other: this order works.
        import_module("torchmetrics.utilities")
        from torchmetrics.collections import MetricCollection
        from torchmetrics.metric import Metric
    except ImportError:
        # Another version is built in another way: Lightning will import all of it.
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchmetrics"]:
            del sys.modules[name]
        return
    package.Metric = Metric
    package.MetricCollection = MetricCollection
    package.__getattr__ = import_all
