"""Canonical squared distances (fastsel/canonical.py) of blocks of rows, for all kernels.

Kernels that use these are launched with enable_fp_fusion=False: no product and sum may become one
rounding.
"""

from __future__ import annotations

import triton
import triton.language as tl

LANES = tl.constexpr(8)


@triton.jit
def load_lanes(data, rows, norms, start, dim, live, HAS_NORMS: tl.constexpr):
    """Components start .. start + 7 of some rows, float64 [R, 8]; zeros beyond the last."""
    cols = start + tl.arange(0, LANES)
    mask = live[:, None] & (cols < dim)[None, :]
    # By way of float32, which is exact for the narrower types.
    values = tl.load(data + rows[:, None] * dim + cols[None, :], mask=mask, other=0.0)
    wide = values.to(tl.float64)
    if HAS_NORMS:
        wide = wide / tl.load(norms + rows, mask=live, other=1.0)[:, None]
    return wide


@triton.jit
def sum_lanes(lanes, ROWS: tl.constexpr):
    """Sum of lanes, float64 [R, 8], in canonical order: ((0+4)+(2+6)) + ((1+5)+(3+7))."""
    # Sums of two numbers: whatever the order of a reduction, the bits are the same.
    half = tl.sum(tl.reshape(lanes, (ROWS, 2, 4)), axis=1)
    quarter = tl.sum(tl.reshape(half, (ROWS, 2, 2)), axis=1)
    return tl.sum(quarter, axis=1)


@triton.jit
def pair_key(
    x_data,
    x_rows,
    x_norms,
    y_data,
    y_rows,
    y_norms,
    dim,
    live,
    HAS_NORMS: tl.constexpr,
    INNER: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Of row x_rows[p] of x and row y_rows[p] of y, float64 [P]: the least are nearest.

    The squared distance, or minus the inner product, whose terms are added up in the same order.
    """
    lanes = tl.zeros((ROWS, LANES), tl.float64)
    for start in range(0, dim, LANES):
        x = load_lanes(x_data, x_rows, x_norms, start, dim, live, HAS_NORMS)
        y = load_lanes(y_data, y_rows, y_norms, start, dim, live, HAS_NORMS)
        if INNER:
            lanes += x * y
        else:
            diff = x - y
            lanes += diff * diff
    total = sum_lanes(lanes, ROWS)
    if INNER:
        total = total * -1.0  # Triton's minus would make 0 of 0, not -0
    return total


@triton.jit
def pair_sq_dist(
    x_data,
    x_rows,
    x_norms,
    y_data,
    y_rows,
    y_norms,
    dim,
    live,
    HAS_NORMS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """The squared distance of row x_rows[p] of x and row y_rows[p] of y, float64 [P]."""
    return pair_key(
        x_data, x_rows, x_norms, y_data, y_rows, y_norms, dim, live, HAS_NORMS, False, ROWS
    )
