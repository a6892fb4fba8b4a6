from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import oracle
import pytest
from cases import CASES, LARGE_CASES, case_params
from certificate import certify_threshold_decay
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastsel
from fastsel import schedule, threshold
from fastsel.backends import cpu

needs_core = pytest.mark.skipif(bool(cpu.unusable_because()), reason="the native core is not built")

RULES = ("stalled", "sweep")


def select(x, m, **options):
    """Picks, radii, thresholds and sweeps, as the oracle gives them."""
    return fastsel.threshold_decay_select(
        x, m, return_distances=True, return_thresholds=True, return_sweeps=True, **options
    )


def assert_equal(results, expected):
    for name, result, reference in zip(
        ("picks", "radii", "thresholds", "sweeps"), results, expected, strict=True
    ):
        assert result.dtype == reference.dtype
        np.testing.assert_array_equal(result, reference, err_msg=name)


def distinct(x):
    return len(np.unique(np.asarray(x, np.float64) + 0.0, axis=0))


def reach(x):
    """The distance of the point farthest from the first one."""
    return float(np.sqrt(oracle.sq_dists(x[:1], x).max())) or 1.0


@pytest.mark.parametrize("decay_when", RULES)
@pytest.mark.parametrize("case", case_params(max_n=200))
def test_equals_the_oracle(case, decay_when, backend):
    x = CASES[case]
    m = min(distinct(x), (len(x) + 1) // 2)
    for first in ("auto", 0.9 * reach(x), 0.05 * reach(x), 3 * reach(x)):
        options = {"threshold": first, "decay": 0.7, "decay_when": decay_when}
        assert_equal(
            select(x, m, backend=backend, **options), oracle.threshold_decay(x, m, **options)
        )


@pytest.mark.parametrize("decay_when", RULES)
@pytest.mark.parametrize("case", case_params())
def test_every_distinct_point(case, decay_when, backend):
    x = CASES[case]
    m = distinct(x)
    options = {"threshold": "auto", "decay": 0.9, "decay_when": decay_when}
    assert_equal(select(x, m, backend=backend, **options), oracle.threshold_decay(x, m, **options))


@pytest.mark.parametrize("decay", [0.05, 0.5, 0.99, 0.9999])
def test_every_decay(decay, backend):
    x = CASES["normal-65x8"]
    for first in ("auto", 2.0):
        options = {"threshold": first, "decay": decay}
        assert_equal(
            select(x, 50, backend=backend, **options), oracle.threshold_decay(x, 50, **options)
        )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_every_dtype_is_taken_exactly(dtype, backend):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = CASES["normal-65x33"].astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    options = {"threshold": "auto", "decay": 0.9}
    expected = oracle.threshold_decay(x.astype(np.float64), 40, **options)
    assert_equal(select(x, 40, backend=backend, **options), expected)


@pytest.mark.parametrize("first", ["auto", 0.5])
def test_cosine_thresholds_are_in_units_of_the_metric(first, backend):
    x = CASES["scales"]
    options = {"threshold": first, "decay": 0.9, "metric": "cosine"}
    assert_equal(
        select(x, 60, backend=backend, **options), oracle.threshold_decay(x, 60, **options)
    )


def test_a_distance_equal_to_the_threshold_is_rejected(backend):
    x = np.array([[0.0], [3.0], [2.0], [6.0]])
    picks, _, thresholds, sweeps = select(x, 3, threshold=3.0, decay=0.5, backend=backend)
    np.testing.assert_array_equal(picks, [0, 3, 1])
    np.testing.assert_array_equal(thresholds, [np.inf, 3.0, 1.5])
    np.testing.assert_array_equal(sweeps, [0, 1, 3])


def test_the_limit_of_a_threshold_is_the_largest_key_that_it_rejects():
    rng = np.random.default_rng(0)
    values = [
        *np.exp(rng.uniform(-700, 700, 2000)).tolist(),
        5e-324,
        1e-170,
        1.0,
        2.0,
        1e200,
        1.7e308,
    ]
    for metric, value in itertools.product(("euclidean", "cosine"), values):
        key = threshold.largest_key(value, metric)
        assert threshold.distance(key, metric) <= value
        assert threshold.distance(math.nextafter(key, math.inf), metric) > value or key == math.inf


def test_initial_is_the_prefix_and_counts(backend):
    x = CASES["normal-65x8"]
    options = {"threshold": "auto", "decay": 0.9, "initial": [40, 3, 17]}
    assert_equal(
        select(x, 30, backend=backend, **options), oracle.threshold_decay(x, 30, **options)
    )
    for order in ([40, 3, 17], np.arange(65)[::-1]):
        picks = fastsel.threshold_decay_select(x, len(order), initial=order, backend=backend)
        np.testing.assert_array_equal(picks, order)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_anchors_count_as_accepted(metric, backend):
    anchors, x = np.split(CASES["normal-65x8"], [5])
    options = {"threshold": "auto", "decay": 0.9, "anchors": anchors, "metric": metric}
    expected = oracle.threshold_decay(x, 30, initial=[], **options)
    assert_equal(select(x, 30, backend=backend, **options), expected)
    assert (expected[3] > 0).all()
    assert_equal(
        select(x, 30, start=9, backend=backend, **options),
        oracle.threshold_decay(x, 30, initial=[9], **options),
    )


def test_start_and_random_state():
    x = CASES["normal-65x8"]
    options = {"threshold": 2.0, "decay": 0.95}
    assert_equal(
        select(x, 20, start=9, **options), oracle.threshold_decay(x, 20, initial=[9], **options)
    )
    start = int(np.random.default_rng(5).integers(len(x)))
    assert fastsel.threshold_decay_select(x, 20, random_state=5)[0] == start


@pytest.mark.parametrize("scale", [2.0**-40, 2.0**40])
def test_auto_needs_no_tuning_to_the_scale_of_the_features(scale, backend):
    x = CASES["normal-65x8"]
    picks, _, thresholds, sweeps = select(x, 40, backend=backend)
    scaled = select(x * scale, 40, backend=backend)
    np.testing.assert_array_equal(scaled[0], picks)
    np.testing.assert_array_equal(scaled[2], thresholds * scale)
    np.testing.assert_array_equal(scaled[3], sweeps)


def test_a_fine_decay_is_greedy_selection(backend):
    x = CASES["normal-65x8"]
    picks = fastsel.threshold_decay_select(x, 30, decay=0.9999, backend=backend)
    np.testing.assert_array_equal(picks, fastsel.greedy_select(x, 30, backend=backend))


def test_what_is_returned_is_in_the_order_of_the_options():
    x = CASES["normal-65x8"]
    whole = select(x, 20)
    names = ("return_distances", "return_thresholds", "return_sweeps")
    for wanted in itertools.product((False, True), repeat=3):
        answer = fastsel.threshold_decay_select(x, 20, **dict(zip(names, wanted, strict=True)))
        expected = [whole[0], *itertools.compress(whole[1:], wanted)]
        if not any(wanted):
            answer = (answer,)
        for result, reference in zip(answer, expected, strict=True):
            np.testing.assert_array_equal(result, reference)


@pytest.mark.parametrize(
    ("x", "available"),
    [
        (np.repeat(CASES["normal-2x8"], 3, axis=0), 2),
        (CASES["all-equal"], 1),
        (np.array([[0.0], [5e-324]]), 1),  # so near that their squared distance is 0
    ],
    ids=["copies", "all-equal", "underflow"],
)
@pytest.mark.parametrize("first", ["auto", 1.0])
def test_a_shortfall_is_an_error_or_what_there_is(x, available, first, backend):
    options = {"threshold": first, "backend": backend}
    assert len(fastsel.threshold_decay_select(x, available, **options)) == available
    with pytest.raises(
        ValueError, match=rf"={available + 1} can not be .* {available} picks every"
    ):
        fastsel.threshold_decay_select(x, available + 1, **options)
    results = select(x, available + 1, on_shortfall="return", **options)
    assert_equal(results, oracle.threshold_decay(x, available + 1, first, 0.95))


def test_a_shortfall_with_anchors_may_be_empty(backend):
    x = CASES["zeros"]
    results = select(x, 1, anchors=x[:1], on_shortfall="return", backend=backend)
    assert [len(result) for result in results] == [0, 0, 0, 0]


def test_progress_reports_to_the_end(capsys):
    x = CASES["normal-65x8"]
    seen = []
    fastsel.threshold_decay_select(x, 20, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (20, 20)
    fastsel.threshold_decay_select(x, 20, progress=True)
    assert "20 of 20" in capsys.readouterr().err


@pytest.mark.parametrize("limit", [100, 10**6])
def test_a_memory_limit_too_low_says_what_is_needed(limit, backend):
    x = np.random.default_rng(0).normal(size=(40_000, 8))
    with pytest.raises(ValueError, match=r"memory_limit must be at least [\d,]+ bytes"):
        fastsel.threshold_decay_select(x, 100, memory_limit=limit, backend=backend)


@settings(max_examples=150, deadline=None)
@given(
    x=hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 40), st.integers(1, 3)),
        elements=st.one_of(st.integers(-3, 3).map(float), st.floats(-1, 1, width=16)),
    ),
    m=st.integers(1, 40),
    first=st.one_of(st.just("auto"), st.floats(1e-3, 10)),
    decay=st.floats(0.01, 0.995),
    decay_when=st.sampled_from(RULES),
    data=st.data(),
)
def test_any_small_pool(x, m, first, decay, decay_when, data):
    initial = data.draw(st.lists(st.integers(0, len(x) - 1), unique=True, min_size=1, max_size=m))
    m = max(len(initial), min(m, len(x)))
    options = {"threshold": first, "decay": decay, "decay_when": decay_when, "initial": initial}
    expected = oracle.threshold_decay(x, m, **options)
    for backend in ("reference", "cpu", "torch"):
        if not fastsel.backends()[backend].usable:
            continue
        results = select(x, m, on_shortfall="return", backend=backend, **options)
        assert_equal(results, expected)


