from __future__ import annotations

import numpy as np
import oracle
import pytest
from cases import CASES, case_params

import fastsel
from fastsel import pairs as pairs_module


def sets(case):
    """A case cut in two, real and generated."""
    x = CASES[case]
    return x[: len(x) // 2], x[len(x) // 3 :]


def plain_prdc(real, generated, k):
    """The definitions of arXiv 2002.09797, with whole matrices of canonical distances."""
    real_radius = oracle.knn(real, real, k, exclude_self=True)[0][:, -1]
    generated_radius = oracle.knn(generated, generated, k, exclude_self=True)[0][:, -1]
    dist = oracle.sq_dists(real, generated)
    in_real = dist < real_radius[:, None]
    in_generated = dist < generated_radius
    return (
        in_real.any(axis=0).mean(),
        in_generated.any(axis=1).mean(),
        in_real.sum() / (k * len(generated)),
        in_real.any(axis=1).mean(),
    )


@pytest.mark.parametrize("case", case_params(min_n=60, max_n=200))
def test_prdc_equals_the_definition(case, backend):
    real, generated = sets(case)
    for k in (1, 5):
        assert fastsel.prdc(real, generated, k, backend=backend) == plain_prdc(real, generated, k)


@pytest.mark.parametrize("scale", [1e-160, 1e-30, 1e100])
def test_prdc_at_any_scale(scale):
    real, generated = sets("normal-65x8")
    expected = plain_prdc(real * scale, generated * scale, 3)
    assert fastsel.prdc(real * scale, generated * scale, 3) == expected


@pytest.mark.parametrize("case", ["normal-1000x20", "lattice-3d", "one-ulp"])
def test_tiles_do_not_change_prdc(case, monkeypatch):
    real, generated = sets(case)
    expected = fastsel.prdc(real, generated, 4)
    monkeypatch.setattr(pairs_module, "TILE_ROWS", 37)
    monkeypatch.setattr(pairs_module, "TILE_PAIRS", 37 * 19)
    monkeypatch.setattr(pairs_module, "BLOCK_ELEMENTS", 100)
    assert fastsel.prdc(real, generated, 4) == expected


def test_prdc_equals_the_prdc_package():
    package = pytest.importorskip("prdc", reason="prdc is not installed")
    rng = np.random.default_rng(0)
    real = rng.normal(size=(2000, 16))
    generated = 0.9 * rng.normal(size=(2000, 16)) + 0.1
    expected = package.compute_prdc(real, generated, nearest_k=5)
    ours = fastsel.prdc(real, generated, 5)
    assert ours._asdict() == pytest.approx(expected, rel=1e-14)
    assert 0.1 < ours.coverage < 1


def test_prdc_of_a_set_that_is_one_point_and_of_far_sets():
    real = CASES["normal-65x8"]
    assert fastsel.prdc(real, real + 1e6) == (0, 0, 0, 0)
    # A collapsed set has balls of radius 0, which hold nothing.
    collapsed = np.repeat(real[:1], 20, axis=0)
    scores = fastsel.prdc(real, collapsed)
    assert scores.precision == 1
    assert scores.recall == 0


@pytest.mark.parametrize("case", case_params(min_n=60, max_n=200))
def test_bounds_hold_the_distances(case):
    x = CASES[case]
    points = fastsel.points.as_points("x", x)
    rows = np.arange(len(x))
    bounds = pairs_module.PairFilter(points)
    (tile,) = bounds.tiles(points, rows, points, rows)
    i, j = np.divmod(np.arange(len(x) ** 2), len(x))
    scaled = oracle.sq_dists(x, x)[i, j] * bounds._scale**2
    assert (tile.lower[i, j] <= scaled).all()
    assert (tile.upper(i, j) >= scaled).all()
    # Bounds this wide would decide nothing; ones that fail would do so on rows like these.
    assert (tile.upper(i, j) - tile.lower[i, j]).max() < 1e-2


def test_generalization_score_and_its_distances(backend):
    x = CASES["normal-65x8"]
    generated, training = x[:20], x[20:]
    expected = np.sqrt(oracle.sq_dists(generated, training).min(axis=1))
    score, distances = fastsel.generalization_score(
        generated, training, return_distances=True, backend=backend
    )
    assert score == pytest.approx(expected.mean(), rel=1e-14)
    np.testing.assert_array_equal(distances, expected)
    assert fastsel.generalization_score(generated, training, backend=backend) == score
    assert fastsel.generalization_score(training, training) == 0.0


@pytest.mark.parametrize("threshold", [1 / 3, 0.9, 1])
def test_memorization_ratio(threshold, backend):
    training = CASES["normal-65x8"]
    rng = np.random.default_rng(1)
    generated = np.concatenate([training[:9] + 1e-3, rng.normal(size=(31, 8))])
    dist = np.sort(np.sqrt(oracle.sq_dists(generated, training)), axis=1)
    expected = np.mean(dist[:, 0] < threshold * dist[:, 1])
    ratio = fastsel.memorization_ratio(generated, training, threshold=threshold, backend=backend)
    assert ratio == expected
    assert ratio >= 9 / 40


def test_copies_of_a_repeated_point_do_not_count_as_memorized():
    training = np.array([[0.0], [0.0], [9.0]])
    assert fastsel.memorization_ratio(np.array([[0.0], [0.1], [8.0]]), training) == 1 / 3
