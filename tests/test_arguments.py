"""Every argument check: the type of error and the words that tell the user what to change."""

from __future__ import annotations

import numpy as np
import pytest

import fastsel

X = np.random.default_rng(0).normal(size=(10, 3))


def greedy(features=X, n_samples=3, **options):
    return fastsel.greedy_select(features, n_samples, **options)


def threshold(features=X, n_samples=3, threshold=1.0, **options):
    return fastsel.threshold_decay_select(features, n_samples, threshold=threshold, **options)


def knn(queries=X, points=X, k=2, **options):
    return fastsel.knn(queries, points, k, **options)


def with_value(value, row=4, column=1, dtype=np.float64):
    x = X.astype(dtype)
    x[row, column] = value
    return x


VALUE_ERRORS = [
    (greedy, {"n_samples": 0}, r"n_samples must be in \[1, 10\], got 0"),
    (greedy, {"n_samples": 11}, r"n_samples must be in \[1, 10\], got 11"),
    (greedy, {"n_samples": 1.5}, r"n_samples as a fraction must be in \(0, 1\], got 1.5"),
    (greedy, {"n_samples": 0.0}, r"n_samples as a fraction must be in \(0, 1\], got 0.0"),
    (greedy, {"n_samples": float("nan")}, r"n_samples as a fraction .* got nan"),
    (greedy, {"features": X[0]}, r"features must have shape \[N, D\].* got \(3,\)"),
    (greedy, {"features": X[:0]}, r"features must have shape \[N, D\].* got \(0, 3\)"),
    (greedy, {"features": X[:, :0]}, r"features must have shape \[N, D\].* got \(10, 0\)"),
    (
        greedy,
        {"features": with_value(np.nan)},
        "features must be finite, got nan at row 4, column 1",
    ),
    (
        greedy,
        {"features": with_value(-np.inf, dtype=np.float32)},
        "features must be finite, got -inf at row 4, column 1",
    ),
    (
        greedy,
        {"features": with_value(1e200)},
        r"features must be finite below 1e\+149 in magnitude, got 1e\+200 at row 4, column 1",
    ),
    (greedy, {"memory_limit": 0}, r"memory_limit must be in \[1, \d+\], got 0"),
    (greedy, {"start": 10}, r"start must be in \[0, 9\], got 10"),
    (greedy, {"start": -1}, r"start must be in \[0, 9\], got -1"),
    (greedy, {"start": 1, "initial": [2]}, "start and initial exclude each other"),
    (greedy, {"initial": [1, 2, 3, 4]}, "initial must hold at most n_samples=3 indices, got 4"),
    (greedy, {"initial": [1, 10]}, r"initial must hold indices in \[0, 10\), got 10"),
    (greedy, {"initial": [1, -2]}, r"initial must hold indices in \[0, 10\), got -2"),
    (greedy, {"initial": [1, 1]}, "initial must not repeat an index, got 1 more than once"),
    (greedy, {"initial": [[1]]}, r"initial must have shape \[P\], got \(1, 1\)"),
    (greedy, {"anchors": X[:, :2]}, "anchors must have 3 columns, got 2"),
    (greedy, {"anchors": with_value(np.nan)}, "anchors must be finite"),
    (
        greedy,
        {"metric": "manhattan"},
        "metric must be one of 'euclidean', 'cosine', got 'manhattan'",
    ),
    (greedy, {"metric": None}, "metric must be one of"),
    (
        greedy,
        {"features": with_value(0.0) * (np.arange(10) != 4)[:, None], "metric": "cosine"},
        "features must not have zero rows with metric='cosine', got one at row 4",
    ),
    (greedy, {"min_distance": -0.1}, "min_distance must not be negative, got -0.1"),
    (greedy, {"min_distance": float("nan")}, "min_distance must be finite, got nan"),
    (greedy, {"random_state": -1}, r"random_state must be in \[0, .*\], got -1"),
    (greedy, {"backend": "tpu"}, "backend must be one of 'auto', 'cpu', 'reference', .* got 'tpu'"),
    (threshold, {"threshold": 0}, "threshold must be positive, got 0"),
    (threshold, {"threshold": -1.0}, "threshold must be positive, got -1.0"),
    (threshold, {"threshold": float("inf")}, "threshold must be finite, got inf"),
    (threshold, {"threshold": "high"}, "threshold must be 'auto' or a real number, got 'high'"),
    (threshold, {"decay": 1.0}, r"decay must be in \(0, 1\), got 1.0"),
    (threshold, {"decay": 0}, r"decay must be in \(0, 1\), got 0"),
    (
        threshold,
        {"decay_when": "never"},
        "decay_when must be one of 'stalled', 'sweep', got 'never'",
    ),
    (
        threshold,
        {"on_shortfall": "warn"},
        "on_shortfall must be one of 'raise', 'return', got 'warn'",
    ),
    (threshold, {"start": 1, "initial": [2]}, "start and initial exclude each other"),
    (threshold, {"anchors": X[:, :2]}, "anchors must have 3 columns, got 2"),
    (threshold, {"memory_limit": 0}, r"memory_limit must be in \[1, \d+\], got 0"),
    (threshold, {"n_samples": 99}, r"n_samples must be in \[1, 10\], got 99"),
    (threshold, {"start": 10}, r"start must be in \[0, 9\], got 10"),
    (knn, {"k": 0}, r"k must be in \[1, 10\], got 0"),
    (knn, {"k": 11}, r"k must be in \[1, 10\], got 11"),
    (knn, {"k": 10, "exclude_self": True}, r"k must be in \[1, 9\], got 10"),
    (knn, {"points": X[:, :2]}, "points must have 3 columns, got 2"),
    (knn, {"points": X[:5], "exclude_self": True}, "same length, got 10 and 5"),
    (knn, {"queries": X[:1], "points": X[:1], "k": 1, "exclude_self": True}, "at least 2 rows"),
    (knn, {"metric": "chebyshev"}, "metric must be one of 'euclidean', 'sqeuclidean', 'cosine'"),
    (knn, {"queries": with_value(np.nan)}, "queries must be finite, got nan"),
    (fastsel.kl_entropy, {"features": X, "k": 10}, r"k must be in \[1, 9\], got 10"),
    (fastsel.kl_entropy, {"features": X[:1]}, "features must hold at least 2 rows .* got 1"),
    (fastsel.kl_entropy, {"features": X, "base": 1}, "base must be positive and not 1, got 1"),
    (
        fastsel.kl_entropy,
        {"features": X, "base": -2.0},
        "base must be positive and not 1, got -2.0",
    ),
    (fastsel.kl_entropy, {"features": X, "floor": 0.0}, "floor must be positive, got 0.0"),
    (
        fastsel.kl_entropy,
        {"features": X, "duplicates": "keep"},
        "duplicates must be one of 'raise', 'floor', 'drop', got 'keep'",
    ),
    (fastsel.kl_entropy, {"features": X, "k": []}, "k must hold at least one integer"),
    (fastsel.kl_entropy, {"features": X, "k": [1, 10]}, r"k must be in \[1, 9\], got 10"),
    (
        fastsel.kl_entropy,
        {"features": X, "indices": [3]},
        "indices must hold at least 2 rows .* got 1",
    ),
    (fastsel.kl_entropy, {"features": X, "indices": [3, 3]}, "indices must not repeat an index"),
    (
        fastsel.memorization_ratio,
        {"generated": X, "training": X[:1]},
        "training must hold at least 2 rows, got 1",
    ),
    (
        fastsel.memorization_ratio,
        {"generated": X, "training": X, "threshold": 1.5},
        r"threshold must be in \(0, 1\], got 1.5",
    ),
    (
        fastsel.prdc,
        {"real": X, "generated": X[:, :2]},
        "generated must have 3 columns, got 2",
    ),
    (fastsel.prdc, {"real": X, "generated": X[:5]}, r"k must be in \[1, 4\], got 5"),
    (
        fastsel.generalization_score,
        {"generated": X, "training": X[:, :2]},
        "training must have 3 columns, got 2",
    ),
    (
        fastsel.generalization_score,
        {"generated": with_value(np.nan), "training": X},
        "generated must be finite, got nan",
    ),
]

