"""The pairs that the filter can not exclude, gathered into one list."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from fastsel.backends.torch_codes import Codes
from fastsel.kernels.filter import filtered, passed_over, product
from fastsel.kernels.launch import blocks, on_device_of
from fastsel.kernels.tiles import tile

NOBODY = tl.constexpr(float("nan"))  # no comparison with it is true


@triton.jit(do_not_specialize=["n_rows", "n_cols", "capacity"])
def survivors_kernel(
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
    reaches,
    pairs,
    capacity,
    n_pairs,
    overflow,
    firsts,
    PARTIAL: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """A program takes COLS points and ROWS queries."""
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    col = tl.program_id(0) * COLS + tl.arange(0, COLS)
    if PARTIAL:
        end = tl.minimum((tl.program_id(0) + 1) * COLS, n_cols)
        if end <= passed_over(firsts, row, n_rows, n_cols):
            return
    x = tl.load(x_rows + row, mask=row < n_rows, other=0)
    y = tl.load(y_rows + col, mask=col < n_cols, other=0)
    reach = tl.load(reaches + row, mask=row < n_rows, other=NOBODY)
    # As csrc/cpu/filter.h has it, with 2^-19 for 2^-20, as the conversion rounds to nearest.
    raised = (reach.to(tl.float64) + tl.load(x_errors + x).to(tl.float64)) * (1.0 + 2.0**-19)
    raised = tl.where(reach >= 0.0, (raised + 2.0**-50).to(tl.float32), NOBODY)
    y_error = tl.where(col < n_cols, tl.load(y_errors + y), NOBODY)
    bound = raised[:, None] + y_error[None, :]
    sums = product(x_values, x, y_values, y, width, ROWS, COLS, DEPTH)
    found = filtered(
        sums,
        tl.load(x_scales + x),
        tl.load(x_sq_norms + x),
        tl.load(y_scales + y),
        tl.load(y_sq_norms + y),
    )
    near = found < bound * bound
    # Few pass: an atomic for each is cheaper than a scan of the tile.
    slot = tl.atomic_add(n_pairs + tl.zeros((ROWS, COLS), tl.int32), 1, mask=near, sem="relaxed")
    fits = near & (slot < capacity)
    at = pairs + 2 * slot
    tl.store(at, tl.broadcast_to(row[:, None], (ROWS, COLS)).to(tl.int32), mask=fits)
    tl.store(at + 1, tl.broadcast_to(col[None, :], (ROWS, COLS)).to(tl.int32), mask=fits)
    spilled = tl.max((near & (slot >= capacity)).to(tl.int32), axis=1)
    tl.store(overflow + row, spilled.to(tl.uint8), mask=spilled > 0)


def survivors(
    queries: Codes,
    query_rows: Tensor,
    points: Codes,
    point_rows: Tensor,
    reach: Tensor,
    pairs: Tensor,
    n_pairs: Tensor,
    overflow: Tensor,
    first: Tensor | None = None,
) -> None:
    """As in fastsel/backends/torch_ops.py."""
    cut = tile("survivors", reach)
    with on_device_of(reach):
        # Of the two axes only the first may be longer than 65,535.
        survivors_kernel[(blocks(len(point_rows), cut.cols), blocks(len(query_rows), cut.rows))](
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
            reach,
            pairs,
            len(pairs),
            n_pairs,
            overflow,
            query_rows if first is None else first,
            PARTIAL=first is not None,
            ROWS=cut.rows,
            COLS=cut.cols,
            DEPTH=cut.depth,
            num_warps=cut.warps,
            num_stages=cut.stages,
        )
