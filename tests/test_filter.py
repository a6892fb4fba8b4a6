"""The int8 filter never passes over a pair that matters, and one that does is caught."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from cases import ADVERSARIAL_ROWS, CASES, case_params
from certificate import certify_greedy
from hypothesis import given, settings

import fastsel
from fastsel import canonical, filter, schedule
from fastsel.backends import cpu
from fastsel.points import Points, as_points

pytestmark = pytest.mark.skipif(bool(cpu.unusable_because()), reason="the native core is not built")


def decoded(codes, dim):
    return codes.values[:, :dim].astype(np.float64) * codes.scales[:, None].astype(np.float64)


def filtered(points, coded):
    """The filter's squared distances of all pairs, float32 [centre, point]."""
    seen = cpu._core().filter_matrix(coded, np.arange(points.n), 1)
    assert (seen[:, points.n :] == np.inf).all()
    return seen[:, : points.n]


def assert_bounds_hold(x):
    """What the filter says of a pair, its canonical distance bears out."""
    points = as_points("x", x)
    (coded,) = cpu.encode(points)
    codes = coded.codes
    rows = points.rows(slice(None))
    shift, scale = filter.frame(cpu, points)
    assert scale == codes.scale
    images = (rows - shift) * scale
    errors = codes.errors.astype(np.float64)
    assert (np.linalg.norm(images - decoded(codes, points.dim), axis=1) <= errors).all()
    assert (np.linalg.norm(images, axis=1) <= 1.0 + 1e-12).all()

    sq_dists = filtered(points, coded).astype(np.float64)
    exact = np.sqrt(canonical.sq_dists(rows[:, None], rows[None])) * scale
    reach = exact + errors[None, :] + errors[:, None]
    assert (sq_dists <= np.square(reach * (1 + 2.0**-22) + 2.0**-50)).all()
    # And it is not so low as to be of no use: off by rounding and the two errors at most.
    norms = codes.sq_norms.astype(np.float64)
    slack = 2.0**-18 * (norms[:, None] + norms[None, :]) + 1e-30
    lowest = np.maximum(exact - errors[None, :] - errors[:, None], 0.0)
    assert (sq_dists >= np.square(lowest) * (1 - 2.0**-18) - slack).all()


@pytest.mark.parametrize("case", case_params(max_n=200))
def test_bounds_hold_on_every_case(case, level):
    assert_bounds_hold(CASES[case])


@settings(max_examples=200, deadline=None)
@given(ADVERSARIAL_ROWS)
def test_bounds_hold_on_adversarial_rows(x):
    assert_bounds_hold(x)


@pytest.mark.parametrize("scale", [1e-140, 1e-30, 1e30, 1e140])
def test_extreme_scales_stay_exact(scale, level):
    x = CASES["normal-65x8"] * scale
    assert_bounds_hold(x)
    picks, radii = fastsel.greedy_select(x, 40, return_distances=True, backend="cpu")
    expected_picks, expected_radii = oracle.greedy(x, 40)
    np.testing.assert_array_equal(picks, expected_picks)
    np.testing.assert_array_equal(radii, expected_radii)


@pytest.mark.parametrize("dim", [1, 3, 4, 63, 65, 200])
def test_inner_products_are_exact_on_every_level(level, dim):
    x = np.random.default_rng(dim).normal(size=(100, dim)).astype(np.float32)
    points = Points(x)
    (coded,) = cpu.encode(points)
    codes = coded.codes
    values = codes.values.astype(np.int64)
    assert (values[:, dim:] == 0).all()
    assert abs(values).max() == filter.LARGEST_CODE
    scales, norms = codes.scales.astype(np.float64), codes.sq_norms.astype(np.float64)
    expected = norms[:, None] + norms - 2 * (values @ values.T) * scales[:, None] * scales
    np.testing.assert_allclose(filtered(points, coded), expected, rtol=0, atol=1e-6)


def test_codes_are_small_enough_for_int32_sums():
    for dim in (1, 133_144, 200_000, 2**31 - 1):
        code = filter.largest_code(dim)
        assert 1 <= code <= filter.LARGEST_CODE
        assert code**2 * dim < 2**31
    x = np.ones((3, 200_000), np.float32)
    x[1] = -1.0
    x[2, ::2] = -1.0
    assert_bounds_hold(x)


def test_an_error_stated_too_small_is_caught(monkeypatch):
    x = np.random.default_rng(0).normal(size=(2000, 24)).astype(np.float32)
    picks, radii = fastsel.greedy_select(x, 1000, return_distances=True, backend="cpu")
    certify_greedy(x, picks, radii)
    coded = cpu._coded

    def overconfident(*args):
        result = coded(*args)
        errors = result.codes.errors
        np.subtract(errors, np.float32(0.01), out=errors)
        return result

    monkeypatch.setattr(cpu, "_coded", overconfident)
    picks, radii = fastsel.greedy_select(x, 1000, return_distances=True, backend="cpu")
    with pytest.raises(AssertionError):
        certify_greedy(x, picks, radii)


@pytest.mark.parametrize("refreshed", [1, 7, 100, 4096])
@pytest.mark.parametrize("active", [1, 5, 1024])
@pytest.mark.parametrize("case", ["normal-1000x20", "lattice-3d", "duplicates", "collapsed"])
def test_sizes_of_a_round_do_not_change_results(monkeypatch, case, refreshed, active, backend):
    x = CASES[case]
    m = min(len(x), 150)
    expected = oracle.greedy(x, m)
    monkeypatch.setattr(schedule, "MIN_REFRESHED", refreshed)
    monkeypatch.setattr(schedule, "MAX_REFRESHED", refreshed)
    monkeypatch.setattr(schedule, "MAX_ACTIVE", active)
    picks, radii = fastsel.greedy_select(x, m, return_distances=True, backend=backend)
    np.testing.assert_array_equal(picks, expected[0])
    np.testing.assert_array_equal(radii, expected[1])


def test_cutting_long_calls_does_not_change_results(monkeypatch):
    x = np.random.default_rng(3).normal(size=(3000, 33)).astype(np.float32)
    monkeypatch.setattr(cpu, "CALL_WORK", 1 << 20)
    picks, radii = fastsel.greedy_select(x, 1500, return_distances=True, backend="cpu")
    certify_greedy(x, picks, radii)
