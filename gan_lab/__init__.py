"""A laboratory for one question: why does my generator collapse onto one output, and which remedy really helps?"""

from typing import TYPE_CHECKING, Any

from gan_lab.core.version import __version__

if TYPE_CHECKING:
    from gan_lab.api import compare, evaluate, load, pack_images, sweep, train

__all__ = ["__version__", "compare", "evaluate", "load", "pack_images", "sweep", "train"]


def __getattr__(name: str) -> Any:
    """Imports gan_lab.api, and with it torch, when one of its functions is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gan_lab import api

    return getattr(api, name)
