from __future__ import annotations

from functools import cache

import numpy as np
import oracle
import pytest
from cases import ADVERSARIAL_ROWS, CASES, LARGE_CASES, case_params
from hypothesis import given, settings
from hypothesis import strategies as st

import fastsel
from fastsel import sketch
from fastsel.backends import cpu
from fastsel.neighbors import METRICS


@pytest.mark.parametrize("case", case_params(min_n=2, max_n=200))
def test_self_neighbours_equal_the_oracle(case, backend):
    x = CASES[case]
    for k in sorted({1, min(5, len(x) - 1), len(x) - 1}):
        distances, indices = fastsel.knn(x, x, k, exclude_self=True, backend=backend)
        sq_dist, index = oracle.knn(x, x, k, exclude_self=True)
        np.testing.assert_array_equal(indices, index)
        np.testing.assert_array_equal(distances, np.sqrt(sq_dist))


def expected_neighbours(queries, points, k, metric, exclude_self=False):
    """What fastsel.knn returns, by the oracle."""
    if metric == "cosine":
        queries, points = oracle.unit_rows(queries), oracle.unit_rows(points)
    inner = metric == "inner_product"
    key, index = oracle.knn(queries, points, k, exclude_self, by_inner_product=inner)
    made = {"euclidean": np.sqrt, "cosine": lambda key: key / 2, "inner_product": np.negative}
    return made.get(metric, np.asarray)(key), index


def assert_neighbours(result, expected):
    for ours, exact in zip(result, expected, strict=True):
        np.testing.assert_array_equal(ours, exact)


@pytest.mark.parametrize("metric", METRICS)
def test_queries_against_other_points(metric, backend):
    x = CASES["scales"]
    result = fastsel.knn(x[:33], x[30:], 7, metric=metric, backend=backend)
    assert_neighbours(result, expected_neighbours(x[:33], x[30:], 7, metric))


@pytest.mark.parametrize("case", case_params(min_n=2, max_n=200))
def test_inner_products_equal_the_oracle(case, backend):
    x = CASES[case]
    k = min(9, len(x) - 1)
    options = {"metric": "inner_product", "backend": backend}
    result = fastsel.knn(x, x, k, exclude_self=True, **options)
    assert_neighbours(result, expected_neighbours(x, x, k, "inner_product", exclude_self=True))
    result = fastsel.knn(x[::-1], x, 1, **options)
    assert_neighbours(result, expected_neighbours(x[::-1], x, 1, "inner_product"))


@pytest.mark.parametrize("name", ["cpu", "torch"])
@settings(max_examples=100, deadline=None)
@given(ADVERSARIAL_ROWS, st.sampled_from(METRICS), st.booleans(), st.integers(1, 40))
def test_adversarial_rows(name, x, metric, exclude_self, k):
    if not fastsel.backends()[name].usable:
        pytest.skip(f"{name} is not usable here")
    if metric == "cosine":
        x = x[np.square(x.astype(np.float64)).sum(axis=1) > 0]
    if len(x) < 2:
        return
    k = min(k, len(x) - exclude_self)
    result = fastsel.knn(x, x, k, metric=metric, exclude_self=exclude_self, backend=name)
    plain = fastsel.knn(x, x, k, metric=metric, exclude_self=exclude_self, backend="reference")
    assert_neighbours(result, plain)


def test_query_and_point_types_may_differ(backend):
    x = CASES["normal-65x33"]
    queries, points = x[:10].astype(np.float16), x.astype(np.float32)
    distances, indices = fastsel.knn(queries, points, 3, backend=backend)
    sq_dist, index = oracle.knn(queries, points, 3)
    np.testing.assert_array_equal(indices, index)
    np.testing.assert_array_equal(distances, np.sqrt(sq_dist))


@cache
def neighbours_of_1000(metric, exclude_self):
    x = CASES["normal-1000x20"].astype(np.float32)
    return expected_neighbours(x, x, 4, metric, exclude_self)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("part_rows", [64, 333, 10**6])
@pytest.mark.parametrize("exclude_self", [True, False])
def test_parts_and_calls_do_not_change_results(
    monkeypatch, metric, part_rows, exclude_self, backend
):
    x = CASES["normal-1000x20"].astype(np.float32)
    options = {"exclude_self": exclude_self, "metric": metric, "backend": backend}
    expected = neighbours_of_1000(metric, exclude_self)
    across = [part[:300] for part in neighbours_of_1000(metric, False)]
    monkeypatch.setattr(cpu, "CODED_BYTES", 3 * part_rows * 72)
    monkeypatch.setattr(cpu, "CALL_WORK", 7 * x.size)
    monkeypatch.setattr(cpu, "CELL_ROWS", 50)
    assert_neighbours(fastsel.knn(x, x, 4, **options), expected)
    options["exclude_self"] = False
    assert_neighbours(fastsel.knn(x[:300], x, 4, **options), across)
    # Of two types, and so widened a part at a time.
    assert_neighbours(fastsel.knn(x[:300], x.astype(np.float64), 4, **options), across)


