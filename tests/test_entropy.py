from __future__ import annotations

import math

import numpy as np
import oracle
import pytest
from cases import CASES

import fastsel
from bench import entropy_bias
from fastsel.backends import cpu

# family, N, D, k, and the mean and the spread of the error in nats, from docs/scores.md.
STATED = [
    ("Gaussian", 1_000, 1, 4, -0.01, 0.03),
    ("Gaussian", 4_000, 2, 1, -0.01, 0.02),
    ("Gaussian", 4_000, 8, 4, -0.06, 0.03),
    ("Gaussian", 1_000, 32, 1, 2.49, 0.12),
    ("Gaussian", 1_000, 128, 4, 26.71, 0.20),
    ("uniform", 4_000, 1, 1, 0.00, 0.03),
    ("uniform", 1_000, 8, 4, 1.26, 0.05),
    ("uniform", 4_000, 32, 1, 8.14, 0.06),
    ("Student-t", 1_000, 1, 4, 0.00, 0.03),
    ("Student-t", 4_000, 8, 1, -0.17, 0.04),
    ("Student-t", 1_000, 32, 4, 0.96, 0.62),
]


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


# From 342 on the gamma function in the volume of the unit ball overflows.
@pytest.mark.parametrize("d", [2**p for p in range(13)] + [341, 342, 343, 768, 3000])
def test_finite_in_any_dimension(d):
    x = np.random.default_rng(1).normal(size=(50, d))
    for scale in (1e-100, 1, 1e100):
        assert np.isfinite(fastsel.kl_entropy(x * scale, [1, 7, 49])).all()


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


def test_many_k_in_one_pass(backend, monkeypatch):
    x = CASES["normal-65x8"]
    entropies, distances = fastsel.kl_entropy(x, [7, 1, 64], return_distances=True, backend=backend)
    sq_dist = oracle.knn(x, x, 64, exclude_self=True)[0]
    np.testing.assert_array_equal(distances, np.sqrt(sq_dist[:, [6, 0, 63]]))
    assert entropies.tolist() == [fastsel.kl_entropy(x, k, backend=backend) for k in (7, 1, 64)]
    entropy, eps = fastsel.kl_entropy(x, 7, return_distances=True, backend=backend)
    assert entropy == entropies[0]
    np.testing.assert_array_equal(eps, distances[:, 0])
    monkeypatch.setattr("fastsel.neighbors.HELD_NEIGHBOURS", 500)
    np.testing.assert_array_equal(fastsel.kl_entropy(x, [7, 1, 64], backend=backend), entropies)


@pytest.mark.parametrize("coded_bytes", [1 << 25, 3000])
@pytest.mark.parametrize("case", ["normal-1000x20", "duplicates", "lattice-3d"])
def test_a_subset_is_as_its_copy(case, coded_bytes, monkeypatch, backend):
    monkeypatch.setattr(cpu, "CODED_BYTES", coded_bytes)
    pool = CASES[case].astype(np.float32)
    rows = np.random.default_rng(0).permutation(len(pool))[:40]
    options = {"k": [1, 5, 20], "return_distances": True, "backend": backend}
    for policy in ("floor", "drop"):
        ours = fastsel.kl_entropy(pool, indices=rows, duplicates=policy, **options)
        copied = fastsel.kl_entropy(pool[rows], duplicates=policy, **options)
        for one, other in zip(ours, copied, strict=True):
            np.testing.assert_array_equal(one, other)


def test_drop_keeps_the_first_of_equal_rows():
    x = np.array([[5.0], [1.0], [5.0], [2.0], [1.0]], np.float16)
    _, distances = fastsel.kl_entropy(x, duplicates="drop", return_distances=True)
    np.testing.assert_array_equal(distances, [3.0, 1.0, 1.0])
    _, distances = fastsel.kl_entropy(
        x, indices=[4, 3, 2, 1], duplicates="drop", return_distances=True
    )
    np.testing.assert_array_equal(distances, [1.0, 1.0, 3.0])


def test_drop_takes_bfloat16_bits():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.array([[0.0], [-0.0], [1.0], [3.0]])
    assert fastsel.kl_entropy(x.astype(ml_dtypes.bfloat16), duplicates="drop") == (
        fastsel.kl_entropy(x[1:])
    )


@pytest.mark.parametrize(("family", "n", "d", "k"), [case[:4] for case in STATED])
def test_bias_is_as_stated(family, n, d, k):
    """Other draws than those of docs/scores.md err by its mean, within four times its spread."""
    stated, spread = {case[:4]: case[4:] for case in STATED}[family, n, d, k]
    errors = entropy_bias.errors(family, n, d, [k], seeds=range(100, 103))[:, 0]
    assert abs(errors.mean() - stated) < 4 * spread


@pytest.mark.parametrize("family", entropy_bias.FAMILIES)
def test_closed_forms_in_one_dimension(family):
    """Where the bias is far below the spread, the estimate is the closed form."""
    errors = entropy_bias.errors(family, 10_000, 1, [4], seeds=[7])
    assert abs(errors[0, 0]) < 0.05
