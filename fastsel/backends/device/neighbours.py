"""Search for neighbours on a device."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import ClassVar

import torch
from torch import Tensor

from fastsel.backends import torch_ops
from fastsel.backends.device.survivors import (
    Survivors,
    all_pairs,
    count_of,
    pairs_per_row,
    split,
)
from fastsel.points import Points
from fastsel.sketch import Trial

# Queries that are searched at a time, and what is held for them: minima of groups, and pairs.
SEARCH_ROWS = 1 << 14
SEARCH_ELEMENTS = 1 << 24
# More groups than neighbours, so that the k-th least of their minima is near the k-th distance.
GROUPS_PER_NEIGHBOUR = 4
MIN_GROUPS = 8


class Neighbours:
    """Neighbours of queries among points, for any part of the queries at a time.

    Memory: a byte for each component of queries and points, and 12 bytes for each of them.
    """

    operations: ClassVar[ModuleType]

    def __init__(self, queries: Points, points: Points, by_inner_product: bool = False) -> None:
        assert not by_inner_product  # resolve() has refused it
        if queries.data.dtype != points.data.dtype:
            queries, points = queries.widened(), points.widened()
        self._queries, self._points = queries, points
        shift, scale = torch_ops.frame(points, *([] if queries is points else [queries]))
        self._codes = torch_ops.encode(points, shift, scale)
        self._query_codes = (
            self._codes if queries is points else torch_ops.encode(queries, shift, scale)
        )
        self._all = torch.arange(points.n, device=points.data.device)
        self.trials: list[Trial] = []  # it has no sketches

    def search(
        self,
        first_query: int,
        exclude_self: bool,
        sq_dist: Tensor,
        index: Tensor,
        report: Callable[[int], None],
    ) -> tuple[int, int, int]:
        """Fill [B, k] with the neighbours of queries first_query .. first_query + B - 1.

        Ascending by (squared distance, index). With `exclude_self`, query i skips point i. `report`
        is told how many queries are done.

        Returns how many pairs were filtered, passed a sketch, and were computed canonically.
        """
        n, k = sq_dist.shape
        # A query is its own nearest, or among its equals: it is found with the others and dropped.
        found = k + exclude_self
        size = -(-self._points.n // max(MIN_GROUPS, GROUPS_PER_NEIGHBOUR * found))
        groups = -(-self._points.n // size)
        step = max(1, min(SEARCH_ROWS, SEARCH_ELEMENTS // max(groups, pairs_per_row(found))))
        evaluated = 0
        for start in range(0, n, step):
            block = slice(start, min(start + step, n))
            rows = torch.arange(
                first_query + block.start, first_query + block.stop, device=self._all.device
            )
            near, there, pairs = self._nearest(rows, found, size, groups)
            if exclude_self:
                near, there = _without(near, there, rows)
            sq_dist[block] = near
            index[block] = there
            evaluated += pairs
            report(block.stop)
        return 2 * n * self._points.n, 0, evaluated

    def _nearest(self, rows: Tensor, k: int, size: int, groups: int) -> tuple[Tensor, Tensor, int]:
        """The k nearest of all points, and how many pairs were computed for them."""
        operations, device = self.operations, rows.device
        upper = torch.empty((len(rows), groups), dtype=torch.float32, device=device)
        operations.group_min(self._query_codes, rows, self._codes, self._all, size, upper)
        # The groups hold different points: at least k points are as near as their k-th least bound.
        reach = upper.kthvalue(k, dim=1).values
        found = Survivors(len(rows), self._points.n, device, neighbours=k)
        operations.survivors(
            self._query_codes,
            rows,
            self._codes,
            self._all,
            reach,
            found.pairs,
            found.count,
            found.overflow,
        )
        count, overflown = torch.stack([found.count[0], found.overflow.sum()]).tolist()
        pairs = found.pairs[:count]
        near = torch.empty((len(rows), k), dtype=torch.float64, device=device)
        there = torch.empty((len(rows), k), dtype=torch.int64, device=device)
        evaluated = len(pairs)
        whole = torch.nonzero(found.overflow == 0)[:, 0] if overflown else slice(None)
        if overflown:
            pairs = pairs[found.overflow[pairs[:, 0].long()] == 0]
        near[whole], there[whole] = self._sorted(rows, pairs, k)
        if overflown:
            flagged = torch.nonzero(found.overflow)[:, 0]
            for some in split(flagged, len(found.pairs) // self._points.n):
                near[some], there[some] = self._sorted(rows, all_pairs(some, self._points.n), k)
                evaluated += len(some) * self._points.n
        return near, there, evaluated

    def _sorted(self, rows: Tensor, pairs: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The first k listed pairs of every row that has any, by (squared distance, index)."""
        if not len(pairs):
            return self._all.new_empty((0, k), dtype=torch.float64), self._all.new_empty((0, k))
        queries = Points(
            self._queries.data[rows],
            None if self._queries.norms is None else self._queries.norms[rows],
        )
        sq_dist = torch.empty(len(pairs), dtype=torch.float64, device=pairs.device)
        self.operations.pair_sq_dists(queries, self._points, pairs, count_of(pairs), sq_dist)
        row, point = pairs.long().unbind(dim=1)
        order = (row * self._points.n + point).argsort()
        order = order[sq_dist[order].argsort(stable=True)]
        order = order[row[order].argsort(stable=True)]
        counts = row.bincount()
        counts = counts[counts > 0]
        first = counts.cumsum(0) - counts
        chosen = order[first[:, None] + torch.arange(k, device=pairs.device)]
        return sq_dist[chosen], point[chosen]


def _without(near: Tensor, there: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """All but the pair of each row with itself, or but the last where that is not there."""
    own = there == rows[:, None]
    own[:, -1] |= ~own.any(dim=1)
    keep = ~own
    return near[keep].view(len(rows), -1), there[keep].view(len(rows), -1)
