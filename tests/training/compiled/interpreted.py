"""The compiled step as plain Python, slow but without compilation: for tests that change its source."""

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np

from gan_lab.training.compiled import step

SOURCE = Path(step.__file__).read_text(encoding="utf-8")

Array = np.ndarray[Any, Any]


def interpreted(source: str) -> ModuleType:
    """Returns the module `step` made of its source, in float64, with numpy in the place of numba and BLAS."""
    module = ModuleType("interpreted_step")
    stubs: dict[str, Any] = {
        "numba": MagicMock(njit=_not_compiled),
        "numba.core": MagicMock(),
        "numba.extending": MagicMock(intrinsic=lambda function: function),
        "llvmlite": MagicMock(),
    }
    with patch.dict(sys.modules, stubs):
        exec(compile(source, step.__file__, "exec"), module.__dict__)
    module.__dict__.update(pointer=lambda address: address, carray=_array_at, call_gemm=_gemm)
    return module


def _not_compiled(**_: Any) -> Callable[[Any], Any]:
    return lambda function: function


def _array_at(address: int, shape: tuple[int, ...], dtype: Any = np.float64) -> Array:
    """Returns an array of the numbers that lie at an address."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    buffer = (ctypes.c_char * size).from_address(int(address))
    return np.frombuffer(buffer, dtype).reshape(shape)


def _columns_at(address: int, rows: int, columns: int, leading: int) -> Array:
    """Returns a matrix that is stored column by column, `leading` numbers apart."""
    return _array_at(address, (columns, leading))[:, :rows].T


def _gemm(
    _: int,
    swap_a: int,
    swap_b: int,
    m: int,
    n: int,
    k: int,
    alpha: float,
    a: int,
    lda: int,
    b: int,
    ldb: int,
    beta: float,
    c: int,
    ldc: int,
) -> None:
    """BLAS' c = alpha op(a) op(b) + beta c, for matrices that are stored column by column."""
    left = _columns_at(a, k, m, lda).T if chr(swap_a) == "T" else _columns_at(a, m, k, lda)
    right = _columns_at(b, n, k, ldb).T if chr(swap_b) == "T" else _columns_at(b, k, n, ldb)
    result = _columns_at(c, m, n, ldc)
    # As in BLAS, what was there doesn't matter with beta = 0, even NaN.
    result[:] = alpha * (left @ right) + (beta * result if beta else 0)
