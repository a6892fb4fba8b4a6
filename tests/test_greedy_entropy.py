"""Greedy selection by entropy against the argmax of the whole objective at every pick."""

from __future__ import annotations

import functools

import numpy as np
import oracle
import pytest
from cases import CASES, LARGE_CASES, case_params

import fastsel
from fastsel import canonical, greedy_entropy, schedule, sketch
from fastsel.backends import cpu
from fastsel.gains import LAST, NEVER
from fastsel.points import Points


def select(x, m, **options):
    return fastsel.greedy_select(x, m, objective="entropy", return_distances=True, **options)


@functools.cache
def expected(case, m):
    return oracle.greedy_entropy(CASES[case], m)


def assert_equal(result, other):
    np.testing.assert_array_equal(result[0], other[0])
    np.testing.assert_array_equal(result[1], other[1])


def test_logarithms_equal_the_oracle():
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [np.exp(rng.uniform(-740, 690, 20_000)), [0.0, 5e-324, 1.0, 2.0, np.nextafter(1, 2)]]
    )
    logs = canonical.log_sq_dists(values)
    np.testing.assert_array_equal(logs, oracle.log_sq_dists(values))
    positive = values > 0
    np.testing.assert_allclose(
        logs[positive] / canonical.LOG_UNITS, np.log2(values[positive]), rtol=0, atol=1e-12
    )


def test_logarithms_do_not_fall():
    rng = np.random.default_rng(1)
    values = np.exp(rng.uniform(-740, 690, 10_000))
    # Around the ends of the series and of the kept bits, and anywhere.
    values = np.concatenate([values, np.sqrt(0.5) * 2.0 ** np.arange(-100, 100)])
    for ulps in (1, 2, 1023, 1024, 1025):
        higher = (values.view(np.int64) + ulps).view(np.float64)
        assert (canonical.log_sq_dists(higher) >= canonical.log_sq_dists(values)).all()


