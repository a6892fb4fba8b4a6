"""Greedy picks among the active rows, all in one launch of one program.

A pick is a chain of steps that wait for each other, so the keys stay in registers, and nothing but
a row of the matrix is read for each.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastsel.kernels.launch import on_device_of
from fastsel.kernels.tiles import tile


@triton.jit(do_not_specialize=["stride", "capacity"])
def pick_kernel(
    matrix,
    stride,
    rows,
    keys,
    n_active,
    rival_key,
    rival_row,
    least,
    picks,
    sq_radii,
    capacity,
    n_picks,
    SIZE: tl.constexpr,
):
    """The whole of `pick`, in one program; SIZE is at least the number of rows."""
    position = tl.arange(0, SIZE)
    there = position < tl.load(n_active)
    row = tl.load(rows + position, mask=there, other=0)
    key = tl.load(keys + row, mask=there, other=-1.0)
    to_beat = tl.load(rival_key)
    to_beat_row = tl.load(rival_row)
    lowest = tl.load(least)
    count = tl.load(n_picks)
    going = count < capacity
    while going:
        # The first of equals.
        top, best = tl.max(key, axis=0, return_indices=True)
        # Read whether it is taken or not: that takes another read, which this need not wait for.
        near = tl.load(matrix + best * stride + position, mask=there, other=float("inf"))
        best_row = tl.load(rows + best)
        beats = (top > to_beat) | ((top == to_beat) & (best_row < to_beat_row))
        # An integer, as the interpreter broadcasts no comparison of two float scalars.
        picked = (beats & (top > lowest) & (top >= 0.0)).to(tl.int32)
        taken = picked > 0
        tl.store(picks + count, best_row, mask=taken)
        tl.store(sq_radii + count, top, mask=taken)
        lowered = tl.where(position == best, -1.0, tl.minimum(key, near))
        key = tl.where(taken, lowered, key)
        count += picked.to(tl.int64)
        going = taken & (count < capacity)
    tl.store(keys + row, key, mask=there)
    tl.store(n_picks, count)


def pick(
    matrix: Tensor,
    rows: Tensor,
    keys: Tensor,
    n_active: Tensor,
    rival_key: Tensor,
    rival_row: Tensor,
    least: float,
    picks: Tensor,
    sq_radii: Tensor,
    n_picks: Tensor,
) -> None:
    """As in fastsel/backends/torch_ops.py."""
    with on_device_of(keys):
        pick_kernel[(1,)](
            matrix,
            len(rows),
            rows,
            keys,
            n_active,
            rival_key,
            rival_row,
            # A float among the arguments would be a float32.
            torch.full((1,), least, dtype=torch.float64, device=keys.device),
            picks,
            sq_radii,
            len(picks),
            n_picks,
            SIZE=triton.next_power_of_2(len(rows)),
            num_warps=tile("pick", keys).warps,
        )
