from __future__ import annotations

import numpy as np
import oracle
import pytest
from cases import CASES, case_params

import fastsel


@pytest.mark.parametrize("case", case_params(min_n=2, max_n=200))
def test_self_neighbours_equal_the_oracle(case, backend):
    x = CASES[case]
    for k in sorted({1, min(5, len(x) - 1), len(x) - 1}):
        distances, indices = fastsel.knn(x, x, k, exclude_self=True, backend=backend)
        sq_dist, index = oracle.knn(x, x, k, exclude_self=True)
        np.testing.assert_array_equal(indices, index)
        np.testing.assert_array_equal(distances, np.sqrt(sq_dist))


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cosine"])
def test_queries_against_other_points(metric, backend):
    x = CASES["scales"]
    queries, points = x[:33], x[30:]
    distances, indices = fastsel.knn(queries, points, 7, metric=metric, backend=backend)
    if metric == "cosine":
        queries, points = oracle.unit_rows(queries), oracle.unit_rows(points)
    sq_dist, index = oracle.knn(queries, points, 7)
    expected = {"euclidean": np.sqrt(sq_dist), "sqeuclidean": sq_dist, "cosine": sq_dist / 2}
    np.testing.assert_array_equal(indices, index)
    np.testing.assert_array_equal(distances, expected[metric])


def test_query_and_point_types_may_differ(backend):
    x = CASES["normal-65x33"]
    queries, points = x[:10].astype(np.float16), x.astype(np.float32)
    distances, indices = fastsel.knn(queries, points, 3, backend=backend)
    sq_dist, index = oracle.knn(queries, points, 3)
    np.testing.assert_array_equal(indices, index)
    np.testing.assert_array_equal(distances, np.sqrt(sq_dist))


def test_blocks_of_queries_do_not_change_results(monkeypatch, backend):
    x = CASES["normal-1000x20"]
    expected = fastsel.knn(x[:100], x, 4, backend=backend)
    monkeypatch.setattr("fastsel.neighbors.CALL_WORK", 7 * x.size)
    for block, whole in zip(fastsel.knn(x[:100], x, 4, backend=backend), expected, strict=True):
        np.testing.assert_array_equal(block, whole)


def test_exclude_self_goes_by_index_and_keeps_duplicates(backend):
    x = np.array([[0.0], [0.0], [3.0]])
    distances, indices = fastsel.knn(x, x, 1, exclude_self=True, backend=backend)
    np.testing.assert_array_equal(indices[:, 0], [1, 0, 0])
    np.testing.assert_array_equal(distances[:, 0], [0.0, 0.0, 3.0])


def test_nearest_distances(backend):
    x = CASES["normal-65x8"]
    np.testing.assert_array_equal(
        fastsel.nearest_distances(x, backend=backend),
        np.sqrt(oracle.knn(x, x, 1, exclude_self=True)[0][:, 0]),
    )
    np.testing.assert_array_equal(
        fastsel.nearest_distances(x[:5], x[5:], backend=backend),
        np.sqrt(oracle.knn(x[:5], x[5:], 1)[0][:, 0]),
    )
