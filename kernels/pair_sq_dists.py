"""Keys of listed pairs: canonical squared distances, or minus inner products."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from fastsel.kernels.canonical import pair_key
from fastsel.kernels.launch import blocks, norms_or_data, on_device_of
from fastsel.kernels.pair_min import PROGRAMS
from fastsel.kernels.tiles import tile
from fastsel.points import Points


@triton.jit(do_not_specialize=["capacity", "dim"])
def pair_sq_dists_kernel(
    query_data,
    query_norms,
    data,
    norms,
    pairs,
    n_pairs,
    capacity,
    out,
    dim,
    HAS_NORMS: tl.constexpr,
    INNER: tl.constexpr,
    ROWS: tl.constexpr,
):
    """A program takes ROWS pairs at a time."""
    there = tl.minimum(tl.load(n_pairs), capacity)
    step = tl.num_programs(0).to(tl.int64) * ROWS
    first = tl.program_id(0).to(tl.int64) * ROWS
    while first < there:
        pair = first + tl.arange(0, ROWS)
        live = pair < there
        query = tl.load(pairs + 2 * pair, mask=live, other=0).to(tl.int64)
        point = tl.load(pairs + 2 * pair + 1, mask=live, other=0).to(tl.int64)
        value = pair_key(
            query_data, query, query_norms, data, point, norms, dim, live, HAS_NORMS, INNER, ROWS
        )
        tl.store(out + pair, value, mask=live)
        first += step


def pair_sq_dists(
    queries: Points,
    points: Points,
    pairs: Tensor,
    n_pairs: Tensor,
    out: Tensor,
    by_inner_product: bool = False,
) -> None:
    """As in fastsel/backends/torch_ops.py."""
    cut = tile("pair_sq_dists", out)
    with on_device_of(out):
        pair_sq_dists_kernel[(min(PROGRAMS, blocks(len(pairs), cut.rows)),)](
            queries.data,
            norms_or_data(queries),
            points.data,
            norms_or_data(points),
            pairs,
            n_pairs,
            len(pairs),
            out,
            points.dim,
            HAS_NORMS=points.norms is not None,
            INNER=by_inner_product,
            ROWS=cut.rows,
            num_warps=cut.warps,
            enable_fp_fusion=False,
        )
