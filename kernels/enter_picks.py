"""Active rows in the balls of picks of their round."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from fastsel.backends.torch_entropy_ops import Balls
from fastsel.kernels.entropy import NEVER, append, log_sq_dist
from fastsel.kernels.launch import blocks, on_device_of
from fastsel.kernels.tiles import tile


@triton.jit(do_not_specialize=["n", "first"])
def enter_picks_kernel(
    matrix,
    rows,
    n,
    gains,
    places,
    sq_eps,
    first,
    ball_rows,
    ball_members,
    ball_logs,
    ball_count,
    ROWS: tl.constexpr,
):
    """A program takes a pick and ROWS rows."""
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    pick = tl.program_id(1)
    row = tl.load(rows + i, mask=i < n, other=0)
    live = (i < n) & (tl.load(gains + row) > NEVER)
    value = tl.load(matrix + tl.load(places + pick) * n + i, mask=live, other=0.0)
    inside = live & (value > 0.0) & (value < tl.load(sq_eps + pick))
    member = tl.zeros((ROWS,), tl.int64) + (first + pick)
    log = log_sq_dist(value)
    append(ball_rows, ball_members, ball_logs, ball_count, row, member, log, inside, ROWS)


def enter_picks(
    matrix: Tensor,
    rows: Tensor,
    gains: Tensor,
    places: Tensor,
    sq_eps: Tensor,
    first: int,
    balls: Balls,
) -> None:
    """As in fastsel/backends/torch_entropy_ops.py."""
    cut = tile("enter_picks", gains)
    with on_device_of(gains):
        enter_picks_kernel[(blocks(len(rows), cut.rows), len(places))](
            matrix,
            rows,
            len(rows),
            gains,
            places,
            sq_eps,
            first,
            *balls,
            ROWS=cut.rows,
            num_warps=cut.warps,
            enable_fp_fusion=False,
        )