@pytest.mark.parametrize("case", case_params(max_n=400))
def test_equals_brute_force(case, backend):
    x = CASES[case]
    for m in sorted({1, (len(x) + 1) // 2, len(x)}):
        assert_equal(select(x, m, backend=backend), expected(case, m))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("case", ["normal-65x33", "lattice-16d", "collapsed"])
def test_every_dtype(case, dtype, backend):
    x = CASES[case].astype(dtype)
    assert_equal(select(x, 40, backend=backend), oracle.greedy_entropy(x.astype(np.float64), 40))


def test_cosine_is_euclidean_on_unit_rows(backend):
    x = CASES["scales"]
    picks, radii = select(x, 50, metric="cosine", backend=backend)
    other, other_radii = oracle.greedy_entropy(oracle.unit_rows(x), 50)
    np.testing.assert_array_equal(picks, other)
    np.testing.assert_array_equal(radii, other_radii**2 / 2)


@pytest.mark.parametrize("case", ["normal-65x8", "duplicates", "lattice-3d"])
def test_initial_is_the_prefix(case, backend):
    x = CASES[case]
    whole = select(x, len(x), backend=backend)
    for prefix in (1, 2, 30):
        assert_equal(select(x, len(x), initial=whole[0][:prefix], backend=backend), whole)


def test_start(backend):
    x = CASES["normal-65x8"]
    assert_equal(select(x, 40, start=17, backend=backend), oracle.greedy_entropy(x, 40, start=17))


def test_anchors_are_neighbours_but_not_members(backend):
    x = CASES["normal-65x8"]
    anchors, pool = x[:3], x[3:]
    picks, radii = select(pool, 20, anchors=anchors, backend=backend)
    # Brute force, with eps the distance to members and anchors.
    log_dist = oracle.log_sq_dists(oracle.sq_dists(x, x)).astype(float)
    np.fill_diagonal(log_dist, np.inf)

    def total(members):
        return log_dist[np.ix_(members, [0, 1, 2, *members])].min(axis=1).sum()

    members = []
    for pick, radius in zip(picks + 3, radii, strict=True):
        totals = [total([*members, i]) if i not in members else -np.inf for i in range(3, len(x))]
        assert np.argmax(totals) + 3 == pick
        assert radius == np.sqrt(oracle.sq_dists(x[[pick]], x[[0, 1, 2, *members]]).min())
        members.append(pick)


def test_min_distance_passes_over_nearer_points(backend):
    x = CASES["normal-65x8"]
    limit = 2.5
    picks, radii = select(x, 65, min_distance=limit, backend=backend)
    rest = np.setdiff1d(np.arange(65), picks)
    assert 2 < len(picks) < 65
    assert (radii > limit).all()
    assert (np.sqrt(oracle.sq_dists(x[rest], x[picks])).min(axis=1) <= limit).all()


def test_min_distance_beyond_all(backend):
    assert select(CASES["normal-65x8"], 65, min_distance=1e3, backend=backend)[0].tolist() == [0]


@pytest.mark.parametrize("size", [40, 500, 2000])
@pytest.mark.parametrize("spread", [3, 10**12])
def test_no_gain_that_is_left_out_beats_the_rival(size, spread):
    rng = np.random.default_rng(size)
    gains = rng.integers(-spread, spread, 5000)
    gains[rng.choice(5000, 1000, replace=False)] = NEVER
    gains[rng.choice(5000, 100, replace=False)] = LAST
    rows, rival = schedule.rough_leaders(gains, size, NEVER)
    rest = np.setdiff1d(np.arange(5000), rows)
    assert size // 2 <= len(rows) <= 2 * size
    assert (gains[rows] > NEVER).all()
    assert schedule.beats(gains[rows], rows, rival).all()
    assert not schedule.beats(gains[rest], rest, rival).any()


needs_core = pytest.mark.skipif(bool(cpu.unusable_because()), reason="the native core is not built")


@functools.cache
def large(m=500):
    rng = np.random.default_rng(8)
    centres = rng.normal(size=(40, 12))
    x = (centres[rng.integers(0, 40, 5000)] + 0.4 * rng.normal(size=(5000, 12))).astype("f4")
    x[4000:4200] = x[:200]
    return x, select(x, m, backend="cpu")


def certify(x, picks, radii, checks, seed=0):
    """Raise AssertionError unless the picks are greedy by the full objective, at random picks."""
    rng = np.random.default_rng(seed)
    checked = set(rng.choice(np.arange(2, len(picks)), checks, replace=False).tolist())
    checked |= {1, len(picks) - 1}
    points = Points(x)
    nearest = np.full(len(x), np.inf)
    for step, pick in enumerate(picks.tolist()):
        assert radii[step] == np.sqrt(nearest[pick])
        if step in checked:
            assert brute_pick(points, picks[:step], nearest) == pick, f"pick {step}"
        cpu.min_update(points, points, pick, nearest)


def brute_pick(points, members, nearest):
    """The candidate of largest gain: sums over all members, by the definition."""
    log = canonical.log_sq_dists

    def to_all(member):
        sq_dist = np.full(points.n, np.inf)
        cpu.min_update(points, points, int(member), sq_dist)
        return sq_dist

    gains = np.where(nearest > 0, log(nearest), np.iinfo(np.int64).min)
    for member in members if len(members) > 1 else []:
        to_member = to_all(member)
        sq_eps = to_member[members[members != member]].min()
        inside = (to_member < sq_eps) & (nearest > 0)
        gains[inside] += log(to_member[inside]) - log(np.full(1, sq_eps))
    gains[members] = np.iinfo(np.int64).min
    return int(np.argmax(gains))


@needs_core
def test_a_large_pool_is_certified(level):
    x, _ = large()
    picks, radii = select(x, 500, backend="cpu")
    certify(x, picks, radii, checks=10)


@needs_core
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_thread_count_does_not_change_results(monkeypatch, threads):
    x, whole = large()
    monkeypatch.setattr(cpu, "threads", lambda: threads)
    assert_equal(select(x, 500, backend="cpu"), whole)


@needs_core
@pytest.mark.parametrize(("refreshed", "active"), [(33, 17), (33, 2048), (8192, 17)])
def test_size_of_a_round_does_not_change_results(monkeypatch, refreshed, active):
    x, whole = large()
    monkeypatch.setattr(schedule, "MAX_REFRESHED", refreshed)
    monkeypatch.setattr(greedy_entropy, "MAX_ACTIVE", active)
    assert_equal(select(x, 500, backend="cpu"), whole)


@needs_core
@pytest.mark.parametrize(("share", "most"), [(5, 480), (16, 480), (5, 3)])
def test_central_members_do_not_change_results(monkeypatch, share, most, level):
    x, whole = large()
    monkeypatch.setattr(schedule, "MAX_REFRESHED", 33)
    monkeypatch.setattr(cpu, "CENTRAL_SHARE", share)
    monkeypatch.setattr(cpu, "MAX_CENTRAL", most)
    pools = []

    class Kept(cpu.EntropyPool):
        def __init__(self, *args):
            super().__init__(*args)
            pools.append(self)

    monkeypatch.setattr(cpu, "EntropyPool", Kept)
    picks, radii = select(x, 200, backend="cpu")
    assert_equal((picks, radii), (whole[0][:200], whole[1][:200]))
    (pool,) = pools
    # Met out of order: by points that have not seen all members before those.
    assert (pool._met > pool._seen).sum() > 100


@needs_core
@pytest.mark.parametrize("sketched", [False, True])
def test_a_bound_that_is_too_tight_is_caught(monkeypatch, sketched):
    """An error that is stated too small leaves out members whose ball a candidate lies in."""
    if sketched:
        monkeypatch.setattr(sketch, "MIN_WORK", 0)
    coded = cpu._coded
    spoilt = []

    def overconfident(*args):
        result = coded(*args)
        codes = result.sketch if sketched else result.codes
        if codes is None:  # of the few rows that are members at the start
            return result
        errors = codes.errors
        np.subtract(errors, np.float32(0.03), out=errors)
        spoilt.append(errors)
        return result

    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 10)) @ rng.normal(size=(10, 96))
    x = (x + 0.05 * rng.normal(size=x.shape)).astype(np.float32)
    monkeypatch.setattr(cpu, "_coded", overconfident)
    picks, radii = select(x, 300, backend="cpu")
    assert spoilt
    with pytest.raises(AssertionError):
        certify(x, picks, radii, checks=5)


