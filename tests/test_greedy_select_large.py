"""Greedy selection on pools that take every path of the kernels, exactly, however they are set."""

from __future__ import annotations

import functools

import numpy as np
import oracle
import pytest
from cases import LARGE_CASES
from certificate import certify_greedy

import fastsel
from fastsel import schedule
from fastsel.backends import cpu

pytestmark = pytest.mark.skipif(bool(cpu.unusable_because()), reason="the native core is not built")

PICKS = 800


def stored(case, dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    return LARGE_CASES[case].astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


@functools.cache
def expected(case, dtype):
    return oracle.greedy(stored(case, dtype).astype(np.float64), PICKS)


def assert_exact(case, dtype, **options):
    picks, radii = fastsel.greedy_select(
        stored(case, dtype), PICKS, return_distances=True, backend="cpu", **options
    )
    np.testing.assert_array_equal(picks, expected(case, dtype)[0])
    np.testing.assert_array_equal(radii, expected(case, dtype)[1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", LARGE_CASES)
def test_every_case_on_every_level(case, dtype, level):
    assert_exact(case, dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", ["normal", "lattice", "collapsed"])
def test_half_precision_input(case, dtype, level):
    assert_exact(case, dtype)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("case", ["normal", "binary", "collapsed"])
def test_every_thread_count(monkeypatch, case, threads):
    monkeypatch.setattr(cpu, "threads", lambda: threads)
    assert_exact(case, "float32")


@pytest.mark.parametrize(("refreshed", "active"), [(33, 17), (33, 2048), (8192, 17)])
@pytest.mark.parametrize("case", ["normal", "lattice"])
def test_every_size_of_a_round(monkeypatch, case, refreshed, active):
    monkeypatch.setattr(schedule, "MAX_REFRESHED", refreshed)
    monkeypatch.setattr(schedule, "MAX_ACTIVE", active)
    assert_exact(case, "float32")


@pytest.mark.parametrize(("share", "most"), [(16, 0), (16, 3), (40, 480)])
@pytest.mark.parametrize("case", ["normal", "lattice"])
def test_any_number_of_central_picks(monkeypatch, case, share, most):
    monkeypatch.setattr(cpu, "CENTRAL_SHARE", share)
    monkeypatch.setattr(cpu, "MAX_CENTRAL", most)
    assert_exact(case, "float32")


def test_central_picks_spare_pairs(monkeypatch):
    x = np.random.default_rng(3).normal(size=(20_000, 16)).astype(np.float32)
    refreshed = []
    for most in (0, 480):
        monkeypatch.setattr(cpu, "MAX_CENTRAL", most)
        record = {}
        fastsel.greedy_select(x, 2000, backend="cpu", record=record)
        refreshed.append(record["refresh_pairs"])
    assert refreshed[1] < 0.8 * refreshed[0]


def test_the_whole_pool():
    x = LARGE_CASES["normal"][:2000].astype(np.float32)
    picks, radii = fastsel.greedy_select(x, len(x), return_distances=True, backend="cpu")
    certify_greedy(x, picks, radii)


def test_fifty_thousand_points_are_certified():
    rng = np.random.default_rng(8)
    centres = rng.normal(size=(40, 8))
    x = (centres[rng.integers(0, 40, 50_000)] + 0.4 * rng.normal(size=(50_000, 8))).astype("f4")
    picks, radii = fastsel.greedy_select(x, 600, return_distances=True, backend="cpu")
    certify_greedy(x, picks, radii)


@pytest.mark.parametrize("case", LARGE_CASES)
def test_most_pairs_are_never_computed(case):
    record = {}
    x = LARGE_CASES[case].astype(np.float32)
    fastsel.greedy_select(x, PICKS, backend="cpu", record=record)
    assert record["dense_pairs"] == len(x) * PICKS
    assert record["pruned_pairs"] == record["dense_pairs"] - record["refresh_pairs"] > 0
    assert 0 < record["pick_pairs"] < record["dense_pairs"]
    assert 0 < record["canonical_pairs"] < 0.15 * record["dense_pairs"]
    assert 0 < record["rounds"] <= PICKS
    assert all(record[f"{phase}_seconds"] > 0 for phase in ("leaders", "refresh", "pick"))
