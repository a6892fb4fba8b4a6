"""Keys lowered to the distance to one centre."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from fastsel.kernels.canonical import LANES, load_lanes, sum_lanes
from fastsel.kernels.launch import blocks, norms_or_data, on_device_of
from fastsel.kernels.tiles import tile
from fastsel.points import Points


@triton.jit(do_not_specialize=["n", "dim"])
def min_update_kernel(
    data, norms, centre, sq_dist, n, dim, HAS_NORMS: tl.constexpr, ROWS: tl.constexpr
):
    """A program takes ROWS points."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    live = rows < n
    lanes = tl.zeros((ROWS, LANES), tl.float64)
    for start in range(0, dim, LANES):
        cols = start + tl.arange(0, LANES)
        x = load_lanes(data, rows, norms, start, dim, live, HAS_NORMS)
        diff = x - tl.load(centre + cols, mask=cols < dim, other=0.0)[None, :]
        lanes += diff * diff
    value = sum_lanes(lanes, ROWS)
    known = tl.load(sq_dist + rows, mask=live, other=0.0)
    tl.store(sq_dist + rows, tl.minimum(known, value), mask=live)


def min_update(points: Points, centre: Tensor, sq_dist: Tensor) -> None:
    """As in fastsel/backends/torch_ops.py."""
    cut = tile("min_update", sq_dist)
    with on_device_of(sq_dist):
        min_update_kernel[(blocks(points.n, cut.rows),)](
            points.data,
            norms_or_data(points),
            centre,
            sq_dist,
            points.n,
            points.dim,
            HAS_NORMS=points.norms is not None,
            ROWS=cut.rows,
            num_warps=cut.warps,
            enable_fp_fusion=False,
        )
