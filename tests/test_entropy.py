from __future__ import annotations

import math

import numpy as np
import oracle
import pytest
from cases import CASES

import fastsel


def _gaussian_entropy(d):
    return d / 2 * math.log(2 * math.pi * math.e)


@pytest.mark.parametrize(("d", "tolerance"), [(1, 0.1), (2, 0.1), (4, 0.15)])
@pytest.mark.parametrize("k", [1, 5])
def test_gaussian(d, tolerance, k):
    x = np.random.default_rng(0).normal(size=(2000, d))
    assert fastsel.kl_entropy(x, k) == pytest.approx(_gaussian_entropy(d), abs=tolerance)


def test_uniform():
    x = np.random.default_rng(0).uniform(size=(3000, 2))
    assert fastsel.kl_entropy(x) == pytest.approx(0.0, abs=0.1)


def test_by_hand(backend):
    # Three points: eps = 1, 1, 4; psi(3) - psi(1) = 1.5; c_1 = 2.
    x = np.array([[0.0], [1.0], [5.0]])
    expected = 1.5 + math.log(2) + math.log(4) / 3
    assert fastsel.kl_entropy(x, backend=backend) == pytest.approx(expected, rel=1e-14)
    assert fastsel.kl_entropy(x, base=2) == pytest.approx(expected / math.log(2), rel=1e-14)


def test_scaling_adds_d_log_scale():
    x = CASES["normal-1000x20"]
    assert fastsel.kl_entropy(x * 3) - fastsel.kl_entropy(x) == pytest.approx(20 * math.log(3))


@pytest.mark.parametrize("d", [1, 342, 768, 4096])
def test_finite_in_any_dimension(d):
    x = np.random.default_rng(1).normal(size=(50, d))
    assert math.isfinite(fastsel.kl_entropy(x))
    assert math.isfinite(fastsel.kl_entropy(x * 1e-100))


def test_duplicate_policies():
    distinct = CASES["normal-63x7"]
    x = np.concatenate([distinct, distinct[:5]])
    with pytest.raises(ValueError, match="10 of 68 rows have a neighbour 1 at distance 0"):
        fastsel.kl_entropy(x)
    assert fastsel.kl_entropy(x, duplicates="drop") == pytest.approx(fastsel.kl_entropy(distinct))
    lower = fastsel.kl_entropy(x, duplicates="floor", floor=1e-20)
    upper = fastsel.kl_entropy(x, duplicates="floor", floor=1e-10)
    assert upper - lower == pytest.approx(7 / 68 * 10 * 10 * math.log(10))
    assert fastsel.kl_entropy(x, 2) < fastsel.kl_entropy(distinct, 2)


def test_drop_takes_signed_zeros_as_equal():
    x = np.array([[0.0], [-0.0], [1.0], [3.0]])
    assert fastsel.kl_entropy(x, duplicates="drop") == pytest.approx(fastsel.kl_entropy(x[1:]))


def test_generalization_score(backend):
    x = CASES["normal-65x8"]
    generated, training = x[:20], x[20:]
    expected = np.sqrt(oracle.sq_dists(generated, training).min(axis=1)).mean()
    score = fastsel.generalization_score(generated, training, backend=backend)
    assert score == pytest.approx(expected, rel=1e-14)
    assert fastsel.generalization_score(training, training) == 0.0
