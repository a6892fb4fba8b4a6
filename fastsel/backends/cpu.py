"""C++ kernels on the processor: exact, threaded with OpenMP, the GIL released."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from importlib import resources
from types import ModuleType

import numpy as np
import numpy.typing as npt

from fastsel.points import Points

NAME = "cpu"


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
