"""The entropy of the pool, ours and by scikit-learn's neighbours in the same formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastsel
from bench.data import Features

TOLERANCE = 1e-3  # of D nats: the share by which a float32 distance may err


def sklearn_entropy(features: Features) -> float:
    neighbors = pytest.importorskip("sklearn.neighbors", reason="scikit-learn is not installed")
    n, dim = features.shape
    search = neighbors.NearestNeighbors(n_neighbors=1, algorithm="brute").fit(features)
    nearest = search.kneighbors()[0][:, 0].astype(np.float64)
    log_ball = dim / 2 * math.log(math.pi) - math.lgamma(dim / 2 + 1)
    # psi(n) - psi(1), the harmonic number.
    harmonic = math.fsum(1 / i for i in range(1, n))
    return float(harmonic + log_ball + dim * np.mean(np.log(nearest)))


@pytest.mark.parametrize("entropy", [fastsel.kl_entropy, sklearn_entropy])
def test_kl_entropy(benchmark: Any, pool: Features, entropy: Callable[[Features], float]) -> None:
    n, dim = pool.shape
    benchmark.group = f"kl_entropy: {n:,} x {dim}"
    small = pool[:512]
    assert abs(entropy(small) - fastsel.kl_entropy(small)) <= TOLERANCE * dim
    benchmark.pedantic(entropy, (pool,), rounds=3)
