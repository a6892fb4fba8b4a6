"""Where the native filter puts points before it rounds them to int8 codes.

csrc/cpu/filter.h states what the filter concludes from codes, and the proof.
"""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import numpy.typing as npt

from fastsel.points import Points

# What the shift is the mean of: its quality is not critical, its memory is.
SAMPLE_ELEMENTS = 1 << 20
MIN_SAMPLE_ROWS = 16

# Rows looked at in one native call.
PART_ROWS = 1 << 16

LARGEST_CODE = 127


def frame(
    backend: ModuleType, *parts: Points, centred: bool = True
) -> tuple[npt.NDArray[np.float64], float]:
    """A shift, float64 [D], and a scale, a power of two, that bring all points into the unit ball.

    Distances do not depend on the shift, but the error of a code grows with the norm of its row.
    Inner products do: not `centred`, it is 0.
    """
    shift = sample(parts[0]).mean(axis=0) if centred else np.zeros(parts[0].dim)
    largest = 0.0
    for points in parts:
        for start in range(0, points.n, PART_ROWS):
            part = points.part(slice(start, start + PART_ROWS))
            sq_norms = np.full(part.n, np.inf)
            backend.min_update(part, Points(shift[None]), 0, sq_norms)
            largest = max(largest, math.sqrt(sq_norms.max()))
    # Powers of two beyond this would leave float64 when squared, and gain nothing.
    exponent = max(-500, math.frexp(largest)[1]) if largest > 0 else 0
    return shift, math.ldexp(1.0, -exponent)


def sample(points: Points) -> npt.NDArray[np.float64]:
    """Some rows, float64 [S, D], evenly spaced."""
    step = -(-points.n // max(MIN_SAMPLE_ROWS, SAMPLE_ELEMENTS // points.dim))
    return points.rows(slice(None, None, step))


def largest_code(dim: int) -> int:
    """The largest code for rows of `dim` columns: inner products of codes must fit into int32."""
    return min(LARGEST_CODE, math.isqrt((2**31 - 1) // dim))
