"""Exact greedy selection by the lazy schedule, written once over a backend's primitives.

Threshold decay, in fastsel/threshold.py, stands on the same keys.

A point's key is a canonical squared distance to the selected set, or an upper bound of it: the
distance to those centres that the point has seen. Keys only fall. A selected point's key is -1,
under every distance, so that it is never chosen again. Points come in order of (largest key, lowest
index).
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsel import canonical
from fastsel.points import Points
from fastsel.progress import Progress
from fastsel.sketch import Trial

SELECTED = -1.0
NO_RIVAL = (SELECTED, -1)  # beaten by every point that is not selected

# Candidates looked at in a round: twice as many as there are picks, within these limits. Fewer make
# more rounds, and in the beginning, where each pick still moves most keys, rounds without a pick;
# more are compared in vain. A large pool begins with more.
MIN_REFRESHED = 2048
MIN_REFRESHED_LARGE = 4096
LARGE = 1 << 15
MAX_REFRESHED = 8192
MAX_ACTIVE = 2048
FEWEST_ACTIVE = 64

SAMPLE_STRIDE = 16

# Keys, what points have seen, and the temporaries of `leaders`.
BYTES_PER_POINT = 48

PREFIX_BLOCK = 256


@dataclass
class Record:
    """What a selection did, so that its speed can be explained."""

    rounds: int = 0
    refreshed: int = 0  # rows brought up to date, over all rounds
    active: int = 0  # rows compared with each other, over all rounds
    refresh_pairs: int = 0  # pairs that the filter looked at in refreshes
    passed_pairs: int = 0  # those of them that passed the sketch, where there is one
    pick_pairs: int = 0  # the same among active rows
    canonical_pairs: int = 0  # those whose canonical distance was computed
    dense_pairs: int = 0  # those that the plain loop computes: points times picks

    # On a device, where a round is waited for once, all that it takes there counts as picking.
    leaders_seconds: float = 0.0
    refresh_seconds: float = 0.0
    pick_seconds: float = 0.0

    # What sketches would cost by a sample of the data, as fastsel.sketch.Trial; the least is taken.
    trials: list[Trial] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The record in plain types, with the pairs of point and pick that no refresh saw."""
        return {**asdict(self), "pruned_pairs": self.dense_pairs - self.refresh_pairs}


