"""Int8 codes of points, from which the native filter tells which pairs can matter.

csrc/cpu/filter.h states what the filter concludes from them, and the proof.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt

from fastsel.points import Points

# What the shift is the mean of: its quality is not critical, its memory is.
SAMPLE_ELEMENTS = 1 << 20
MIN_SAMPLE_ROWS = 16

LARGEST_CODE = 127


@dataclass(frozen=True)
class Codes:
    """Rows, shifted and scaled to norms of at most 1, rounded to multiples of a scale of their own.

    values: int8 [N, D rounded up to a multiple of 4]. scales, float32 [N]: of each row's values.
    sq_norms, float32 [N]: of the decoded rows, rounded down. errors, float32 [N]: how far they are
    from the rows, at most. scale: of all rows, a power of two.
    """

    values: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]
    sq_norms: npt.NDArray[np.float32]
    errors: npt.NDArray[np.float32]
    scale: float


def frame(backend: ModuleType, points: Points) -> tuple[npt.NDArray[np.float64], float]:
    """A shift, float64 [D], and a scale, a power of two, that bring points into the unit ball.

    Distances do not depend on the shift, but the error of a code grows with the norm of its row.
    """
    step = -(-points.n // max(MIN_SAMPLE_ROWS, SAMPLE_ELEMENTS // points.dim))
    shift = points.rows(slice(None, None, step)).mean(axis=0)
    sq_norms = np.full(points.n, np.inf)
    backend.min_update(points, Points(shift[None]), 0, sq_norms)
    largest = math.sqrt(sq_norms.max())
    # Powers of two beyond this would leave float64 when squared, and gain nothing.
    exponent = max(-500, math.frexp(largest)[1]) if largest > 0 else 0
    return shift, math.ldexp(1.0, -exponent)


def largest_code(dim: int) -> int:
    """The largest code for rows of `dim` columns: inner products of codes must fit into int32."""
    return min(LARGEST_CODE, math.isqrt((2**31 - 1) // dim))
