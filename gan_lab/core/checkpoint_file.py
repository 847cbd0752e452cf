"""What a checkpoint file may hold: numbers, texts and plain tensors, as many as the file has bytes for.

PyTorch's `weights_only=True` keeps a file from running code. It lets through tensors whose elements share memory, lie
on no device, or are more than the file holds, and lists that hold themselves: fused kernels would write where they must
not, and whoever walks through would never end. So everything is looked at and copied before it is used.
"""

import io
import math
import struct
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan_lab.core.errors import LabError

MAX_DEPTH = 50
RNG_BYTES = 5056  # of torch's Mersenne Twister


def read_checkpoint(path: Path, content: bytes) -> dict[str, Any]:
    """Loads a checkpoint that is whole, without running anything in it.

    Args:
        path: for messages only.
        content: of the file, checked by `gan_lab.core.io.corruption`: what is checked is what is loaded.

    Returns:
        What it holds, in dicts, lists and tuples of their own and tensors that own their memory, on the CPU.

    Raises:
        LabError: if it is none of gan_lab's, or holds anything else.
    """
    try:
        checkpoint = load_plain(content)
        _check_form(checkpoint)
    except Exception as error:  # a whole file, but what torch says of foreign content has many types
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise LabError(f"{path} is no checkpoint of gan_lab: {reason}", "Name another run.") from error
    return checkpoint


def load_plain(content: bytes) -> Any:
    """Loads what torch saved: dicts, lists, numbers, texts and plain tensors, in memory of their own, on the CPU.

    Raises:
        LabError: if it holds anything else.
        Exception: whatever torch raises for content that isn't its own.
    """
    loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return _Copier(len(content)).copy(loaded)


def _check_form(checkpoint: Any) -> None:
    """Refuses a checkpoint without the entries that every one of gan_lab's has."""
    if not isinstance(checkpoint, dict):
        raise LabError("it holds no entries")
    kinds = {"gan_lab": dict, "state_dict": dict, "optimizer_states": list, "callbacks": dict}
    for name, kind in kinds.items():
        if not isinstance(checkpoint.get(name), kind):
            raise LabError(f"its entry {name} is missing or of another form")
    if not is_count(checkpoint["gan_lab"].get("step")):
        raise LabError("it doesn't say which step it is of")
    for name, tensor in checkpoint["state_dict"].items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise LabError("its weights aren't named tensors")


def is_count(value: Any) -> bool:
    """Tells whether a value is a whole number from 0 to 10 ** 12, as steps are."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 10**12


def refuse_invalid_rng_state(state: Tensor) -> None:
    """Refuses the state of a random number generator of the CPU by which torch would read beyond its 624 numbers.

    Torch itself looks only at the range of `left`, how many of them are left, and `next`, the place of the next one.

    Args:
        state: `(5056,)` uint8, as `torch.Generator.get_state` returns it.

    Raises:
        LabError: if it is no state that a generator can have.
    """
    if state.dtype != torch.uint8 or state.shape != (RNG_BYTES,):
        raise LabError("the state of its random numbers is of another form")
    _, left, seeded, place = struct.unpack_from("<QiiQ", bytes(state[:24].tolist()))
    fresh = (left, place) == (1, 0)
    if seeded != 1 or not (fresh or (1 <= left <= 624 and left + place == 625)):
        raise LabError("the state of its random numbers is none that a generator can have")


class _Copier:
    """Copies nested content as a tree: what the file names several times is copied as often, as far as bounds allow.

    Args:
        size: of the file. Written without sharing, each value takes a byte of it at least, and each tensor its own.
    """

    def __init__(self, size: int):
        self.bytes_left = size
        self.nodes_left = size

    def copy(self, node: Any, depth: int = 0) -> Any:
        self.nodes_left -= 1
        if self.nodes_left < 0 or depth > MAX_DEPTH:
            raise LabError("it holds more, or deeper, than any checkpoint")
        if isinstance(node, Tensor):
            return self._tensor(node)
        if isinstance(node, dict):
            return {self._key(key): self.copy(value, depth + 1) for key, value in node.items()}
        if type(node) in (list, tuple):
            return type(node)(self.copy(value, depth + 1) for value in node)
        if type(node) is int and abs(node) >= 2**63:
            raise LabError("it holds a number with more than 63 bits")
        if node is None or type(node) in (bool, int, float, str):
            return node
        raise LabError(f"it holds a {type(node).__name__}")

    @staticmethod
    def _key(key: Any) -> str | int:
        if type(key) not in (str, int):
            raise LabError(f"it names an entry by a {type(key).__name__}")
        return key

    def _tensor(self, tensor: Tensor) -> Tensor:
        if type(tensor) not in (Tensor, nn.Parameter):
            raise LabError(f"it holds a {type(tensor).__name__}")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested or tensor.device.type != "cpu":
            raise LabError("it holds a tensor that isn't plain: sparse, quantised, nested or without memory")
        if tensor.is_conj() or tensor.is_neg() or not tensor.is_contiguous():
            raise LabError("it holds a tensor whose elements don't lie one behind the other")
        size = math.prod(tensor.shape) * tensor.element_size()
        self.bytes_left -= size
        if self.bytes_left < 0 or size > tensor.untyped_storage().nbytes():
            raise LabError("it holds tensors with more elements than the file has bytes for")
        return tensor.detach().clone()
