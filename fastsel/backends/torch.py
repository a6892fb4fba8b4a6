"""Plain torch: exact on any device that torch runs on, and the fallback where there are no kernels.

Slower than the others by far: on the processor, use "cpu".
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from fastsel.backends import device, torch_ops
from fastsel.backends.device import EntropyState, State
from fastsel.points import Points

__all__ = ["EntropyPool", "EntropyState", "Neighbours", "Pool", "State"]

NAME = "torch"
OPERATIONS: ModuleType = torch_ops


def unusable_because() -> list[str]:
    """Why this backend can not run here; empty, since torch is all it needs."""
    return []


def describe() -> str:
    """One line for `fastsel.backends()`."""
    return f"torch {torch.__version__}"


def adopt(points: Points, like: Points | None = None) -> Points:
    """The points as tensors: on the device of `like`, or else where they are."""
    given = points if like is None else like
    where: torch.device = given.data.device if given.is_tensor else torch.device("cpu")
    return device.adopt(points, where)


def min_update(points: Points, centres: Points, centre: int, sq_dist: Tensor) -> None:
    """Lower `sq_dist` [N] to the squared distance to row `centre` of `centres`, in place."""
    device.min_update(OPERATIONS, points, centres, centre, sq_dist)


class Pool(device.Pool):
    """Candidates of a selection: the primitives of the lazy schedule."""

    operations = OPERATIONS


class EntropyPool(device.EntropyPool):
    """Candidates of a greedy entropy selection."""

    operations = OPERATIONS


class Neighbours(device.Neighbours):
    """Neighbours of queries among points, for any part of the queries at a time."""

    operations = OPERATIONS
