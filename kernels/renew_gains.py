"""Gains of rows whose distance to the members has fallen."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastsel.kernels.entropy import LAST, NEVER, log_sq_dist
from fastsel.kernels.launch import blocks, on_device_of
from fastsel.kernels.tiles import tile


@triton.jit(do_not_specialize=["n"])
def renew_gains_kernel(rows, before, n, sq_dist, least, gains, ROWS: tl.constexpr):
    """A program takes ROWS rows."""
    i = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    live = i < n
    row = tl.load(rows + i, mask=live, other=0)
    now = tl.load(sq_dist + row, mask=live, other=1.0)
    own = tl.load(gains + row, mask=live, other=0)
    change = log_sq_dist(now) - log_sq_dist(tl.load(before + i, mask=live, other=1.0))
    changed = tl.where(now > 0.0, own + change, LAST)
    changed = tl.where(own > LAST, changed, own)
    tl.store(gains + row, tl.where(now <= tl.load(least), NEVER, changed), mask=live)


def renew_gains(rows: Tensor, before: Tensor, sq_dist: Tensor, least: float, gains: Tensor) -> None:
    """As in fastsel/backends/torch_entropy_ops.py."""
    cut = tile("renew_gains", gains)
    with on_device_of(gains):
        renew_gains_kernel[(blocks(len(rows), cut.rows),)](
            rows,
            before,
            len(rows),
            sq_dist,
            # A float among the arguments would be a float32.
            torch.full((1,), least, dtype=torch.float64, device=gains.device),
            gains,
            ROWS=cut.rows,
            num_warps=cut.warps,
            enable_fp_fusion=False,
        )
