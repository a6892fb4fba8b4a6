"""Which pairs of two sets can lie within a distance: a filter over tiles of pairs.

Scores and groups of duplicates compare many pairs with a radius, and nearly all lie beyond it. A
float32 product gives lower and upper bounds of the squared distances of a tile; only pairs whose
bounds enclose the radius get their canonical distance (fastsel/canonical.py), which decides. No
matrix of distances is kept.

The bounds. Rows x are shifted by a centre c and scaled by a power of two s, so that no component
exceeds 1, then rounded to float32, x~. With u = 2^-24, rounding moves a row by at most u |x~|, so a
squared distance by at most 4 u (|x~|^2 + |y~|^2) up to higher terms. A float32 product of D terms
errs by at most D u |x~| |y~|, whatever the order of summation; twice that by D u (|x~|^2 + |y~|^2).
The two norms, rounded once each, and three sums add less than 8 u (|x~|^2 + |y~|^2). Together that
is less than (D + 12) u (|x~|^2 + |y~|^2); twice as much is taken, so that higher terms, float64
roundings (2^-53 each) and the rounding of a radius to float32 are covered. What underflow can take
away, also where a BLAS flushes subnormal numbers to zero, is below D 2^-120, since no component
exceeds 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastsel import canonical
from fastsel.points import Points

Float32s = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

UNIT = 2.0**-24
UNDERFLOW = 2.0**-120

# Rows that the centre is the mean of. Any centre is right; one amid the rows makes bounds tight.
CENTRE_ROWS = 4096
# Components of a float64 temporary; pairs of a tile; rows of its longer side.
BLOCK_ELEMENTS = 1 << 20
TILE_PAIRS = 1 << 19
TILE_ROWS = 8192
# Squares of smaller components may underflow in float64, which the bounds know nothing of.
SMALLEST = 1e-140


class Tile(NamedTuple):
    """Pairs of row first + i of x and row second + j of y, in scaled squared distances.

    lower: float32 [Bx, By], bounds from below. x_slack [Bx], y_slack [By]: their sum is how far
    above them the distances may be.
    """

    first: int
    second: int
    lower: Float32s
    x_slack: Float32s
    y_slack: Float32s

    def upper(self, i: npt.NDArray[np.intp], j: npt.NDArray[np.intp]) -> Float32s:
        """Bounds from above for the pairs (i, j)."""
        return np.asarray(self.lower[i, j] + self.x_slack[i] + self.y_slack[j])


class PairFilter:
    """Bounds of the distances between rows of some sets, all of one width."""

    def __init__(self, *sets: Points) -> None:
        first = sets[0]
        sample = np.linspace(0, first.n - 1, min(first.n, CENTRE_ROWS)).astype(np.int64)
        self._dim = first.dim
        self._centre = sum(
            (first.rows(part).sum(axis=0) for part in np.array_split(sample, 16)),
            np.zeros(self._dim),
        ) / len(sample)
        step = max(1, BLOCK_ELEMENTS // self._dim)
        largest = max(
            float(np.abs(points.rows(slice(start, start + step)) - self._centre).max())
            for points in sets
            for start in range(0, points.n, step)
        )
        # A scale of 0 makes every pair one that the bounds can not decide.
        self._scale = 2.0 ** -np.frexp(largest)[1] if largest >= SMALLEST else 0.0
        self._share = 2 * (self._dim + 12) * UNIT

    def scaled(self, sq_dist: npt.NDArray[np.float64]) -> Float32s:
        """Squared distances in the units of the bounds; inf beyond float32."""
        with np.errstate(over="ignore"):
            return np.square(np.sqrt(sq_dist) * self._scale).astype(np.float32)

    def tiles(
        self, x: Points, x_rows: Indices, y: Points, y_rows: Indices, upper_triangle: bool = False
    ) -> Iterator[Tile]:
        """Every pair of those rows, once; with `upper_triangle` only tiles that hold one of j >= i.

        Positions in a tile are those in `x_rows` and `y_rows`.
        """
        wide = min(TILE_ROWS, len(y_rows), max(256, 4 * BLOCK_ELEMENTS // self._dim))
        narrow = max(1, TILE_PAIRS // wide)
        for second in range(0, len(y_rows), wide):
            y_side, y_norms = self._side(y, y_rows[second : second + wide])
            y_side *= -2  # exact
            y_lower = y_norms * np.float32(1 - self._share)
            y_slack = y_norms * np.float32(2 * self._share)
            last = min(second + wide, len(x_rows)) if upper_triangle else len(x_rows)
            for first in range(0, last, narrow):
                x_side, x_norms = self._side(x, x_rows[first : min(first + narrow, last)])
                lost = np.float32(self._dim * UNDERFLOW)
                lower = x_side @ y_side.T
                lower += (x_norms * np.float32(1 - self._share) - lost)[:, None]
                lower += y_lower
                x_slack = x_norms * np.float32(2 * self._share) + 2 * lost
                yield Tile(first, second, lower, x_slack, y_slack)

    def _side(self, points: Points, rows: Indices) -> tuple[Float32s, Float32s]:
        """Shifted, scaled and rounded rows, and their squared norms."""
        shifted = points.rows(rows) - self._centre
        shifted *= self._scale
        side = shifted.astype(np.float32)
        wide = side.astype(np.float64)
        return side, np.einsum("ij,ij->i", wide, wide).astype(np.float32)


def sq_dists(x: Points, x_rows: Indices, y: Points, y_rows: Indices) -> npt.NDArray[np.float64]:
    """Canonical squared distance of row x_rows[p] of x to row y_rows[p] of y, float64 [P]."""
    result = np.empty(len(x_rows))
    step = max(1, BLOCK_ELEMENTS // x.dim)
    for start in range(0, len(result), step):
        block = slice(start, start + step)
        result[block] = canonical.sq_dists(x.rows(x_rows[block]), y.rows(y_rows[block]))
    return result
