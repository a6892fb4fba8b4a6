"""How near each query is at most to the nearest of every group of points.

With sums of norms n and of errors e, a filtered distance f is too small by at most 2^-19 n
(csrc/cpu/filter.h, promised_radius), so that a pair is at most sqrt(f + 2^-18 n) + e apart; the
float32 roundings of that sum are far below the rest of 2^-18 n. A program keeps the least radicand
of its group and the largest error apart, which spares a square root for each pair.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from fastsel.backends.torch_codes import Codes
from fastsel.kernels.filter import filtered, passed_over, product
from fastsel.kernels.launch import blocks, on_device_of
from fastsel.kernels.tiles import tile

INFINITY = tl.constexpr(float("inf"))


@triton.jit(do_not_specialize=["n_rows", "n_cols", "group", "groups"])
def group_min_kernel(
    x_values,
    x_scales,
    x_sq_norms,
    x_errors,
    x_rows,
    n_rows,
    y_values,
    y_scales,
    y_sq_norms,
    y_errors,
    y_rows,
    n_cols,
    width,
    group,
    groups,
    out,
    firsts,
    PARTIAL: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """A program takes a group and ROWS queries, COLS points of it at a time."""
    row = tl.program_id(1).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    x = tl.load(x_rows + row, mask=row < n_rows, other=0)
    x_scale = tl.load(x_scales + x)
    x_sq_norm = tl.load(x_sq_norms + x)
    begin = tl.program_id(0) * group
    end = tl.minimum(begin + group, n_cols)
    if PARTIAL:
        begin = tl.maximum(begin, passed_over(firsts, row, n_rows, n_cols))
    least = tl.full((ROWS,), INFINITY, tl.float32)
    errors = tl.zeros((COLS,), tl.float32)
    for first in range(begin, end, COLS):
        col = first + tl.arange(0, COLS)
        inside = col < end
        y = tl.load(y_rows + col, mask=inside, other=0)
        y_sq_norm = tl.load(y_sq_norms + y)
        sums = product(x_values, x, y_values, y, width, ROWS, COLS, DEPTH)
        radicand = filtered(sums, x_scale, x_sq_norm, tl.load(y_scales + y), y_sq_norm)
        radicand += 0.000003814697265625 * (x_sq_norm[:, None] + y_sq_norm[None, :])  # 2^-18
        radicand = tl.where(inside[None, :], radicand, INFINITY)
        least = tl.minimum(least, tl.min(radicand, axis=1))
        errors = tl.maximum(errors, tl.where(inside, tl.load(y_errors + y), 0.0))
    error = tl.load(x_errors + x).to(tl.float64) + tl.max(errors, axis=0).to(tl.float64)
    radius = tl.sqrt(tl.maximum(least, 0.0).to(tl.float64)) + error
    # Raised by more than what a rounding to float32 takes away.
    raised = radius * (1.0 + 2.0**-18) + 2.0**-48
    at = row * groups + tl.program_id(0)
    tl.store(out + at, raised.to(tl.float32), mask=row < n_rows)


def group_min(
    queries: Codes,
    query_rows: Tensor,
    points: Codes,
    point_rows: Tensor,
    group: int,
    out: Tensor,
    first: Tensor | None = None,
) -> None:
    """As in fastsel/backends/torch_ops.py."""
    cut = tile("group_min", out)
    groups = blocks(len(point_rows), group)
    with on_device_of(out):
        # Of the two axes only the first may be longer than 65,535.
        group_min_kernel[(groups, blocks(len(query_rows), cut.rows))](
            queries.values,
            queries.scales,
            queries.sq_norms,
            queries.errors,
            query_rows,
            len(query_rows),
            points.values,
            points.scales,
            points.sq_norms,
            points.errors,
            point_rows,
            len(point_rows),
            points.values.shape[1],
            group,
            groups,
            out,
            query_rows if first is None else first,
            PARTIAL=first is not None,
            ROWS=cut.rows,
            COLS=cut.cols,
            DEPTH=cut.depth,
            num_warps=cut.warps,
            num_stages=cut.stages,
        )
