"""The frame of the float32 filter; csrc/cpu/filter.h states its bound and the proof."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt

from fastsel.points import Points

UNIT_ROUNDOFF = 2.0**-24  # of float32
SAMPLE_ROWS = 4096


@dataclass(frozen=True)
class Frame:
    """A shift and a scale that bring rows near the origin, to norms of at most 1.

    shift: float64 [D]. scale: a power of two. sq_norms, margins: float32 [N], of every row's image.
    """

    shift: npt.NDArray[np.float64]
    scale: float
    sq_norms: npt.NDArray[np.float32]
    margins: npt.NDArray[np.float32]


def frame(backend: ModuleType, points: Points) -> Frame:
    """The frame of some points: their sampled mean goes to the origin.

    Distances do not depend on the shift, but the error of the filter grows with the norms.
    """
    step = -(-points.n // SAMPLE_ROWS)
    shift = points.rows(slice(None, None, step)).mean(axis=0)
    sq_norms = np.full(points.n, np.inf)
    backend.min_update(points, Points(shift[None]), 0, sq_norms)
    largest = math.sqrt(sq_norms.max())
    # Powers of two beyond this would leave float64 when squared, and gain nothing.
    exponent = max(-500, math.frexp(largest)[1]) if largest > 0 else 0
    scale = math.ldexp(1.0, -exponent)
    sq_norms *= scale
    sq_norms *= scale
    return Frame(shift, scale, sq_norms.astype(np.float32), margins(sq_norms, points.dim))


def margins(sq_norms: npt.NDArray[np.float64], dim: int) -> npt.NDArray[np.float32]:
    """What a row adds to the error of the filter's squared distances, rounded up; float32 [N]."""
    growth = (dim + 16) * UNIT_ROUNDOFF
    if growth >= 0.5:
        raise ValueError(
            f"features may have up to {int(0.5 / UNIT_ROUNDOFF) - 17} columns, got {dim}"
        )
    floor = (4 * dim + 16) * 2.0**-124
    nearest = (growth / (1 - growth) * sq_norms + floor).astype(np.float32)
    above: npt.NDArray[np.float32] = np.nextafter(nearest, np.float32(np.inf))
    return above