TYPE_ERRORS = [
    (greedy, {"record": []}, "record must be a dict, got list"),
    (greedy, {"memory_limit": 1e9}, "memory_limit must be an integer, got 1000000000.0"),
    (greedy, {"n_samples": "3"}, "n_samples must be an integer or a fraction, got '3'"),
    (greedy, {"n_samples": True}, "n_samples must be an integer or a fraction, got True"),
    (greedy, {"features": X.tolist()}, "features must be a NumPy array.* got list"),
    (greedy, {"features": X.astype(int)}, "features must have dtype .* got int64"),
    (greedy, {"features": X.astype(complex)}, "features must have dtype .* got complex128"),
    (greedy, {"features": np.ma.masked_array(X)}, "features must not be a masked array"),
    (greedy, {"start": 1.0}, "start must be an integer, got 1.0"),
    (greedy, {"initial": [0.5]}, "initial must hold integers, got dtype float64"),
    (greedy, {"min_distance": "1"}, "min_distance must be a real number, got '1'"),
    (greedy, {"random_state": "seed"}, "random_state must be an integer, got 'seed'"),
    (greedy, {"progress": 3}, r"progress must be a bool or a callable .* got 3"),
    (threshold, {"threshold": None}, "threshold must be a real number, got None"),
    (threshold, {"decay": "0.5"}, "decay must be a real number, got '0.5'"),
    (knn, {"k": 2.0}, "k must be an integer, got 2.0"),
]


@pytest.mark.parametrize(("function", "arguments", "message"), VALUE_ERRORS)
def test_value_errors(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(**arguments)


@pytest.mark.parametrize(("function", "arguments", "message"), TYPE_ERRORS)
def test_type_errors(function, arguments, message):
    with pytest.raises(TypeError, match=message):
        function(**arguments)


def test_bfloat16_values_are_checked():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = X.astype(ml_dtypes.bfloat16)
    x[7, 2] = np.inf
    with pytest.raises(ValueError, match="features must be finite, got inf at row 7, column 2"):
        fastsel.greedy_select(x, 2)


def test_a_late_row_is_checked_too():
    x = np.zeros((70_000, 33), np.float32)
    x[69_999, 32] = np.nan
    with pytest.raises(ValueError, match="got nan at row 69999, column 32"):
        fastsel.greedy_select(x, 2)
