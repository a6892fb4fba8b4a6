"""The operations of the device backends in plain torch, exact on any device that torch runs on.

They are the fallback, and what the kernels of the same names (kernels/, csrc/cuda/) are tested
against. Points hold tensors throughout; arguments that are written to come last. Those of greedy
entropy are in torch_entropy_ops.py.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastsel.backends.torch_canonical import (
    BLOCK_ELEMENTS,
    blocks,
    inner_products,
    listed,
    sq_dists,
    wide_rows,
)
from fastsel.backends.torch_codes import Codes, round_up
from fastsel.backends.torch_entropy_ops import enter_balls as enter_balls
from fastsel.backends.torch_entropy_ops import enter_picks as enter_picks
from fastsel.backends.torch_entropy_ops import entropy_pick as entropy_pick
from fastsel.backends.torch_entropy_ops import renew_gains as renew_gains
from fastsel.canonical import LANES
from fastsel.points import Points

# Queries that a product takes together where they may pass over points.
TOGETHER = 512

# Columns of codes whose inner products, of at most 127^2 each, are exact in float32: on tensor
# cores too, in TF32 as well, since codes have 8 bits.
EXACT_DEPTH = 1024

# Neighbours that `top_k` finds at most, and the index of one that is not there.
MAX_TOP = 64
NO_INDEX = torch.iinfo(torch.int64).max


def min_update(points: Points, centre: Tensor, sq_dist: Tensor) -> None:
    """Lower sq_dist, float64 [N], to the canonical squared distance to `centre`, float64 [D]."""
    for block in blocks(points.n, points.dim):
        lower = sq_dists(wide_rows(points, block), centre)
        sq_dist[block] = torch.minimum(sq_dist[block], lower)


def rows_together(like: Tensor, n_points: int) -> int:
    """How many queries, one after the other, `group_min` and `survivors` take at a time.

    With `first`, they look at all points from the least of theirs on. like: a tensor on the device.
    """
    return min(TOGETHER, max(1, BLOCK_ELEMENTS // n_points))


def group_min(
    queries: Codes,
    query_rows: Tensor,
    points: Codes,
    point_rows: Tensor,
    group: int,
    out: Tensor,
    first: Tensor | None = None,
) -> None:
    """At least the radius from each listed query to the nearest of every `group` listed points.

    Rows are int64 [R] and [C]; out float32 [R, ceil(C / group)], the last group perhaps shorter.

    first: int64 [R], in 0 .. C, how many of the points each query may pass over. It may look at
    some of them nevertheless, and has infinity for a group of which it saw none. Queries next to
    each other should have nearly the same.
    """
    labels = _label(points, point_rows)
    groups = out.shape[1]
    for block in _query_blocks(len(query_rows), len(point_rows), first):
        passed = _least(first, block)
        begin = groups if passed == len(point_rows) else passed // group
        rows, seen = query_rows[block], labels.beyond(begin * group)
        sq_norms = queries.sq_norms[rows, None] + seen.sq_norms
        lower = _filtered(queries, rows, seen)
        # A filtered distance may be too small by 2^-19 of the norms (csrc/cpu/filter.h).
        radius = (lower.double() + 2.0**-18 * sq_norms.double()).clamp_(min=0.0).sqrt_()
        radius += queries.errors[rows, None].double() + seen.errors.double()
        padded = radius.new_full((len(rows), (groups - begin) * group), math.inf)
        padded[:, : radius.shape[1]] = radius
        least = padded.view(len(rows), groups - begin, group).amin(dim=2)
        out[block, :begin] = math.inf
        out[block, begin:] = round_up(least * (1.0 + 2.0**-18) + 2.0**-48)


def survivors(
    queries: Codes,
    query_rows: Tensor,
    points: Codes,
    point_rows: Tensor,
    reach: Tensor,
    pairs: Tensor,
    n_pairs: Tensor,
    overflow: Tensor,
    first: Tensor | None = None,
) -> None:
    """List at least those pairs of a query and a point whose radius is below the query's reach.

    reach: float32 [R]; below 0 or NaN, nothing is. Appends positions (in query_rows, in point_rows)
    to pairs, int32 [capacity, 2], in any order; n_pairs, int64 [1], counts those that do not fit
    too. They set overflow, uint8 [R], of their query.

    first: as for `group_min`. Pairs with points that a query may pass over may be missing.
    """
    labels = _label(points, point_rows)
    capacity = len(pairs)
    for block in _query_blocks(len(query_rows), len(point_rows), first):
        begin = _least(first, block)
        rows, seen = query_rows[block], labels.beyond(begin)
        radius = reach[block].double()
        raised = round_up((radius + queries.errors[rows]) * (1.0 + 2.0**-20) + 2.0**-50)
        raised = torch.where(radius >= 0, raised, math.nan)
        bound = raised[:, None] + seen.errors
        found = torch.nonzero(_filtered(queries, rows, seen) < bound * bound)
        found += torch.tensor([block.start, begin], device=found.device)
        listed = int(n_pairs.item())
        room = max(0, capacity - listed)
        pairs[listed : listed + room][: len(found)] = found[:room].int()
        overflow[found[room:, 0]] = 1
        n_pairs += len(found)


def pair_min(
    points: Points,
    rows: Tensor,
    centres: Points,
    cols: Tensor,
    pairs: Tensor,
    n_pairs: Tensor,
    keys: Tensor,
) -> None:
    """Lower keys[rows[r]], for every listed pair (r, c), to the distance to centre cols[c].

    Canonical squared distances; keys float64 [N]. At most len(pairs) are there, whatever n_pairs
    says. Points and centres have one dtype.
    """
    for block in listed(pairs, n_pairs, points.dim):
        row, col = rows[block[:, 0]], cols[block[:, 1]]
        sq_dist = sq_dists(wide_rows(points, row), wide_rows(centres, col))
        keys.scatter_reduce_(0, row, sq_dist, "amin")


def pair_sq_dists(
    queries: Points,
    points: Points,
    pairs: Tensor,
    n_pairs: Tensor,
    out: Tensor,
    by_inner_product: bool = False,
) -> None:
    """Write the canonical squared distance of every listed pair (query, point) to out [pairs].

    Or minus the canonical inner product, of points without norms.
    """
    first = 0
    for block in listed(pairs, n_pairs, points.dim):
        x, y = wide_rows(queries, block[:, 0]), wide_rows(points, block[:, 1])
        out[first : first + len(block)] = (
            -inner_products(x, y) if by_inner_product else sq_dists(x, y)
        )
        first += len(block)


def by_row(pairs: Tensor, n_pairs: Tensor, next: Tensor, cols: Tensor | None = None) -> None:
    """Bring the columns of listed pairs together by their rows: a counting sort in two calls.

    Adds to next[r], int64, how many pairs of row r are listed. With cols, int32 [pairs], next[r] is
    first where the columns of row r begin in there, and they are written, in any order.
    """
    row, col = pairs[: int(n_pairs.item())].long().unbind(dim=1)
    count = row.bincount(minlength=len(next))
    if cols is not None:
        order = row.argsort(stable=True)
        row, begin = row[order], count.cumsum(0) - count
        place = next[row] - begin[row] + torch.arange(len(row), device=row.device)
        cols[place] = col[order].int()
    next += count


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
    """Of the points that are listed for every query, the k first by (key, index).

    For query rows[r], int64 [R], the points cols[first[r]] .. cols[first[r + 1] - 1], each once;
    first int64 [R + 1], cols int32. Keys as of `pair_sq_dists`. keys float64 and index int64
    [R, k], k at most MAX_TOP; infinity and NO_INDEX where there are fewer. With `exclude_self`,
    query i skips point i.
    """
    row = torch.arange(len(rows), device=rows.device).repeat_interleave(first.diff())
    col = cols[: len(row)]
    pairs = torch.stack([rows[row].int(), col], dim=1)
    found = torch.empty(len(row), dtype=torch.float64, device=rows.device)
    pair_sq_dists(queries, points, pairs, first[-1:], found, by_inner_product)
    sort_pairs(row, rows, col.long(), found, first, exclude_self, keys, index)


def sort_pairs(
    row: Tensor,
    rows: Tensor,
    col: Tensor,
    found: Tensor,
    first: Tensor,
    exclude_self: bool,
    keys: Tensor,
    index: Tensor,
) -> None:
    """The same for any k, in three sorts of pairs (row[p], col[p]), in any order, of keys found[p].

    first, int64 [R + 1], counts the pairs of all rows before each.
    """
    if exclude_self:
        own = rows[row] == col
        found, col = torch.where(own, math.inf, found), torch.where(own, NO_INDEX, col)
    if not len(row):
        keys.fill_(math.inf)
        index.fill_(NO_INDEX)
        return
    order = col.argsort()
    order = order[found[order].argsort(stable=True)]
    order = order[row[order].argsort(stable=True)]
    place = first[:-1, None] + torch.arange(keys.shape[1], device=row.device)
    there = place < first[1:, None]
    chosen = order[place.clamp(max=len(order) - 1)]
    keys.copy_(torch.where(there, found[chosen], math.inf))
    index.copy_(torch.where(there, col[chosen], NO_INDEX))


def sq_dist_matrix(points: Points, rows: Tensor, out: Tensor) -> None:
    """Write the canonical squared distances among the listed rows, int64 [A], to out [A, A]."""
    wide = wide_rows(points, rows)
    for block in blocks(len(rows), len(rows) * LANES):
        out[block] = sq_dists(wide[block, None], wide)


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
    """Greedy picks among the first n_active of `rows`, ascending, whose keys are up to date.

    The row of largest key, the first of equals, as long as it beats the rival, its key is above
    `least` and there is room: picks, int64, and sq_radii, float64, of one capacity, are appended to
    at n_picks, which counts on. The others' keys account for every pick; that of a picked row
    becomes -1. matrix: as of sq_dist_matrix. All counts and the rival are tensors of one element.

    Here the chain of picks runs on the host: each is too little work for a device.
    """
    active = rows[: int(n_active.item())]
    near = matrix.cpu().numpy()[:, : len(active)]
    mine = keys[active].cpu().numpy()
    to_beat = (-rival_key.item(), rival_row.item())
    order = active.tolist()
    first = int(n_picks.item())
    picked: list[int] = []
    radii: list[float] = []
    while first + len(picked) < len(picks) and order:
        best = int(mine.argmax())
        key = float(mine[best])
        if (-key, order[best]) >= to_beat or key <= least:
            break
        picked.append(order[best])
        radii.append(key)
        np.minimum(mine, near[best], out=mine)
        mine[best] = -1.0
    keys[active] = torch.from_numpy(mine).to(keys.device)
    _append(picked, radii, picks, sq_radii, first)
    n_picks += len(picked)


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
    """Sweeps over the first n_active of `rows`, one for each of some falling limits, float64 [S].

    A sweep takes the rows in their order and accepts each whose key is above its limit, while there
    is room; sweeps, int64, gets its number. The rest is as for `pick`.
    """
    active = rows[: int(n_active.item())]
    near = matrix.cpu().numpy()[:, : len(active)]
    mine = keys[active].cpu().numpy()
    order = active.tolist()
    first = int(n_picks.item())
    accepted: list[int] = []
    radii: list[float] = []
    numbers: list[int] = []
    for sweep, limit in enumerate(limits.tolist()):
        for i, row in enumerate(order):
            key = float(mine[i])
            if first + len(accepted) == len(picks) or key <= limit:
                continue
            accepted.append(row)
            radii.append(key)
            numbers.append(sweep)
            np.minimum(mine, near[i], out=mine)
            mine[i] = -1.0
    keys[active] = torch.from_numpy(mine).to(keys.device)
    _append(accepted, radii, picks, sq_radii, first)
    sweeps[first : first + len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
    n_picks += len(accepted)


def _append(
    rows: list[int], keys: list[float], picks: Tensor, sq_radii: Tensor, first: int
) -> None:
    picks[first : first + len(rows)] = torch.tensor(rows, dtype=torch.int64)
    sq_radii[first : first + len(rows)] = torch.tensor(keys, dtype=torch.float64)


class _Labelled(NamedTuple):
    """Listed rows of codes."""

    values: Tensor  # float32 [C, W]
    scales: Tensor
    sq_norms: Tensor
    errors: Tensor

    def beyond(self, count: int) -> _Labelled:
        """All but the first ones."""
        return _Labelled(*(part[count:] for part in self))


def _label(codes: Codes, rows: Tensor) -> _Labelled:
    return _Labelled(
        codes.values[rows].float(), codes.scales[rows], codes.sq_norms[rows], codes.errors[rows]
    )


def _filtered(queries: Codes, rows: Tensor, points: _Labelled) -> Tensor:
    """Squared distances of decoded rows, never too large; float32 [R, C]."""
    values = queries.values[rows].float()
    product = values.new_zeros((len(rows), len(points.values)), dtype=torch.float64)
    for start in range(0, values.shape[1], EXACT_DEPTH):
        step = slice(start, start + EXACT_DEPTH)
        product += values[:, step] @ points.values[:, step].T
    return (queries.sq_norms[rows, None] + points.sq_norms) - (
        product.float() * queries.scales[rows, None] * (2.0 * points.scales)
    )


def _query_blocks(n: int, n_points: int, first: Tensor | None) -> list[slice]:
    """Blocks of queries; small ones, if they may pass over points."""
    if first is None:
        return blocks(n, n_points)
    step = rows_together(first, n_points)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def _least(first: Tensor | None, block: slice) -> int:
    """How many points all queries of a block may pass over."""
    return 0 if first is None else int(first[block].min().item())
