"""Greedy picks by entropy among the active rows, all in one launch of one program.

A pick shrinks the balls that it lies in. Those of older members are runs of entries: gains of the
candidates in them rise by atomic additions, active or not, and the best of those outside is kept
beside the rival. Those of members that this round picked are rows of the matrix. Barriers order
what the threads of the program write and read by way of memory.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastsel.backends.torch_entropy_ops import Runs
from fastsel.kernels.entropy import LAST, NEVER, log_sq_dist, rise_of
from fastsel.kernels.launch import on_device_of
from fastsel.kernels.tiles import tile

NOBODY = tl.constexpr(1 << 62)  # after every row


@triton.jit(do_not_specialize=["n", "n_members", "capacity"])
def entropy_pick_kernel(
    matrix,
    rows,
    n,
    place,
    row_first,
    row_members,
    row_logs,
    ball_first,
    ball_rows,
    ball_logs,
    n_members,
    rival_gain,
    rival_row,
    least,
    gains,
    sq_dist,
    log_eps,
    members,
    sq_eps,
    sq_radii,
    places,
    counts,
    capacity,
    SIZE: tl.constexpr,
    RUN: tl.constexpr,
):
    """The whole of `entropy_pick`; SIZE is at least the number of rows."""
    position = tl.arange(0, SIZE)
    there = position < n
    row = tl.load(rows + position, mask=there, other=0)
    near_sq = tl.load(sq_dist + row, mask=there, other=1.0)
    lowest = tl.load(least)
    to_beat = tl.load(rival_gain)
    to_beat_row = tl.load(rival_row)
    count = tl.full((), 0, tl.int64)
    going = count < capacity
    while going:
        gain = tl.load(gains + row, mask=there, other=NEVER)
        top = tl.max(gain, axis=0)
        best = tl.min(tl.where(gain == top, position, SIZE), axis=0)
        best_row = tl.load(rows + best)
        beats = (top > to_beat) | ((top == to_beat) & (best_row < to_beat_row))
        going = beats & (top > NEVER)
        if going:
            near = tl.load(matrix + best.to(tl.int64) * n + position, mask=there, other=0.0)
            radius = tl.sum(tl.where(position == best, near_sq, 0.0), axis=0)
            tl.debug_barrier()  # all have read the gains
            tl.store(gains + best_row, NEVER)
            tl.debug_barrier()

            # Balls of older members.
            for entry in range(tl.load(row_first + best), tl.load(row_first + best + 1)):
                member = tl.load(row_members + entry)
                lower = tl.load(row_logs + entry)
                before = tl.load(log_eps + member)
                if lower < before:
                    end = tl.load(ball_first + member + 1)
                    for start in range(tl.load(ball_first + member), end, RUN):
                        i = start + tl.arange(0, RUN)
                        other = tl.load(ball_rows + i, mask=i < end, other=0)
                        log = tl.load(ball_logs + i, mask=i < end, other=0)
                        rise = rise_of(log, before, lower)
                        risen = (i < end) & (rise > 0)
                        risen = risen & (tl.load(gains + other, mask=risen, other=NEVER) > LAST)
                        was = tl.atomic_add(gains + other, rise, mask=risen, sem="relaxed")
                        outside = risen & (tl.load(place + other, mask=risen, other=0) < 0)
                        now = tl.where(outside, was + rise, NEVER)
                        most = tl.max(now, axis=0)
                        first = tl.min(
                            tl.where(outside & (now == most), other.to(tl.int64), NOBODY), axis=0
                        )
                        sooner = (most > to_beat) | ((most == to_beat) & (first < to_beat_row))
                        to_beat = tl.where(sooner, most, to_beat)
                        to_beat_row = tl.where(sooner, first, to_beat_row)
                    tl.debug_barrier()  # all have read the radius
                    tl.store(log_eps + member, lower)
                    tl.debug_barrier()  # all gains in this ball are there before the next one

            # Balls of this round's members.
            gain = tl.load(gains + row, mask=there, other=NEVER)
            for pick in range(0, count):
                at = tl.load(places + pick)
                value = tl.load(matrix + at * n + best)
                before_sq = tl.load(sq_eps + pick)
                if (value > 0.0) & (value < before_sq):
                    other_near = tl.load(matrix + at * n + position, mask=there, other=1.0)
                    lower = log_sq_dist(tl.zeros((1,), tl.float64) + value)
                    before = tl.load(log_eps + n_members + pick + tl.arange(0, 1))
                    rise = rise_of(log_sq_dist(other_near), before, lower)
                    gain = tl.where((gain > LAST) & (other_near < before_sq), gain + rise, gain)
                    tl.debug_barrier()
                    tl.store(sq_eps + pick, value)
                    tl.store(log_eps + n_members + pick + tl.arange(0, 1), lower)
                    tl.debug_barrier()

            # The pick's own ball, and its distance.
            log_radius = log_sq_dist(tl.zeros((1,), tl.float64) + radius)
            log = log_sq_dist(near)
            inside = (gain > LAST) & (near > 0.0) & (near < radius)
            gain = tl.where(inside, gain + (log - log_radius), gain)
            lowered = (gain > NEVER) & (near < near_sq)
            fallen = tl.where(near > 0.0, gain + (log - log_sq_dist(near_sq)), LAST)
            fallen = tl.where(near <= lowest, NEVER, fallen)
            gain = tl.where(lowered, fallen, gain)
            near_sq = tl.where(lowered, near, near_sq)
            tl.debug_barrier()
            tl.store(gains + row, gain, mask=there)
            tl.store(members + count, best_row)
            tl.store(sq_eps + count, radius)
            tl.store(sq_radii + count, radius)
            tl.store(places + count, best.to(tl.int64))
            tl.store(log_eps + n_members + count + tl.arange(0, 1), log_radius)
            tl.debug_barrier()
            count += 1
            going = count < capacity
    tl.store(sq_dist + row, near_sq, mask=there)
    gain = tl.load(gains + row, mask=there, other=NEVER)
    entered = tl.zeros((SIZE,), tl.int64)
    for pick in range(0, count):
        value = tl.load(matrix + tl.load(places + pick) * n + position, mask=there, other=0.0)
        inside = (gain > NEVER) & (value > 0.0) & (value < tl.load(sq_eps + pick))
        entered += inside.to(tl.int64)
    tl.store(counts, count)
    tl.store(counts + 1, tl.sum(entered, axis=0))


def entropy_pick(
    matrix: Tensor,
    rows: Tensor,
    place: Tensor,
    of_row: Runs,
    of_member: Runs,
    rival_gain: Tensor,
    rival_row: Tensor,
    least: float,
    gains: Tensor,
    sq_dist: Tensor,
    log_eps: Tensor,
    members: Tensor,
    sq_eps: Tensor,
    sq_radii: Tensor,
    places: Tensor,
    counts: Tensor,
) -> None:
    """As in fastsel/backends/torch_entropy_ops.py."""
    cut = tile("entropy_pick", gains)
    with on_device_of(gains):
        entropy_pick_kernel[(1,)](
            matrix,
            rows,
            len(rows),
            place,
            *of_row,
            *of_member,
            len(of_member.first) - 1,
            rival_gain,
            rival_row,
            # A float among the arguments would be a float32.
            torch.full((1,), least, dtype=torch.float64, device=gains.device),
            gains,
            sq_dist,
            log_eps,
            members,
            sq_eps,
            sq_radii,
            places,
            counts,
            len(members),
            SIZE=triton.next_power_of_2(len(rows)),
            RUN=cut.rows,
            num_warps=cut.warps,
            enable_fp_fusion=False,
        )
