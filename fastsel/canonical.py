"""The one definition of distance that every backend answers to, in NumPy.

The canonical squared distance of x and y: both are taken to float64 (exactly), differences and
squares are rounded once each, the square of component j goes to lane j mod 8, every lane adds up in
order of j, and the lanes are added as ((0+4)+(2+6)) + ((1+5)+(3+7)). No fused multiply-add. The
same float64 operations in the same order give the same bits on any IEEE 754 machine, so that picks
and radii do not depend on backend, block size, thread count or instruction set.

The C++ twin is csrc/canonical.h.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastsel.points import Points

LANES = 8


def sum_lanes(terms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sum over the last axis in canonical order; float64 [..., D] -> [...]."""
    width = -(-terms.shape[-1] // LANES) * LANES
    # A missing component adds +0.0 to a sum that is never -0.0: no change.
    padded = np.zeros((*terms.shape[:-1], width))
    padded[..., : terms.shape[-1]] = terms
    lanes = np.zeros((*terms.shape[:-1], LANES))
    for start in range(0, width, LANES):
        lanes += padded[..., start : start + LANES]
    half = lanes[..., :4] + lanes[..., 4:]
    quarter = half[..., :2] + half[..., 2:]
    total: npt.NDArray[np.float64] = quarter[..., 0] + quarter[..., 1]
    return total


def sq_dists(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Canonical squared distances of broadcast rows; float64 [..., D] each -> [...]."""
    diff = x - y
    return sum_lanes(diff * diff)


def norms(points: Points) -> npt.NDArray[np.float64]:
    """Canonical Euclidean norm of every row, float64 [N]."""
    out = np.empty(points.n)
    step = max(1, (1 << 20) // points.dim)
    for start in range(0, points.n, step):
        rows = points.rows(slice(start, start + step))
        out[start : start + step] = np.sqrt(sum_lanes(rows * rows))
    return out
