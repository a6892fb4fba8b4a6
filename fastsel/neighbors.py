"""Exact nearest neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
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

# Of results that are made and dropped again: neighbours held at a time, and bytes of gathered rows.
HELD_NEIGHBOURS = 1 << 21
GATHERED_BYTES = 1 << 25


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
    sq_dist, index = search(query_points, base_points, k, exclude_self, backend, progress)
    convert = result_converter(queries)
    return convert(to_metric(sq_dist, metric)), convert(index)


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


def search(
    queries: Points,
    points: Points,
    k: int,
    exclude_self: bool,
    backend: str,
    progress: ProgressOption,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Canonical squared distances and indices of the neighbours, each [Q, k]."""
    module, queries, points = _adopted(backend, queries, points)
    neighbours = module.Neighbours(queries, points)
    report = Progress(progress, "nearest neighbours", queries.n)
    sq_dist, index = _empty(queries.n, k)
    for block in _blocks(queries.n, points):
        neighbours.search(block.start, exclude_self, sq_dist[block], index[block])
        report.update(block.stop)
    return sq_dist, index


def kth_sq_dists(
    points: Points,
    ks: Sequence[int],
    rows: npt.NDArray[np.int64] | None,
    backend: str,
    progress: ProgressOption,
) -> npt.NDArray[np.float64]:
    """Squared distance of every row to its k-th nearest other, float64 [N, len(ks)].

    With `rows`, int64 [N], of those rows among themselves. The neighbours in between are held for
    a block of rows at a time, and `rows` are gathered a block at a time: the memory beyond that of
    a search grows neither with max(ks) nor with N.
    """
    module, points, _ = _adopted(backend, points, points)
    n = points.n if rows is None else len(rows)
    report = Progress(progress, "nearest neighbours", n)
    columns = np.array(ks) - 1
    k = max(ks)
    held = max(1, HELD_NEIGHBOURS // k)
    result = np.empty((n, len(ks)))
    if rows is None:
        neighbours = module.Neighbours(points, points)
        for block in _blocks(n, points, held):
            sq_dist, index = _empty(block.stop - block.start, k)
            neighbours.search(block.start, True, sq_dist, index)
            result[block] = sq_dist[:, columns]
            report.update(block.stop)
        return result

    size = min(held, max(1, GATHERED_BYTES // (points.dim * points.data.itemsize)))
    parts = [rows[start : start + size] for start in range(0, n, size)]
    for number, part in enumerate(parts):
        queries = Points(points.data[part])
        nearest = np.empty((len(part), 0))
        for other_number, other in enumerate(parts):
            same = other_number == number
            others = queries if same else Points(points.data[other])
            neighbours = module.Neighbours(queries, others)
            sq_dist, index = _empty(len(part), min(k, len(other) - same))
            if sq_dist.size:
                for block in _blocks(len(part), others):
                    neighbours.search(block.start, same, sq_dist[block], index[block])
            nearest = np.sort(np.concatenate([nearest, sq_dist], axis=1), axis=1)[:, :k]
        first = number * size
        result[first : first + len(part)] = nearest[:, columns]
        report.update(first + len(part))
    return result


def _adopted(backend: str, queries: Points, points: Points) -> tuple[ModuleType, Points, Points]:
    """The module of the backend, and the points where it keeps them."""
    module = resolve(backend, queries, points)
    adopted = module.adopt(queries, queries if queries.is_tensor else points)
    return module, adopted, adopted if queries is points else module.adopt(points, adopted)


def _empty(n: int, k: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    return np.empty((n, k)), np.empty((n, k), np.int64)


def _blocks(n: int, points: Points, most: int | None = None) -> Iterator[slice]:
    """Slices of n queries, of so many that a call for one is short (and at most `most`)."""
    step = max(1, min(CALL_WORK // (points.n * points.dim), most or n))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def to_metric(sq_dist: npt.NDArray[np.float64], metric: str) -> npt.NDArray[np.float64]:
    """Distances from canonical squared ones (of normalised rows, for the cosine metric)."""
    if metric == "euclidean":
        return np.sqrt(sq_dist)
    return sq_dist / 2 if metric == "cosine" else sq_dist
