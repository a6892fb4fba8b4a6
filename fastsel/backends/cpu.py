"""C++ kernels on the processor: exact, threaded with OpenMP, the GIL released."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from importlib import resources
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsel.filter import MIN_SAMPLE_ROWS, SAMPLE_ELEMENTS, frame, largest_code, sample
from fastsel.points import Points
from fastsel.schedule import State
from fastsel.sketch import MAX_ROWS, QUERIES, choose, depths

__all__ = ["EntropyPool", "Neighbours", "Pool", "State"]

NAME = "cpu"

# Multiply-adds in one native call: a fraction of a second, so that Ctrl-C is answered between two.
CALL_WORK = 1 << 34


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


class Pool:
    """Candidates of a selection: the primitives of the lazy schedule."""

    @staticmethod
    def bytes_needed(points: Points, capacity: int, active: int) -> int:
        """Memory of a pool, its picks, and calls of `pick` with that many rows."""
        depth = -(-points.dim // 4) * 4
        row = depth + 12 + max([d + 12 for d in depths(points.dim)], default=0)
        codes = points.n * row + capacity * (row + 8)
        matrix = active * (4 * active + 2 * depth + 512)
        panels_per_thread = 160 * depth + (1 << 20)
        elements = max(SAMPLE_ELEMENTS, MIN_SAMPLE_ROWS * points.dim)
        sampled = 28 * min(elements, points.n * points.dim)
        trial = 12 * QUERIES * MAX_ROWS if depths(points.dim) else 0
        return codes + max(matrix + threads() * panels_per_thread, sampled + trial)

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

    def append(self, picks: npt.NDArray[np.int64]) -> None:
        """Add rows to the centres that `refresh` applies."""
        self._centres.append(picks)
        self._count += len(picks)

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
                self._coded, self._centres, part, keys, seen, *rival, threads()
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


class EntropyPool:
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
        (coded,) = encode(points)
        self._dim = points.dim
        self._seen = seen
        self._pool = _native().EntropyPool(
            coded, gains, sq_dist, seen, members, sq_eps, min_distance
        )
        self._count = 0

    def start(self, count: int) -> None:
        """Say that the first `count` members and their sq_eps are there."""
        self._pool.start(count)
        self._count = count

    def refresh(self, rows: npt.NDArray[np.int64], rival: tuple[int, int]) -> tuple[int, int]:
        """Apply to `rows` the members they have not seen; see csrc/cpu/kernels.h.

        Returns how many pairs were filtered and how many computed canonically.
        """
        total = np.zeros(2, np.int64)
        for part in _calls(rows, self._count - self._seen[rows], self._dim):
            total += self._pool.refresh(part, *rival, threads())
        return int(total[0]), int(total[1])

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
        self._count += count
        return int(count), int(filtered), int(canonical)

    @property
    def balls(self) -> int:
        """How many pairs of a candidate and a ball it lies in are kept, dead ones among them."""
        return int(self._pool.balls)


class Neighbours:
    """Neighbours of queries among points, for any part of the queries at a time.

    Memory: a byte for each component of queries and points, and 12 bytes for each of them.
    """

    def __init__(self, queries: Points, points: Points) -> None:
        self._core = _native()
        if queries is points:
            (self._points,) = encode(points)
            self._queries = self._points
        else:
            if queries.data.dtype != points.data.dtype:
                queries, points = queries.widened(), points.widened()
            self._points, self._queries = encode(points, queries)

    def search(
        self,
        first_query: int,
        exclude_self: bool,
        sq_dist: npt.NDArray[np.float64],
        index: npt.NDArray[np.int64],
    ) -> None:
        """Fill [B, k] with the neighbours of queries first_query .. first_query + B - 1."""
        self._core.knn(
            self._queries, self._points, first_query, exclude_self, sq_dist, index, threads()
        )
