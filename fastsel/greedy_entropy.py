"""Greedy selection by entropy, written once over a backend's primitives.

The objective is the sum of log eps over the selected set, eps of a member being its distance to
the nearest other member: what the Kozachenko-Leonenko estimate of entropy makes of a set. A pick
is the candidate of largest gain in it,

    gain(x) = log D(x) + sum over members y with d(x, y) < eps(y) of log d(x, y) - log eps(y),

D(x) the distance of x to the members: its own term, and what it takes from those whose nearest
neighbour it becomes. Those are the members in whose *ball*, of radius eps, x lies. An only member
has no neighbour and nothing is taken from it: the second pick is the farthest point. A duplicate of
a member has the gain minus infinity and comes last. Ties go to the lowest index.

Logarithms are those of fastsel.canonical, whole numbers, so that sums do not depend on the order in
which they are made: the gain that is updated a thousand times equals the one computed anew.

Laziness as in fastsel/schedule.py: a point that has not seen the latest members keeps the gain that
it had without them. That is an upper bound of its gain, if what it loses to the members that it has
seen is kept true. For a member that it has not seen can only lower D(x), and its term in the sum is
at most 0, as the logarithm does not fall. But when the ball of a member shrinks, because a pick
lies in it, other candidates inside lose less, and their gain rises: these are touched at once,
stale or not. They are few, and they are known: each candidate was found inside when it saw the
member, as balls only shrink.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt

from fastsel import canonical, schedule
from fastsel.gains import LAST, NEVER
from fastsel.points import Points, to_host
from fastsel.progress import Progress

# Rows that a round may pick among. More than in schedule.py: a pick is compared with few of them,
# and the best of those left out is a rival, which ends the round.
MAX_ACTIVE = 4096

# A candidate lies in up to as many balls as there are members; each but that of the nearest takes
# at most 2 * 2^40 units (the triangle inequality), and sums stay within int64.
MAX_SAMPLES = 1 << 21


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
    ball_pairs: int = 0  # pairs of candidate and ball that were kept at the end
    leaders_seconds: float = 0.0
    refresh_seconds: float = 0.0
    pick_seconds: float = 0.0

    def as_dict(self) -> dict[str, float]:
        """The record as plain numbers."""
        return asdict(self)


class EntropyState:
    """What every candidate knows of the members, and the members, in host memory.

    gains int64, sq_dist float64 and seen int64 [N]; members int64, sq_eps float64 and sq_radii
    float64, of the selection's capacity. fastsel/backends/device/entropy.py has its twin in
    tensors, as fastsel.schedule.State has one.
    """

    def __init__(self, points: Points, capacity: int) -> None:
        self.gains = np.full(points.n, LAST)
        self.sq_dist = np.full(points.n, np.inf)
        self.seen = np.zeros(points.n, np.int64)
        self.members = np.empty(capacity, np.int64)
        self.sq_eps = np.empty(capacity)
        self.sq_radii = np.empty(capacity)

    def any_left(self) -> bool:
        """Whether a candidate may be left; at the latest a round after the last, it is known."""
        return bool(self.gains.max() > NEVER)

    def sq_dist_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """A copy of the squared distances of the rows to the members."""
        return self.sq_dist[rows]

    def put(
        self,
        first: int,
        rows: npt.NDArray[np.int64],
        sq_eps: npt.NDArray[np.float64],
        sq_radii: npt.NDArray[np.float64],
    ) -> None:
        """Write members from the position `first` on; their gains become NEVER."""
        end = first + len(rows)
        self.members[first:end] = rows
        self.sq_eps[first:end] = sq_eps
        self.sq_radii[first:end] = sq_radii
        self.gains[rows] = NEVER

    def bound_gains(self, min_distance: float) -> None:
        """Give every candidate the gain that it has if it lies in no ball: an upper bound."""
        finite = np.isfinite(self.sq_dist)
        # Nothing is known of the first pick where there are no anchors; begin() has picked it.
        self.gains[finite] = canonical.log_sq_dists(self.sq_dist[finite])
        self.gains[self.sq_dist == 0] = LAST
        self.gains[np.sqrt(self.sq_dist) <= min_distance] = NEVER

    def farthest(self) -> tuple[int, float] | None:
        """The candidate of largest gain and its squared distance, if one is left."""
        row = int(np.argmax(self.gains))
        return None if self.gains[row] == NEVER else (row, float(self.sq_dist[row]))

    def leaders(self, size: int) -> tuple[npt.NDArray[np.int64], tuple[int, int]]:
        """About the first `size` by gain, ascending in index, and the next one: the rival."""
        return schedule.rough_leaders(self.gains, size, NEVER)

    def active(
        self, rows: npt.NDArray[np.int64], rival: tuple[int, int], room: int
    ) -> tuple[npt.NDArray[np.int64], tuple[int, int]]:
        """The rows that beat the rival, at most `room`, ascending, and the next one: the rival."""
        active = rows[schedule.beats(self.gains[rows], rows, rival)]
        if len(active) > room:
            best, (gain, position) = schedule.leaders(self.gains[active], room, NEVER)
            active, rival = active[best], (gain, int(active[position]))
        return active, rival

    def result(self, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The first `count` members, and the square of each one's distance to those before it."""
        return self.members[:count], self.sq_radii[:count]


