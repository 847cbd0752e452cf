"""Makes imports quicker: importing torch and Lightning is most of the time from a command to its first step."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any


@contextmanager
def quick_imports() -> Iterator[None]:
    """Imports what stands within, and torch and Lightning before it, in half of the time.

    No garbage is looked for among the million objects that modules consist of; later collections, and the one at the
    end of the process, leave them out, too. Of what Lightning imports, torch's compiler and most of torchmetrics wait
    until something needs them.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        if "pytorch_lightning" not in sys.modules:
            _import_lightning()
        yield
    finally:
        # Once: what a later job in this process leaves behind has to be collected.
        if gc.get_freeze_count() == 0:
            gc.freeze()
        if was_enabled:
            gc.enable()


def _import_lightning() -> None:
    """Imports Lightning without what it doesn't need; where that fails, with all of it."""
    import torch  # noqa: F401 - it may not find one of its parts replaced

    before = set(sys.modules)
    try:
        _import_torchmetrics_in_part()
        with _without_dynamo():
            import_module("pytorch_lightning")
        _let_optimizers_do_without_dynamo()
    except (ImportError, AttributeError):
        # Other versions of these libraries are built in another way.
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in ("torchmetrics", "pytorch_lightning", "lightning_fabric"):
                del sys.modules[name]
        import_module("pytorch_lightning")


def _import_torchmetrics_in_part() -> None:
    """Imports of torchmetrics only what Lightning needs, two classes.

    All of it takes a second: a hundred metrics, scipy.signal, torchvision. It is imported as soon as anything else of
    it is asked for, for example by a metric of the user's own.
    """
    # Imported here: a command watches for signals before it imports so much.
    import logging

    spec = find_spec("torchmetrics")
    if spec is None or spec.loader is None:
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
    # Its modules import each other: this order works.
    import_module("torchmetrics.utilities")
    package.MetricCollection = import_module("torchmetrics.collections").MetricCollection
    package.Metric = import_module("torchmetrics.metric").Metric
    package.__getattr__ = import_all


class _Compiled(type):
    """The type of `OptimizedModule`: modules can be compiled ones only if torch's compiler has been imported."""

    def __instancecheck__(cls, instance: Any) -> bool:
        compiler = sys.modules.get("torch._dynamo")
        return compiler is not None and isinstance(instance, compiler.OptimizedModule)


@contextmanager
def _without_dynamo() -> Iterator[None]:
    """Gives Lightning, which asks whether a module is a compiled one, a class that says so.

    torch's compiler, with sympy, takes a second to import. Lightning also exempts the function that collects logged
    values from being compiled; nothing here compiles a whole LightningModule.
    """
    import torch

    name = "torch._dynamo"
    if name in sys.modules:
        yield
        return
    stand_in: Any = ModuleType(name)
    stand_in.OptimizedModule = _Compiled("OptimizedModule", (), {})
    stand_in.disable = lambda function, *_, **__: function
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        del sys.modules[name]
        vars(torch).pop("_dynamo", None)


def _let_optimizers_do_without_dynamo() -> None:
    """Lets torch's optimizers call these functions as they are, rather than import the compiler to leave them out.

    Nothing here compiles an optimizer.
    """
    from torch.optim import Optimizer

    for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad"):
        function = getattr(vars(Optimizer).get(name), "__wrapped__", None)
        if function is not None:
            # What torch stores there at the first call.
            vars(function).setdefault("__dynamo_disable", function)
