"""Exact nearest neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastsel import checks
from fastsel.backends import resolve
from fastsel.points import Points, result_converter
from fastsel.progress import Progress, ProgressOption

METRICS = ("euclidean", "sqeuclidean", "cosine")

# Multiply-adds in one native call: a fraction of a second, so that Ctrl-C is answered between two.
CALL_WORK = 1 << 34


def knn(
    queries: Any,
    points: Any,
    k: int,
    *,
    exclude_self: bool = False,
    metric: str = "euclidean",
    backend: str = "auto",
    progress: ProgressOption = False,
) -> tuple[Any, Any]:
    """The k nearest points of every query, exactly.

    Parameters
    ----------
    queries : array [Q, D]
        float16, bfloat16, float32 or float64; NumPy, torch or DLPack.
    points : array [N, D]
        Likewise. Where its dtype differs from that of `queries`, both are taken to float64, which
        copies them.
    k : int
        In [1, N], or [1, N - 1] with `exclude_self`.
    exclude_self : bool
        Query i skips point i, by index: a duplicate of it still counts, at distance 0. `queries`
        and `points` must then have the same shape.
    metric : {"euclidean", "sqeuclidean", "cosine"}
        The cosine distance is 1 - cos(x, y).
    backend, progress
        As for `greedy_select`.

    Returns
    -------
    distances : float64 [Q, k]
        Ascending, in the library and on the device of `queries`. Canonical: the same bits on every
        backend, and exactly 0 for a duplicate.
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
    Cost O(Q N D) time. Memory beyond input and output: D + 12 bytes for each query and point; no
    distance matrix is made.

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
    sq_dist, index = _search(query_points, base_points, k, exclude_self, backend, progress)
    convert = result_converter(queries)
    return convert(_distances(sq_dist, metric)), convert(index)


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
    metric, backend, progress
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


def _search(
    queries: Points,
    points: Points,
    k: int,
    exclude_self: bool,
    backend: str,
    progress: ProgressOption,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    neighbours = resolve(backend).Neighbours(queries, points)
    report = Progress(progress, "nearest neighbours", queries.n)
    sq_dist = np.empty((queries.n, k))
    index = np.empty((queries.n, k), np.int64)
    step = max(1, CALL_WORK // (points.n * points.dim))
    for start in range(0, queries.n, step):
        block = slice(start, min(start + step, queries.n))
        neighbours.search(start, exclude_self, sq_dist[block], index[block])
        report.update(block.stop)
    return sq_dist, index


def _distances(sq_dist: npt.NDArray[np.float64], metric: str) -> npt.NDArray[np.float64]:
    if metric == "euclidean":
        return np.sqrt(sq_dist)
    return sq_dist / 2 if metric == "cosine" else sq_dist