def image_like(n, dim):
    """Rows whose leading directions hold most of them, so that a sketch pays."""
    rng = np.random.default_rng(0)
    spectrum = 1 / np.arange(1, dim + 1)
    x = rng.normal(size=(n, dim)) * spectrum + rng.normal(size=(40, dim))[rng.integers(0, 40, n)]
    x[n // 2 :: 7] = x[: len(x[n // 2 :: 7])]
    return x.astype(np.float32)


@pytest.mark.parametrize("k", [1, 10, 70, 400])
def test_sketches_and_cells_do_not_change_results(monkeypatch, k, level):
    x = image_like(2000, 64)
    expected = fastsel.knn(x, x, k, exclude_self=True, backend="reference")
    across = [part[:500] for part in fastsel.knn(x, x, k, backend="reference")]
    monkeypatch.setattr(sketch, "MIN_WORK", 0)
    monkeypatch.setattr(cpu, "CELL_ROWS", 100)
    monkeypatch.setattr(cpu, "threads", lambda: 3)
    record = {}
    result = fastsel.knn(x, x, k, exclude_self=True, backend="cpu", record=record)
    assert_neighbours(result, expected)
    assert min(record["trials"], key=lambda trial: trial["cycles"])["depth"] > 0
    assert_neighbours(fastsel.knn(x[:500], x, k, backend="cpu"), across)


@pytest.mark.parametrize("case", LARGE_CASES)
def test_large_cases_equal_the_reference(case, monkeypatch):
    x = LARGE_CASES[case][::4]
    monkeypatch.setattr(cpu, "CELL_ROWS", 200)
    for k, metric in ((1, "euclidean"), (12, "euclidean"), (3, "inner_product")):
        options = {"exclude_self": True, "metric": metric}
        result = fastsel.knn(x, x, k, backend="cpu", **options)
        assert_neighbours(result, fastsel.knn(x, x, k, backend="reference", **options))


def test_equal_rows_all_at_once(backend):
    x = np.full((700, 5), 0.1)
    distances, indices = fastsel.knn(x, x, 3, exclude_self=True, backend=backend)
    assert (distances == 0).all()
    np.testing.assert_array_equal(indices[:4], [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
    assert (indices[4:] == [0, 1, 2]).all()


def test_a_search_looks_at_each_pair_of_its_rows_once():
    x = CASES["normal-1000x20"]
    own, other = {}, {}
    fastsel.knn(x, x, 1, exclude_self=True, backend="cpu", record=own)
    fastsel.knn(x, x.copy(), 1, exclude_self=True, backend="cpu", record=other)
    assert own["dense_pairs"] == other["dense_pairs"] == len(x) ** 2
    assert own["filtered_pairs"] < 0.6 * other["filtered_pairs"]
    assert other["filtered_pairs"] >= len(x) ** 2
    assert len(x) - 1 <= own["canonical_pairs"] <= own["passed_pairs"] < own["filtered_pairs"]


def test_out(backend):
    x = CASES["normal-65x8"]
    expected = fastsel.knn(x[:9], x, 4, backend=backend)
    out = np.empty((9, 4)), np.empty((9, 4), np.int64)
    result = fastsel.knn(x[:9], x, 4, out=out, backend=backend)
    assert result[0] is out[0]
    assert result[1] is out[1]
    assert_neighbours(out, expected)


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.empty((9, 4)), TypeError, "out must be a pair of arrays, got ndarray"),
        ((np.empty((9, 4)), np.empty((9, 4))), ValueError, r"out\[1\] must be int64 \[9, 4\]"),
        (
            (np.empty((9, 3)), np.empty((9, 4), np.int64)),
            ValueError,
            r"out\[0\] must be float64 \[9, 4\], C-contiguous, got float64 \[9, 3\]",
        ),
        ((np.empty((4, 9)).T, np.empty((9, 4), np.int64)), ValueError, "C-contiguous"),
        (
            (np.broadcast_to(0.0, (9, 4)).copy(), np.broadcast_to(np.int64(0), (9, 4))),
            ValueError,
            r"out\[1\]",
        ),
    ],
)
def test_out_is_checked(out, error, message):
    x = CASES["normal-65x8"]
    with pytest.raises(error, match=message):
        fastsel.knn(x[:9], x, 4, out=out)


def test_an_error_stated_too_small_is_caught(monkeypatch):
    x = np.random.default_rng(0).normal(size=(2000, 24)).astype(np.float32)
    coded = cpu._coded

    def overconfident(*args):
        result = coded(*args)
        np.subtract(result.codes.errors, np.float32(0.01), out=result.codes.errors)
        return result

    for metric in ("euclidean", "inner_product"):
        options = {"exclude_self": True, "metric": metric}
        plain = fastsel.knn(x, x, 3, backend="reference", **options)
        with monkeypatch.context() as patch:
            patch.setattr(cpu, "_coded", overconfident)
            indices = fastsel.knn(x, x, 3, backend="cpu", **options)[1]
        assert (indices != plain[1]).any()
        assert_neighbours(fastsel.knn(x, x, 3, backend="cpu", **options), plain)


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