class GreedyEntropy:
    """Exact greedy selection by entropy, in the rounds of `schedule.Greedy`."""

    def __init__(
        self, backend: ModuleType, points: Points, capacity: int, min_distance: float
    ) -> None:
        self.points = backend.adopt(points)
        self.capacity = capacity
        self.count = 0
        self.record = Record()
        self.state: EntropyState = backend.EntropyState(self.points, capacity)
        self._backend = backend
        self._anchored = False
        self._min_distance = min_distance
        state = self.state
        self._pool = backend.EntropyPool(
            self.points,
            state.gains,
            state.sq_dist,
            state.seen,
            state.members,
            state.sq_eps,
            min_distance,
        )

    def apply_anchors(self, anchors: Points) -> None:
        """Count vectors from outside the pool as neighbours, without picking any."""
        anchors = self._backend.adopt(anchors, self.points)
        for centre in range(anchors.n):
            self._backend.min_update(self.points, anchors, centre, self.state.sq_dist)
        self._anchored = True

    def begin(self, prefix: npt.NDArray[np.int64]) -> None:
        """Select the given rows in their order, and give every candidate an upper bound."""
        members = self._of_prefix(prefix) if len(prefix) else None
        if members is not None:
            self._backend.min_update(self.points, self.points, int(prefix[0]), self.state.sq_dist)
        self.state.bound_gains(self._min_distance)
        if members is not None:
            self.state.put(0, prefix, *members)
            self.count = len(prefix)
        if self.count == 1 and not self._anchored and self.capacity > 1:
            self._second(prefix)
        self._pool.start(self.count)

    def _of_prefix(
        self, rows: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The squares of each one's eps, and of its distance to those before it."""
        members = self.points.part(rows)
        in_order = schedule.Greedy(self._backend, members, members.n)
        in_order.add_prefix(np.arange(members.n))
        sq_eps = np.full(len(rows), np.inf)
        if len(rows) > 1:
            found, nearest = (members.empty((members.n, 1), t) for t in ("float64", "int64"))
            search = self._backend.Neighbours(members, members).search
            search(0, True, found, nearest, lambda done: None)
            sq_eps = to_host(found)[:, 0]
        anchored = self.state.sq_dist_of(rows)
        _, sq_radii = in_order.state.result(members.n)
        return np.minimum(sq_eps, anchored), np.minimum(sq_radii, anchored)

    def _second(self, first: npt.NDArray[np.int64]) -> None:
        """Pick the farthest point from an only member."""
        farthest = self.state.farthest()
        if farthest is None:
            return
        row, sq_radius = farthest
        both = np.full(2, sq_radius)
        self.state.put(0, np.array([int(first[0]), row]), both, np.array([np.inf, sq_radius]))
        self.count = 2

    def run(self, progress: Progress) -> None:
        """Pick until the capacity is reached or no candidate is left."""
        while self.count < self.capacity and self.state.any_left():
            self._round()
            progress.update(self.count)
        self.record.dense_pairs = self.points.n * self.count
        self.record.ball_pairs = self._pool.balls

    def _round(self) -> None:
        record, clock, state = self.record, time.perf_counter, self.state
        begin = clock()
        size = schedule.refreshed(self.points.n, self.count)
        rows, rival = state.leaders(size)
        leaders_at = clock()
        filtered, passed, evaluated = self._pool.refresh(rows, rival)
        refresh_at = clock()
        room = min(MAX_ACTIVE, max(schedule.FEWEST_ACTIVE, self.count // 2))
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
        last = min(self.capacity, self.count + len(active))
        picked, filtered, evaluated = self._pool.pick(
            active, rival, state.sq_radii[self.count : last]
        )
        self.count += picked
        record.pick_pairs += filtered
        record.canonical_pairs += evaluated
        record.pick_seconds += clock() - refresh_at

    def result(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The picks, int64 [M], and each one's distance to those before it, float64 [M]."""
        members, sq_radii = self.state.result(self.count)
        return members, np.sqrt(sq_radii)
