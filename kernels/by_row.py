"""Columns of listed pairs, brought together by their rows: a counting sort, with sums by torch."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from fastsel.kernels.launch import blocks, on_device_of
from fastsel.kernels.pair_min import PROGRAMS
from fastsel.kernels.tiles import tile


@triton.jit(do_not_specialize=["capacity"])
def by_row_kernel(pairs, n_pairs, capacity, next, cols, PLACE: tl.constexpr, ROWS: tl.constexpr):
    """A program takes ROWS pairs at a time."""
    there = tl.minimum(tl.load(n_pairs), capacity)
    step = tl.num_programs(0).to(tl.int64) * ROWS
    first = tl.program_id(0).to(tl.int64) * ROWS
    while first < there:
        pair = first + tl.arange(0, ROWS)
        live = pair < there
        row = tl.load(pairs + 2 * pair, mask=live, other=0)
        place = tl.atomic_add(next + row, 1, mask=live, sem="relaxed")
        if PLACE:
            tl.store(cols + place, tl.load(pairs + 2 * pair + 1, mask=live, other=0), mask=live)
        first += step


def by_row(pairs: Tensor, n_pairs: Tensor, next: Tensor, cols: Tensor | None = None) -> None:
    """As in fastsel/backends/torch_ops.py."""
    cut = tile("by_row", next)
    with on_device_of(next):
        by_row_kernel[(min(PROGRAMS, blocks(len(pairs), cut.rows)),)](
            pairs,
            n_pairs,
            len(pairs),
            next,
            pairs if cols is None else cols,
            PLACE=cols is not None,
            ROWS=cut.rows,
            num_warps=cut.warps,
        )
