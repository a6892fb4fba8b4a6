"""Points in tensors on a device, and the one primitive that needs no more than them."""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastsel.backends import torch_canonical
from fastsel.points import Points, Subset


def adopt(points: Points, device: torch.device) -> Points:
    """The points on the device; what is there already is not copied, but rows are gathered."""
    if isinstance(points, Subset):
        points = points.part(slice(None))
    return Points(
        _tensor(points.data, device),
        None if points.norms is None else _tensor(points.norms, device),
    )


def _tensor(data: Any, device: torch.device) -> Any:
    if isinstance(data, Tensor):
        return data.to(device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        if data.dtype == np.uint16:
            tensor = torch.from_numpy(data.view(np.int16)).view(torch.bfloat16)
        else:
            tensor = torch.from_numpy(data)
    return tensor.to(device)


def min_update(
    operations: ModuleType, points: Points, centres: Points, centre: int, sq_dist: Tensor
) -> None:
    """Lower `sq_dist` [N] to the squared distance to row `centre` of `centres`, in place."""
    row = torch_canonical.wide_rows(centres, slice(centre, centre + 1))[0]
    operations.min_update(points, row, sq_dist)
