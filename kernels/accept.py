"""Threshold acceptance among the active rows, all sweeps in one launch of one program."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from fastsel.kernels.launch import on_device_of
from fastsel.kernels.tiles import tile


@triton.jit(do_not_specialize=["stride", "n_limits", "capacity"])
def accept_kernel(
    matrix,
    stride,
    rows,
    keys,
    n_active,
    limits,
    n_limits,
    picks,
    sweeps,
    sq_radii,
    capacity,
    n_picks,
    SIZE: tl.constexpr,
):
    """The whole of `accept`, in one program; SIZE is at least the number of rows."""
    position = tl.arange(0, SIZE)
    there = position < tl.load(n_active)
    row = tl.load(rows + position, mask=there, other=0)
    key = tl.load(keys + row, mask=there, other=-1.0)
    count = tl.load(n_picks)
    for sweep in range(0, n_limits):
        limit = tl.load(limits + sweep)
        next_position = tl.full((), 0, tl.int32)
        going = count < capacity
        while going:
            # The first row from there on whose key is above the limit.
            above = (key > limit) & (key >= 0.0) & (position >= next_position)
            first = tl.min(tl.where(above, position, SIZE), axis=0)
            taken = first < SIZE
            radius = tl.max(tl.where(position == first, key, -1.0), axis=0)
            tl.store(picks + count, tl.load(rows + first, mask=taken, other=0), mask=taken)
            tl.store(sq_radii + count, radius, mask=taken)
            tl.store(sweeps + count, sweep, mask=taken)
            at = matrix + first * stride + position
            near = tl.load(at, mask=there & taken, other=float("inf"))
            key = tl.where(taken & (position == first), -1.0, tl.minimum(key, near))
            next_position = first + 1
            count += taken.to(tl.int64)
            going = taken & (count < capacity)
    tl.store(keys + row, key, mask=there)
    tl.store(n_picks, count)


def accept(
    matrix: Tensor,
    rows: Tensor,
    keys: Tensor,
    n_active: Tensor,
    limits: Tensor,
    picks: Tensor,
    sweeps: Tensor,
    sq_radii: Tensor,
    n_picks: Tensor,
) -> None:
    """As in fastsel/backends/torch_ops.py."""
    with on_device_of(keys):
        accept_kernel[(1,)](
            matrix,
            len(rows),
            rows,
            keys,
            n_active,
            limits,
            len(limits),
            picks,
            sweeps,
            sq_radii,
            len(picks),
            n_picks,
            SIZE=triton.next_power_of_2(len(rows)),
            num_warps=tile("accept", keys).warps,
        )
