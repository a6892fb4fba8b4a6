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

from fastsel.filter import frame
from fastsel.points import Points

NAME = "cpu"

# Packed centres up to this size are kept whatever the size of the features.
TILE_BYTES = 32 << 20

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


def min_update(
    points: Points, centres: Points, centre: int, sq_dist: npt.NDArray[np.float64]
) -> None:
    """Lower `sq_dist` [N] to the squared distance to row `centre` of `centres`, in place."""
    _native().min_update(
        points.data, points.norms, centres.data, centres.norms, centre, sq_dist, threads()
    )


class Pool:
    """Candidates of a selection: the primitives of the lazy schedule.

    Memory: 8 bytes a point for the frame, and the packed images of the centres up to TILE_BYTES or
    a quarter of the features' size, whichever is more; those beyond are packed at every use.
    """

    def __init__(self, points: Points, capacity: int) -> None:
        self._core = _native()
        self._points = points
        self._frame = frame(sys.modules[__name__], points)
        self._picks = np.empty(capacity, np.int64)
        self._count = 0
        self._block = self._core.centre_block(points.dim)
        block_bytes = 4 * self._block * points.dim
        fitting = max(TILE_BYTES, points.data.nbytes // 4) // block_bytes
        self._tiles = np.empty(
            (min(fitting, capacity // self._block), self._block, points.dim), np.float32
        )
        self._packed = 0

    def _arguments(self) -> tuple[Any, ...]:
        frame = self._frame
        points = self._points
        return (points.data, points.norms, frame.shift, frame.scale, frame.sq_norms, frame.margins)

    def append(self, picks: npt.NDArray[np.int64]) -> None:
        """Add rows to the centres that `refresh` applies."""
        self._picks[self._count : self._count + len(picks)] = picks
        self._count += len(picks)
        ready = min(self._count // self._block, len(self._tiles))
        if ready > self._packed:
            self._core.pack_centres(
                *self._arguments(),
                self._picks[: self._count],
                self._packed,
                self._tiles[self._packed : ready],
                threads(),
            )
            self._packed = ready

    def refresh(
        self,
        rows: npt.NDArray[np.int64],
        keys: npt.NDArray[np.float64],
        seen: npt.NDArray[np.int64],
        rival: tuple[float, int],
    ) -> tuple[int, int]:
        """Apply to `rows` the centres they have not seen; see csrc/cpu/kernels.h.

        Returns how many pairs were filtered and how many computed canonically.
        """
        # Rows that have seen equally many centres share their panels' work; the longest come first.
        rows = rows[np.argsort(seen[rows], kind="stable")]
        work = np.cumsum(self._count - seen[rows]) * self._points.dim
        total = np.zeros(2, np.int64)
        for part in np.split(rows, np.flatnonzero(np.diff(work // CALL_WORK)) + 1):
            total += self._core.refresh(
                *self._arguments(),
                part,
                keys,
                seen,
                self._picks[: self._count],
                self._tiles[: self._packed],
                *rival,
                threads(),
            )
        return int(total[0]), int(total[1])

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
            *self._arguments(), rows, keys, *rival, min_distance, picks, sq_radii, threads()
        )
        return int(count), int(filtered), int(canonical)


def knn(
    queries: Points,
    points: Points,
    first_query: int,
    exclude_self: bool,
    sq_dist: npt.NDArray[np.float64],
    index: npt.NDArray[np.int64],
) -> None:
    """Fill [B, k] with the neighbours of queries first_query .. first_query + B - 1."""
    _native().knn(
        queries.data,
        queries.norms,
        points.data,
        points.norms,
        first_query,
        exclude_self,
        sq_dist,
        index,
        threads(),
    )