@needs_core
def test_the_whole_of_a_pool_with_duplicates():
    x, _ = large()
    picks, radii = select(x, len(x), backend="cpu")
    assert len(np.unique(picks)) == len(x)
    assert (radii[-200:] == 0).all()
    assert (np.diff(picks[-200:]) > 0).all()
    certify(x[:1500], *select(x[:1500], 1500, backend="cpu"), checks=5)


@needs_core
@pytest.mark.parametrize("case", LARGE_CASES)
def test_torch_equals_the_core_on_thousands(case):
    pytest.importorskip("torch")
    x = LARGE_CASES[case][:3000]
    assert_equal(select(x, 300, backend="torch"), select(x, 300, backend="cpu"))


@needs_core
def test_record_tells_the_work():
    record = {}
    x, _ = large()
    select(x, 500, backend="cpu", record=record)
    assert record["dense_pairs"] == len(x) * 500
    assert 0 < record["canonical_pairs"] < record["refresh_pairs"] + record["pick_pairs"]
    assert 0 < record["rounds"] <= 500
    assert record["ball_pairs"] > 0
    assert all(record[f"{phase}_seconds"] > 0 for phase in ("leaders", "refresh", "pick"))


def test_what_does_not_go_together():
    x = CASES["normal-65x8"]
    with pytest.raises(ValueError, match="objective must be one of 'maxmin', 'entropy', got 'sum'"):
        fastsel.greedy_select(x, 3, objective="sum")
    with pytest.raises(ValueError, match="memory_limit does not go with objective='entropy'"):
        select(x, 3, memory_limit=10**9)


@needs_core
def test_fifty_thousand_points_are_certified():
    rng = np.random.default_rng(9)
    scales = np.arange(1, 321) ** -0.5
    centres = rng.normal(size=(40, 320)).astype("f4")
    x = centres[rng.integers(0, 40, 50_000)] + rng.standard_normal((50_000, 320), "f4")
    x *= scales.astype("f4")
    picks, radii = select(x, 500, backend="cpu")
    certify(x, picks, radii, checks=2)
