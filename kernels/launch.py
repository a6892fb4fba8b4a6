"""What every launcher needs: the tensors of points, and the device that a kernel runs on."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from fastsel.points import Points


@triton.jit
def _nothing():
    pass


# Whether kernels run in Triton's interpreter: decided when triton is imported.
INTERPRETED = not isinstance(_nothing, triton.JITFunction)


def on_device_of(tensor: Tensor) -> Any:
    """A context in which kernels go to the device of the tensor, on the caller's stream there."""
    return torch.cuda.device_of(tensor)


def norms_or_data(points: Points) -> Any:
    """The norms, or something in their place that a kernel is told not to read."""
    return points.data if points.norms is None else points.norms


def blocks(count: int, size: int) -> int:
    """How many blocks of a size hold so many things."""
    return -(-count // size)
