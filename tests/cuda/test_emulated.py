"""The CUDA kernels, run on the processor, give canonical distances and the reference's picks."""

from __future__ import annotations

import ctypes
import shutil
from typing import NamedTuple

import numpy as np
import oracle
import pytest
from cases import ADVERSARIAL_ROWS, CASES, case_params
from hypothesis import given, settings

from fastsel import canonical
from fastsel.backends import reference
from fastsel.gains import LAST, NEVER
from fastsel.points import Points, as_points

pytest.importorskip("pybind11", reason="the emulation is built against pybind11")
pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="the emulation needs g++")

import emulated  # noqa: E402

from bench import gpu_resources  # noqa: E402

# Of equal entries of the table, the first.
TILES = list({tile[1:]: i for i, tile in reversed(list(enumerate(gpu_resources.TILES)))}.values())

DTYPES = ["float16", "bfloat16", "float32", "float64"]


def points_of(x, dtype, metric="euclidean") -> Points:
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(x, np.float32).view(np.uint32) >> np.uint32(16)
        points = Points(bits.astype(np.uint16))
    else:
        points = as_points("x", np.asarray(x, dtype))
    return points if metric == "euclidean" else Points(points.data, canonical.norms(points))


def exact(queries: Points, points: Points) -> np.ndarray:
    return canonical.sq_dists(queries.rows(slice(None))[:, None], points.rows(slice(None))[None])


every_storage = pytest.mark.parametrize(
    ("dtype", "metric"), [(dtype, metric) for dtype in DTYPES for metric in ("euclidean", "cosine")]
)


