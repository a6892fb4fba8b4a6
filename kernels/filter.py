"""The int8 product of listed rows, and what the filter takes from it.

Codes, bounds and proof are those of csrc/cpu/filter.h; float32 arithmetic is rounded once an
operation or, where the compiler contracts, less.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def product(
    x_values,
    x_rows,
    y_values,
    y_rows,
    width,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Inner products of codes, int32 [ROWS, COLS], exact."""
    step = tl.arange(0, DEPTH)
    x_at = x_values + x_rows[:, None] * width + step[None, :]
    y_at = y_values + y_rows[None, :] * width + step[:, None]
    sums = tl.zeros((ROWS, COLS), tl.int32)
    for start in range(0, width, DEPTH):
        sums = tl.dot(tl.load(x_at + start), tl.load(y_at + start), sums, out_dtype=tl.int32)
    return sums


@triton.jit
def passed_over(firsts, row, n_rows, n_cols):
    """How many points all queries of a tile may pass over, int32."""
    return tl.min(tl.load(firsts + row, mask=row < n_rows, other=n_cols), axis=0).to(tl.int32)


@triton.jit
def filtered(sums, x_scales, x_sq_norms, y_scales, y_sq_norms):
    """Squared distances of decoded rows, never too large; float32 [ROWS, COLS]."""
    norms = x_sq_norms[:, None] + y_sq_norms[None, :]
    return norms - sums.to(tl.float32) * x_scales[:, None] * (2.0 * y_scales)[None, :]
