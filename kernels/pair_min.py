"""Keys lowered to the distances of listed pairs. The least of several does not depend on order."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastsel.kernels.canonical import pair_sq_dist
from fastsel.kernels.launch import blocks, norms_or_data, on_device_of
from fastsel.kernels.tiles import tile
from fastsel.points import Points

# Enough programs to fill any GPU; each takes every so many-th block of a list, whose length only
# the device knows.
PROGRAMS = 4096


@triton.jit(do_not_specialize=["capacity", "dim"])
def pair_min_kernel(
    data,
    norms,
    rows,
    centre_data,
    centre_norms,
    cols,
    pairs,
    n_pairs,
    capacity,
    key_bits,
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
        row = tl.load(rows + tl.load(pairs + 2 * pair, mask=live, other=0), mask=live, other=0)
        col = tl.load(cols + tl.load(pairs + 2 * pair + 1, mask=live, other=0), mask=live, other=0)
        value = pair_sq_dist(
            data, row, norms, centre_data, col, centre_norms, dim, live, HAS_NORMS, ROWS
        )
        # Numbers that are not negative order like their bits, and -1 stays below them.
        tl.atomic_min(key_bits + row, value.to(tl.int64, bitcast=True), mask=live, sem="relaxed")
        first += step


def pair_min(
    points: Points,
    rows: Tensor,
    centres: Points,
    cols: Tensor,
    pairs: Tensor,
    n_pairs: Tensor,
    keys: Tensor,
) -> None:
    """As in fastsel/backends/torch_ops.py."""
    cut = tile("pair_min", keys)
    with on_device_of(keys):
        pair_min_kernel[(min(PROGRAMS, blocks(len(pairs), cut.rows)),)](
            points.data,
            norms_or_data(points),
            rows,
            centres.data,
            norms_or_data(centres),
            cols,
            pairs,
            n_pairs,
            len(pairs),
            keys.view(torch.int64),
            points.dim,
            HAS_NORMS=points.norms is not None,
            ROWS=cut.rows,
            num_warps=cut.warps,
            enable_fp_fusion=False,
        )
