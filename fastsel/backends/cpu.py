"""C++ kernels on the processor: exact, threaded with OpenMP, the GIL released."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import cache
from importlib import resources
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsel.filter import MIN_SAMPLE_ROWS, SAMPLE_ELEMENTS, frame, largest_code, sample
from fastsel.greedy_entropy import EntropyState
from fastsel.points import Points, Subset
from fastsel.schedule import State
from fastsel.sketch import MAX_ROWS, QUERIES, Trial, choose, depths

__all__ = ["EntropyPool", "EntropyState", "Neighbours", "Pool", "State"]

NAME = "cpu"

# Multiply-adds in one native call: a fraction of a second, so that Ctrl-C is answered between two.
CALL_WORK = 1 << 34

# Of the picks, one in so many is central: met before the others by points that have many to see.
# At most MAX_CENTRAL of them, the centres of a block in csrc/cpu/panel.h.
CENTRAL_SHARE = 16
MAX_CENTRAL = 480

# Codes of a search for neighbours: all at once up to this size, else in parts, three at a time.
CODED_BYTES = 3 << 25

# Rows in a cell, about, of those that are brought together, and the most cells.
CELL_ROWS = 1024
MAX_CELLS = 256


@cache
def _core() -> ModuleType | str:
    """The native module, or why there is none."""
    try:
        return importlib.import_module("fastsel._core_cpu")
    except ImportError as error:
        record = resources.files("fastsel").joinpath("_core_cpu.build.txt")
        built = record.read_text().strip() if record.is_file() else "no build was run"
        return f"the native core is not there ({built}): {error}"


def _native() -> ModuleType:
    core = _core()
    assert isinstance(core, ModuleType)  # resolve() has asked unusable_because()
    return core


def unusable_because() -> list[str]:
    """Why this backend can not run here; empty where it can."""
    core = _core()
    return [core] if isinstance(core, str) else []


def describe() -> str:
    """One line for `fastsel.backends()`."""
    core = _native()
    return f"{core.level()}, {threads()} threads" + (
        "" if core.openmp else " (built without OpenMP)"
    )


def threads() -> int:
    """How many threads a call uses: torch's setting if torch is loaded, else OMP_NUM_THREADS."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    return int(_native().max_threads())


def adopt(points: Points, like: Points | None = None) -> Points:
    """The points where this backend keeps them: in host memory."""
    return points.on_host()


def min_update(
    points: Points, centres: Points, centre: int, sq_dist: npt.NDArray[np.float64]
) -> None:
    """Lower `sq_dist` [N] to the squared distance to row `centre` of `centres`, in place."""
    _native().min_update(
        points.data, points.norms, centres.data, centres.norms, centre, sq_dist, threads()
    )


def encode(*parts: Points) -> list[Any]:
    """The core's CodedPoints of each of some points, in one frame: the first's."""
    shift, scale = frame(sys.modules[__name__], *parts)
    return [_coded(part, shift, scale) for part in parts]


def _coded(
    points: Points,
    shift: npt.NDArray[np.float64],
    scale: float,
    basis: npt.NDArray[np.float32] | None = None,
) -> Any:
    limit = largest_code(points.dim)
    return _native().CodedPoints(points.data, points.norms, shift, scale, limit, threads(), basis)


