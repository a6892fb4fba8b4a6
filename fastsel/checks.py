"""Checks of arguments: each returns the value in its working form or raises a message that names
the argument, what it was, and what was expected.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsel import canonical
from fastsel.points import Points, as_points

RandomState = int | np.random.Generator | None


def integer(name: str, value: Any, low: int, high: int) -> int:
    """An integer in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be in [{low}, {high}], got {value}")
    return int(value)


def integers(name: str, value: Any, low: int, high: int) -> list[int]:
    """An integer in [low, high], or a sequence of at least one."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
        return [integer(name, value, low, high)]
    if len(value) == 0:
        raise ValueError(f"{name} must hold at least one integer, got {value!r}")
    return [integer(name, item, low, high) for item in value]


def real(name: str, value: Any) -> float:
    """A finite real number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a real number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return float(value)


def count(name: str, value: Any, n: int) -> int:
    """A count in [1, n], given as such or as a fraction of n in (0, 1] (at least one)."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return integer(name, value, 1, n)
    if isinstance(value, (float, np.floating)):
        if not 0 < value <= 1:
            raise ValueError(f"{name} as a fraction must be in (0, 1], got {value!r}")
        return max(1, round(float(value) * n))
    raise TypeError(f"{name} must be an integer or a fraction, got {value!r}")


def choice(name: str, value: Any, options: tuple[str, ...]) -> str:
    """One of the named options."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}")
    return str(value)


def generator(name: str, value: RandomState) -> np.random.Generator:
    """A NumPy generator, from a seed or as given."""
    if isinstance(value, np.random.Generator):
        return value
    return np.random.default_rng(integer(name, value, 0, 2**63 - 1))


def indices(name: str, value: Any, n: int) -> npt.NDArray[np.int64]:
    """Distinct indices in [0, n), as int64 [P]."""
    array = to_numpy(value)
    if array.size == 0:
        return np.zeros(0, np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integers, got dtype {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name} must have shape [P], got {array.shape}")
    if array.min() < 0 or array.max() >= n:
        wrong = array[(array < 0) | (array >= n)][0]
        raise ValueError(f"{name} must hold indices in [0, {n}), got {wrong}")
    values, counts = np.unique(array, return_counts=True)
    if counts.max() > 1:
        raise ValueError(
            f"{name} must not repeat an index, got {values[counts > 1][0]} more than once"
        )
    return array.astype(np.int64)


def to_numpy(array: Any) -> npt.NDArray[Any]:
    """A result of a public function in host memory."""
    return np.asarray(array.cpu() if hasattr(array, "cpu") else array)


def points(name: str, value: Any, metric: str, dim: int | None = None) -> Points:
    """A [N, D] matrix of finite floats, with norms where the metric is cosine."""
    checked = as_points(name, value)
    if dim is not None and checked.dim != dim:
        raise ValueError(f"{name} must have {dim} columns, got {checked.dim}")
    if metric != "cosine":
        return checked
    norms = _norms(checked)
    if not norms.all():
        row = int(to_numpy(norms == 0).argmax())
        raise ValueError(
            f"{name} must not have zero rows with metric='cosine', got one at row {row}"
        )
    return Points(checked.data, norms)


def _norms(checked: Points) -> Any:
    if not checked.is_tensor:
        return canonical.norms(checked)
    from fastsel.backends import torch_canonical  # torch is loaded: it made the tensor

    return torch_canonical.norms(checked.data)
