"""Exact nearest neighbours."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsel import checks
from fastsel.backends import resolve
from fastsel.points import Points, on_device, result_converter, take_roots, to_host
from fastsel.progress import Progress, ProgressOption
from fastsel.sketch import Trial

DISTANCES = ("euclidean", "sqeuclidean", "cosine")
METRICS = (*DISTANCES, "inner_product")

# Of results that are made and dropped again: neighbours held at a time.
HELD_NEIGHBOURS = 1 << 21

# Squared distances, float64, and indices, int64: NumPy arrays, or tensors of a device backend.
Neighbours = tuple[Any, Any]


@dataclass
class Record:
    """What a search did, so that its speed can be explained."""

    filtered_pairs: int  # pairs that the filter, or the sketch, looked at
    passed_pairs: int  # those of them that passed the sketch, where there is one
    canonical_pairs: int  # those whose canonical distance was computed
    dense_pairs: int  # queries times points
    prepare_seconds: float
    search_seconds: float

    # What sketches would cost by a sample of the data, as fastsel.sketch.Trial; the least is taken.
    trials: list[Trial] = field(default_factory=list)


def knn(
    queries: Any,
    points: Any,
    k: int,
    *,
    exclude_self: bool = False,
    metric: str = "euclidean",
    out: tuple[Any, Any] | None = None,
    backend: str = "auto",
    progress: ProgressOption = False,
    record: dict[str, Any] | None = None,
) -> tuple[Any, Any]:
    """The k nearest points of every query, exactly.

    Parameters
    ----------
    queries : array [Q, D]
        float16, bfloat16, float32 or float64; NumPy, torch or DLPack.
    points : array [N, D]
        Likewise. Where its dtype differs from that of `queries`, both are taken to float64, a part
        at a time. Where it is the same array, each pair is looked at once, for both.
    k : int
        In [1, N], or [1, N - 1] with `exclude_self`.
    exclude_self : bool
        Query i skips point i, by index: a duplicate of it still counts, at distance 0. `queries`
        and `points` must then have the same shape.
    metric : {"euclidean", "sqeuclidean", "cosine", "inner_product"}
        The cosine distance is 1 - cos(x, y). By inner product, the k largest count as nearest.
    out : pair of arrays [Q, k], optional
        float64 and int64, C-contiguous, NumPy arrays or torch tensors: distances and indices are
        written there, and these arrays come back. Nothing is copied where they lie in the memory
        that the search works in: that of the GPU for tensors there, else that of the host.
    backend, progress
        As for `greedy_select`.
    record : dict, optional
        Filled with what was done: pairs looked at, and seconds, as `fastsel.neighbors.Record`
        describes them.

    Returns
    -------
    distances : float64 [Q, k]
        Ascending, in the library and on the device of `queries`. Canonical: the same bits on every
        backend, and exactly 0 for a duplicate. With metric="inner_product", the inner products,
        descending.
    indices : int64 [Q, k]
        Equal distances are in the order of the index.

    Raises
    ------
    ValueError, TypeError
        An argument is not as described; the message names it.
    RuntimeError
        The named backend can not run here.

    Notes
    -----
    Cost O(Q N D) time at most; docs/architecture.md tells what is spared. Memory beyond input and
    output: at most 128 MB, and 8 bytes a row for the cosine metric. No distance matrix is made, at
    any k.

    Examples
    --------
    >>> import numpy as np, fastsel
    >>> distances, indices = fastsel.knn(np.array([[0.9]]), np.array([[0.0], [1.0], [5.0]]), 2)
    >>> indices
    array([[1, 0]])
    """
    checks.choice("metric", metric, METRICS)
    query_points = checks.points("queries", queries, metric)
    base_points = (
        query_points
        if points is queries
        else checks.points("points", points, metric, dim=query_points.dim)
    )
    if exclude_self and query_points.n != base_points.n:
        raise ValueError(
            "exclude_self needs queries and points of the same length, got "
            f"{query_points.n} and {base_points.n}"
        )
    if exclude_self and base_points.n == 1:
        raise ValueError("points must hold at least 2 rows with exclude_self, got 1")
    k = checks.integer("k", k, 1, base_points.n - bool(exclude_self))
    _check_out(out, query_points.n, k)
    by_inner_product = metric == "inner_product"
    sq_dist, index = search(
        query_points,
        base_points,
        k,
        exclude_self,
        backend,
        progress,
        by_inner_product,
        out,
        record,
    )
    results = to_metric(sq_dist, metric), index
    if out is None:
        convert = result_converter(queries)
        return convert(results[0]), convert(results[1])
    for array, result in zip(out, results, strict=True):
        _put(result, array)
    return out


def nearest_distances(
    queries: Any,
    points: Any = None,
    *,
    metric: str = "euclidean",
    backend: str = "auto",
    progress: ProgressOption = False,
) -> Any:
    """Distance of every query to its nearest point.

    Parameters
    ----------
    queries : array [Q, D]
    points : array [N, D], optional
        Default: the queries themselves, each without itself (by index).
    metric : {"euclidean", "sqeuclidean", "cosine"}
    backend, progress
        As for `knn`, which tells the errors and the cost too.

    Returns
    -------
    distances : float64 [Q]
        In the library and on the device of `queries`.

    Examples
    --------
    >>> import numpy as np, fastsel
    >>> fastsel.nearest_distances(np.array([[0.0], [1.0], [5.0]]))
    array([1., 1., 4.])
    """
    checks.choice("metric", metric, DISTANCES)
    exclude_self = points is None
    distances, _ = knn(
        queries,
        queries if points is None else points,
        1,
        exclude_self=exclude_self,
        metric=metric,
        backend=backend,
        progress=progress,
    )
    return distances[:, 0]


def search(
    queries: Points,
    points: Points,
    k: int,
    exclude_self: bool,
    backend: str,
    progress: ProgressOption,
    by_inner_product: bool = False,
    out: Neighbours | None = None,
    record: dict[str, Any] | None = None,
) -> Neighbours:
    """Canonical squared distances and indices of the neighbours, each [Q, k].

    They lie where the backend works: in `out`, if that does. By inner product, minus that in place
    of the squared distances.
    """
    begin = time.perf_counter()
    module, queries, points = _adopted(backend, queries, points)
    neighbours = module.Neighbours(queries, points, by_inner_product)
    prepared = time.perf_counter()
    report = Progress(progress, "nearest neighbours", queries.n)
    sq_dist, index = _room(queries, queries.n, k, out)
    work = neighbours.search(0, exclude_self, sq_dist, index, report.update)
    if record is not None:
        filtered, passed, evaluated = work
        search_seconds = time.perf_counter() - prepared
        done = Record(
            filtered,
            passed,
            evaluated,
            queries.n * points.n,
            prepared - begin,
            search_seconds,
            neighbours.trials,
        )
        record.clear()
        record.update(asdict(done))
    return sq_dist, index


def kth_sq_dists(
    points: Points, ks: Sequence[int], backend: str, progress: ProgressOption
) -> npt.NDArray[np.float64]:
    """Squared distance of every row to its k-th nearest other, float64 [N, len(ks)].

    Where there are many neighbours in between, they are held for a part of the rows at a time: the
    memory beyond that of a search grows neither with max(ks) nor with N.
    """
    module, points, _ = _adopted(backend, points, points)
    neighbours = module.Neighbours(points, points)
    report = Progress(progress, "nearest neighbours", points.n)
    columns = [k - 1 for k in ks]
    k = max(ks)
    held = max(1, HELD_NEIGHBOURS // k)
    result = np.empty((points.n, len(ks)))
    for start in range(0, points.n, held):
        sq_dist, index = _room(points, min(held, points.n - start), k)
        neighbours.search(
            start, True, sq_dist, index, lambda done, s=start: report.update(s + done)
        )
        result[start : start + held] = to_host(sq_dist[:, columns])
    return result


def _adopted(backend: str, queries: Points, points: Points) -> tuple[ModuleType, Points, Points]:
    """The module of the backend, and the points where it keeps them."""
    module = resolve(backend, queries, points)
    adopted = module.adopt(queries, queries if queries.is_tensor else points)
    return module, adopted, adopted if queries is points else module.adopt(points, adopted)


def _room(points: Points, n: int, k: int, out: Neighbours | None = None) -> Neighbours:
    """Squared distances and indices to be filled, each [n, k], where the points lie."""
    made = [None, None] if out is None else [points.view(array) for array in out]
    sq_dist, index = (
        points.empty((n, k), dtype) if array is None else array
        for array, dtype in zip(made, ("float64", "int64"), strict=True)
    )
    return sq_dist, index


def to_metric(sq_dist: Any, metric: str) -> Any:
    """What a search by that metric returns, made in place from canonical squared distances.

    Those are of normalised rows for the cosine metric, and minus inner products for these.
    """
    if metric == "euclidean":
        take_roots(sq_dist)
    elif metric == "cosine":
        sq_dist /= 2
    elif metric == "inner_product":
        sq_dist *= -1
    return sq_dist


def _check_out(out: Any, n: int, k: int) -> None:
    if out is None:
        return
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        raise TypeError(f"out must be a pair of arrays, got {type(out).__name__}")
    for name, array, dtype in (("out[0]", out[0], "float64"), ("out[1]", out[1], "int64")):
        writeable = True
        if on_device(array):
            contiguous = array.is_contiguous()
        else:
            array = np.asarray(array)
            contiguous, writeable = array.flags.c_contiguous, array.flags.writeable
        found = str(array.dtype).removeprefix("torch.")
        if found != dtype or tuple(array.shape) != (n, k) or not contiguous:
            raise ValueError(
                f"{name} must be {dtype} [{n}, {k}], C-contiguous, got {found} {list(array.shape)}"
            )
        if not writeable:
            raise ValueError(f"{name} must be writeable")


def _put(result: Any, array: Any) -> None:
    """Copy a result to an array of the caller, unless it was written there."""
    if on_device(array):
        if result is not array:
            array.copy_(result_converter(array)(result))
    elif on_device(result):
        np.asarray(array)[...] = to_host(result)
