"""Candidates that the filter could not exclude from balls, entered where they lie inside."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from fastsel.backends.torch_entropy_ops import Balls
from fastsel.kernels.canonical import pair_sq_dist
from fastsel.kernels.entropy import LAST, append, log_sq_dist
from fastsel.kernels.launch import blocks, norms_or_data, on_device_of
from fastsel.kernels.pair_min import PROGRAMS
from fastsel.kernels.tiles import tile
from fastsel.points import Points


@triton.jit(do_not_specialize=["first_member", "capacity", "dim"])
def enter_balls_kernel(
    data,
    norms,
    members,
    log_eps,
    first_member,
    rows,
    pairs,
    n_pairs,
    capacity,
    seen,
    gains,
    ball_rows,
    ball_members,
    ball_logs,
    ball_count,
    dim,
    HAS_NORMS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """A program takes ROWS pairs at a time."""
    there = tl.minimum(tl.load(n_pairs), capacity)
    step = tl.num_programs(0).to(tl.int64) * ROWS
    first = tl.program_id(0).to(tl.int64) * ROWS
    while first < there:
        pair = first + tl.arange(0, ROWS)
        live = pair < there
        member = tl.load(pairs + 2 * pair, mask=live, other=0).to(tl.int64) + first_member
        row = tl.load(rows + tl.load(pairs + 2 * pair + 1, mask=live, other=0), mask=live, other=0)
        live = live & (member >= tl.load(seen + row, mask=live, other=0))
        centre = tl.load(members + member, mask=live, other=0)
        value = pair_sq_dist(data, row, norms, data, centre, norms, dim, live, HAS_NORMS, ROWS)
        log = log_sq_dist(value)
        radius = tl.load(log_eps + member, mask=live, other=0)
        inside = live & (value > 0.0) & (log < radius)
        append(ball_rows, ball_members, ball_logs, ball_count, row, member, log, inside, ROWS)
        loses = inside & (tl.load(gains + row, mask=inside, other=0) > LAST)
        tl.atomic_add(gains + row, log - radius, mask=loses, sem="relaxed")
        first += step


def enter_balls(
    points: Points,
    members: Tensor,
    first: int,
    rows: Tensor,
    pairs: Tensor,
    n_pairs: Tensor,
    seen: Tensor,
    log_eps: Tensor,
    gains: Tensor,
    balls: Balls,
) -> None:
    """As in fastsel/backends/torch_entropy_ops.py."""
    cut = tile("enter_balls", gains)
    with on_device_of(gains):
        enter_balls_kernel[(min(PROGRAMS, blocks(len(pairs), cut.rows)),)](
            points.data,
            norms_or_data(points),
            members,
            log_eps,
            first,
            rows,
            pairs,
            n_pairs,
            len(pairs),
            seen,
            gains,
            *balls,
            points.dim,
            HAS_NORMS=points.norms is not None,
            ROWS=cut.rows,
            num_warps=cut.warps,
            enable_fp_fusion=False,
        )
