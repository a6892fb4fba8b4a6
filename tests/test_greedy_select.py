from __future__ import annotations

import numpy as np
import oracle
import pytest
from cases import CASES, case_params

import fastsel


def test_oracle_distances_agree_with_float_arithmetic():
    x = CASES["scales"][:20]
    by_hand = [[oracle.sq_dist(a, b) for b in x] for a in x]
    np.testing.assert_array_equal(oracle.sq_dists(x, x), by_hand)


@pytest.mark.parametrize("case", case_params())
def test_equals_the_oracle(case, backend):
    x = CASES[case]
    for m in sorted({1, (len(x) + 1) // 2, min(len(x), 200)}):
        picks, radii = fastsel.greedy_select(x, m, return_distances=True, backend=backend)
        expected_picks, expected_radii = oracle.greedy(x, m)
        np.testing.assert_array_equal(picks, expected_picks)
        np.testing.assert_array_equal(radii, expected_radii)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_dtype_is_taken_exactly(dtype, backend):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = CASES["normal-65x33"].astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    picks, radii = fastsel.greedy_select(x, 40, return_distances=True, backend=backend)
    expected_picks, expected_radii = oracle.greedy(x.astype(np.float64), 40)
    np.testing.assert_array_equal(picks, expected_picks)
    np.testing.assert_array_equal(radii, expected_radii)


def test_every_half_is_widened_exactly(backend):
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)][:, None]
    distances, _ = fastsel.knn(
        np.zeros((1, 1)), halves, len(halves), metric="sqeuclidean", backend=backend
    )
    np.testing.assert_array_equal(
        distances[0], np.sort(halves[:, 0].astype(np.float64) ** 2, kind="stable")
    )


def test_cosine_is_euclidean_on_unit_rows(backend):
    x = CASES["scales"]
    picks, radii = fastsel.greedy_select(
        x, 50, metric="cosine", return_distances=True, backend=backend
    )
    expected_picks, expected_radii = oracle.greedy(oracle.unit_rows(x), 50)
    np.testing.assert_array_equal(picks, expected_picks)
    np.testing.assert_array_equal(radii, expected_radii**2 / 2)


def test_start_is_the_first_pick(backend):
    x = CASES["normal-65x8"]
    picks = fastsel.greedy_select(x, 30, start=17, backend=backend)
    np.testing.assert_array_equal(picks, oracle.greedy(x, 30, start=17)[0])


def test_random_state_draws_the_start():
    x = CASES["normal-65x8"]
    start = int(np.random.default_rng(5).integers(len(x)))
    for state in (5, np.random.default_rng(5)):
        assert fastsel.greedy_select(x, 1, random_state=state)[0] == start
    assert fastsel.greedy_select(x, 1)[0] == 0


def test_initial_is_the_prefix_and_counts(backend):
    x = CASES["normal-65x8"]
    whole, whole_radii = fastsel.greedy_select(x, 40, return_distances=True, backend=backend)
    again, radii = fastsel.greedy_select(
        x, 40, initial=whole[:15], return_distances=True, backend=backend
    )
    np.testing.assert_array_equal(again, whole)
    np.testing.assert_array_equal(radii, whole_radii)


def test_anchors_repel_and_are_not_counted(backend):
    x = CASES["normal-65x8"]
    anchors, pool = x[:3], x[3:]
    picks, radii = fastsel.greedy_select(
        pool, 20, anchors=anchors, return_distances=True, backend=backend
    )
    expected = fastsel.greedy_select(
        x, 23, initial=[0, 1, 2], return_distances=True, backend=backend
    )
    np.testing.assert_array_equal(picks, expected[0][3:] - 3)
    np.testing.assert_array_equal(radii, expected[1][3:])


def test_min_distance_stops_the_selection(backend):
    x = CASES["normal-65x8"]
    picks, radii = fastsel.greedy_select(x, 65, return_distances=True, backend=backend)
    limit = radii[30]
    short = fastsel.greedy_select(x, 65, min_distance=float(limit), backend=backend)
    np.testing.assert_array_equal(short, picks[:30])


def test_min_distance_is_in_units_of_the_metric():
    x = CASES["normal-65x8"]
    picks, radii = fastsel.greedy_select(x, 65, metric="cosine", return_distances=True)
    limit = float((radii[20] + radii[21]) / 2)
    short = fastsel.greedy_select(x, 65, metric="cosine", min_distance=limit)
    np.testing.assert_array_equal(short, picks[:21])


def test_fraction_of_the_pool():
    x = CASES["normal-64x7"]
    assert len(fastsel.greedy_select(x, 0.25)) == 16
    assert len(fastsel.greedy_select(x, 1e-9)) == 1
    assert len(fastsel.greedy_select(x, 1.0)) == 64
    assert len(fastsel.greedy_select(x, 1)) == 1


def test_features_are_not_changed(backend):
    x = CASES["normal-65x8"].copy()
    before = x.copy()
    fastsel.greedy_select(x, 65, metric="cosine", backend=backend)
    np.testing.assert_array_equal(x, before)


def test_layout_does_not_matter(backend):
    x = CASES["normal-65x8"]
    expected = fastsel.greedy_select(x, 30, backend=backend)
    for same in (
        np.asfortranarray(x),
        np.repeat(x, 2, axis=0)[::2],
        x.astype(">f8"),
        x[:, ::-1][:, ::-1],
    ):
        np.testing.assert_array_equal(fastsel.greedy_select(same, 30, backend=backend), expected)


def test_progress_reports_to_the_end(capsys):
    x = CASES["normal-65x8"]
    seen = []
    fastsel.greedy_select(x, 20, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (20, 20)
    fastsel.greedy_select(x, 20, progress=True)
    assert "20 of 20" in capsys.readouterr().err
