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

# Logarithms are whole multiples of 2^-40 (see log_sq_dists).
LOG_UNITS = 1 << 40
# The logarithm of a squared distance of 0: below that of any other, which is at least -1074.
LOG_OF_ZERO = -2048 * LOG_UNITS
SQRT_HALF = 0.7071067811865476
TWO_OVER_LOG_TWO = 2.8853900817779268
LOG_SERIES = tuple(TWO_OVER_LOG_TWO / power for power in range(21, 0, -2))


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


def inner_products(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Canonical inner products of broadcast rows, added up as squared distances are."""
    return sum_lanes(x * y)


def log_sq_dists(sq_dist: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Canonical binary logarithms of squared distances, int64, in units of 2^-40.

    Whole numbers, so that sums of them are exact in any order: a gain in entropy is the same bits
    whether it is updated or computed anew. Arithmetic is that of IEEE 754 alone, as no two
    libraries agree on the last bit of a logarithm.

    Non-decreasing: the significand is cut to 42 bits after the point, where neighbours have
    logarithms at least 2^-42 apart, while the series errs by less than 2^-49. With m in
    [2^-1/2, 2^1/2) and s = (m - 1) / (m + 1), log m = 2 (s + s^3/3 + ...), cut after s^21 / 21.
    """
    fraction, exponent = np.frexp(sq_dist)
    # frexp gives [1/2, 1), with 53 bits, subnormal numbers too; 43 of them stay.
    fraction = np.floor(fraction * 2.0**43) * 2.0**-43
    low = fraction < SQRT_HALF
    fraction = np.where(low, fraction * 2.0, fraction)
    exponent = exponent - low
    s = (fraction - 1.0) / (fraction + 1.0)
    square = s * s
    series = np.full(s.shape, LOG_SERIES[0])
    for coefficient in LOG_SERIES[1:]:
        series = series * square + coefficient
    units = np.rint(series * s * LOG_UNITS).astype(np.int64) + exponent * np.int64(LOG_UNITS)
    return np.where(sq_dist > 0, units, LOG_OF_ZERO)


def norms(points: Points) -> npt.NDArray[np.float64]:
    """Canonical Euclidean norm of every row, float64 [N]."""
    out = np.empty(points.n)
    step = max(1, (1 << 20) // points.dim)
    for start in range(0, points.n, step):
        rows = points.rows(slice(start, start + step))
        out[start : start + step] = np.sqrt(sum_lanes(rows * rows))
    return out
