"""Arrays in and out: any caller's library outside; NumPy memory or CUDA tensors inside."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
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

    data: [N, D], C-contiguous; float16, float32 or float64. A NumPy array, where uint16 stands for
    the bits of bfloat16, or a torch tensor: what lies on a CUDA device stays there.
    norms: None, or float64 [N]: each row counts as divided by its norm (the cosine metric).
    """

    data: Any
    norms: Any = None

    @property
    def is_tensor(self) -> bool:
        """Whether data and norms are torch tensors."""
        return not isinstance(self.data, np.ndarray)

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
        return np.asarray(to_host(rows if self.norms is None else rows / self.norms[index, None]))

    def on_host(self) -> Points:
        """The same points in NumPy memory; a copy, except where they are there already."""
        if not self.is_tensor:
            return self
        data = _storage("points", self.data, keep_on_device=False)
        return replace(self, data=data, norms=to_host(self.norms))

    def part(self, rows: Any) -> Points:
        """Those rows, by a slice or their numbers; a view of the same memory for a slice."""
        return Points(self.data[rows], None if self.norms is None else self.norms[rows])

    def widened(self) -> Points:
        """The same points with float64 storage; a copy, except where they have it already."""
        return Points(widen(self.data), self.norms)

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """An array of that shape and type where the points lie, its values undefined."""
        if not self.is_tensor:
            return np.empty(shape, dtype)
        return self.data.new_empty(shape, dtype=getattr(sys.modules["torch"], dtype))

    def view(self, array: Any) -> Any:
        """The same memory as an array such as the points are; None where it lies elsewhere."""
        if not self.is_tensor:
            return None if on_device(array) else np.asarray(array)
        tensor = sys.modules["torch"].as_tensor(array)
        return tensor if tensor.device == self.data.device else None


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

    def part(self, rows: Any) -> Points:
        """Those rows: a copy."""
        return super().part(self.chosen[rows])


def on_device(array: Any) -> bool:
    """Whether it is a tensor in the memory of a GPU."""
    return bool(getattr(array, "is_cuda", False))


def to_host(array: Any) -> Any:
    """A NumPy array or tensor as a NumPy array; a copy, where it lies on a device."""
    return array.cpu().numpy() if hasattr(array, "cpu") else array


def take_roots(values: Any) -> None:
    """Put square roots, rounded to nearest, in the place of float64 values, array or tensor."""
    if on_device(values):
        values.sqrt_()
    else:  # by NumPy, for torch may take MKL's roots, which are not rounded to nearest
        host = np.asarray(values)
        np.sqrt(host, out=host)


def widen(data: Any) -> Any:
    """Any supported storage as float64, exactly; a copy, except of float64 itself."""
    if not isinstance(data, np.ndarray):
        return data.double()
    if data.dtype == np.uint16:
        data = (data.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return data.astype(np.float64, copy=False)


def as_points(name: str, value: Any) -> Points:
    """Check `value` as a [N, D] matrix of finite floats and view it as `Points`.

    Copies only what is not C-contiguous, not in native byte order, or on a device other than a
    CUDA one. Raises TypeError or ValueError naming the argument `name`.
    """
    data = _storage(name, value)
    if data.ndim != 2 or data.shape[0] < 1 or data.shape[1] < 1:
        raise ValueError(f"{name} must have shape [N, D] with N, D >= 1, got {tuple(data.shape)}")
    if isinstance(data, np.ndarray):
        data = np.ascontiguousarray(data)
        _check_finite(name, data)
    else:
        data = data.contiguous()
        _check_tensor_finite(name, data)
    return Points(data)


def result_converter(like: Any) -> Callable[[Any], Any]:
    """A function that takes a result, a NumPy array or tensor, to the library and device of `like`.

    What is there already is not copied.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(like, torch.Tensor):
        return lambda result: torch.as_tensor(result).to(like.device)
    if not isinstance(like, np.ndarray) and hasattr(like, "__array_namespace__"):
        namespace = like.__array_namespace__()
        return lambda result: namespace.asarray(to_host(result))
    return to_host


def _storage(name: str, value: Any, keep_on_device: bool = True) -> Any:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        if keep_on_device and value.is_cuda and str(value.dtype).endswith(FLOAT_TYPES):
            return value.detach()
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


def _check_tensor_finite(name: str, data: Any) -> None:
    torch = sys.modules["torch"]
    blocks = data.split(max(1, (1 << 24) // data.shape[1]))  # keeps the temporary small
    if data.dtype == torch.float64:
        good = [(block.abs() <= MAX_MAGNITUDE).all() for block in blocks]
    else:
        good = [block.isfinite().all() for block in blocks]
    # One wait for the device where all is well.
    if not torch.stack(good).all().item():
        _check_finite(name, _storage(name, data, keep_on_device=False))


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
