"""The float32 filter's bound holds, and a bound that is too tight is caught."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from cases import CASES, case_params
from certificate import certify_greedy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastsel
from fastsel import canonical, filter, schedule
from fastsel.backends import cpu
from fastsel.points import as_points

pytestmark = pytest.mark.skipif(bool(cpu.unusable_because()), reason="the native core is not built")


def assert_margins_hold(x):
    points = as_points("x", x)
    frame = filter.frame(cpu, points)
    assert np.isfinite(frame.sq_norms).all()
    n = points.n
    seen = cpu._core().filter_matrix(
        points.data,
        None,
        frame.shift,
        frame.scale,
        frame.sq_norms,
        frame.margins,
        np.arange(n),
        1,
    )
    assert (seen[:, n:] == np.inf).all()
    rows = points.rows(slice(None))
    exact = canonical.sq_dists(rows[:, None], rows[None]) * frame.scale * frame.scale
    margins = frame.margins.astype(np.float64)
    error = np.abs(seen[:, :n] + margins[:, None] - exact)
    # The one rounding of `seen` when the margin was taken off is part of what is bounded.
    assert (error <= margins[:, None] + margins[None, :]).all()


@pytest.fixture(params=[] if cpu.unusable_because() else cpu._core().levels())
def level(request):
    core = cpu._core()
    before = core.level()
    core.use_level(request.param)
    yield request.param
    core.use_level(before)


@pytest.mark.parametrize("case", case_params(max_n=200))
def test_margins_hold_on_every_case(case, level):
    assert_margins_hold(CASES[case])


@settings(max_examples=200, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    )
)
def test_margins_hold_on_adversarial_rows(x):
    assert_margins_hold(x)


@pytest.mark.parametrize("scale", [1e-140, 1e-30, 1e30, 1e140])
def test_extreme_scales_stay_exact(scale, level):
    x = CASES["normal-65x8"] * scale
    assert_margins_hold(x)
    picks, radii = fastsel.greedy_select(x, 40, return_distances=True, backend="cpu")
    expected_picks, expected_radii = oracle.greedy(x, 40)
    np.testing.assert_array_equal(picks, expected_picks)
    np.testing.assert_array_equal(radii, expected_radii)


def test_a_margin_too_tight_is_caught(monkeypatch):
    x = np.random.default_rng(0).normal(size=(2000, 24)).astype(np.float32)
    picks, radii = fastsel.greedy_select(x, 1000, return_distances=True, backend="cpu")
    certify_greedy(x, picks, radii)
    proved = filter.margins
    monkeypatch.setattr(filter, "margins", lambda *args: proved(*args) - np.float32(0.01))
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
    monkeypatch.setattr(schedule, "MIN_ACTIVE", refreshed)
    monkeypatch.setattr(schedule, "MAX_REFRESHED", refreshed)
    monkeypatch.setattr(schedule, "MAX_ACTIVE", active)
    picks, radii = fastsel.greedy_select(x, m, return_distances=True, backend=backend)
    np.testing.assert_array_equal(picks, expected[0])
    np.testing.assert_array_equal(radii, expected[1])


@pytest.mark.parametrize("tile_bytes", [0, 1 << 30])
def test_packed_centres_do_not_change_results(monkeypatch, tile_bytes):
    x = np.random.default_rng(3).normal(size=(3000, 33)).astype(np.float32)
    monkeypatch.setattr(cpu, "TILE_BYTES", tile_bytes)
    monkeypatch.setattr(cpu, "CALL_WORK", 1 << 20)
    picks, radii = fastsel.greedy_select(x, 1500, return_distances=True, backend="cpu")
    certify_greedy(x, picks, radii)
