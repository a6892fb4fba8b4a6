"""Plain NumPy: the oracle that the other backends must equal bit for bit. No compiler needed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastsel import canonical
from fastsel.points import Points
from fastsel.sketch import Trial

NAME = "reference"

# Rows times columns of the float64 temporaries.
BLOCK_ELEMENTS = 1 << 20


def unusable_because() -> list[str]:
    """Why this backend can not run here; empty, since NumPy is all it needs."""
    return []


def describe() -> str:
    """One line for `fastsel.backends()`."""
    return f"NumPy {np.__version__}"


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


class Neighbours:
    """Neighbours of queries among points, for any part of the queries at a time."""

    def __init__(self, queries: Points, points: Points) -> None:
        self._queries = queries
        self._points = points.rows(slice(None))

    def search(
        self,
        first_query: int,
        exclude_self: bool,
        sq_dist: npt.NDArray[np.float64],
        index: npt.NDArray[np.int64],
    ) -> None:
        """Fill [B, k] with the neighbours of queries first_query .. first_query + B - 1.

        Ascending by (squared distance, index). With `exclude_self`, query i skips point i.
        """
        k = sq_dist.shape[1]
        for offset in range(len(sq_dist)):
            query = first_query + offset
            row_dist = canonical.sq_dists(self._points, self._queries.rows(slice(query, query + 1)))
            if exclude_self:
                row_dist[query] = np.inf
            # A stable sort leaves equal distances in order of index.
            nearest = np.argsort(row_dist, kind="stable")[:k]
            sq_dist[offset] = row_dist[nearest]
            index[offset] = nearest
