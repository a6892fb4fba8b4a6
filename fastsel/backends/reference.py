"""Plain NumPy: the oracle that the other backends must equal bit for bit. No compiler needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from fastsel import canonical
from fastsel.gains import LAST, NEVER
from fastsel.greedy_entropy import EntropyState
from fastsel.points import Points
from fastsel.schedule import State
from fastsel.sketch import Trial

__all__ = ["EntropyPool", "EntropyState", "Neighbours", "Pool", "State"]

NAME = "reference"

# Rows times columns of the float64 temporaries.
BLOCK_ELEMENTS = 1 << 20


def unusable_because() -> list[str]:
    """Why this backend can not run here; empty, since NumPy is all it needs."""
    return []


def describe() -> str:
    """One line for `fastsel.backends()`."""
    return f"NumPy {np.__version__}"


def adopt(points: Points, like: Points | None = None) -> Points:
    """The points where this backend keeps them: in host memory."""
    return points.on_host()


def min_update(
    points: Points, centres: Points, centre: int, sq_dist: npt.NDArray[np.float64]
) -> None:
    """Lower `sq_dist` [N] to the squared distance to row `centre` of `centres`, in place."""
    row = centres.rows(slice(centre, centre + 1))
    step = max(1, BLOCK_ELEMENTS // points.dim)
    for start in range(0, points.n, step):
        block = slice(start, start + step)
        np.minimum(sq_dist[block], canonical.sq_dists(points.rows(block), row), out=sq_dist[block])


class Pool:
    """Candidates of a selection: the primitives of the lazy schedule, in plain loops."""

    @staticmethod
    def bytes_needed(points: Points, capacity: int, active: int) -> int:
        """Memory of a pool, its picks, and calls of `pick` with that many rows."""
        return 8 * capacity + 24 * points.dim * max(capacity, active)

    def __init__(self, points: Points, capacity: int) -> None:
        self._points = points
        self._picks = np.zeros(0, np.int64)
        self.trials: list[Trial] = []  # it has no sketches

    def append(self, picks: npt.NDArray[np.int64]) -> None:
        """Add rows to the centres that `refresh` applies."""
        self._picks = np.concatenate([self._picks, picks])

    def settle(self) -> None:
        """Wait until keys are as the last `refresh` leaves them: they are."""

    def refresh(
        self,
        rows: npt.NDArray[np.int64],
        keys: npt.NDArray[np.float64],
        seen: npt.NDArray[np.int64],
        rival: tuple[float, int],
    ) -> tuple[int, int, int]:
        """Apply to `rows` the centres they have not seen; see csrc/cpu/kernels.h."""
        pairs = 0
        for row in rows:
            unseen = self._points.rows(self._picks[seen[row] :])
            here = self._points.rows(slice(row, row + 1))
            keys[row] = canonical.sq_dists(unseen, here).min(initial=keys[row])
            pairs += len(unseen)
            seen[row] = len(self._picks)
        return 0, 0, pairs

    def pick(
        self,
        rows: npt.NDArray[np.int64],
        keys: npt.NDArray[np.float64],
        rival: tuple[float, int],
        min_distance: float,
        picks: npt.NDArray[np.int64],
        sq_radii: npt.NDArray[np.float64],
    ) -> tuple[int, int, int]:
        """Greedy picks among up-to-date `rows`, while they beat the rival; see kernels.h."""
        features = self._points.rows(rows)
        for count in range(len(picks)):
            best = int(np.argmax(keys[rows]))
            key = keys[rows[best]]
            if (-key, rows[best]) >= (-rival[0], rival[1]) or np.sqrt(key) <= min_distance:
                return count, 0, count * len(rows)
            picks[count], sq_radii[count] = rows[best], key
            keys[rows] = np.minimum(
                keys[rows], canonical.sq_dists(features, features[best : best + 1])
            )
            keys[rows[best]] = -1.0
        return len(picks), 0, len(picks) * len(rows)

    def accept(
        self,
        rows: npt.NDArray[np.int64],
        keys: npt.NDArray[np.float64],
        limits: npt.NDArray[np.float64],
        picks: npt.NDArray[np.int64],
        sweeps: npt.NDArray[np.int64],
        sq_radii: npt.NDArray[np.float64],
    ) -> tuple[int, int, int]:
        """Sweeps over up-to-date `rows` under falling limits; see kernels.h.

        Returns the number of picks, of pairs filtered and of pairs computed canonically.
        """
        features = self._points.rows(rows)
        count = 0
        for sweep, limit in enumerate(limits):
            for row, feature in zip(rows, features, strict=True):
                if count == len(picks) or keys[row] <= limit:
                    continue
                picks[count], sweeps[count], sq_radii[count] = row, sweep, keys[row]
                keys[rows] = np.minimum(keys[rows], canonical.sq_dists(features, feature))
                keys[row] = -1.0
                count += 1
        return count, 0, count * len(rows)


class EntropyPool:
    """Candidates of a greedy entropy selection, over the arrays of its caller, in plain loops."""

    def __init__(
        self,
        points: Points,
        gains: npt.NDArray[np.int64],
        sq_dist: npt.NDArray[np.float64],
        seen: npt.NDArray[np.int64],
        members: npt.NDArray[np.int64],
        sq_eps: npt.NDArray[np.float64],
        min_distance: float,
    ) -> None:
        self._points = points
        self._gains = gains
        self._sq_dist = sq_dist
        self._seen = seen
        self._members = members
        self._sq_eps = sq_eps
        self._min_distance = min_distance
        self._count = 0
        # For each candidate, the balls it is inside of, {member: squared distance}.
        self._inside: list[dict[int, float]] = [{} for _ in range(points.n)]

    def start(self, count: int) -> None:
        """Say that the first `count` members and their sq_eps are there."""
        self._count = count

    def refresh(self, rows: npt.NDArray[np.int64], rival: tuple[int, int]) -> tuple[int, int, int]:
        """Apply to `rows` the members they have not seen; see csrc/cpu/kernels.h."""
        pairs = 0
        for row in rows.tolist():
            unseen = np.arange(self._seen[row], self._count)
            features = self._points.rows(self._members[unseen])
            here = self._points.rows(slice(row, row + 1))
            self._meet(row, unseen, canonical.sq_dists(features, here))
            self._seen[row] = self._count
            pairs += len(unseen)
        return 0, 0, pairs

    def pick(
        self,
        rows: npt.NDArray[np.int64],
        rival: tuple[int, int],
        sq_radii: npt.NDArray[np.float64],
    ) -> tuple[int, int, int]:
        """Greedy picks among `rows` that have seen every member; see kernels.h."""
        for picked in range(len(sq_radii)):
            pick = int(rows[np.argmax(self._gains[rows])])
            gain = int(self._gains[pick])
            if gain == NEVER or (-gain, pick) >= (-rival[0], rival[1]):
                return picked, 0, picked * len(rows)
            self._gains[pick] = NEVER
            balls = self._inside[pick]
            self._inside[pick] = {}
            touched = []
            for member, sq_dist in balls.items():
                if sq_dist < self._sq_eps[member]:
                    self._sq_eps[member] = sq_dist
                    touched.append(member)
            self._members[self._count] = pick
            self._sq_eps[self._count] = sq_radii[picked] = self._sq_dist[pick]
            self._count += 1
            features = self._points.rows(np.array([pick]))
            for row in rows[self._gains[rows] != NEVER].tolist():
                here = self._points.rows(slice(row, row + 1))
                self._meet(row, [self._count - 1], canonical.sq_dists(features, here))
                self._seen[row] = self._count
            for row, own in enumerate(self._inside):
                if self._gains[row] == NEVER or not any(member in own for member in touched):
                    continue
                self._update_gain(row)
                if row not in rows:
                    rival = min(rival, (int(self._gains[row]), row), key=lambda r: (-r[0], r[1]))
        return len(sq_radii), 0, len(sq_radii) * len(rows)

    @property
    def balls(self) -> int:
        """How many pairs of a candidate and a ball it lies in are kept."""
        return sum(map(len, self._inside))

    def _meet(self, row: int, members: Iterable[int], sq_dists: npt.NDArray[np.float64]) -> None:
        for member, sq_dist in zip(members, sq_dists.tolist(), strict=True):
            self._sq_dist[row] = min(self._sq_dist[row], sq_dist)
            # The ball of an only member has no end and takes nothing.
            if 0 < sq_dist < self._sq_eps[member] < np.inf:
                self._inside[row][int(member)] = sq_dist
        self._update_gain(row)

    def _update_gain(self, row: int) -> None:
        own = self._inside[row]
        for member in [m for m, sq_dist in own.items() if sq_dist >= self._sq_eps[m]]:
            del own[member]
        key = self._sq_dist[row]
        if np.sqrt(key) <= self._min_distance:
            self._gains[row] = NEVER
        elif key == 0:
            self._gains[row] = LAST
        else:
            distances = np.array([key, *own.values()])
            eps = np.array([1.0, *(self._sq_eps[m] for m in own)])  # the logarithm of 1 is 0
            self._gains[row] = np.sum(
                canonical.log_sq_dists(distances) - canonical.log_sq_dists(eps)
            )


class Neighbours:
    """Neighbours of queries among points, for any part of the queries at a time."""

    def __init__(self, queries: Points, points: Points, by_inner_product: bool = False) -> None:
        self._queries = queries
        self._by_inner_product = by_inner_product
        self._points = points.rows(slice(None))
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

        Ascending by (squared distance, index), or by minus the inner product. With `exclude_self`,
        query i skips point i. `report` is told how many queries are done.

        Returns how many pairs were filtered, passed a sketch, and were computed canonically.
        """
        k = sq_dist.shape[1]
        for offset in range(len(sq_dist)):
            query = first_query + offset
            row = self._queries.rows(slice(query, query + 1))
            if self._by_inner_product:
                row_dist = -canonical.inner_products(self._points, row)
            else:
                row_dist = canonical.sq_dists(self._points, row)
            if exclude_self:
                row_dist[query] = np.inf
            # A stable sort leaves equal distances in order of index.
            nearest = np.argsort(row_dist, kind="stable")[:k]
            sq_dist[offset] = row_dist[nearest]
            index[offset] = nearest
            report(offset + 1)
        return 0, 0, sq_dist.shape[0] * len(self._points)
