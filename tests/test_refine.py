"""Refinement raises the entropy by single exchanges until none helps."""

from __future__ import annotations

import itertools

import numpy as np
import oracle
import pytest
from cases import CASES

import fastsel
from fastsel import canonical
from fastsel.backends import resolve
from fastsel.points import as_points
from fastsel.refinement import LOG_OF_INF, Refinement

# An exchange needs two members and a point outside.
SMALL = [name for name, x in CASES.items() if 4 <= len(x) <= 100]


def objective(x, members):
    return oracle.entropy_sum(oracle.log_sq_dists(oracle.sq_dists(x, x)), members)


def start_of(x, m, seed=0):
    return np.random.default_rng(seed).permutation(len(x))[:m]


@pytest.mark.parametrize("case", SMALL)
def test_ends_where_no_exchange_helps(case, backend):
    x = CASES[case]
    for m in sorted({2, max(2, len(x) // 2)}):
        members = start_of(x, m)
        record = {}
        refined = fastsel.refine(x, members, backend=backend, record=record)
        assert len(np.unique(refined)) == m
        assert np.count_nonzero(refined != members) <= record["swaps"]
        logs = oracle.log_sq_dists(oracle.sq_dists(x, x))
        best = oracle.entropy_sum(logs, refined)
        assert best >= oracle.entropy_sum(logs, members)
        assert (best > oracle.entropy_sum(logs, members)) == (record["swaps"] > 0)
        outside = np.setdiff1d(np.arange(len(x)), refined)
        for position, candidate in itertools.product(range(m), outside[:20]):
            other = refined.copy()
            other[position] = candidate
            assert oracle.entropy_sum(logs, other) <= best


@pytest.mark.parametrize("case", SMALL)
def test_every_exchange_is_the_best_for_its_candidate(monkeypatch, case):
    x = CASES[case]
    logs = oracle.log_sq_dists(oracle.sq_dists(x, x))
    choose = Refinement._best_exchange
    checked = []

    def checking(self, sq_dist):
        position, gain = choose(self, sq_dist)
        to_members = oracle.sq_dists(x, x)[self.members]
        candidate = int(np.flatnonzero((to_members == sq_dist[:, None]).all(axis=0))[0])
        if sq_dist.min() > 0:
            before = oracle.entropy_sum(logs, self.members)
            gains = []
            for i in range(len(self.members)):
                other = self.members.copy()
                other[i] = candidate
                gains.append(oracle.entropy_sum(logs, other) - before)
            assert gain == max(gains)
            assert position == int(np.argmax(gains))
            checked.append(candidate)
        return position, gain

    monkeypatch.setattr(Refinement, "_best_exchange", checking)
    fastsel.refine(x, start_of(x, len(x) // 3 + 2), max_swaps=12, backend="reference")
    assert checked or len(np.unique(x, axis=0)) < 3


def test_a_pass_keeps_the_two_nearest_of_every_member(backend):
    x = np.random.default_rng(0).normal(size=(120, 5))
    module = resolve(backend)
    refinement = Refinement(module, as_points("x", x), start_of(x, 40))
    refinement.run(25, None, False)
    assert refinement.record.swaps == 25
    fresh = Refinement(module, as_points("x", x), refinement.members)
    np.testing.assert_array_equal(refinement._sq_eps, fresh._sq_eps)
    np.testing.assert_array_equal(refinement._removals, fresh._removals)
    assert refinement.total() == objective(x, refinement.members)


def test_the_gain_is_that_of_the_entropy(backend):
    x = np.random.default_rng(1).normal(size=(400, 6)).astype(np.float32)
    members = fastsel.greedy_select(x, 100, objective="entropy")
    refined, gain = fastsel.refine(x, members, return_gain=True, backend=backend)
    rise = fastsel.kl_entropy(x[refined]) - fastsel.kl_entropy(x[members])
    assert gain > 0
    assert gain == pytest.approx(rise, abs=1e-9)


def test_backends_dtypes_and_metrics_agree(backend):
    x = np.random.default_rng(2).normal(size=(300, 9)).astype(np.float16)
    members = start_of(x, 60)
    for metric in ("euclidean", "cosine"):
        plain = fastsel.refine(x.astype(np.float64), members, metric=metric, backend="reference")
        np.testing.assert_array_equal(
            fastsel.refine(x, members, metric=metric, backend=backend), plain
        )


def test_duplicates_are_resolved_where_the_pool_allows():
    x = np.repeat(np.random.default_rng(3).normal(size=(30, 3)), 2, axis=0)
    refined, gain = fastsel.refine(x, np.arange(20), return_gain=True)
    assert gain == np.inf
    assert len(np.unique(x[refined], axis=0)) == 20
    refined, gain = fastsel.refine(x, np.arange(40), return_gain=True)
    assert np.isnan(gain)
    assert len(np.unique(x[refined], axis=0)) == 30


def test_budgets_end_it():
    x = np.random.default_rng(4).normal(size=(500, 4))
    members = start_of(x, 50)
    record = {}
    fastsel.refine(x, members, max_swaps=7, record=record)
    assert record["swaps"] == 7
    for budget in ({"max_swaps": 0}, {"max_seconds": 0}):
        np.testing.assert_array_equal(fastsel.refine(x, members, **budget), members)
    everything = np.arange(500)
    np.testing.assert_array_equal(fastsel.refine(x, everything), everything)


def test_inputs_stay_and_progress_is_told():
    x = np.random.default_rng(5).normal(size=(200, 4))
    members = start_of(x, 30)
    copies = x.copy(), members.copy()
    told = []
    fastsel.refine(x, members, progress=lambda done, total: told.append((done, total)))
    assert told
    assert all(0 < done <= total for done, total in told)
    np.testing.assert_array_equal(x, copies[0])
    np.testing.assert_array_equal(members, copies[1])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"indices": [0]}, ValueError, "indices must hold at least 2 rows, got 1"),
        ({"indices": [0, 0]}, ValueError, "indices must not repeat an index"),
        ({"indices": [0, 9]}, ValueError, r"indices must hold indices in \[0, 5\)"),
        ({"indices": [0.0, 1.0]}, TypeError, "indices must hold integers"),
        ({"max_swaps": -1}, ValueError, "max_swaps must be"),
        ({"max_seconds": -0.5}, ValueError, "max_seconds must not be negative, got -0.5"),
        ({"metric": "l1"}, ValueError, "metric must be one of"),
        ({"record": []}, TypeError, "record must be a dict, got list"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    options = {"indices": [0, 1], **options}
    with pytest.raises(error, match=message):
        fastsel.refine(np.eye(5), **options)


def test_the_logarithm_of_infinity_is_above_all():
    assert canonical.log_sq_dists(np.array([np.finfo(float).max]))[0] < LOG_OF_INF