# On pools that take every path of the kernels.

PICKS = 700


def large(case):
    return LARGE_CASES[case][1000:3500].astype(np.float32)


@functools.cache
def expected(case, first, decay):
    return oracle.threshold_decay(large(case).astype(np.float64), PICKS, first, decay)


def assert_exact(case, first="auto", decay=0.95):
    results = select(large(case), PICKS, threshold=first, decay=decay, backend="cpu")
    assert_equal(results, expected(case, first, decay))


@needs_core
@pytest.mark.parametrize("decay", [0.7, 0.997])
@pytest.mark.parametrize("case", LARGE_CASES)
def test_large_pools_on_every_level(case, decay, level):
    assert_exact(case, decay=decay)


@needs_core
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("case", ["normal", "binary", "collapsed"])
def test_every_thread_count(monkeypatch, case, threads):
    monkeypatch.setattr(cpu, "threads", lambda: threads)
    assert_exact(case)


@needs_core
@pytest.mark.parametrize("decay", [0.95, 0.997])
@pytest.mark.parametrize(
    ("refreshed", "active", "together"), [(33, 17, 1), (33, 2048, 256), (8192, 17, 3)]
)
@pytest.mark.parametrize("case", ["normal", "lattice"])
def test_every_block_size(monkeypatch, case, decay, refreshed, active, together):
    monkeypatch.setattr(threshold, "MIN_REFRESHED", refreshed)
    monkeypatch.setattr(threshold, "MAX_REFRESHED", refreshed)
    monkeypatch.setattr(threshold, "MAX_SWEEPS", together)
    monkeypatch.setattr(schedule, "MAX_ACTIVE", active)
    assert_exact(case, decay=decay)


