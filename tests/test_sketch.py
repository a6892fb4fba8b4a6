"""Sketches never lengthen a distance, and selections with them are those without."""

from __future__ import annotations

import functools

import numpy as np
import oracle
import pytest
from cases import ADVERSARIAL_ROWS, CASES, case_params
from certificate import certify_greedy
from hypothesis import given, settings

import fastsel
from fastsel import canonical, filter, schedule, sketch
from fastsel.backends import cpu
from fastsel.points import as_points

pytestmark = pytest.mark.skipif(bool(cpu.unusable_because()), reason="the native core is not built")


def contraction(dim, depth=32, seed=0):
    """A matrix that never lengthens, with a last column of zeros."""
    basis = np.random.default_rng(seed).normal(size=(dim, depth))
    basis[:, -1] = 0.0
    basis *= (1 - 2.0**-16) / np.linalg.norm(basis, 2)
    basis = basis.astype(np.float32)
    return basis if sketch.never_lengthens(basis) else basis / np.float32(depth)


def assert_sketches_hold(x, depth=32):
    points = as_points("x", x)
    shift, scale = filter.frame(cpu, points)
    basis = contraction(points.dim, depth)
    assert sketch.never_lengthens(basis)
    coded = cpu._coded(points, shift, scale, basis)
    rows = points.rows(slice(None))
    images = (rows - shift) * scale
    sketches = images @ basis.astype(np.float64)
    rest = np.square(images).sum(axis=1) - np.square(sketches).sum(axis=1)
    sketches[:, -1] = np.sqrt(np.maximum(rest, 0.0))

    codes = coded.sketch
    decoded = codes.values.astype(np.float64) * codes.scales[:, None].astype(np.float64)
    errors = codes.errors.astype(np.float64)
    off = np.linalg.norm(sketches - decoded, axis=1)
    # The float64 sketches here are off by rounding themselves.
    assert (off <= errors * (1 + 1e-6) + 1e-7 * np.linalg.norm(images, axis=1)).all()
    # Of some use: not far beyond what rounding to int8 and the projection bring about.
    largest = np.abs(sketches).max(axis=1) / filter.LARGEST_CODE
    loose = largest * np.sqrt(depth) + 2e-2 * np.linalg.norm(images, axis=1) + 1e-14
    assert (errors <= loose).all()

    exact = np.sqrt(canonical.sq_dists(rows[:, None], rows[None])) * scale
    bound = np.linalg.norm(decoded[:, None] - decoded[None], axis=2)
    assert (bound <= exact + errors[:, None] + errors[None] + 1e-12).all()


@pytest.mark.parametrize("case", case_params(max_n=200))
def test_sketches_hold_on_every_case(case, level):
    assert_sketches_hold(CASES[case])


@pytest.mark.parametrize("depth", [32, 64, 96, 128])
@pytest.mark.parametrize("dim", [1, 63, 64, 65, 129, 300])
def test_sketches_hold_for_every_shape(dim, depth, level):
    assert_sketches_hold(
        np.random.default_rng(dim).normal(size=(67, dim)).astype(np.float32), depth
    )


@settings(max_examples=100, deadline=None)
@given(ADVERSARIAL_ROWS)
def test_sketches_hold_on_adversarial_rows(x):
    assert_sketches_hold(x)


def sketched(monkeypatch):
    """Make every selection use a sketch, whether it pays or not; returns the bases it used."""
    bases = []

    def choose(core, rows, n, capacity, threads):
        bases.append(contraction(rows.shape[1]))
        return bases[-1], []

    monkeypatch.setattr(cpu, "choose", choose)
    return bases


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("case", case_params(max_n=1000))
def test_picks_with_a_sketch_are_the_oracle_s(monkeypatch, case, threads, level):
    bases = sketched(monkeypatch)
    monkeypatch.setattr(cpu, "threads", lambda: threads)
    x = CASES[case]
    m = min(len(x), 200)
    expected = oracle.greedy(x, m)
    picks, radii = fastsel.greedy_select(x, m, return_distances=True, backend="cpu")
    assert bases
    np.testing.assert_array_equal(picks, expected[0])
    np.testing.assert_array_equal(radii, expected[1])


@functools.cache
def greedy_entropy(case):
    return oracle.greedy_entropy(CASES[case], min(len(CASES[case]), 100))


# Rounds so small that rows wait long enough for the central members to be met first.
@pytest.mark.parametrize(("threads", "refreshed"), [(1, 7), (3, 2048)])
@pytest.mark.parametrize("case", case_params(max_n=200))
def test_entropy_picks_with_a_sketch_are_the_oracle_s(monkeypatch, case, threads, refreshed, level):
    bases = sketched(monkeypatch)
    monkeypatch.setattr(cpu, "threads", lambda: threads)
    monkeypatch.setattr(cpu, "CENTRAL_SHARE", 8)
    monkeypatch.setattr(schedule, "MAX_REFRESHED", refreshed)
    expected = greedy_entropy(case)
    picks, radii = fastsel.greedy_select(
        CASES[case],
        len(expected[0]),
        objective="entropy",
        return_distances=True,
        backend="cpu",
    )
    assert bases
    np.testing.assert_array_equal(picks, expected[0])
    np.testing.assert_array_equal(radii, expected[1])


