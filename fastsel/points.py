"""Arrays in and out: any caller's library on the outside, plain NumPy memory on the inside."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

FLOAT_TYPES = ("float16", "bfloat16", "float32", "float64")

# Squared distances are sums of D squares in float64. Below this magnitude, with D up to 2**31, they
# can not overflow; no real feature comes near it.
MAX_MAGNITUDE = 1e149


@dataclass(frozen=True)
class Points:
    """The rows of a feature matrix, ready for a backend.

    data: [N, D], C-contiguous; float16, float32 or float64, or uint16 with the bits of bfloat16.
    norms: None, or float64 [N]: each row counts as divided by its norm (the cosine metric).
    """

    data: npt.NDArray[Any]
    norms: npt.NDArray[np.float64] | None = None

    @property
    def n(self) -> int:
        """The number of rows."""
        return int(self.data.shape[0])

    @property
    def dim(self) -> int:
        """The number of columns."""
        return int(self.data.shape[1])

    def rows(self, index: slice | npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Those rows, float64 [len, D], exactly (normalised, for the cosine metric)."""
        rows = widen(self.data[index])
        return rows if self.norms is None else rows / self.norms[index, None]

    def part(self, block: slice) -> Points:
        """Those rows: a view of the same memory."""
        return Points(self.data[block], None if self.norms is None else self.norms[block])

    def widened(self) -> Points:
        """The same points with float64 storage; a copy, except where they have it already."""
        return Points(widen(self.data), self.norms)


@dataclass(frozen=True)
class Subset(Points):
    """Rows `chosen`, int64 [n], of the matrix `data`, which are gathered a part at a time."""

    chosen: npt.NDArray[np.int64] = field(kw_only=True)

    @property
    def n(self) -> int:
        """The number of rows."""
        return len(self.chosen)

    def rows(self, index: slice | npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """As of Points: a copy."""
        return super().rows(self.chosen[index])

    def part(self, block: slice) -> Points:
        """Those rows: a copy."""
        rows = self.chosen[block]
        return Points(self.data[rows], None if self.norms is None else self.norms[rows])


def widen(data: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Any supported storage as float64, exactly; a copy, except of float64 itself."""
    if data.dtype == np.uint16:
        data = (data.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return data.astype(np.float64, copy=False)


def as_points(name: str, value: Any) -> Points:
    """Check `value` as a [N, D] matrix of finite floats and view it as `Points`.

    Copies only what is not C-contiguous, not in native byte order, or not in host memory.
    Raises TypeError or ValueError naming the argument `name`.
    """
    data = _storage(name, value)
    if data.ndim != 2 or data.shape[0] < 1 or data.shape[1] < 1:
        raise ValueError(f"{name} must have shape [N, D] with N, D >= 1, got {tuple(data.shape)}")
    data = np.ascontiguousarray(data)
    _check_finite(name, data)
    return Points(data)


def result_converter(like: Any) -> Callable[[npt.NDArray[Any]], Any]:
    """A function that takes a NumPy result to the library and device of `like`."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(like, torch.Tensor):
        return lambda result: torch.from_numpy(result).to(like.device)
    if not isinstance(like, np.ndarray) and hasattr(like, "__array_namespace__"):
        namespace = like.__array_namespace__()
        return lambda result: namespace.asarray(result)
    return lambda result: result


def _storage(name: str, value: Any) -> npt.NDArray[Any]:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
        if tensor.dtype == torch.bfloat16:
            return np.asarray(tensor.contiguous().view(torch.int16).numpy().view(np.uint16))
        dtype, data = str(tensor.dtype).removeprefix("torch."), tensor
    elif isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} must not be a masked array; fill or drop its masked values first")
    elif isinstance(value, np.ndarray):
        dtype, data = value.dtype.name, value
    elif hasattr(value, "__dlpack__"):
        data = np.from_dlpack(value)
        dtype = data.dtype.name
    else:
        raise TypeError(
            f"{name} must be a NumPy array, a torch tensor or an object with DLPack, "
            f"got {type(value).__name__}"
        )
    if dtype not in FLOAT_TYPES:
        raise TypeError(f"{name} must have dtype {', '.join(FLOAT_TYPES)}, got {dtype}")
    array = np.asarray(data)
    if dtype == "bfloat16":  # the ml_dtypes extension type
        return array.view(np.uint16)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _check_finite(name: str, data: npt.NDArray[Any]) -> None:
    rows = max(1, (1 << 20) // data.shape[1])  # keeps the temporary small and in cache
    for start in range(0, data.shape[0], rows):
        block = data[start : start + rows]
        if block.dtype == np.uint16:
            good = (block & np.uint16(0x7F80)) != np.uint16(0x7F80)
        elif block.dtype == np.float64:
            with np.errstate(invalid="ignore"):
                good = np.abs(block) <= MAX_MAGNITUDE
        else:
            good = np.isfinite(block)
        if not good.all():
            row, column = np.argwhere(~good)[0]
            value = widen(block[row : row + 1, column])[0]
            limit = f" below {MAX_MAGNITUDE:g} in magnitude" if np.isfinite(value) else ""
            raise ValueError(
                f"{name} must be finite{limit}, got {value} at row {start + row}, column {column}"
            )
