"""What the device backends share: the primitives of reference.py over tensors on a device.

The work is that of an operations module, which has the operations of torch_ops.py under the same
names; fastsel/backends/torch.py names one. Shapes do not depend on what the device finds, so that a
round of greedy selection waits for it once: to read how many points were picked. Keys are lowered
by an atomic minimum, and applying a centre twice changes none, so a refresh takes all centres.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastsel.backends import torch_ops
from fastsel.points import Points, Subset
from fastsel.schedule import SELECTED
from fastsel.sketch import Trial
from fastsel.threshold import largest_key

# Pairs that a list of survivors has room for, for each of its rows. One or two is what is typical;
# the rows that do not fit are compared canonically with everything.
PAIRS_PER_ROW = 32
PAIRS_PER_NEIGHBOUR = 2
MIN_PAIRS = 1 << 16

# Groups of centres in a refresh, so that a GPU has work for all its processors; none smaller than
# a tile.
REFRESH_GROUPS = 16
MIN_GROUP = 128

# Queries that are searched at a time, and what is held for them: minima of groups, and pairs.
SEARCH_ROWS = 1 << 14
SEARCH_ELEMENTS = 1 << 24
# More groups than neighbours, so that the k-th least of their minima is near the k-th distance.
GROUPS_PER_NEIGHBOUR = 4
MIN_GROUPS = 8

# Keys, what points have seen, and the temporaries of a sort.
BYTES_PER_POINT = 80


@dataclass(frozen=True)
class Rows:
    """Active rows of a round: the first `count`, int64 [1], of `index`, ascending."""

    index: Tensor
    count: Tensor

    def __len__(self) -> int:
        return len(self.index)


class State:
    """The twin of fastsel.schedule.State, in tensors. A rival is a pair of tensors of one element.

    `leaders`, `active` and `mark_seen` do not wait for the device.
    """

    def __init__(self, points: Points, capacity: int) -> None:
        device = points.data.device
        self.keys = torch.full((points.n,), math.inf, dtype=torch.float64, device=device)
        self.seen = torch.zeros(points.n, dtype=torch.int64, device=device)
        self.picks = torch.zeros(capacity, dtype=torch.int64, device=device)
        self.sq_radii = torch.zeros(capacity, dtype=torch.float64, device=device)

    def largest(self) -> float:
        """The largest key."""
        return float(self.keys.max().item())

    def leader_saw(self) -> int:
        """How many centres the point of largest key has seen."""
        return int(self.seen[self.keys.argmax()].item())

    def leaders(self, size: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The `size` points of largest key, ascending in index, and the next one: the rival."""
        # A stable sort leaves equal keys in order of index.
        keys, order = self.keys.sort(descending=True, stable=True)
        return order[:size].sort().values, _next(keys, order, size)

    def active(
        self, rows: Tensor, rival: tuple[Tensor, Tensor], room: int
    ) -> tuple[Rows, tuple[Tensor, Tensor]]:
        """The rows that beat the rival, at most `room`, and the next point after them."""
        keys, order = self.keys[rows].sort(descending=True, stable=True)
        candidates = rows[order]
        keys, candidates, own = keys[:room], candidates[:room], _next(keys, candidates, room)
        rival_key, rival_row = rival
        sooner = _beats(*own, rival_key, rival_row)
        rival_key = torch.where(sooner, own[0], rival_key)
        rival_row = torch.where(sooner, own[1], rival_row)
        beats = _beats(keys, candidates, rival_key, rival_row)
        # Those that are beaten go last, for the kernels to leave out.
        last = torch.where(beats, candidates, candidates + len(self.keys))
        index = candidates[last.argsort()]
        return Rows(index, beats.sum(dtype=torch.int64)[None]), (rival_key, rival_row)

    def mark_seen(self, rows: Rows, count: int) -> None:
        """Note that the rows have seen so many centres."""
        active = torch.arange(len(rows), device=rows.index.device) < rows.count
        self.seen[rows.index] = torch.where(active, count, self.seen[rows.index])

    def stale(self, rows: Tensor, count: int) -> Tensor:
        """Those of the rows that have seen fewer centres."""
        return rows[self.seen[rows] < count]

    def count_above(self, key: float) -> int:
        """How many keys are larger."""
        return int((self.keys > key).sum().item())

    def above(self, key: float, rows: Tensor | None = None) -> Tensor:
        """The points of larger key, in order, among `rows` if given."""
        if rows is None:
            return torch.nonzero(self.keys > key)[:, 0]
        return rows[self.keys[rows] > key]

    def largest_but(self, rows: Tensor, count: int) -> float:
        """The largest key of the rows but for `count` larger ones."""
        return float(self.keys[rows].kthvalue(len(rows) - count).values.item())

    @staticmethod
    def join(first: Tensor, then: Tensor) -> Tensor:
        """Rows one after the other."""
        return torch.cat([first, then])

    def keys_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """A copy of the keys of the rows, in host memory."""
        return np.asarray(self.keys[self._there(rows)].cpu().numpy())

    def put(
        self, first: int, rows: npt.NDArray[np.int64], sq_radii: npt.NDArray[np.float64]
    ) -> None:
        """Write picks from the position `first` on."""
        self.picks[first : first + len(rows)] = self._there(rows)
        self.sq_radii[first : first + len(rows)] = self._there(sq_radii)

    def select(self, rows: npt.NDArray[np.int64]) -> None:
        """Note that the rows are selected, and that every point has seen the first centre."""
        self.seen.fill_(1)
        self.keys[self._there(rows)] = SELECTED

    def result(self, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The first `count` picks, and the squares of their radii, in host memory."""
        return self.picks[:count].cpu().numpy(), self.sq_radii[:count].cpu().numpy()

    def _there(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.keys.device)


def _next(keys: Tensor, rows: Tensor, place: int) -> tuple[Tensor, Tensor]:
    """The unselected row at that place of sorted ones, as a rival; (-1, -1) where there is none."""
    if place >= len(keys):
        return keys.new_full((1,), SELECTED), rows.new_full((1,), -1)
    key, row = keys[place : place + 1], rows[place : place + 1]
    return key, torch.where(key > SELECTED, row, -1)


def _beats(keys: Tensor, rows: Tensor, rival_key: Tensor, rival_row: Tensor) -> Tensor:
    return (keys > rival_key) | ((keys == rival_key) & (rows < rival_row))


def adopt(points: Points, device: torch.device) -> Points:
    """The points on the device; what is there already is not copied, but rows are gathered."""
    if isinstance(points, Subset):
        points = points.part(slice(None))
    return Points(
        _tensor(points.data, device),
        None if points.norms is None else _tensor(points.norms, device),
    )


def _tensor(data: Any, device: torch.device) -> Any:
    if isinstance(data, Tensor):
        return data.to(device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        if data.dtype == np.uint16:
            tensor = torch.from_numpy(data.view(np.int16)).view(torch.bfloat16)
        else:
            tensor = torch.from_numpy(data)
    return tensor.to(device)


def min_update(
    operations: ModuleType, points: Points, centres: Points, centre: int, sq_dist: Tensor
) -> None:
    """Lower `sq_dist` [N] to the squared distance to row `centre` of `centres`, in place."""
    row = torch_ops.wide_rows(centres, slice(centre, centre + 1))[0]
    operations.min_update(points, row, sq_dist)


class Survivors:
    """Pairs that a filter could not exclude, and the rows whose pairs did not all fit."""

    def __init__(self, n_rows: int, capacity: int, device: torch.device) -> None:
        self.pairs = torch.empty((capacity, 2), dtype=torch.int32, device=device)
        self.count = torch.zeros(1, dtype=torch.int64, device=device)
        self.overflow = torch.zeros(n_rows, dtype=torch.uint8, device=device)


class _Refreshed(NamedTuple):
    """A refresh whose outcome the host has not read yet."""

    rows: Tensor
    keys: Tensor
    centres: Tensor
    survivors: Survivors


class Pool:
    """Candidates of a selection: the primitives of the lazy schedule."""

    operations: ClassVar[ModuleType]

    @staticmethod
    def bytes_needed(points: Points, capacity: int, active: int) -> int:
        """Memory of a pool, its picks, and calls of `pick` with that many rows."""
        width = -(-points.dim // torch_ops.CODE_UNIT) * torch_ops.CODE_UNIT
        codes = points.n * (width + 12 + BYTES_PER_POINT) + 24 * capacity
        return codes + 8 * active * active + 64 * points.dim + (1 << 28)

    def __init__(self, points: Points, capacity: int) -> None:
        self._points = points
        shift, scale = torch_ops.frame(points)
        self._codes = torch_ops.encode(points, shift, scale)
        self._centres = torch.zeros(capacity, dtype=torch.int64, device=points.data.device)
        self._count = 0
        self._pending: _Refreshed | None = None
        self._evaluated = torch.zeros(1, dtype=torch.int64, device=points.data.device)
        self.trials: list[Trial] = []  # it has no sketches

    def append(self, picks: Tensor) -> None:
        """Add rows to the centres that `refresh` applies."""
        self._centres[self._count : self._count + len(picks)] = picks
        self._count += len(picks)

    def refresh(
        self, rows: Any, keys: Tensor, seen: Tensor, rival: tuple[Any, Any]
    ) -> tuple[int, int, int]:
        """Apply to `rows` the centres they have not seen.

        The keys are there after `settle`, or after `pick`, which then picks nothing where they were
        not. Returns how many pairs were filtered; the canonical ones count in what follows.
        """
        self.settle()
        rows = torch.as_tensor(rows, device=keys.device)
        centres = self._centres[: self._count]
        if not len(rows) or not self._count:
            return 0, 0, 0
        codes = self._codes
        group = max(MIN_GROUP, -(-self._count // REFRESH_GROUPS))
        upper = keys.new_empty((len(rows), -(-self._count // group)), dtype=torch.float32)
        self.operations.group_min(codes, rows, codes, centres, group, upper)
        own = keys[rows]
        # Keys of points that have seen all stay, and so do those of selected points.
        stale = (seen[rows] < self._count) & (own > 0)
        radius = torch_ops.round_up(own.clamp(min=0).sqrt() * codes.scale)
        reach = torch.where(stale, torch.minimum(radius, upper.amin(dim=1)), -1.0)
        capacity = max(MIN_PAIRS, PAIRS_PER_ROW * len(rows))
        found = Survivors(len(rows), min(capacity, len(rows) * self._count), keys.device)
        self.operations.survivors(
            codes, rows, codes, centres, reach, found.pairs, found.count, found.overflow
        )
        self.operations.pair_min(
            self._points, rows, self._points, centres, found.pairs, found.count, keys
        )
        seen[rows] = self._count
        self._evaluated += found.count.clamp(max=len(found.pairs))
        self._pending = _Refreshed(rows, keys, centres, found)
        return 2 * len(rows) * self._count, 0, 0

    def settle(self) -> None:
        """Wait until keys are as the last `refresh` leaves them."""
        if self._pending is not None and self._pending.survivors.overflow.any().item():
            self._redo(self._pending)
        self._pending = None

    def _redo(self, refreshed: _Refreshed) -> None:
        """Compare the rows whose pairs did not fit with all centres."""
        flagged = torch.nonzero(refreshed.survivors.overflow)[:, 0]
        pairs = refreshed.survivors.pairs
        for some in _split(flagged, len(pairs) // len(refreshed.centres)):
            listed = _all_pairs(some, len(refreshed.centres))
            for part in _split(listed, len(pairs)):
                self.operations.pair_min(
                    self._points,
                    refreshed.rows,
                    self._points,
                    refreshed.centres,
                    part,
                    _count_of(part),
                    refreshed.keys,
                )
                self._evaluated += len(part)

    def pick(
        self,
        rows: Rows,
        keys: Tensor,
        rival: tuple[Tensor, Tensor],
        min_distance: float,
        picks: Tensor,
        sq_radii: Tensor,
    ) -> tuple[int, int, int]:
        """Greedy picks among up-to-date `rows`, while they beat the rival.

        Returns the number of picks, of pairs filtered, and of pairs computed canonically since the
        last call.
        """
        rival_key, rival_row = rival
        overflow = self._evaluated.new_zeros(1)
        if self._pending is not None:
            overflow = self._pending.survivors.overflow.any()[None].to(torch.int64)
            # Nothing beats this rival: the keys of some rows may be too large.
            rival_key = torch.where(overflow > 0, math.inf, rival_key)
        least = largest_key(min_distance, "euclidean") if min_distance >= 0 else SELECTED
        n_picks = self._evaluated.new_zeros(1)
        self.operations.pick(
            self._matrix(rows.index),
            rows.index,
            keys,
            rows.count,
            rival_key,
            rival_row,
            least,
            picks,
            sq_radii,
            n_picks,
        )
        picked, overflown, evaluated = torch.cat([n_picks, overflow, self._evaluated]).tolist()
        self._evaluated.zero_()
        if not overflown:
            self._pending = None
        self.settle()
        return picked, 0, evaluated

    def accept(
        self,
        rows: Tensor,
        keys: Tensor,
        limits: npt.NDArray[np.float64],
        picks: Tensor,
        sweeps: npt.NDArray[np.int64],
        sq_radii: Tensor,
    ) -> tuple[int, int, int]:
        """Sweeps over up-to-date `rows` under falling limits; returns as `pick` does."""
        if not len(rows):
            return 0, 0, 0
        numbers = torch.zeros_like(picks)
        n_picks = self._evaluated.new_zeros(1)
        self.operations.accept(
            self._matrix(rows),
            rows,
            keys,
            _count_of(rows),
            torch.from_numpy(limits).to(keys.device),
            picks,
            numbers,
            sq_radii,
            n_picks,
        )
        accepted, evaluated = torch.cat([n_picks, self._evaluated]).tolist()
        self._evaluated.zero_()
        sweeps[:accepted] = numbers[:accepted].cpu().numpy()
        return accepted, 0, evaluated

    def _matrix(self, rows: Tensor) -> Tensor:
        matrix = torch.empty((len(rows), len(rows)), dtype=torch.float64, device=rows.device)
        self.operations.sq_dist_matrix(self._points, rows, matrix)
        self._evaluated += len(rows) * (len(rows) - 1) // 2
        return matrix


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
        sq_dist: npt.NDArray[np.float64],
        index: npt.NDArray[np.int64],
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
        step = max(
            1,
            min(
                SEARCH_ROWS,
                SEARCH_ELEMENTS // max(groups, PAIRS_PER_ROW + PAIRS_PER_NEIGHBOUR * found),
            ),
        )
        evaluated = 0
        for start in range(0, n, step):
            block = slice(start, min(start + step, n))
            rows = torch.arange(
                first_query + block.start, first_query + block.stop, device=self._all.device
            )
            near, there, pairs = self._nearest(rows, found, size, groups)
            if exclude_self:
                near, there = _without(near, there, rows)
            sq_dist[block] = near.cpu().numpy()
            index[block] = there.cpu().numpy()
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
        capacity = max(MIN_PAIRS, (PAIRS_PER_ROW + PAIRS_PER_NEIGHBOUR * k) * len(rows))
        found = Survivors(len(rows), min(capacity, len(rows) * self._points.n), device)
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
            for some in _split(flagged, len(found.pairs) // self._points.n):
                near[some], there[some] = self._sorted(rows, _all_pairs(some, self._points.n), k)
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
        self.operations.pair_sq_dists(queries, self._points, pairs, _count_of(pairs), sq_dist)
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


def _split(items: Tensor, size: int) -> Iterator[Tensor]:
    for start in range(0, len(items), max(1, size)):
        yield items[start : start + max(1, size)]


def _all_pairs(rows: Tensor, n_cols: int) -> Tensor:
    """Every pair of those rows and n_cols columns, int32 [*, 2]."""
    cols = torch.arange(n_cols, device=rows.device)
    return torch.cartesian_prod(rows, cols).int()


def _count_of(items: Tensor) -> Tensor:
    return torch.full((1,), len(items), dtype=torch.int64, device=items.device)
