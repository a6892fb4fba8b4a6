"""Canonical squared distances among listed rows. Each is computed once and written twice."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from fastsel.kernels.canonical import LANES, load_lanes, sum_lanes
from fastsel.kernels.launch import blocks, norms_or_data, on_device_of
from fastsel.kernels.tiles import tile
from fastsel.points import Points


@triton.jit(do_not_specialize=["n", "dim"])
def sq_dist_matrix_kernel(
    data, norms, rows, n, dim, out, HAS_NORMS: tl.constexpr, ROWS: tl.constexpr
):
    """A program takes ROWS rows and as many columns, if they are not below the diagonal."""
    if tl.program_id(1) < tl.program_id(0):
        return
    i = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    j = tl.program_id(1).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    row = tl.load(rows + i, mask=i < n, other=0)
    col = tl.load(rows + j, mask=j < n, other=0)
    lanes = tl.zeros((ROWS, ROWS, LANES), tl.float64)
    for start in range(0, dim, LANES):
        x = load_lanes(data, row, norms, start, dim, i < n, HAS_NORMS)
        y = load_lanes(data, col, norms, start, dim, j < n, HAS_NORMS)
        diff = x[:, None, :] - y[None, :, :]
        lanes += diff * diff
    value = sum_lanes(tl.reshape(lanes, (ROWS * ROWS, LANES)), ROWS * ROWS)
    value = tl.reshape(value, (ROWS, ROWS))
    inside = (i < n)[:, None] & (j < n)[None, :]
    tl.store(out + i[:, None] * n + j[None, :], value, mask=inside)
    tl.store(out + j[None, :] * n + i[:, None], value, mask=inside)


def sq_dist_matrix(points: Points, rows: Tensor, out: Tensor) -> None:
    """As in fastsel/backends/torch_ops.py."""
    cut = tile("sq_dist_matrix", out)
    side = blocks(len(rows), cut.rows)
    with on_device_of(out):
        sq_dist_matrix_kernel[(side, side)](
            points.data,
            norms_or_data(points),
            rows,
            len(rows),
            points.dim,
            out,
            HAS_NORMS=points.norms is not None,
            ROWS=cut.rows,
            num_warps=cut.warps,
            enable_fp_fusion=False,
        )
