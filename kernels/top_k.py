"""The first neighbours of each query among its listed points.

There is no sort: of what came before and what comes, each counts how many are sooner, which is its
place. All of it stays in registers.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from fastsel.kernels.canonical import pair_key
from fastsel.kernels.launch import blocks, norms_or_data, on_device_of
from fastsel.kernels.tiles import tile
from fastsel.points import Points

INFINITY = tl.constexpr(float("inf"))
LAST = tl.constexpr((1 << 63) - 1)

# Neighbours that are kept in registers: the least of these that is enough.
KEPT = (16, 64)


@triton.jit
def _sooner(x_key, x_point, y_key, y_point):
    """1 where neighbour x comes before y, else 0; of broadcast tensors."""
    return ((x_key < y_key) | ((x_key == y_key) & (x_point < y_point))).to(tl.int32)


@triton.jit
def _moved(values, places, to, NOTHING: tl.constexpr):
    """values [R, N] at their places, in 0 .. B - 1 or beyond, as [R, B]; NOTHING where none is."""
    here = places[:, None, :] == to[None, :, None]
    return tl.min(tl.where(here, values[:, None, :], NOTHING), axis=2)


@triton.jit(do_not_specialize=["n", "k", "dim"])
def top_k_kernel(
    query_data,
    query_norms,
    rows,
    n,
    data,
    norms,
    first,
    cols,
    k,
    dim,
    keys,
    index,
    HAS_NORMS: tl.constexpr,
    INNER: tl.constexpr,
    EXCLUDE_SELF: tl.constexpr,
    BEST: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
):
    """A program takes ROWS queries, COLS points of each at a time."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < n
    query = tl.load(rows + row, mask=inside, other=0)
    begin = tl.load(first + row, mask=inside, other=0)
    end = tl.load(first + row + 1, mask=inside, other=0)
    queries = tl.reshape(tl.broadcast_to(query[:, None], (ROWS, COLS)), (ROWS * COLS,))
    place = tl.arange(0, BEST)
    best_key = tl.full((ROWS, BEST), INFINITY, tl.float64)
    best_point = tl.full((ROWS, BEST), LAST, tl.int64)
    longest = tl.max(end - begin, axis=0)
    done = longest * 0  # of its type
    while done < longest:
        at = begin[:, None] + done + tl.arange(0, COLS)[None, :]
        live = at < end[:, None]
        point = tl.load(cols + at, mask=live, other=0).to(tl.int64)
        key = tl.reshape(
            pair_key(
                query_data,
                queries,
                query_norms,
                data,
                tl.reshape(point, (ROWS * COLS,)),
                norms,
                dim,
                tl.reshape(live, (ROWS * COLS,)),
                HAS_NORMS,
                INNER,
                ROWS * COLS,
            ),
            (ROWS, COLS),
        )
        if EXCLUDE_SELF:
            live = live & (point != query[:, None])
        key = tl.where(live, key, INFINITY)
        point = tl.where(live, point, LAST)
        sooner = _sooner(
            key[:, None, :], point[:, None, :], best_key[:, :, None], best_point[:, :, None]
        )
        among = _sooner(key[:, None, :], point[:, None, :], key[:, :, None], point[:, :, None])
        kept = place[None, :] + tl.sum(sooner, axis=2)
        came = BEST - tl.sum(sooner, axis=1) + tl.sum(among, axis=2)
        best_key = tl.minimum(
            _moved(best_key, kept, place, INFINITY), _moved(key, came, place, INFINITY)
        )
        best_point = tl.minimum(
            _moved(best_point, kept, place, LAST), _moved(point, came, place, LAST)
        )
        done += COLS
    to = row[:, None] * k + place[None, :]
    wanted = inside[:, None] & (place < k)[None, :]
    tl.store(keys + to, best_key, mask=wanted)
    tl.store(index + to, best_point, mask=wanted)


def top_k(
    queries: Points,
    rows: Tensor,
    points: Points,
    first: Tensor,
    cols: Tensor,
    exclude_self: bool,
    by_inner_product: bool,
    keys: Tensor,
    index: Tensor,
) -> None:
    """As in fastsel/backends/torch_ops.py."""
    cut = tile("top_k", keys)
    k = keys.shape[1]
    with on_device_of(keys):
        top_k_kernel[(blocks(len(rows), cut.rows),)](
            queries.data,
            norms_or_data(queries),
            rows,
            len(rows),
            points.data,
            norms_or_data(points),
            first,
            cols,
            k,
            points.dim,
            keys,
            index,
            HAS_NORMS=points.norms is not None,
            INNER=by_inner_product,
            EXCLUDE_SELF=exclude_self,
            BEST=min(kept for kept in KEPT if kept >= k),
            ROWS=cut.rows,
            COLS=cut.cols,
            num_warps=cut.warps,
            enable_fp_fusion=False,
        )
