"""Exact nearest neighbours."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsel import checks
from fastsel.backends import resolve
from fastsel.points import Points, result_converter
from fastsel.progress import Progress, ProgressOption
from fastsel.sketch import Trial

DISTANCES = ("euclidean", "sqeuclidean", "cosine")
METRICS = (*DISTANCES, "inner_product")

# Of results that are made and dropped again: neighbours held at a time.
HELD_NEIGHBOURS = 1 << 21

Neighbours = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]  # squared distances, indices


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
        float64 and int64, C-contiguous, NumPy arrays or torch tensors in host memory: distances and
        indices are written there, and these arrays come back.
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
    given = _checked_out(out, query_points.n, k)
    by_inner_product = metric == "inner_product"
    sq_dist, index = search(
        query_points,
        base_points,
        k,
        exclude_self,
        backend,
        progress,
        by_inner_product,
        given,
        record,
    )
    distances = to_metric(sq_dist, metric)
    if out is not None:
        return out
    convert = result_converter(queries)
    return convert(distances), convert(index)


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
    """Canonical squared distances and indices of the neighbours, each [Q, k]; in `out` if given.

    By inner product, minus that in place of the squared distances.
    """
    begin = time.perf_counter()
    neighbours = resolve(backend).Neighbours(queries, points, by_inner_product)
    prepared = time.perf_counter()
    report = Progress(progress, "nearest neighbours", queries.n)
    sq_dist, index = _empty(queries.n, k) if out is None else out
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
    neighbours = resolve(backend).Neighbours(points, points)
    report = Progress(progress, "nearest neighbours", points.n)
    columns = np.array(ks) - 1
    k = max(ks)
    held = max(1, HELD_NEIGHBOURS // k)
    result = np.empty((points.n, len(ks)))
    for start in range(0, points.n, held):
        sq_dist, index = _empty(min(held, points.n - start), k)
        neighbours.search(
            start, True, sq_dist, index, lambda done, s=start: report.update(s + done)
        )
        result[start : start + held] = sq_dist[:, columns]
    return result


def _empty(n: int, k: int) -> Neighbours:
    return np.empty((n, k)), np.empty((n, k), np.int64)


def to_metric(sq_dist: npt.NDArray[np.float64], metric: str) -> npt.NDArray[np.float64]:
    """What a search by that metric returns, made in place from canonical squared distances.

    Those are of normalised rows for the cosine metric, and minus inner products for these.
    """
    if metric == "euclidean":
        np.sqrt(sq_dist, out=sq_dist)
    elif metric == "cosine":
        sq_dist /= 2
    elif metric == "inner_product":
        np.negative(sq_dist, out=sq_dist)
    return sq_dist


def _checked_out(out: Any, n: int, k: int) -> Neighbours | None:
    """The memory of `out` as NumPy arrays."""
    if out is None:
        return None
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        raise TypeError(f"out must be a pair of arrays, got {type(out).__name__}")
    distances, indices = (np.asarray(array) for array in out)
    for name, array, dtype in (("out[0]", distances, np.float64), ("out[1]", indices, np.int64)):
        if array.dtype != dtype or array.shape != (n, k) or not array.flags.c_contiguous:
            raise ValueError(
                f"{name} must be {np.dtype(dtype).name} [{n}, {k}], C-contiguous, "
                f"got {array.dtype} {list(array.shape)}"
            )
        if not array.flags.writeable:
            raise ValueError(f"{name} must be writeable")
    return distances, indices