class TestCanonical:
    @pytest.mark.parametrize("case", case_params(max_n=200))
    def test_min_update(self, case):
        points = points_of(CASES[case], "float32")
        sq_dist = np.full(points.n, np.inf)
        sq_dist[::3] = 0.5
        expected = np.minimum(sq_dist, exact(points, points)[points.n // 2])
        emulated.min_update(points, points, points.n // 2, sq_dist)
        np.testing.assert_array_equal(sq_dist, expected)

    @pytest.mark.parametrize("case", case_params(max_n=200))
    def test_sq_dist_matrix(self, case):
        points = points_of(CASES[case], "float32")
        rows = np.arange(points.n)[::-1].copy()
        out = np.full((points.n, points.n), np.nan)
        emulated.sq_dist_matrix(points, rows, out)
        np.testing.assert_array_equal(out, exact(points, points)[np.ix_(rows, rows)])

    @every_storage
    def test_every_storage(self, dtype, metric):
        x = CASES["normal-65x33"] + 0.1
        points = points_of(x, dtype, metric)
        expected = exact(points, points)
        out = np.full(expected.shape, np.nan)
        emulated.sq_dist_matrix(points, np.arange(points.n), out)
        np.testing.assert_array_equal(out, expected)
        sq_dist = np.full(points.n, np.inf)
        emulated.min_update(points, points, 7, sq_dist)
        np.testing.assert_array_equal(sq_dist, expected[7])
        rng = np.random.default_rng(0)
        pairs = emulated.List.of(rng.integers(0, points.n, (101, 2)))
        listed = tuple(pairs.listed().T)
        out = np.full(101, np.nan)
        emulated.pair_sq_dists(points, points, pairs, out)
        np.testing.assert_array_equal(out, expected[listed])
        rows, cols = rng.permutation(points.n), rng.permutation(points.n)
        keys = np.full(points.n, expected.max() / 2)
        keys[3] = -1.0
        lowered = keys.copy()
        np.minimum.at(lowered, rows[listed[0]], expected[np.ix_(rows, cols)][listed])
        emulated.pair_min(points, rows, points, cols, pairs, keys)
        np.testing.assert_array_equal(keys, lowered)

    def test_half_precision_widens_exactly(self):
        bits = np.arange(1 << 16, dtype=np.uint16)
        halves = bits.view(np.float16)
        for points in (
            Points(halves[np.isfinite(halves)][:, None]),
            Points(bits[(bits & 0x7F80) != 0x7F80][:, None]),
        ):
            sq_dist = np.full(points.n, np.inf)
            emulated.min_update(points, Points(np.zeros((1, 1))), 0, sq_dist)
            np.testing.assert_array_equal(sq_dist, points.rows(slice(None))[:, 0] ** 2)

    @pytest.mark.parametrize(("capacity", "count"), [(1, 0), (1, 1), (40, 33), (40, 1000)])
    def test_a_list_may_be_empty_or_have_run_over(self, capacity, count):
        points = points_of(CASES["normal-65x7"], "float64")
        pairs = emulated.List.of(np.arange(2 * capacity).reshape(capacity, 2) % 65)
        pairs.count[0] = count
        out = np.full(capacity, np.nan)
        emulated.pair_sq_dists(points, points, pairs, out)
        expected = exact(points, points)[tuple(pairs.pairs.T)]
        expected[min(count, capacity) :] = np.nan
        np.testing.assert_array_equal(out, expected)

    def test_more_pairs_than_threads(self):
        points = points_of(CASES["normal-65x7"], "float32")
        pairs = emulated.List.of(np.random.default_rng(0).integers(0, 65, (70_000, 2)))
        out = np.full(70_000, np.nan)
        emulated.pair_sq_dists(points, points, pairs, out)
        np.testing.assert_array_equal(out, exact(points, points)[tuple(pairs.pairs.T)])


class Problem(NamedTuple):
    """Queries and points with codes in one frame, some of them listed in any order."""

    queries: emulated.Codes
    q_rows: np.ndarray
    points: emulated.Codes
    p_rows: np.ndarray
    distances: np.ndarray  # canonical, times scale, of the listed rows


def problem(x, n_queries=None, seed=0) -> Problem:
    points = as_points("x", x)
    codes = emulated.encode(points)
    rng = np.random.default_rng(seed)
    q_rows = rng.permutation(points.n)[:n_queries]
    p_rows = rng.permutation(points.n)
    listed = [Points(points.data[rows]) for rows in (q_rows, p_rows)]
    distances = np.sqrt(exact(*listed)) * codes.scale
    return Problem(codes, q_rows, codes, p_rows, distances)


def filtered(p: Problem) -> np.ndarray:
    """The formula of csrc/cpu/filter.h, operation by operation in float32."""
    q = [array[p.q_rows] for array in p.queries[:4]]
    c = [array[p.p_rows] for array in p.points[:4]]
    products = q[0].astype(np.int64) @ c[0].astype(np.int64).T
    scaled = products.astype(np.float32) * q[1][:, None] * (np.float32(2) * c[1])
    return (q[2][:, None] + c[2]) - scaled


def expected_survivors(p: Problem, reach) -> set[tuple[int, int]]:
    with np.errstate(invalid="ignore"):
        wide = (reach.astype(np.float64) + p.queries.errors[p.q_rows]) * (1 + 2.0**-20) + 2.0**-50
        raised = np.where(reach >= 0, emulated.up(wide), np.float32(np.nan))
        bounds = raised[:, None] + p.points.errors[p.p_rows]
        passing = filtered(p) < bounds * bounds
    return set(zip(*map(list, np.nonzero(passing)), strict=True))


def assert_group_min_holds(p: Problem, group: int, first=None) -> None:
    for tile in TILES:
        assert_group_min_of(tile, p, group, first)


def assert_survivors_hold(p: Problem, reach, first=None) -> None:
    for tile in TILES:
        assert_survivors_of(tile, p, reach, first)


def assert_group_min_of(tile: int, p: Problem, group: int, first) -> None:
    starts = range(0, len(p.p_rows), group)
    out = np.full((len(p.q_rows), len(starts)), np.nan, np.float32)
    emulated.group_min(p.queries, p.q_rows, p.points, p.p_rows, group, out, first, tile)
    exact = np.stack([p.distances[:, s : s + group].min(axis=1) for s in starts], axis=1)
    assert (out >= exact).all()
    # Of use only if it is not much more than the codes' errors above what must be looked at.
    at = np.arange(len(p.p_rows))
    needed = np.where(at < (0 if first is None else first[:, None]), np.inf, p.distances)
    q_errors, p_errors = p.queries.errors[p.q_rows], p.points.errors[p.p_rows]
    loosest = (
        np.stack([needed[:, s : s + group].min(axis=1) for s in starts], axis=1)
        + 2 * (q_errors[:, None] + p_errors.max())
        + 2.0**-8 * np.sqrt(p.queries.sq_norms[p.q_rows][:, None] + p.points.sq_norms.max())
    )
    assert (out <= loosest + 1e-12).all()
    # What all of a tile pass over is not looked at.
    begins = np.array(starts)
    ends = np.minimum(begins + group, len(p.p_rows))
    assert (np.isinf(out) == (ends <= least_of_tile(tile, p, first)[:, None])).all()


def assert_survivors_of(tile: int, p: Problem, reach, first) -> None:
    pairs = emulated.List.empty(p.distances.size)
    overflow = np.zeros(len(p.q_rows), np.uint8)
    emulated.survivors(p.queries, p.q_rows, p.points, p.p_rows, reach, pairs, overflow, first, tile)
    listed = [tuple(pair) for pair in pairs.listed().tolist()]
    assert len(listed) == len(set(listed))
    begins = least_of_tile(tile, p, first)
    expected = {(q, c) for q, c in expected_survivors(p, reach) if c >= begins[q]}
    assert set(listed) == expected
    assert not overflow.any()
    begins = begins if first is None else first
    with np.errstate(invalid="ignore"):
        within = np.argwhere(p.distances <= reach[:, None].astype(np.float64))
    assert {(q, c) for q, c in within.tolist() if c >= begins[q]} <= set(listed)


def least_of_tile(tile: int, p: Problem, first) -> np.ndarray:
    """For each query, how many points all queries of its tile may pass over."""
    n = len(p.q_rows)
    if first is None:
        return np.zeros(n, np.int64)
    height = gpu_resources.TILES[tile].rows
    return np.minimum.reduceat(first, np.arange(0, n, height))[np.arange(n) // height]


def some_reaches(p: Problem) -> np.ndarray:
    """Distances of each query to some point, and reaches that are special."""
    rng = np.random.default_rng(1)
    own = p.distances[np.arange(len(p.q_rows)), rng.integers(0, len(p.p_rows), len(p.q_rows))]
    reach = emulated.up(own)
    reach[::7] = -1.0
    reach[1::7] = np.nan
    reach[2::7] = 0.0
    reach[3::28] = np.inf
    return reach


class TestFilter:
    @pytest.mark.parametrize("case", case_params(max_n=200))
    def test_bounds_hold(self, case):
        p = problem(CASES[case])
        assert_group_min_holds(p, 50)
        assert_survivors_hold(p, some_reaches(p))

    @settings(max_examples=25, deadline=None)
    @given(ADVERSARIAL_ROWS)
    def test_bounds_hold_on_adversarial_rows(self, x):
        p = problem(x)
        assert_group_min_holds(p, 16)
        assert_survivors_hold(p, some_reaches(p))

    @pytest.mark.parametrize("group", [1, 127, 128, 129, 300, 1000])
    @pytest.mark.parametrize("dim", [64, 65, 200])
    def test_groups_and_depths(self, group, dim):
        x = np.random.default_rng(dim).normal(size=(300, dim))
        n = 40 if group == 1 else 300
        assert_group_min_holds(problem(x[:n], n_queries=min(n, 150)), group)

    @pytest.mark.parametrize(("n", "n_queries"), [(2100, 5), (300, 129), (129, 1), (128, 128)])
    def test_several_tiles_and_blocks(self, n, n_queries):
        p = problem(np.random.default_rng(n).normal(size=(n, 20)), n_queries)
        assert_survivors_hold(p, some_reaches(p))

    @pytest.mark.parametrize(("n_queries", "group"), [(5, 100), (140, 256), (128, 400)])
    def test_points_may_be_passed_over(self, n_queries, group):
        rng = np.random.default_rng(n_queries)
        p = problem(rng.normal(size=(600, 70)), n_queries)
        reach = some_reaches(p)
        for first in (
            np.sort(rng.integers(0, 601, n_queries)),
            rng.integers(300, 601, n_queries),
            np.full(n_queries, 600),
            np.full(n_queries, 599),
        ):
            assert_group_min_holds(p, group, first)
            assert_survivors_hold(p, reach, first)

    def test_inner_products_use_all_of_int8(self):
        x = np.where(np.random.default_rng(0).normal(size=(64, 128)) > 0, 1.0, -1.0)
        p = problem(np.concatenate([x, -x]))
        assert abs(p.queries.values.astype(int)).max() == 127
        assert_survivors_hold(p, some_reaches(p))

    @pytest.mark.parametrize("tile", TILES)
    @pytest.mark.parametrize("capacity", [1, 100, 3000])
    def test_rows_that_find_no_room_are_marked(self, capacity, tile):
        p = problem(np.random.default_rng(0).normal(size=(200, 20)))
        reach = emulated.up(np.median(p.distances, axis=1))
        expected = expected_survivors(p, reach)
        pairs = emulated.List.empty(capacity)
        overflow = np.zeros(200, np.uint8)
        emulated.survivors(
            p.queries, p.q_rows, p.points, p.p_rows, reach, pairs, overflow, tile=tile
        )
        assert pairs.count[0] == len(expected) > capacity
        listed = {tuple(pair) for pair in pairs.pairs.tolist()}
        assert len(listed) == capacity
        assert listed <= expected
        assert {q for q, _ in expected - listed} == set(np.flatnonzero(overflow))

    def test_an_error_stated_too_small_is_caught(self):
        p = problem(np.random.default_rng(0).normal(size=(200, 20)))
        bold = p.queries._replace(errors=p.queries.errors * np.float32(0.1))
        with pytest.raises(AssertionError):
            assert_survivors_hold(p._replace(queries=bold, points=bold), some_reaches(p))
        with pytest.raises(AssertionError):
            assert_group_min_holds(p._replace(queries=bold, points=bold), 16)


def keys_of(queries: Points, points: Points, by_inner_product: bool) -> np.ndarray:
    if not by_inner_product:
        return exact(queries, points)
    x, y = queries.rows(slice(None))[:, None], points.rows(slice(None))[None]
    return -canonical.inner_products(x, y)


def lists_of(lists) -> tuple[np.ndarray, np.ndarray]:
    """By `by_row`, from a list in any order: where the rows begin, and their columns."""
    rows = np.repeat(np.arange(len(lists)), [len(cols) for cols in lists])
    order = np.random.default_rng(0).permutation(len(rows))
    pairs = emulated.List.empty(len(rows) + 5)
    pairs.pairs[: len(rows)] = np.stack([rows, np.concatenate(lists)], axis=1)[order]
    pairs.count[0] = len(rows)
    first = np.zeros(len(lists) + 1, np.int64)
    emulated.by_row(pairs, first[1:])
    first = first.cumsum()
    cols = np.full(len(rows) + 5, -7, np.int32)
    emulated.by_row(pairs, first[:-1].copy(), cols)
    assert (cols[len(rows) :] == -7).all()
    return first, cols


def top_k(queries, rows, points, first, cols, exclude_self, by_inner_product, k):
    keys, index = np.full((len(rows), k), np.nan), np.full((len(rows), k), -7)
    emulated.top_k(queries, rows, points, first, cols, exclude_self, by_inner_product, keys, index)
    return keys, index


def some_lists(n: int, n_rows: int) -> list[np.ndarray]:
    """Of all lengths, none among them, in any order."""
    rng = np.random.default_rng(3)
    lists = [rng.permutation(n)[: rng.integers(0, n + 1)] for _ in range(n_rows)]
    return [rng.permutation(n), *lists[1:-1], np.empty(0, np.int64)][:n_rows]


def assert_top(points: Points, k: int, exclude_self: bool, by_inner_product: bool) -> None:
    rows = np.random.default_rng(1).permutation(points.n)[:11]
    lists = some_lists(points.n, len(rows))
    keys, index = top_k(points, rows, points, *lists_of(lists), exclude_self, by_inner_product, k)
    expected = keys_of(Points(points.data[rows]), points, by_inner_product)
    if points.norms is not None:
        expected = keys_of(Points(points.data[rows], points.norms[rows]), points, by_inner_product)
    for row, cols in enumerate(lists):
        cols = np.sort(cols[cols != rows[row]] if exclude_self else cols)
        nearest = cols[np.argsort(expected[row, cols], kind="stable")][:k]
        found = len(nearest)
        np.testing.assert_array_equal(index[row, :found], nearest)
        bits = keys[row, :found].view(np.int64)
        np.testing.assert_array_equal(bits, expected[row, nearest].view(np.int64))
        assert (index[row, found:] == np.iinfo(np.int64).max).all()
        assert np.isposinf(keys[row, found:]).all()


class TestTop:
    @pytest.mark.parametrize("by_inner_product", [False, True])
    @pytest.mark.parametrize("case", case_params(max_n=200))
    def test_top_k(self, case, by_inner_product):
        points = points_of(CASES[case], "float32")
        for k, exclude_self in ((1, True), (33, False), (64, True)):
            assert_top(points, k, exclude_self, by_inner_product)

    @every_storage
    def test_every_storage(self, dtype, metric):
        points = points_of(CASES["normal-65x33"] + 0.1, dtype, metric)
        assert_top(points, 9, True, False)
        if metric == "euclidean":
            assert_top(points, 9, True, True)

    def test_pairs_by_inner_product(self):
        points = points_of(CASES["signed-zeros"], "float64")
        pairs = emulated.List.of(np.random.default_rng(0).integers(0, points.n, (101, 2)))
        out = np.full(101, np.nan)
        emulated.pair_sq_dists(points, points, pairs, out, True)
        expected = keys_of(points, points, True)[tuple(pairs.pairs.T)]
        np.testing.assert_array_equal(out.view(np.int64), expected.view(np.int64))

    def test_more_pairs_than_threads(self):
        rng = np.random.default_rng(0)
        lists = [rng.integers(0, 65, count) for count in rng.integers(0, 400, 300)]
        first, cols = lists_of(lists)
        for row, expected in enumerate(lists):
            mine = cols[first[row] : first[row + 1]]
            np.testing.assert_array_equal(np.sort(mine), np.sort(expected))


class Round(NamedTuple):
    """Active rows, whose keys are up to date, with some rows of padding."""

    points: Points
    rows: np.ndarray
    keys: np.ndarray
    matrix: np.ndarray
    n_active: np.ndarray


def active_round(case, n_active, padding=3) -> Round:
    points = as_points("x", CASES[case] if isinstance(case, str) else case)
    rng = np.random.default_rng(0)
    rows = np.sort(rng.permutation(points.n)[:n_active])
    padded = np.concatenate([rows, np.full(padding, 1 << 40)])
    matrix = np.full((len(padded), len(padded)), np.nan)
    matrix[: len(rows), : len(rows)] = exact(points, points)[np.ix_(rows, rows)]
    keys = np.full(points.n, np.inf)
    for centre in range(3):
        reference.min_update(points, points, centre, keys)
    keys[:3] = -1.0
    return Round(points, padded, keys, matrix, np.array([len(rows)]))


def picked(r: Round, rival, least, capacity, begin=0):
    keys = r.keys.copy()
    picks, sq_radii = np.full(capacity, -7), np.full(capacity, np.nan)
    n_picks = np.array([begin])
    emulated.pick(r.matrix, r.rows, keys, r.n_active, rival, least, picks, sq_radii, n_picks)
    assert (picks[:begin] == -7).all()
    assert (picks[n_picks[0] :] == -7).all()
    taken = slice(begin, n_picks[0])
    return keys, picks[taken], sq_radii[taken]


def accepted(r: Round, limits, capacity):
    keys = r.keys.copy()
    picks, sq_radii = np.full(capacity, -7), np.full(capacity, np.nan)
    sweeps = np.full(capacity, -7)
    n_picks = np.zeros(1, np.int64)
    emulated.accept(r.matrix, r.rows, keys, r.n_active, limits, picks, sweeps, sq_radii, n_picks)
    n = n_picks[0]
    return keys, picks[:n], sq_radii[:n], sweeps[:n]


def assert_picks(r: Round, rival, min_distance, capacity, begin=0) -> None:
    rows = r.rows[: r.n_active[0]]
    keys = r.keys.copy()
    picks, sq_radii = np.empty(capacity - begin, np.int64), np.empty(capacity - begin)
    pool = reference.Pool(r.points, capacity)
    # What is selected already is not among the reference's rows, which may not hold such.
    rows = rows[keys[rows] >= 0]
    count, _, _ = pool.pick(rows, keys, rival, min_distance, picks, sq_radii)
    least = min_distance * abs(min_distance)
    ours = picked(r, rival, least, capacity, begin)
    np.testing.assert_array_equal(ours[1], picks[:count])
    np.testing.assert_array_equal(ours[2], sq_radii[:count])
    np.testing.assert_array_equal(ours[0], keys)


class TestOneBlock:
    @pytest.mark.parametrize("case", case_params(min_n=10, max_n=200))
    def test_pick(self, case):
        r = active_round(case, 150)
        assert_picks(r, (-1.0, -1), -1.0, 60)
        fair = float(np.median(r.keys[r.keys >= 0]))
        assert_picks(r, (fair, 20), -1.0, 60)
        assert_picks(r, (-1.0, -1), 0.5, 60, begin=5)

    def test_pick_stops_at_its_capacity_and_without_rows(self):
        r = active_round("lattice-3d", 100)
        assert_picks(r, (-1.0, -1), -1.0, 7, begin=6)
        none = r._replace(n_active=np.array([0]))
        keys, picks, _ = picked(none, (-1.0, -1), -1.0, 5)
        assert len(picks) == 0
        np.testing.assert_array_equal(keys, r.keys)

    def test_ties_with_the_rival_go_to_the_lower_row(self):
        r = active_round("all-equal", 60)
        r.keys[3:] = 2.0
        for row in range(3, 12):
            assert_picks(r, (2.0, row), -1.0, 60)

    def test_rows_beyond_one_for_each_thread(self):
        r = active_round(np.random.default_rng(8).integers(0, 9, (1400, 3)).astype(float), 1301)
        assert_picks(r, (-1.0, -1), -1.0, 40)

    @pytest.mark.parametrize("case", case_params(min_n=10, max_n=200))
    def test_accept(self, case):
        r = active_round(case, 150)
        rows = r.rows[: r.n_active[0]]
        top = r.keys[rows].max()
        limits = top * np.array([0.9, 0.5, 0.5, 0.2, 0.0])
        for capacity in (4, 150):
            keys = r.keys.copy()
            expected = (
                np.empty(capacity, np.int64),
                np.empty(capacity, np.int64),
                np.empty(capacity),
            )
            pool = reference.Pool(r.points, capacity)
            count, _, _ = pool.accept(rows, keys, limits, *expected)
            ours, picks, sq_radii, sweeps = accepted(r, limits, capacity)
            np.testing.assert_array_equal(picks, expected[0][:count])
            np.testing.assert_array_equal(sweeps, expected[1][:count])
            np.testing.assert_array_equal(sq_radii, expected[2][:count])
            # The reference lowers the keys of rows that were selected before; these stay.
            free = r.keys >= 0
            np.testing.assert_array_equal(ours[free], keys[free])


def entropy_round(x, n_members, share, capacity, least=-1.0):
    """What the operations of greedy entropy write in a round, and what it is by the definition.

    The members are the first rows.
    """
    dist, log_eps, gains, nearest, entries = oracle.entropy_state(x, n_members)
    n, points = len(x), as_points("x", x)
    # From gains without balls, and distances to half of the members.
    half = dist[:, : n_members // 2 + 1].min(axis=1)
    rough = canonical.log_sq_dists(half)
    rough[half == 0] = LAST
    rough[:n_members] = NEVER
    candidates, numbers = np.arange(n_members, n), np.arange(n_members)
    pairs = emulated.List.of(
        np.stack(np.meshgrid(numbers, np.arange(n - n_members)), axis=-1).reshape(-1, 2)
    )
    balls = emulated.Balls.empty(len(pairs.pairs))
    seen = np.zeros(n, np.int64)
    emulated.enter_balls(points, numbers, 0, candidates, pairs, seen, log_eps, rough, balls)
    emulated.renew_gains(candidates, half[candidates].copy(), nearest, least, rough)
    gains[(nearest <= least) & (gains > NEVER)] = NEVER
    ours, exact = [rough.copy(), balls.listed()], [gains.copy(), sorted(entries)]

    free = np.flatnonzero(gains > NEVER)
    leading = free[np.lexsort((free, -gains[free]))]
    rows = np.sort(leading[: int(share * len(free))])
    rival = (NEVER, -1)
    if len(rows) < len(free):
        rival = (int(gains[leading[len(rows)]]), int(leading[len(rows)]))
    place = np.full(n, -1, np.int32)
    place[rows] = np.arange(len(rows))
    matrix = np.ascontiguousarray(dist[np.ix_(rows, rows)])
    own = [(place[r], m, log) for r, m, log in entries if place[r] >= 0]
    runs = emulated.Runs.of(own, 0, len(rows)), emulated.Runs.of(entries, 1, n_members)
    capacity = min(capacity, len(rows))
    eps = np.concatenate([log_eps, np.zeros(capacity, np.int64)])
    sq_eps, sq_radii = np.empty(capacity), np.empty(capacity)
    members, places = np.empty(capacity, np.int64), np.empty(capacity, np.int64)
    counts = np.zeros(2, np.int64)
    picks = (members, sq_eps, sq_radii, places, counts)
    emulated.entropy_pick(matrix, rows, place, *runs, rival, least, (rough, nearest, eps), picks)
    count, entered = counts.tolist()
    members, sq_eps, places = members[:count], sq_eps[:count].copy(), places[:count].copy()
    chosen, radii, after, _ = oracle.entropy_picks(dist, n_members, rows, rival, count, least)
    ours += [members, places, rough[rows], eps[: n_members + count], sq_eps]
    exact += [chosen, place[chosen], after[rows], canonical.log_sq_dists(radii), radii[n_members:]]
    balls = emulated.Balls.empty(entered + 1)
    emulated.enter_picks(matrix, rows, rough, places, sq_eps, n_members, balls)
    found = dist[np.ix_(rows, chosen)]
    inside = (found > 0) & (found < sq_eps) & (after[rows] > NEVER)[:, None]
    ours.append(balls.listed())
    exact.append(
        sorted(
            (int(rows[r]), n_members + int(p), oracle.log_sq_dist(found[r, p]))
            for r, p in np.argwhere(inside)
        )
    )
    return ours, exact


class TestEntropy:
    @pytest.mark.parametrize("case", ["normal-65x8", "normal-65x33", "scales", "translated"])
    @pytest.mark.parametrize(("share", "capacity"), [(1.0, 9), (1.0, 99), (0.5, 99)])
    @pytest.mark.parametrize("least", [-1.0, 2.0])
    def test_a_round(self, case, share, capacity, least):
        ours, exact = entropy_round(CASES[case][:65], 9, share, capacity, least)
        assert len(exact[2]) > 0
        for one, other in zip(ours, exact, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_logarithms(self):
        rng = np.random.default_rng(0)
        now = np.concatenate([np.exp(rng.uniform(-744, 680, 5000)), 2.0 ** np.arange(-1074, 980)])
        now = np.concatenate([now, np.nextafter(now, 0.0), np.nextafter(now, np.inf)])
        gains, before = np.zeros(len(now), np.int64), np.ones(len(now))
        emulated.renew_gains(np.arange(len(now)), before, now, -1.0, gains)
        np.testing.assert_array_equal(gains[now > 0], canonical.log_sq_dists(now[now > 0]))


def everything(tile: int) -> list[np.ndarray]:
    """The results of every operation, over data with ties and several tiles and blocks."""
    x = np.random.default_rng(5).integers(0, 3, (300, 70)).astype(np.float32)
    points = as_points("x", x)
    results = []
    sq_dist = np.full(300, np.inf)
    emulated.min_update(points, points, 9, sq_dist)
    matrix = np.full((100, 100), np.nan)
    emulated.sq_dist_matrix(points, np.arange(100), matrix)
    results += [sq_dist, matrix]
    p = problem(x, 140)
    groups = np.full((140, 3), np.nan, np.float32)
    first = np.arange(140)  # so that tiles begin anywhere
    emulated.group_min(p.queries, p.q_rows, p.points, p.p_rows, 100, groups, first, tile)
    pairs, overflow = emulated.List.empty(42_000), np.zeros(140, np.uint8)
    reach = emulated.up(np.quantile(p.distances, 0.1, axis=1))
    args = p.queries, p.q_rows, p.points, p.p_rows, reach, pairs, overflow, first, tile
    emulated.survivors(*args)
    order = np.lexsort(pairs.listed().T)
    keys = sq_dist.copy()
    emulated.pair_min(points, p.q_rows, points, p.p_rows, pairs, keys)
    values = np.full(42_000, np.nan)
    emulated.pair_sq_dists(points, points, pairs, values)
    found = top_k(points, np.arange(20), points, *lists_of(some_lists(300, 20)), True, False, 40)
    results += [*found, groups, overflow, pairs.listed()[order], keys, values[: len(order)][order]]
    r = active_round(x, 290)
    results += [*picked(r, (-1.0, -1), -1.0, 40), *accepted(r, r.keys.max() * np.ones(1) / 2, 40)]
    for share in (1.0, 0.5):
        results += entropy_round(np.random.default_rng(6).normal(size=(60, 3)), 8, share, 50)[0]
    return results


@pytest.fixture
def natural_order():
    yield
    emulated.order(0)


@pytest.mark.parametrize("tile", TILES)
def test_the_order_of_threads_and_blocks_changes_nothing(natural_order, tile):
    expected = everything(tile)
    for seed in range(1, 5):
        emulated.order(seed)
        for ours, first in zip(everything(tile), expected, strict=True):
            np.testing.assert_array_equal(ours, first)


def test_the_core_has_the_table_of_tiles():
    assert emulated.core().tiles == [(tile.capability, tile.rows) for tile in gpu_resources.TILES]


def fault(name: str) -> tuple[bool, list[int]]:
    """Whether the emulation refuses a faulty kernel, and else what it wrote."""
    out = np.zeros(64, np.int32)
    refused = emulated.library().emulation_fault(name.encode(), ctypes.c_void_p(out.ctypes.data))
    return bool(refused), out.tolist()


@pytest.mark.parametrize("name", ["race", "no barrier"])
def test_the_emulation_shows_races(name, natural_order):
    outcomes = set()
    for seed in range(8):
        emulated.order(seed)
        refused, out = fault(name)
        assert not refused
        outcomes.add(tuple(out))
    assert len(outcomes) > 1


@pytest.mark.parametrize("name", ["one barrier short", "half a warp"])
def test_the_emulation_refuses_threads_that_wait_in_vain(name):
    assert fault(name)[0]


def test_the_emulation_shows_copies_that_are_not_waited_for():
    refused, out = fault("early")
    assert not refused
    assert out[1] == -1  # the poison of shared memory


def test_the_bindings_refuse_wrong_arguments():
    core = emulated.core()
    points = points_of(CASES["normal-65x8"], "float32")
    argument = emulated.matrix_argument(points)
    codes = emulated.encode(points)
    coded = emulated.codes_argument(codes)
    rows, out = np.arange(65), np.zeros((65, 65))
    at, to = rows.ctypes.data, out.ctypes.data
    pairs = (to, 65, at)
    with pytest.raises(ValueError, match="unsupported storage type"):
        core.min_update((argument[0], "int8", 65, 8, 0), to, to, 0)
    with pytest.raises(ValueError, match=r"data must be \[n, d\]"):
        core.min_update((argument[0], "float32", 0, 8, 0), to, to, 0)
    with pytest.raises(ValueError, match="data must be an aligned address"):
        core.min_update((argument[0] + 2, "float32", 65, 8, 0), to, to, 0)
    with pytest.raises(ValueError, match=r"sq_dist must be float64 \[n\]"):
        core.min_update(argument, to, 0, 0)
    with pytest.raises(ValueError, match="same dtype and metric"):
        core.pair_sq_dists(argument, (argument[0], "float16", 65, 8, 0), pairs, False, to, 0)
    with pytest.raises(ValueError, match="same number of columns"):
        core.pair_sq_dists(argument, (argument[0], "float32", 65, 4, 0), pairs, False, to, 0)
    with pytest.raises(ValueError, match="capacity >= 1"):
        core.pair_sq_dists(argument, argument, (to, 0, at), False, to, 0)
    normalised = (*argument[:4], to)
    with pytest.raises(ValueError, match="inner products are of rows without norms"):
        core.pair_sq_dists(normalised, normalised, pairs, True, to, 0)
    with pytest.raises(ValueError, match=r"next must be int64 \[rows\]"):
        core.by_row(pairs, 0, to, 0)
    for k in (0, 65):
        with pytest.raises(ValueError, match=r"k must be in \[1, 64\]"):
            core.top_k(argument, at, 65, argument, at, to, False, False, k, to, at, 0)
    with pytest.raises(ValueError, match="multiple of 64"):
        core.group_min((*coded[:5], 8), at, 65, coded, at, 65, 1, 0, 0, to, 0)
    with pytest.raises(ValueError, match="aligned to 16"):
        core.group_min((coded[0] + 4, *coded[1:]), at, 65, coded, at, 65, 1, 0, 0, to, 0)
    with pytest.raises(ValueError, match="same number of columns"):
        core.group_min((*coded[:5], 128), at, 65, coded, at, 65, 1, 0, 0, to, 0)
    for tile in (-1, len(gpu_resources.TILES)):
        with pytest.raises(ValueError, match="tile must be an entry of the table"):
            core.group_min(coded, at, 65, coded, at, 65, 1, 0, tile, to, 0)
    with pytest.raises(ValueError, match=r"first must be int64 \[queries\]"):
        core.group_min(coded, at, 65, coded, at, 65, 1, at + 4, 0, to, 0)
    with pytest.raises(ValueError, match="group must be at least 1"):
        core.group_min(coded, at, 65, coded, at, 65, 0, 0, 0, to, 0)
    with pytest.raises(ValueError, match=r"in \[1, 2\^31\)"):
        core.group_min(coded, at, 0, coded, at, 65, 1, 0, 0, to, 0)
    with pytest.raises(ValueError, match="at most 2048 active rows"):
        core.pick((to, 2049, at, to, at), to, at, 0.0, (at, to, at, 5), 0)
    with pytest.raises(ValueError, match=r"rows must be in \[1, 2048\]"):
        core.sq_dist_matrix(argument, at, 2049, to, 0)
    with pytest.raises(ValueError, match=r"limits must be float64 \[s\], s >= 1"):
        core.accept((to, 65, at, to, at), to, 0, (at, to, at, 5), at, 0)
