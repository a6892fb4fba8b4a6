"""Search for neighbours on a device."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import ClassVar

import torch
from torch import Tensor

from fastsel.backends import torch_codes, torch_ops
from fastsel.backends.device.survivors import (
    ByRow,
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

    Memory: a byte for each component of queries and points, and 12 bytes for each of them. Queries
    that are the points count once, but for a search by inner product.
    """

    operations: ClassVar[ModuleType]

    def __init__(self, queries: Points, points: Points, by_inner_product: bool = False) -> None:
        if queries.data.dtype != points.data.dtype:
            queries, points = queries.widened(), points.widened()
        self._queries, self._points = queries, points
        self._by_inner_product = by_inner_product
        if by_inner_product:
            self._codes = _coded_for_products(points, "point")
            self._query_codes = _coded_for_products(queries, "query")
        else:
            shift, scale = torch_codes.frame(points, *([] if queries is points else [queries]))
            self._codes = torch_codes.encode(points, shift, scale)
            self._query_codes = (
                self._codes if queries is points else torch_codes.encode(queries, shift, scale)
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

        Ascending by (squared distance, index), or by minus the inner product. With `exclude_self`,
        query i skips point i. `report` is told how many queries are done.

        Returns how many pairs were filtered, passed a sketch, and were computed canonically.
        """
        n, k = sq_dist.shape
        # A query is found with the others, before it is skipped.
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
            upper = torch.empty((len(rows), groups), dtype=torch.float32, device=rows.device)
            self.operations.group_min(self._query_codes, rows, self._codes, self._all, size, upper)
            reach = self._reach(upper, found)
            evaluated += self._nearest(
                rows, reach, found, exclude_self, sq_dist[block], index[block]
            )
            report(block.stop)
        return 2 * n * self._points.n, 0, evaluated

    def _reach(self, upper: Tensor, found: int) -> Tensor:
        """How far each row need look for so many neighbours, by bounds of groups."""
        # The groups hold different points: so many are as near as their found-th least bound.
        reach = upper.kthvalue(found, dim=1).values
        if not self._by_inner_product:
            return reach
        # The filter allows for the rounding of a distance, in parts of it; that of the product of
        # two rows of norm 1 is less than (dim / 8 + 10) 2^-53, and counts four times in a square.
        rounding = (self._points.dim / 8 + 10) * 2.0**-50
        return torch_codes.round_up((reach.double().square() + rounding).sqrt())

    def _nearest(
        self,
        rows: Tensor,
        reach: Tensor,
        found: int,
        exclude_self: bool,
        keys: Tensor,
        index: Tensor,
    ) -> int:
        """Fill in the nearest points within reach; returns how many pairs were computed for it."""
        operations, n = self.operations, self._points.n
        listed = Survivors(len(rows), n, rows.device, neighbours=found)
        operations.survivors(
            self._query_codes,
            rows,
            self._codes,
            self._all,
            reach,
            listed.pairs,
            listed.count,
            listed.overflow,
        )
        lists = ByRow.of(operations, listed)
        fits = keys.shape[1] <= torch_ops.MAX_TOP
        if fits:
            operations.top_k(
                self._queries,
                rows,
                self._points,
                *lists,
                exclude_self,
                self._by_inner_product,
                keys,
                index,
            )
        # The only wait, when all is under way.
        count, overflown = torch.stack([listed.count[0], listed.overflow.sum()]).tolist()
        pairs = listed.pairs[:count]
        if not fits:
            self._sort(rows, pairs, lists.first, exclude_self, keys, index)
        evaluated = len(pairs)
        if overflown:
            flagged = torch.nonzero(listed.overflow)[:, 0]
            for some in split(flagged, len(listed.pairs) // n):
                places = torch.arange(len(some) + 1, device=rows.device)
                nearest = keys.new_empty((len(some), keys.shape[1]))
                there = index.new_empty(nearest.shape)
                everything = all_pairs(places[:-1], n)
                self._sort(rows[some], everything, places * n, exclude_self, nearest, there)
                keys[some], index[some] = nearest, there
                evaluated += len(everything)
        return evaluated

    def _sort(
        self,
        rows: Tensor,
        pairs: Tensor,
        first: Tensor,
        exclude_self: bool,
        keys: Tensor,
        index: Tensor,
    ) -> None:
        """As the operation `top_k`, for any k, and for lists of any length at full speed."""
        queries = self._queries.part(rows)
        found = torch.empty(len(pairs), dtype=torch.float64, device=pairs.device)
        self.operations.pair_sq_dists(
            queries, self._points, pairs, count_of(pairs), found, self._by_inner_product
        )
        row, col = pairs.long().unbind(dim=1)
        torch_ops.sort_pairs(row, rows, col, found, first, exclude_self, keys, index)


def _coded_for_products(points: Points, role: torch_codes.Role) -> torch_codes.Codes:
    shift, scale = torch_codes.frame(points, centred=False)
    return torch_codes.encode(points, shift, scale, role)