def _calls(
    rows: npt.NDArray[np.int64], unseen: npt.NDArray[np.int64], dim: int
) -> list[npt.NDArray[np.int64]]:
    """Rows to refresh, by how many centres they have not seen, in parts for one call each.

    Rows with equally many share their panels' work; those with the most come first.
    """
    order = np.argsort(-unseen, kind="stable")
    work = np.cumsum(unseen[order]) * dim
    return np.split(rows[order], np.flatnonzero(np.diff(work // CALL_WORK)) + 1)


class _Candidates:
    """Candidates of a selection and what was picked of them, both with their codes."""

    def __init__(self, points: Points, capacity: int) -> None:
        self._core = _native()
        self._dim = points.dim
        shift, scale = frame(sys.modules[__name__], points)
        basis, self.trials = choose(
            self._core, (sample(points) - shift) * scale, points.n, capacity, threads()
        )
        self._coded = _coded(points, shift, scale, basis)
        self._centres = self._core.PickedCentres(self._coded, capacity)
        self._count = 0
        self._sq_norms = self._coded.codes.sq_norms  # from the shift, which is about the mean
        self._central = np.empty(0, np.int64)  # positions among the picks
        self._central_sq_norms = np.empty(0, np.float32)
        self._met = np.zeros(points.n, np.int64)

    def append(self, picks: npt.NDArray[np.int64]) -> None:
        """Add rows to the centres that `refresh` applies."""
        self._centres.append(picks)
        positions = np.arange(self._count, self._count + len(picks))
        self._count += len(picks)
        self._choose_central(positions, self._sq_norms[picks])

    def _choose_central(
        self, positions: npt.NDArray[np.int64], sq_norms: npt.NDArray[np.float32]
    ) -> None:
        """Keep the picks nearest to the mean of the points.

        Picks are outliers, most of them, and about equally far from a point in the midst of the
        others. The few that lie there too are the nearest ones of many points.
        """
        room = min(MAX_CENTRAL, -(-self._count // CENTRAL_SHARE))
        positions = np.concatenate([self._central, positions])
        sq_norms = np.concatenate([self._central_sq_norms, sq_norms])
        nearest = np.argsort(sq_norms, kind="stable")[:room]
        self._central, self._central_sq_norms = positions[nearest], sq_norms[nearest]


class Pool(_Candidates):
    """Candidates of a selection: the primitives of the lazy schedule."""

    @staticmethod
    def bytes_needed(points: Points, capacity: int, active: int) -> int:
        """Memory of a pool, its picks, and calls of `pick` with that many rows."""
        depth = -(-points.dim // 4) * 4
        row = depth + 12 + max([d + 12 for d in depths(points.dim)], default=0)
        codes = points.n * (row + 8) + capacity * (row + 8)
        matrix = active * (4 * active + 2 * depth + 512)
        panels_per_thread = 160 * depth + (1 << 20)
        elements = max(SAMPLE_ELEMENTS, MIN_SAMPLE_ROWS * points.dim)
        sampled = 28 * min(elements, points.n * points.dim)
        trial = 12 * QUERIES * MAX_ROWS if depths(points.dim) else 0
        return codes + max(matrix + threads() * panels_per_thread, sampled + trial)

    def settle(self) -> None:
        """Wait until keys are as the last `refresh` leaves them: they are."""

    def refresh(
        self,
        rows: npt.NDArray[np.int64],
        keys: npt.NDArray[np.float64],
        seen: npt.NDArray[np.int64],
        rival: tuple[float, int],
    ) -> tuple[int, int, int]:
        """Apply to `rows` the centres they have not seen; see csrc/cpu/kernels.h.

        Returns how many pairs were filtered, passed a sketch, and were computed canonically.
        """
        total = np.zeros(3, np.int64)
        for part in _calls(rows, self._count - seen[rows], self._dim):
            total += self._core.refresh(
                self._coded,
                self._centres,
                self._central,
                self._met,
                part,
                keys,
                seen,
                *rival,
                threads(),
            )
        return int(total[0]), int(total[1]), int(total[2])

    def pick(
        self,
        rows: npt.NDArray[np.int64],
        keys: npt.NDArray[np.float64],
        rival: tuple[float, int],
        min_distance: float,
        picks: npt.NDArray[np.int64],
        sq_radii: npt.NDArray[np.float64],
    ) -> tuple[int, int, int]:
        """Greedy picks among up-to-date `rows`, while they beat the rival; see kernels.h.

        Returns the number of picks, of pairs filtered and of pairs computed canonically.
        """
        count, filtered, canonical = self._core.pick(
            self._coded, rows, keys, *rival, min_distance, picks, sq_radii, threads()
        )
        return int(count), int(filtered), int(canonical)

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
        count, filtered, canonical = self._core.accept(
            self._coded, rows, keys, limits, picks, sweeps, sq_radii, threads()
        )
        return int(count), int(filtered), int(canonical)


class EntropyPool(_Candidates):
    """Candidates of a greedy entropy selection, over the arrays of its caller.

    gains int64, sq_dist float64, seen int64, all [N]; members int64, sq_eps float64, of the
    selection's capacity.
    """

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
        super().__init__(points, len(members))
        self._seen = seen
        self._members = members
        self._pool = self._core.EntropyPool(
            self._coded, gains, sq_dist, seen, members, sq_eps, min_distance
        )

    def start(self, count: int) -> None:
        """Say that the first `count` members and their sq_eps are there."""
        self._pool.start(count)
        self.append(self._members[:count])

    def refresh(self, rows: npt.NDArray[np.int64], rival: tuple[int, int]) -> tuple[int, int, int]:
        """Apply to `rows` the members they have not seen; see csrc/cpu/kernels.h.

        Returns how many pairs were filtered, passed a sketch, and were computed canonically.
        """
        total = np.zeros(3, np.int64)
        for part in _calls(rows, self._count - self._seen[rows], self._dim):
            total += self._pool.refresh(
                self._centres, self._central, self._met, part, *rival, threads()
            )
        return int(total[0]), int(total[1]), int(total[2])

    def pick(
        self,
        rows: npt.NDArray[np.int64],
        rival: tuple[int, int],
        sq_radii: npt.NDArray[np.float64],
    ) -> tuple[int, int, int]:
        """Greedy picks among `rows` that have seen every member; see kernels.h.

        Returns the number of picks, of pairs filtered and of pairs computed canonically.
        """
        count, filtered, canonical = self._pool.pick(rows, *rival, sq_radii)
        self.append(self._members[self._count : self._count + count])
        return int(count), int(filtered), int(canonical)

    @property
    def balls(self) -> int:
        """How many pairs of a candidate and a ball it lies in are kept, dead ones among them."""
        return int(self._pool.balls)


class Neighbours:
    """Neighbours of queries among points, for any part of the queries at a time.

    Where the codes of all points would take much memory, they are made a part at a time, again and
    again. Rows that are searched among themselves, all at once, have each pair looked at once.
    """

    def __init__(self, queries: Points, points: Points, by_inner_product: bool = False) -> None:
        self._core = _native()
        self._queries, self._points = queries, points
        self._by_inner_product = by_inner_product
        self._wide = queries.data.dtype != points.data.dtype
        others = [] if queries is points else [queries]
        centred = not by_inner_product
        self._shift, self._scale = frame(sys.modules[__name__], points, *others, centred=centred)
        self._basis, self.trials = None, list[Trial]()
        if centred:
            rows = (sample(points) - self._shift) * self._scale
            self._basis, self.trials = choose(self._core, rows, points.n, queries.n, threads())
        self._depth = points.dim if self._basis is None else self._basis.shape[1]
        # Rows that are gathered or widened are there once more.
        copied = 8 if self._wide else points.data.itemsize * isinstance(points, Subset)
        row = (1 + copied) * points.dim + self._depth + 32
        largest = max(queries.n, points.n)
        coded = queries.n + (0 if queries is points else points.n)
        self._part = largest if coded * row <= CODED_BYTES else max(1, CODED_BYTES // (3 * row))
        self._all_points: Any = None

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
        query i skips point i. `report` is told how many queries the work so far amounts to.

        Returns how many pairs were filtered, passed a sketch, and were computed canonically.
        """
        sq_dist.fill(np.inf)
        index.fill(np.iinfo(np.int64).max)
        mutual = self._queries is self._points and len(sq_dist) == self._points.n
        work = np.zeros(3, np.int64)
        done = 0.0
        for first in range(0, len(sq_dist), self._part):
            heaps = slice(first, min(first + self._part, len(sq_dist)))
            rows = slice(first_query + heaps.start, first_query + heaps.stop)
            queries = self._searched(self._queries, rows, sq_dist[heaps], index[heaps])
            if mutual and first == 0 and not self._by_inner_product:
                queries.foresee(exclude_self, threads())
            for start in range(first if mutual else 0, self._points.n, self._part):
                part = slice(start, min(start + self._part, self._points.n))
                if not mutual:
                    points = self._searched(self._points, part)
                elif start == first:
                    points = queries
                else:
                    points = self._searched(self._points, part, sq_dist[part], index[part])
                pairs = (heaps.stop - heaps.start) * (part.stop - part.start)
                rounds = queries.rounds(points, threads())
                # Whole teams of threads, where the rounds are one for a group of queries.
                step = -(-CALL_WORK * rounds // (pairs * self._depth * threads())) * threads()
                for begin in range(0, rounds, step):
                    count = min(step, rounds - begin)
                    work += queries.meet(
                        points, self._by_inner_product, exclude_self, begin, count, threads()
                    )
                    once = mutual and start > first  # where the other half needs no work
                    done += (1 + once) * pairs * count / rounds / self._points.n
                    report(round(done))
        self._core.sort_neighbours(sq_dist, index, threads())
        return int(work[0]), int(work[1]), int(work[2])

    def _searched(self, points: Points, part: slice, *heaps: npt.NDArray[Any]) -> Any:
        """The core's view of some rows, with the heaps of those whose neighbours are looked for."""
        if points is self._points and part == slice(0, points.n):
            if self._all_points is None:
                self._all_points = self._code(points, part)
            return self._core.Searched(self._all_points, part.start, *heaps)
        return self._core.Searched(self._code(points, part), part.start, *heaps)

    def _code(self, points: Points, part: slice) -> Any:
        rows = points.part(part)
        rows = rows.widened() if self._wide else rows
        coded = _coded(rows, self._shift, self._scale, self._basis)
        cells = min(MAX_CELLS, rows.n // CELL_ROWS)
        # Where queries and points are others, the order of neither helps the other.
        if cells > 1 and self._queries is self._points:
            coded.reorder(self._near_together(rows, coded, cells))
        return coded

    def _near_together(self, points: Points, coded: Any, cells: int) -> npt.NDArray[np.int64]:
        """An order in which rows come together that are nearest to the same of a few of them."""
        few = points.part(slice(None, None, -(-points.n // cells)))
        few = Points(few.data.copy(), None if few.norms is None else few.norms.copy())
        sq_dist = np.full((points.n, 1), np.inf)
        index = np.full((points.n, 1), np.iinfo(np.int64).max)
        queries = self._core.Searched(coded, 0, sq_dist, index)
        centres = self._core.Searched(_coded(few, self._shift, self._scale, self._basis), 0)
        queries.meet(centres, False, False, 0, queries.rounds(centres, threads()), threads())
        return np.argsort(index[:, 0], kind="stable")
