"""Triton kernels (kernels/) on a CUDA device; without one, in Triton's interpreter to try them."""

from __future__ import annotations

from types import ModuleType

import torch
import triton
from torch import Tensor

from fastsel import kernels
from fastsel.backends import device
from fastsel.backends.device import EntropyState, State
from fastsel.kernels.launch import INTERPRETED
from fastsel.kernels.tiles import OLDEST
from fastsel.points import Points

__all__ = ["EntropyPool", "EntropyState", "Neighbours", "Pool", "State"]

NAME = "triton"
OPERATIONS: ModuleType = kernels


def unusable_because() -> list[str]:
    """Why this backend can not run here; empty where it can."""
    if INTERPRETED:
        return []
    if not torch.cuda.is_available():
        return [
            "torch finds no CUDA device (with TRITON_INTERPRET=1 in the environment, Triton's "
            "interpreter runs the kernels on the processor, slowly)"
        ]
    major, minor = torch.cuda.get_device_capability()
    if 10 * major < OLDEST:
        return [
            f"{torch.cuda.get_device_name()} has compute capability {major}.{minor}, "
            f"{OLDEST // 10}.0 is needed"
        ]
    return []


def describe() -> str:
    """One line for `fastsel.backends()`."""
    where = "in its interpreter" if INTERPRETED else f"on {torch.cuda.get_device_name()}"
    return f"Triton {triton.__version__} {where}"


def adopt(points: Points, like: Points | None = None) -> Points:
    """The points as tensors: on the device of `like`, or else where they are or CUDA goes."""
    given = points if like is None else like
    if INTERPRETED:
        there = device.adopt(points, torch.device("cpu"))
        # The interpreter takes a part of an array, from its beginning on, for the whole.
        return Points(there.data.clone(), there.norms)
    on_device = given.is_tensor and given.data.is_cuda
    where: torch.device = given.data.device if on_device else torch.device("cuda")
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
