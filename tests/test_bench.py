"""What bench/ stands on: data that repeat, and loops that are right. Nothing is timed."""

from __future__ import annotations

import numpy as np
import pytest

import fastsel
from bench import check, data, knn_case, loops, ours, scores_peers, timing, workers


@pytest.fixture(scope="module")
def pool():
    return data.clustered(600, 24, seed=3)


def test_synthetic_features_repeat(pool):
    np.testing.assert_array_equal(pool, data.clustered(600, 24, seed=3))
    assert pool.dtype == np.float32
    assert not np.array_equal(pool, data.clustered(600, 24, seed=4))


def test_synthetic_features_have_the_spectrum_of_images():
    features = data.clustered(8_000, 128)
    eigenvalues = np.linalg.eigvalsh(np.cov(features.T.astype(np.float64)))[::-1]
    ranks = np.arange(1, 129)
    # Without the first ones, which the few clusters make, and the last ones, which noise lowers.
    kept = slice(4, 100)
    slope = np.polyfit(np.log(ranks[kept]), np.log(eigenvalues[kept]), 1)[0]
    assert abs(slope + data.EIGENVALUE_EXPONENT) < 0.15


def test_features_of_any_float_type_are_loaded(tmp_path, pool):
    np.save(tmp_path / "half.npy", pool.astype(np.float16))
    loaded = data.load(tmp_path / "half.npy")
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, pool.astype(np.float16))
    np.save(tmp_path / "labels.npy", np.arange(3))
    with pytest.raises(SystemExit, match="must hold a float matrix"):
        data.load(tmp_path / "labels.npy")


@pytest.mark.parametrize(
    "select",
    [loops.released_loop, loops.best_loop_numpy, loops.best_loop_columns, loops.best_loop_torch],
)
def test_plain_loops_pick_what_fastsel_picks(pool, select):
    if select in (loops.released_loop, loops.best_loop_torch):
        pytest.importorskip("torch", reason="torch is not installed")
    expected = fastsel.greedy_select(pool, 200, start=0)
    picks = select(pool, 200)
    np.testing.assert_array_equal(picks, expected)
    assert check.verify(pool, picks, expected) == check.Verdict(200, 200, 0.0)


def test_the_loop_over_candidates_picks_what_fastsel_picks(pool, monkeypatch):
    expected, sweeps = fastsel.threshold_decay_select(
        pool, 80, threshold=2.0, decay=0.9, decay_when="sweep", return_sweeps=True
    )
    pairs = []

    def norm(differences, axis):
        pairs.append(len(differences))
        return np.sqrt((differences**2).sum(axis))

    monkeypatch.setattr(np.linalg, "norm", norm)
    np.testing.assert_array_equal(loops.threshold_decay_loop(pool, 80, 2.0, 0.9), expected)
    assert sum(pairs) == loops.threshold_decay_loop_pairs(len(pool), expected, sweeps)


def test_the_loop_by_entropy_picks_what_fastsel_picks(pool):
    picks = fastsel.greedy_select(pool, 60, objective="entropy")
    np.testing.assert_array_equal(loops.greedy_entropy_loop(pool, 60), picks)


def test_wrong_picks_are_red(pool):
    picks = ours.select(pool, 50)
    wrong = picks.copy()
    wrong[30] = np.setdiff1d(np.arange(600), picks)[0]
    verdict = check.verify(pool, wrong, picks)
    assert verdict.same == 30
    assert not verdict.good
    assert check.shortfall(pool, np.array([0, 5, 5])) == np.inf


def test_the_work_record_is_that_of_the_timed_call(pool):
    work = ours.work_record(pool, 100)
    assert work["rounds"] > 0
    assert work["canonical_pairs"] > 0


def test_turns_and_time_per_pick():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = timing.interleaved(calls, 2)
    assert order == ["a", "b", "c", "b", "c", "a"]
    assert [len(s) for s in seconds.values()] == [2, 2, 2]
    assert timing.per_pick([1.0, 9.0, 1.0], [3.0, 3.0, 4.0], 4) == (1.0, 0.5)


def test_loops_for_devices_pick_and_find_the_same(pool):
    torch = pytest.importorskip("torch")
    from bench import device

    points = torch.from_numpy(pool)
    expected = fastsel.greedy_select(pool, 60)
    for loop in (device.cdist_loop, device.cached_norm_loop):
        verdict = check.verify(pool, loop(points, 60).numpy(), expected)
        assert verdict.good, verdict
    distances = device.cdist_search(points, 4)
    np.testing.assert_allclose(distances[:, 1:], fastsel.knn(pool, pool, 4)[0][:, 1:], rtol=1e-3)


@pytest.mark.parametrize("alone", [True, False])
def test_wrong_neighbours_are_red(pool, alone):
    case = knn_case.Case("some", 5, alone=alone)
    queries, points = knn_case.sides(pool, case)
    truth = knn_case.reference(queries, None if alone else points)
    found = knn_case.ours_search(queries, points, case)
    knn_case.require_exact(found, truth, case)
    wrong = found[0].copy()
    wrong[0, 2] *= 1 + 1e-9
    with pytest.raises(RuntimeError, match="are wrong"):
        knn_case.require_exact((wrong, found[1]), truth, case)

    def search(chosen, k):
        return fastsel.knn(chosen, points, k)[0].astype(np.float32)

    def off(chosen, k):
        return search(chosen, k) * np.float32(1.01)

    reason, error = knn_case.examine(search, queries, points, truth, case)
    assert reason is None
    assert error < 1e-6
    assert "wrong distances" in knn_case.examine(off, queries, points, truth, case)[0]


def test_a_peer_of_the_scores_that_is_wrong_is_red(pool):
    groups = fastsel.duplicate_groups(*scores_peers.repeated(pool), 0)
    assert scores_peers.same_groups(groups[::-1].copy(), groups) is not None
    assert (
        scores_peers.same_groups(scores_peers.unique_groups(*scores_peers.repeated(pool)), groups)
        is None
    )
    x, radius = scores_peers.with_radius(pool)
    inside = fastsel.nearest_distances(x) <= radius
    assert 0 < inside.mean() < 2 * scores_peers.NEAR
    assert scores_peers.close(1e-3)(1.01, 1.0) is not None
    assert scores_peers.close(1e-3)(1.0001, 1.0) is None


class Counter:
    def __init__(self, start):
        self.value = start

    def add(self, number):
        self.value += number
        return self.value

    def fail(self):
        raise ValueError("no good\nmore")


def test_an_object_in_a_process_of_its_own():
    worker = workers.Worker(Counter, 3)
    assert worker("add", 4) == 7
    with pytest.raises(workers.Failed, match=r"no good$"):
        worker("fail")
    assert worker("add", 1) == 8
    worker.close()
    with pytest.raises(workers.Failed, match="its process ended"):
        worker("add", 1)