class State:
    """What every point knows of the selected set, and the picks, in host memory.

    keys float64 and seen int64 [N]; picks int64 and sq_radii float64, of the selection's capacity.
    fastsel/backends/device/state.py has its twin, whose rows and rivals are tensors: a schedule
    hands them from one call to the next and looks into none.
    """

    def __init__(self, points: Points, capacity: int) -> None:
        self.keys = np.full(points.n, np.inf)
        self.seen = np.zeros(points.n, np.int64)
        self.picks = np.empty(capacity, np.int64)
        self.sq_radii = np.empty(capacity)

    def largest(self) -> float:
        """The largest key."""
        return float(self.keys.max())

    def leader_saw(self) -> int:
        """How many centres the point of largest key has seen."""
        return int(self.seen[np.argmax(self.keys)])

    def leaders(self, size: int) -> tuple[npt.NDArray[np.int64], tuple[float, int]]:
        """About `size` points of largest key, ascending in index, and the next one: the rival."""
        return rough_leaders(self.keys, size)

    def active(
        self, rows: npt.NDArray[np.int64], rival: tuple[float, int], room: int
    ) -> tuple[npt.NDArray[np.int64], tuple[float, int]]:
        """The rows that beat the rival, at most `room`, ascending, and the next one: the rival."""
        active = rows[beats(self.keys[rows], rows, rival)]
        if len(active) > room:
            best, (key, position) = leaders(self.keys[active], room)
            active, rival = active[best], (key, int(active[position]))
        return active, rival

    def mark_seen(self, rows: npt.NDArray[np.int64], count: int) -> None:
        """Note that the rows have seen so many centres."""
        self.seen[rows] = count

    def stale(self, rows: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
        """Those of the rows that have seen fewer centres."""
        return rows[self.seen[rows] < count]

    def count_above(self, key: float) -> int:
        """How many keys are larger."""
        return int(np.count_nonzero(self.keys > key))

    def above(self, key: float, rows: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.int64]:
        """The points of larger key, in order, among `rows` if given."""
        return np.flatnonzero(self.keys > key) if rows is None else rows[self.keys[rows] > key]

    def largest_but(self, rows: npt.NDArray[np.int64], count: int) -> float:
        """The largest key of the rows but for `count` larger ones."""
        place = len(rows) - 1 - count
        return float(np.partition(self.keys[rows], place)[place])

    @staticmethod
    def join(first: npt.NDArray[np.int64], then: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Rows one after the other."""
        return np.concatenate([first, then])

    def keys_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """A copy of the keys of the rows."""
        return self.keys[rows]

    def put(
        self, first: int, rows: npt.NDArray[np.int64], sq_radii: npt.NDArray[np.float64]
    ) -> None:
        """Write picks from the position `first` on."""
        self.picks[first : first + len(rows)] = rows
        self.sq_radii[first : first + len(rows)] = sq_radii

    def select(self, rows: npt.NDArray[np.int64]) -> None:
        """Note that the rows are selected, and that every point has seen the first centre."""
        self.seen[:] = 1
        self.keys[rows] = SELECTED

    def result(self, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The first `count` picks, and the square of each one's distance to those before it."""
        return self.picks[:count], self.sq_radii[:count]


class Selection:
    """What is selected so far, and what every point knows of it."""

    def __init__(
        self,
        backend: ModuleType,
        points: Points,
        capacity: int,
        memory_limit: int | None = None,
    ) -> None:
        self.max_active = max_active(backend, points, capacity, memory_limit)
        self.points = backend.adopt(points)
        self.capacity = capacity
        self.count = 0
        self.state: State = backend.State(self.points, capacity)
        self._backend = backend
        self._pool = backend.Pool(self.points, capacity)

    def apply_anchors(self, anchors: Points) -> None:
        """Count vectors from outside the pool as selected, without picking any."""
        anchors = self._backend.adopt(anchors, self.points)
        for centre in range(anchors.n):
            self._backend.min_update(self.points, anchors, centre, self.state.keys)

    def add_prefix(self, rows: npt.NDArray[np.int64]) -> None:
        """Select the given rows in their order."""
        state = self.state
        for start in range(0, len(rows), PREFIX_BLOCK):
            block = rows[start : start + PREFIX_BLOCK]
            self._pool.refresh(block, state.keys, state.seen, NO_RIVAL)
            self._pool.settle()
            features = self.points.rows(block)
            keys = state.keys_of(block)
            sq_radii = np.empty(len(block))
            for i, row in enumerate(features):
                sq_radii[i] = keys[i]
                keys = np.minimum(keys, canonical.sq_dists(features, row))
            state.put(self.count, block, sq_radii)
            self._commit(len(block))
        if len(rows):
            # Every key must be finite before the first round, or infinite ones would all tie.
            self._backend.min_update(self.points, self.points, int(rows[0]), state.keys)
            state.select(rows)

    def _commit(self, picked: int) -> None:
        """Count picks that have been written, and make centres of them."""
        self._pool.append(self.state.picks[self.count : self.count + picked])
        self.count += picked

    def result(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The picks, int64 [M], and each one's distance to those before it, float64 [M]."""
        picks, sq_radii = self.state.result(self.count)
        return picks, np.sqrt(sq_radii)


class Greedy(Selection):
    """Exact farthest-point selection by the lazy schedule.

    A round brings the points of largest keys up to date (refresh), takes those that still lead the
    rest (active), and picks among them while the best beats the best key outside (the rival).
    Everything else keeps its stale key: a stale key is an upper bound, so the picks are those of
    the plain loop, and hardly a pair of point and centre is looked at twice.
    """

    def __init__(
        self,
        backend: ModuleType,
        points: Points,
        capacity: int,
        memory_limit: int | None = None,
    ) -> None:
        super().__init__(backend, points, capacity, memory_limit)
        self.record = Record(trials=self._pool.trials)

    def run(self, min_distance: float, progress: Progress) -> None:
        """Pick until the capacity is reached or no point is farther than `min_distance`."""
        limit = min_distance * abs(min_distance)
        # Below 0 there is no limit, and below the capacity always a point that is not selected.
        while self.count < self.capacity and (limit < 0 or self.state.largest() > limit):
            self._round(min_distance)
            progress.update(self.count)
        self.record.refresh_pairs = int(self.record.refresh_pairs)  # from a device, at last
        self.record.dense_pairs = self.points.n * self.count

    def _round(self, min_distance: float) -> None:
        record, clock, state = self.record, time.perf_counter, self.state
        begin = clock()
        rows, rival = state.leaders(refreshed(self.points.n, self.count))
        leaders_at = clock()
        filtered, passed, evaluated = self._pool.refresh(rows, state.keys, state.seen, rival)
        refresh_at = clock()
        room = min(self.max_active, max(FEWEST_ACTIVE, self.count // 2))
        active, rival = state.active(rows, rival, room)
        record.rounds += 1
        record.refreshed += len(rows)
        record.active += len(active)
        record.refresh_pairs += filtered
        record.passed_pairs += passed
        record.canonical_pairs += evaluated
        record.leaders_seconds += leaders_at - begin
        record.refresh_seconds += refresh_at - leaders_at
        if not len(active):
            return
        free = slice(self.count, self.count + len(active))
        picked, filtered, evaluated = self._pool.pick(
            active, state.keys, rival, min_distance, state.picks[free], state.sq_radii[free]
        )
        self._commit(picked)
        state.mark_seen(active, self.count)
        record.pick_pairs += filtered
        record.canonical_pairs += evaluated
        record.pick_seconds += clock() - refresh_at


def refreshed(n: int, picked: int) -> int:
    """How many of n points a round looks at when so many are picked."""
    least = MIN_REFRESHED if n < LARGE else MIN_REFRESHED_LARGE
    return min(MAX_REFRESHED, max(least, 2 * picked))


def bytes_needed(backend: ModuleType, points: Points, capacity: int, active: int) -> int:
    """Memory of a selection beyond its features, at most, with that many active rows."""
    norms = 0 if points.norms is None else 8
    pool: int = backend.Pool.bytes_needed(points, capacity, active)
    return points.n * (BYTES_PER_POINT + norms) + 32 * capacity + pool


def max_active(backend: ModuleType, points: Points, capacity: int, memory_limit: int | None) -> int:
    """How many rows a round may pick among within the limit; ValueError where none fit."""
    active = MAX_ACTIVE
    if memory_limit is None:
        return active
    while active > FEWEST_ACTIVE and bytes_needed(backend, points, capacity, active) > memory_limit:
        active //= 2
    least = bytes_needed(backend, points, capacity, active)
    if least > memory_limit:
        raise ValueError(
            f"memory_limit must be at least {least:,} bytes to select {capacity:,} of {points.n:,} "
            f"points of {points.dim:,} columns, got {memory_limit:,}"
        )
    return active


def beats(
    keys: npt.NDArray[Any], rows: npt.NDArray[np.int64], rival: tuple[Any, int]
) -> npt.NDArray[np.bool_]:
    """Which of the rows, with those keys, come before the rival."""
    result: npt.NDArray[np.bool_] = (keys > rival[0]) | ((keys == rival[0]) & (rows < rival[1]))
    return result


def rough_leaders(
    keys: npt.NDArray[Any], size: int, selected: Any = SELECTED
) -> tuple[npt.NDArray[np.int64], tuple[Any, int]]:
    """As `leaders`, but only about `size` points, and a rival that no other point comes before.

    For a fraction of the time. The cut is that of a sample, which ties and order can mislead: then
    it is made exactly.
    """
    sample = keys[:: max(1, min(SAMPLE_STRIDE, size // SAMPLE_STRIDE))]
    place = len(sample) - round(size * len(sample) / len(keys))
    if 0 < place < len(sample):
        cut = np.partition(sample, place)[place]
        rows = np.flatnonzero(keys >= cut)
        if cut > selected and size // 2 <= len(rows) <= 2 * size:
            below = cut - 1 if keys.dtype.kind == "i" else np.nextafter(cut, selected)
            return rows, (below.item(), -1)
    return leaders(keys, size, selected)


def leaders(
    keys: npt.NDArray[Any], size: int, selected: Any = SELECTED
) -> tuple[npt.NDArray[np.int64], tuple[Any, int]]:
    """The first `size` unselected points, ascending in index, and the next one: (key, index).

    Unselected is a key above `selected`; where no point is next, that and -1, as in NO_RIVAL.
    """
    n = len(keys)
    if size < n:
        cut = np.partition(keys, n - size)[n - size]
    if size >= n or cut == selected:
        return np.flatnonzero(keys > selected), (selected, -1)
    above = keys > cut
    ties = np.flatnonzero(keys == cut)
    room = size - int(np.count_nonzero(above))
    rows = np.flatnonzero(above)
    rival = (cut.item(), int(ties[room])) if len(ties) > room else _best_below(keys, cut, selected)
    return np.sort(np.concatenate([rows, ties[:room]])), rival


def _best_below(keys: npt.NDArray[Any], cut: Any, selected: Any = SELECTED) -> tuple[Any, int]:
    """The first unselected point of those under the cut: (key, index)."""
    below = np.where(keys < cut, keys, selected)
    best = int(np.argmax(below))
    return (below[best].item(), best) if below[best] > selected else (selected, -1)
