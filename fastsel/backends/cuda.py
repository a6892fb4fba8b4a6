"""CUDA kernels on the GPU: exact, on the caller's stream, memory from torch's allocator.

Arrays in host memory are copied to the current device.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from fastsel.backends import cuda_ops, device
from fastsel.backends.device import EntropyState, State
from fastsel.points import Points

__all__ = ["EntropyPool", "EntropyState", "Neighbours", "Pool", "State"]

NAME = "cuda"
OPERATIONS: ModuleType = cuda_ops

# Where tensors must lie.
DEVICE_TYPE = "cuda"

# The first with asynchronous copies to shared memory and int8 tensor cores as the kernels use them.
LEAST_CAPABILITY = (8, 0)


def unusable_because() -> list[str]:
    """Why this backend can not run here; empty where it can."""
    core = cuda_ops.core()
    reasons = [core] if isinstance(core, str) else []
    if torch.version.cuda is None:
        return [*reasons, "torch is built without CUDA"]
    if not torch.cuda.is_available():
        return [*reasons, "torch finds no CUDA device"]
    capability = torch.cuda.get_device_capability()
    if capability < LEAST_CAPABILITY:
        reasons.append(
            f"{torch.cuda.get_device_name()} has compute capability {capability[0]}.{capability[1]}"
            "; it takes 8.0 or more"
        )
    return reasons


def describe() -> str:
    """One line for `fastsel.backends()`."""
    return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"


def adopt(points: Points, like: Points | None = None) -> Points:
    """The points as tensors on a GPU: that of `like`, or their own, or the current one."""
    given = points if like is None else like
    there = torch.device(DEVICE_TYPE)
    if given.is_tensor and given.data.device.type == DEVICE_TYPE:
        there = given.data.device
    return device.adopt(points, there)


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