@needs_core
@pytest.mark.parametrize("case", ["normal", "lattice", "duplicates"])
def test_a_first_threshold_that_accepts_most(case):
    assert_exact(case, first=reach(large(case)) / 100, decay=0.5)


@needs_core
@pytest.mark.parametrize("decay_when", RULES)
@pytest.mark.parametrize("decay", [0.9, 0.999])
def test_fifty_thousand_points_are_certified(decay, decay_when):
    rng = np.random.default_rng(8)
    centres = rng.normal(size=(40, 8))
    x = (centres[rng.integers(0, 40, 50_000)] + 0.4 * rng.normal(size=(50_000, 8))).astype("f4")
    results = select(x, 400, decay=decay, decay_when=decay_when, backend="cpu")
    certify_threshold_decay(x, *results, decay, decay_when)


@needs_core
@pytest.mark.parametrize("decay", [0.95, 0.9999])
@pytest.mark.parametrize("case", LARGE_CASES)
def test_most_pairs_are_never_looked_at(case, decay):
    record = {}
    x = LARGE_CASES[case].astype(np.float32)
    sweeps = fastsel.threshold_decay_select(
        x, PICKS, decay=decay, return_sweeps=True, backend="cpu", record=record
    )[1]
    dense_pairs = len(x) * PICKS
    assert record["sweeps"] == sweeps[-1]
    assert record["accepting"] == len(np.unique(sweeps)) - 1
    assert 0 < record["refresh_pairs"] < 0.95 * dense_pairs
    assert 0 < record["accept_pairs"] < 2 * dense_pairs
    assert 0 < record["canonical_pairs"] < 0.15 * dense_pairs
    assert record["compared"] >= PICKS - 1
    assert 0 < record["rounds"] <= PICKS
    assert all(record[f"{phase}_seconds"] > 0 for phase in ("scan", "refresh", "accept"))
