"""The nearest neighbours of every row of the pool among the others."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import fastsel
from bench.data import Features

K = 10
SAMPLE = 64
TOLERANCE = 1e-3  # of a distance: peers use |x|^2 + |y|^2 - 2 x.y in float32

Search = Callable[[Features, Features], npt.NDArray[Any]]  # distances [Q, K + 1], self first


def fastsel_search(queries: Features, points: Features) -> npt.NDArray[Any]:
    distances: npt.NDArray[Any] = fastsel.knn(queries, points, K + 1)[0]
    return distances


def faiss_search(queries: Features, points: Features) -> npt.NDArray[Any]:
    with warnings.catch_warnings():
        # SWIG's types lack a module attribute, which newer Pythons remark on at import.
        warnings.filterwarnings("ignore", "builtin type [Ss]wig", DeprecationWarning)
        faiss = pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    index = faiss.IndexFlatL2(points.shape[1])
    index.add(points)
    sq_distances = index.search(queries, K + 1)[0]
    distances: npt.NDArray[Any] = np.sqrt(np.maximum(sq_distances, 0))
    return distances


def sklearn_search(queries: Features, points: Features) -> npt.NDArray[Any]:
    neighbors = pytest.importorskip("sklearn.neighbors", reason="scikit-learn is not installed")
    search = neighbors.NearestNeighbors(n_neighbors=K + 1, algorithm="brute").fit(points)
    return np.asarray(search.kneighbors(queries)[0])


@pytest.mark.parametrize("search", [fastsel_search, faiss_search, sklearn_search])
def test_knn(benchmark: Any, pool: Features, search: Search) -> None:
    n, dim = pool.shape
    benchmark.group = f"knn: {K} neighbours of {n:,} among {n:,} x {dim}"
    wide = pool.astype(np.float64)
    sample = np.linspace(0, n - 1, SAMPLE).astype(np.int64)
    found = search(pool[sample], pool)
    for row, distances in zip(sample, found, strict=True):
        expected = np.sort(np.sqrt(((wide - wide[row]) ** 2).sum(axis=1)))[1 : K + 1]
        np.testing.assert_allclose(distances[1:], expected, rtol=TOLERANCE)
    benchmark.pedantic(search, (pool, pool), rounds=3)