@pytest.mark.parametrize("decay", [0.8, 0.99])
@pytest.mark.parametrize("case", case_params(max_n=200))
def test_threshold_decay_with_a_sketch_is_the_oracle_s(monkeypatch, case, decay, level):
    bases = sketched(monkeypatch)
    x = CASES[case]
    m = (len(x) + 1) // 2
    expected = oracle.threshold_decay(x, m, "auto", decay)
    picks, radii = fastsel.threshold_decay_select(
        x, m, decay=decay, on_shortfall="return", return_distances=True, backend="cpu"
    )
    assert bases
    np.testing.assert_array_equal(picks, expected[0])
    np.testing.assert_array_equal(radii, expected[1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_dtypes_and_metrics_with_a_sketch(monkeypatch, dtype, metric):
    x = np.random.default_rng(1).normal(size=(1500, 70)).astype(dtype)
    expected = fastsel.greedy_select(x, 700, metric=metric, return_distances=True, backend="cpu")
    assert sketched(monkeypatch) == []
    result = fastsel.greedy_select(x, 700, metric=metric, return_distances=True, backend="cpu")
    np.testing.assert_array_equal(result[0], expected[0])
    np.testing.assert_array_equal(result[1], expected[1])


def test_an_error_stated_too_small_is_caught(monkeypatch):
    monkeypatch.setattr(sketch, "MIN_WORK", 0)
    coded = cpu._coded
    spoilt = []

    def overconfident(*args):
        result = coded(*args)
        errors = result.sketch.errors
        np.subtract(errors, np.float32(0.03), out=errors)
        spoilt.append(errors)
        return result

    monkeypatch.setattr(cpu, "_coded", overconfident)
    x = low_rank(2000)
    picks, radii = fastsel.greedy_select(x, 1000, return_distances=True, backend="cpu")
    assert spoilt
    with pytest.raises(AssertionError):
        certify_greedy(x, picks, radii)


def low_rank(n, dim=96, rank=10):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, dim))
    return (x + 0.05 * rng.normal(size=(n, dim))).astype(np.float32)


def choose(sample, n, capacity):
    return sketch.choose(cpu._core(), sample, n, capacity, 2)


def test_products_are_those_of_numpy(level):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(67, 130)).astype(np.float32)
    basis = rng.normal(size=(130, 96)).astype(np.float32)
    expected = rows.astype(np.float64) @ basis
    np.testing.assert_allclose(cpu._core().project(rows, basis, 3), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("n", [5, 200, 1003])
def test_principal_directions_are_orthonormal_and_lead(n, level):
    x = low_rank(n) + 0.0
    x -= x.mean(axis=0)
    directions = np.random.default_rng(0).standard_normal((96, 32), np.float32)
    cpu._core().principal(x, directions, 2, 2)
    gram = directions.T.astype(np.float64) @ directions
    rank = np.linalg.matrix_rank(x)
    np.testing.assert_allclose(gram[:rank, :rank], np.eye(min(rank, 32)), atol=1e-5)
    kept = np.square(x @ directions).sum()
    values = np.linalg.svd(x, compute_uv=False)
    assert kept >= 0.995 * np.square(values[:32]).sum()


def test_a_trial_takes_a_sketch_where_it_pays(monkeypatch):
    monkeypatch.setattr(sketch, "MIN_WORK", 0)
    x = low_rank(4000).astype(np.float64)
    basis, trials = choose(x - x.mean(axis=0), 4000, 2000)
    assert basis is not None
    assert basis.shape == (96, 32)
    assert [trial.depth for trial in trials] == [0, 32]
    assert trials[1].cycles < trials[0].cycles
    assert trials[1].passed < 0.01

    noise = np.random.default_rng(0).normal(size=(4000, 96))
    basis, trials = choose(noise, 4000, 2000)
    assert basis is None
    assert trials[1].passed > 0.5


def test_no_sketch_for_little_work_or_few_columns():
    x = low_rank(4000).astype(np.float64)
    assert choose(x, 4000, 2000) == (None, [])
    assert choose(x[:, :60], 10**9, 10**6) == (None, [])
    assert choose(x[:20], 10**9, 10**6) == (None, [])


def test_the_record_tells_of_the_trial_and_the_pairs_that_passed(monkeypatch):
    monkeypatch.setattr(sketch, "MIN_WORK", 0)
    record = {}
    x = low_rank(3000)
    picks, radii = fastsel.greedy_select(
        x, 1500, return_distances=True, backend="cpu", record=record
    )
    certify_greedy(x, picks, radii)
    assert [trial["depth"] for trial in record["trials"]] == [0, 32]
    assert 0 < record["passed_pairs"] < record["refresh_pairs"] / 10


@pytest.mark.parametrize("scale", [0.0, 1e-140, 1e140])
def test_a_trial_survives_extreme_scales(monkeypatch, scale):
    monkeypatch.setattr(sketch, "MIN_WORK", 0)
    x = low_rank(600).astype(np.float64) * scale
    picks = fastsel.greedy_select(x, 300, backend="cpu")
    np.testing.assert_array_equal(picks, fastsel.greedy_select(x, 300, backend="reference"))


def test_a_basis_that_lengthens_is_told():
    assert sketch.never_lengthens(np.eye(3, 2, dtype=np.float32) * np.float32(0.999))
    assert not sketch.never_lengthens(np.eye(3, 2, dtype=np.float32) * np.float32(1.001))
    assert not sketch.never_lengthens(np.full((4, 4), 0.3, np.float32))
