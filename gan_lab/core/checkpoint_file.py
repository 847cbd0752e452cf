"""Loads checkpoint files safely: only numbers, texts and plain tensors, no more than the file has bytes for.

PyTorch's `weights_only=True` keeps a file from running code. It still lets through tensors whose elements share memory,
that lie on no device or that are larger than the file, and lists that contain themselves. Fused kernels would write
outside such a tensor's memory, and a walk through such a list would never end. So all content is checked and copied
before it is used.
"""

import io
import math
import struct
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.serialization import get_unsafe_globals_in_checkpoint

from gan_lab.core.errors import LabError
from gan_lab.core.io import corruption

MAX_DEPTH = 50
MAX_COUNT = 10**12
RNG_STATE_BYTES = 5056  # of torch's Mersenne Twister
RNG_WORDS = 624

REQUIRED_ENTRIES = {"gan_lab": dict, "state_dict": dict, "optimizer_states": list, "callbacks": dict}


def archive_damage(content: bytes) -> str | None:
    """Returns what is wrong with a file that `torch.save` wrote; None if it is whole.

    The checksums of a zip archive do not cover its directory, and Python ignores some fields of it that torch refuses,
    so torch opens the archive too. It loads no tensor for that.

    Args:
        content: the file's bytes.
    """
    reason = corruption(content)
    if reason is not None:
        return reason
    try:
        get_unsafe_globals_in_checkpoint(io.BytesIO(content))
    except RuntimeError as error:
        return str(error).partition(".")[0]
    except Exception:
        # A whole archive with foreign content, which read_checkpoint refuses.
        return None
    return None


def read_checkpoint(path: Path, content: bytes) -> dict[str, Any]:
    """Loads a checkpoint without running anything in it.

    Args:
        path: where the file lies; only for messages.
        content: the file's bytes, which `archive_damage` has checked. They are passed instead of read again
            so that what was checked is what is loaded.

    Returns:
        The checkpoint's entries as newly made dicts, lists and tuples, and tensors on the CPU that own their memory.

    Raises:
        LabError: if gan_lab did not write the file, or it holds anything else.
    """
    try:
        checkpoint = load_plain(content)
        _refuse_missing_entries(checkpoint)
    except Exception as error:  # what torch raises for a whole file with foreign content has many types
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise LabError(
            f"{path} is not a checkpoint of gan_lab: {reason}", "Name another run.", code="damaged", key=path.name
        ) from error
    return checkpoint


def load_plain(content: bytes) -> Any:
    """Loads what `torch.save` wrote: dicts, lists, numbers, texts and plain tensors, copied, on the CPU.

    Raises:
        LabError: if it holds anything else.
        Exception: whatever torch raises for content that is not its own.
    """
    loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return _Copier(len(content)).copy(loaded)


def _refuse_missing_entries(checkpoint: Any) -> None:
    """Refuses a checkpoint without the entries that every checkpoint of gan_lab has."""
    if not isinstance(checkpoint, dict):
        raise _damaged("it holds no entries")
    for name, entry_type in REQUIRED_ENTRIES.items():
        if not isinstance(checkpoint.get(name), entry_type):
            raise _damaged(f"its entry {name} is missing or of another form")
    if not is_count(checkpoint["gan_lab"].get("step")):
        raise _damaged("it doesn't say which step it is of")
    for name, tensor in checkpoint["state_dict"].items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise _damaged("its weights aren't named tensors")


def is_count(value: Any) -> bool:
    """Returns whether a value is a whole number from 0 to 10 ** 12, as a number of steps is."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT


def refuse_invalid_rng_state(state: Tensor) -> None:
    """Refuses a state of the CPU's random number generator with which torch would read past its 624 numbers.

    Torch itself checks only the range of two fields: `left`, how many numbers are left, and `next`, the place of the
    next one.

    Args:
        state: `(5056,)` uint8, as `torch.Generator.get_state` returns it.

    Raises:
        LabError: if no generator can have this state.
    """
    if state.dtype != torch.uint8 or state.shape != (RNG_STATE_BYTES,):
        raise _damaged("the state of its random numbers is of another form")
    header = bytes(state[:24].tolist())
    _, left, seeded, place = struct.unpack_from("<QiiQ", header)
    # A new generator has drawn no block of numbers yet.
    is_new = left == 1 and place == 0
    is_in_use = 1 <= left <= RNG_WORDS and left + place == RNG_WORDS + 1
    if seeded != 1 or not (is_new or is_in_use):
        raise _damaged("the state of its random numbers is one that no generator can have")


def _damaged(reason: str) -> LabError:
    return LabError(reason, code="damaged")


class _Copier:
    """Copies nested content as a tree: whatever the file refers to several times is copied several times.

    The size of the file bounds the copy: written without sharing, each value takes at least one byte of it, and each
    tensor its own bytes. So neither a list that contains itself nor a small file that refers to one tensor very often
    can fill the memory.

    Args:
        size: bytes of the file.
    """

    def __init__(self, size: int):
        self.bytes_left = size
        self.nodes_left = size

    def copy(self, node: Any, depth: int = 0) -> Any:
        """Returns a copy of a value and everything in it.

        Raises:
            LabError: for a type that a checkpoint may not hold, or more values than the file has bytes for.
        """
        self.nodes_left -= 1
        if self.nodes_left < 0 or depth > MAX_DEPTH:
            raise _damaged("it holds more, or deeper, than any checkpoint")
        if isinstance(node, Tensor):
            return self._copy_tensor(node)
        if isinstance(node, dict):
            return {_plain_key(key): self.copy(value, depth + 1) for key, value in node.items()}
        # Exact types from here on: a subclass could bring methods of its own.
        if type(node) is list:
            return [self.copy(value, depth + 1) for value in node]
        if type(node) is tuple:
            return tuple(self.copy(value, depth + 1) for value in node)
        if type(node) is int and abs(node) >= 2**63:
            raise _damaged("it holds a number with more than 63 bits")
        if node is None or type(node) in (bool, int, float, str):
            return node
        raise _damaged(f"it holds a {type(node).__name__}")

    def _copy_tensor(self, tensor: Tensor) -> Tensor:
        if type(tensor) not in (Tensor, nn.Parameter):
            raise _damaged(f"it holds a {type(tensor).__name__}")
        is_plain = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_nested
        if not is_plain or tensor.device.type != "cpu":
            raise _damaged("it holds a tensor that isn't plain: sparse, quantised, nested or without memory")
        if tensor.is_conj() or tensor.is_neg() or not tensor.is_contiguous():
            raise _damaged("it holds a tensor whose elements don't lie one behind the other")
        size = math.prod(tensor.shape) * tensor.element_size()
        self.bytes_left -= size
        if self.bytes_left < 0 or size > tensor.untyped_storage().nbytes():
            raise _damaged("it holds tensors with more elements than the file has bytes for")
        return tensor.detach().clone()


def _plain_key(key: Any) -> str | int:
    if type(key) not in (str, int):
        raise _damaged(f"it names an entry by a {type(key).__name__}")
    return key
