"""Every operation of the device backends against its definition, on awkward input."""

from __future__ import annotations

import importlib

import numpy as np
import oracle
import pytest
from cases import CASES
from devices import PLACES, torch

from fastsel import canonical
from fastsel.backends import torch_canonical, torch_codes, torch_entropy_ops
from fastsel.gains import LAST, NEVER
from fastsel.points import Points

pytest.importorskip("triton")

from fastsel.kernels.launch import INTERPRETED
from fastsel.kernels.tiles import Tile

DTYPES = ["float16", "bfloat16", "float32", "float64"]
SHAPES = ["normal-1x1", "normal-2x7", "normal-63x33", "normal-64x8", "normal-65x33"]


@pytest.fixture(params=PLACES)
def place(request):
    """An operations module and a device."""
    name, device = request.param
    return importlib.import_module(f"fastsel.backends.{name}").OPERATIONS, device


def points_of(x, device, dtype="float64", cosine=False):
    """Points on the device, and the same rows as the oracle takes them."""
    data = torch.from_numpy(np.asarray(x)).to(getattr(torch, dtype)).to(device)
    wide = data.double().cpu().numpy()
    if not cosine:
        return Points(data), wide
    return Points(data, torch_canonical.norms(data)), oracle.unit_rows(wide)


def nan(shape, device, dtype=torch.float64):
    return torch.full(shape, float("nan"), dtype=dtype, device=device)


def int64(values, device):
    return torch.tensor(np.asarray(values), dtype=torch.int64, device=device)


def count_of(number, device):
    return int64([number], device)


def same(tensor, expected):
    np.testing.assert_array_equal(tensor.cpu().numpy(), expected)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", SHAPES)
def test_min_update(place, case, dtype, cosine):
    operations, device = place
    points, wide = points_of(CASES[case], device, dtype, cosine)
    expected = oracle.sq_dists(wide, wide[-1:])[:, 0]
    before = np.where(np.arange(len(wide)) % 3 == 0, expected / 2, np.inf)
    before[::4] = -1.0
    keys = torch.from_numpy(before.copy()).to(device)
    row = torch_canonical.wide_rows(points, slice(points.n - 1, points.n))[0]
    operations.min_update(points, row, keys)
    same(keys, np.minimum(before, expected))


def listed(n_rows, n_cols, device):
    """Some pairs, one of them twice, and then what must not be read."""
    rng = np.random.default_rng(0)
    pairs = np.stack([rng.integers(0, n_rows, 70), rng.integers(0, n_cols, 70)], axis=1)
    pairs[1] = pairs[0]
    unread = np.full((30, 2), 2**30)
    tensor = torch.from_numpy(np.concatenate([pairs, unread]).astype(np.int32)).to(device)
    return pairs, tensor


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", ["normal-2x7", "normal-65x33", "duplicates"])
def test_pair_min(place, case, dtype, cosine):
    operations, device = place
    points, wide = points_of(CASES[case], device, dtype, cosine)
    rng = np.random.default_rng(1)
    rows, cols = rng.permutation(len(wide))[: len(wide) // 2 + 1], rng.permutation(len(wide))
    pairs, tensor = listed(len(rows), len(cols), device)
    before = np.full(len(wide), np.inf)
    before[rows[pairs[0, 0]]] = -1.0  # a selected point's
    expected = before.copy()
    for r, c in pairs:
        value = oracle.sq_dist(wide[rows[r]], wide[cols[c]])
        expected[rows[r]] = min(expected[rows[r]], value)
    for count, given in ((70, tensor), (10**9, tensor[:70])):  # what did not fit is counted too
        keys = torch.from_numpy(before.copy()).to(device)
        operations.pair_min(
            points,
            int64(rows, device),
            points,
            int64(cols, device),
            given,
            count_of(count, device),
            keys,
        )
        same(keys, expected)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_pair_sq_dists(place, dtype, cosine):
    operations, device = place
    queries, wide_queries = points_of(CASES["normal-63x33"], device, dtype, cosine)
    points, wide = points_of(CASES["normal-65x33"], device, dtype, cosine)
    pairs, tensor = listed(len(wide_queries), len(wide), device)
    out = nan((100,), device)
    operations.pair_sq_dists(queries, points, tensor, count_of(70, device), out)
    expected = oracle.sq_dists(wide_queries, wide)[pairs[:, 0], pairs[:, 1]]
    same(out, np.concatenate([expected, np.full(30, np.nan)]))
    operations.pair_sq_dists(queries, points, tensor, count_of(0, device), out)
    same(out[:70], expected)


METRICS = ["euclidean", "cosine", "inner_product"]


def keys_of(x, y, metric):
    """What the least of are nearest: squared distances, or minus inner products."""
    return -oracle.inner_products(x, y) if metric == "inner_product" else oracle.sq_dists(x, y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pair_inner_products(place, dtype):
    operations, device = place
    queries, wide_queries = points_of(CASES["normal-63x33"], device, dtype)
    points, wide = points_of(CASES["signed-zeros"][:, [0] * 33], device, dtype)
    pairs, tensor = listed(len(wide_queries), len(wide), device)
    out = nan((100,), device)
    operations.pair_sq_dists(queries, points, tensor, count_of(70, device), out, True)
    expected = keys_of(wide_queries, wide, "inner_product")[pairs[:, 0], pairs[:, 1]]
    bits = out.cpu().numpy().view(np.int64)
    np.testing.assert_array_equal(bits[:70], expected.view(np.int64))  # 0 and -0 are told apart
    assert np.isnan(out[70:].cpu().numpy()).all()


def lists_of(rows_of_pairs, cols_of_pairs, n_rows, device, place):
    """Pairs by their rows, as two calls of `by_row` make them of a list."""
    operations, _ = place
    pairs = np.stack([rows_of_pairs, cols_of_pairs], axis=1).astype(np.int32)
    unread = np.full((30, 2), 2**30, np.int32)
    tensor = torch.from_numpy(np.concatenate([pairs, unread])).to(device)
    count = count_of(len(pairs), device)
    first = torch.zeros(n_rows + 1, dtype=torch.int64, device=device)
    operations.by_row(tensor, count, first[1:])
    first.cumsum_(dim=0)
    cols = torch.full((len(tensor),), -7, dtype=torch.int32, device=device)
    operations.by_row(tensor, count, first[:-1].clone(), cols)
    return first, cols


@pytest.mark.parametrize("n_pairs", [0, 1, 70, 3000])
def test_by_row(place, n_pairs):
    rng = np.random.default_rng(0)
    rows, cols = rng.integers(0, 40, n_pairs), rng.integers(0, 65, n_pairs)
    first, ours = (part.cpu().numpy() for part in lists_of(rows, cols, 40, place[1], place))
    np.testing.assert_array_equal(np.diff(first), np.bincount(rows, minlength=40))
    for row in range(40):
        mine = ours[first[row] : first[row + 1]]
        np.testing.assert_array_equal(np.sort(mine), np.sort(cols[rows == row]))
    assert (ours[n_pairs:] == -7).all()


def test_a_list_that_has_run_over_is_taken_as_it_is(place):
    operations, device = place
    pairs = torch.tensor([[1, 5], [0, 7], [1, 6]], dtype=torch.int32, device=device)
    counts = torch.zeros(2, dtype=torch.int64, device=device)
    operations.by_row(pairs, count_of(10**9, device), counts)
    same(counts, [1, 2])


def expected_top(keys, lists, k, skipped):
    """The k first points of every list by (key, index), and infinities where there are fewer."""
    n = len(lists)
    best, index = np.full((n, k), np.inf), np.full((n, k), np.iinfo(np.int64).max)
    for row, cols in enumerate(lists):
        cols = np.array([c for c in sorted(cols) if c != skipped[row]], np.int64)
        order = cols[np.argsort(keys[row, cols], kind="stable")][:k]
        best[row, : len(order)], index[row, : len(order)] = keys[row, order], order
    return best, index


TOP = ["normal-1x1", "normal-65x33", "duplicates", "all-equal", "lattice-3d", "signed-zeros"]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", TOP)
def test_top_k(place, case, metric):
    operations, device = place
    points, wide = points_of(CASES[case], device, cosine=metric == "cosine" and case in TOP[1:3])
    assert_top_k(operations, device, place, points, wide, metric)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_top_k_of_every_dtype(place, dtype, cosine):
    operations, device = place
    points, wide = points_of(CASES["normal-64x8"], device, dtype, cosine)
    assert_top_k(operations, device, place, points, wide, "euclidean")


def assert_top_k(operations, device, place, points, wide, metric):
    rng = np.random.default_rng(6)
    n = len(wide)
    rows = rng.permutation(n)[:33]
    # Lists of all lengths, none among them, in any order.
    lists = [rng.permutation(n)[: rng.integers(0, n + 1)] for _ in rows]
    lists[0] = rng.permutation(n)
    of_pairs = np.repeat(np.arange(len(rows)), [len(cols) for cols in lists])
    order = rng.permutation(len(of_pairs))
    first, cols = lists_of(of_pairs[order], np.concatenate(lists)[order], len(rows), device, place)
    keys = keys_of(wide[rows], wide, metric)
    for k, exclude_self in ((1, False), (1, True), (7, True), (33, False), (64, True)):
        found = nan((len(rows), k), device)
        index = torch.full((len(rows), k), -7, dtype=torch.int64, device=device)
        inner = metric == "inner_product"
        queries = int64(rows, device)
        operations.top_k(points, queries, points, first, cols, exclude_self, inner, found, index)
        best, expected = expected_top(keys, lists, k, rows if exclude_self else rows * 0 - 1)
        same(found, best)
        same(index, expected)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", SHAPES)
def test_sq_dist_matrix(place, case, dtype, cosine):
    operations, device = place
    points, wide = points_of(CASES[case], device, dtype, cosine)
    rows = np.random.default_rng(2).permutation(len(wide))
    out = nan((len(rows), len(rows)), device)
    operations.sq_dist_matrix(points, int64(rows, device), out)
    same(out, oracle.sq_dists(wide[rows], wide[rows]))


def coded(x, device):
    """Codes of the rows, and their radii: distances times scale."""
    points, wide = points_of(x, device)
    shift, scale = torch_codes.frame(points)
    codes = torch_codes.encode(points, shift, scale)
    return codes, np.sqrt(oracle.sq_dists(wide, wide)) * scale


FILTERED = ["normal-1x1", "normal-65x33", "duplicates", "scales", "translated", "collapsed"]


@pytest.mark.parametrize("case", FILTERED)
def test_group_min_bounds_every_group(place, case):
    operations, device = place
    codes, radii = coded(CASES[case], device)
    n = len(radii)
    rng = np.random.default_rng(3)
    rows, cols = rng.permutation(n)[: n // 2 + 1], rng.permutation(n)
    errors = codes.errors.double().cpu().numpy()
    slack = 2.0**-8 + errors[rows, None] + 2 * errors.max()
    for group in (1, 3, n, n + 5):
        out = nan((len(rows), -(-n // group)), device, torch.float32)
        operations.group_min(codes, int64(rows, device), codes, int64(cols, device), group, out)
        starts = np.arange(0, n, group)
        exact = np.minimum.reduceat(radii[np.ix_(rows, cols)], starts, axis=1)
        bounds = out.double().cpu().numpy()
        assert (bounds >= exact).all()
        # And so low as to be of use.
        assert (bounds <= exact + slack + errors[rows, None]).all()


def passed_over(n, n_cols):
    """How many points each of n queries may pass over: in order, at random, all, nearly all."""
    rng = np.random.default_rng(6)
    yield np.sort(rng.integers(0, n_cols + 1, n))
    yield rng.integers(n_cols // 2, n_cols + 1, n)
    yield np.full(n, n_cols)
    yield np.full(n, n_cols - 1)


@pytest.mark.parametrize("case", ["normal-1x1", "normal-65x33", "lattice-16d"])
def test_group_min_passes_over_points(place, case):
    operations, device = place
    codes, radii = coded(CASES[case], device)
    n = len(radii)
    rng = np.random.default_rng(3)
    rows, cols = rng.permutation(n), rng.permutation(n)
    errors = codes.errors.double().cpu().numpy()
    slack = 2.0**-8 + 2 * errors[rows, None] + 2 * errors.max()
    for first in passed_over(n, n):
        together = operations.rows_together(int64(first, device), n)
        leasts = np.minimum.reduceat(first, np.arange(0, n, together))
        leasts = leasts[np.arange(n) // together]
        for group in (-(-n // 20), n + 5):
            starts = np.arange(0, n, group)
            out = nan((n, len(starts)), device, torch.float32)
            args = codes, int64(rows, device), codes, int64(cols, device), group, out
            operations.group_min(*args, int64(first, device))
            all_of_them = radii[np.ix_(rows, cols)]
            needed = np.where(np.arange(n) < first[:, None], np.inf, all_of_them)
            bounds = out.double().cpu().numpy()
            assert (bounds >= np.minimum.reduceat(all_of_them, starts, axis=1)).all()
            assert (bounds <= np.minimum.reduceat(needed, starts, axis=1) + slack).all()
            # A group that all who are taken together pass over is not looked at.
            ends = np.minimum(starts + group, n)
            assert (np.isinf(bounds) == (ends <= leasts[:, None])).all()


@pytest.mark.parametrize("case", ["normal-1x1", "normal-65x33", "lattice-16d"])
def test_survivors_pass_over_points(place, case):
    device = place[1]
    codes, radii = coded(CASES[case], device)
    n = len(radii)
    rng = np.random.default_rng(4)
    rows, cols = rng.permutation(n), rng.permutation(n)
    exact = radii[np.ix_(rows, cols)]
    reach = np.quantile(exact, 0.3, axis=1).astype(np.float32)
    for first in passed_over(n, n):
        args = (place, codes, rows, cols, reach, exact.size)
        pairs, count, _ = survivors_of(*args, first=int64(first, device))
        found = {tuple(pair) for pair in pairs[:count].tolist()}
        near = np.argwhere(exact < reach[:, None].astype(float))
        assert {(int(r), int(c)) for r, c in near if c >= first[r]} <= found
        everything, total, _ = survivors_of(*args)
        assert found <= {tuple(pair) for pair in everything[:total].tolist()}
        if (first == n).all():
            assert not found


def survivors_of(place, codes, rows, cols, reach, capacity, begin=0, first=None):
    operations, device = place
    pairs = torch.full((capacity, 2), -7, dtype=torch.int32, device=device)
    count = count_of(begin, device)
    overflow = torch.zeros(len(rows), dtype=torch.uint8, device=device)
    operations.survivors(
        codes,
        int64(rows, device),
        codes,
        int64(cols, device),
        torch.from_numpy(reach.astype(np.float32)).to(device),
        pairs,
        count,
        overflow,
        first,
    )
    return pairs.cpu().numpy(), int(count.item()), overflow.cpu().numpy()


@pytest.mark.parametrize("case", FILTERED)
def test_survivors_are_those_in_reach(place, case):
    codes, radii = coded(CASES[case], place[1])
    n = len(radii)
    rng = np.random.default_rng(4)
    rows, cols = rng.permutation(n)[: n // 2 + 1], rng.permutation(n)
    exact = radii[np.ix_(rows, cols)]
    reach = np.nextafter(np.quantile(exact, 0.3, axis=1).astype(np.float32), np.float32(9))
    reach[::3] = 0.0
    reach[1::5] = -1.0
    reach[2::7] = np.nan
    capacity = exact.size + 3
    pairs, count, overflow = survivors_of(place, codes, rows, cols, reach, capacity, begin=3)
    assert (pairs[:3] == -7).all()
    assert (pairs[count:] == -7).all()
    assert not overflow.any()
    found = {tuple(pair) for pair in pairs[3:count].tolist()}
    assert len(found) == count - 3
    must = {(int(r), int(c)) for r, c in np.argwhere(exact < reach[:, None].astype(float))}
    assert must <= found
    errors = codes.errors.double().cpu().numpy()
    for r, c in found:  # a pair that is listed could not be excluded
        assert exact[r, c] <= reach[r] + 2 * (errors[rows[r]] + errors[cols[c]]) + 2.0**-8


@pytest.mark.parametrize("capacity", [1, 40, 500])
def test_survivors_that_do_not_fit_are_told(place, capacity):
    x = CASES["normal-65x8"]
    codes, radii = coded(x, place[1])
    rows = np.arange(20)
    reach = np.full(20, radii.max())
    reach[::2] = -1.0
    pairs, count, overflow = survivors_of(place, codes, rows, np.arange(65), reach, capacity)
    assert count == 10 * 65
    found = {tuple(pair) for pair in pairs.tolist()}
    assert len(found) == capacity
    listed_of_row = np.bincount([row for row, _ in found], minlength=20)
    np.testing.assert_array_equal(overflow, (listed_of_row < 65) & (reach > 0))


def matrix_of(x, device):
    dist = oracle.sq_dists(x, x)
    return torch.from_numpy(dist).to(device), dist


def chain_of(x, rows, device, n, capacity, begin):
    """What `pick` and `accept` take: a matrix, rows, keys, and room for picks after `begin`."""
    matrix, dist = matrix_of(x[rows], device)
    keys = oracle.sq_dists(x, x[:1])[:, 0] + 1.0
    keys[rows[0]] = -1.0
    picks = torch.full((capacity,), -7, dtype=torch.int64, device=device)
    sq_radii = nan((capacity,), device)
    state = (matrix, int64(rows, device), torch.from_numpy(keys.copy()).to(device))
    return dist, keys, picks, sq_radii, (*state, count_of(n, device)), count_of(begin, device)


CHAINS = [
    ("normal-65x8", 65, 65, 0),
    ("normal-65x8", 1, 9, 0),
    ("duplicates", 40, 64, 2),
    ("lattice-3d", 130, 7, 0),
    ("all-equal", 20, 64, 0),
]


@pytest.mark.parametrize(("case", "n", "capacity", "begin"), CHAINS)
@pytest.mark.parametrize("least", [-1.0, 1.5])
@pytest.mark.parametrize("rival", [(-1.0, -1), (2.0, 30), (np.inf, -1)])
def test_pick(place, case, n, capacity, begin, least, rival):
    operations, device = place
    x = CASES[case]
    rows = np.arange(len(x))[-n - 3 :]
    n = min(n, len(rows))
    dist, keys, picks, sq_radii, state, count = chain_of(x, rows, device, n, capacity, begin)
    operations.pick(
        *state,
        torch.tensor([rival[0]], dtype=torch.float64, device=device),
        int64([rival[1]], device),
        least,
        picks,
        sq_radii,
        count,
    )
    expected = []
    active = rows[:n]
    while len(expected) + begin < capacity:
        best = int(np.argmax(keys[active]))
        key, row = keys[active[best]], int(active[best])
        if key < 0 or key <= least or (-key, row) >= (-rival[0], rival[1]):
            break
        expected.append((row, key))
        keys[active] = np.minimum(keys[active], dist[best, :n])
        keys[row] = -1.0
    end = begin + len(expected)
    assert int(count.item()) == end
    same(picks[begin:end], [row for row, _ in expected])
    same(sq_radii[begin:end], [key for _, key in expected])
    assert (picks[:begin] == -7).all()
    assert (picks[end:] == -7).all()
    same(state[2], keys)


@pytest.mark.parametrize(("case", "n", "capacity", "begin"), CHAINS)
@pytest.mark.parametrize("limits", [[0.0], [9.0, 3.0, 0.5], [1e9]])
def test_accept(place, case, n, capacity, begin, limits):
    operations, device = place
    x = CASES[case]
    rows = np.arange(len(x))[-n - 3 :]
    n = min(n, len(rows))
    dist, keys, picks, sq_radii, state, count = chain_of(x, rows, device, n, capacity, begin)
    sweeps = torch.full_like(picks, -7)
    operations.accept(
        *state,
        torch.tensor(limits, dtype=torch.float64, device=device),
        picks,
        sweeps,
        sq_radii,
        count,
    )
    expected = []
    for sweep, limit in enumerate(limits):
        for i, row in enumerate(rows[:n]):
            if keys[row] <= limit or len(expected) + begin == capacity:
                continue
            expected.append((row, sweep, keys[row]))
            keys[rows[:n]] = np.minimum(keys[rows[:n]], dist[i, :n])
            keys[row] = -1.0
    end = begin + len(expected)
    assert int(count.item()) == end
    for tensor, column in ((picks, 0), (sweeps, 1), (sq_radii, 2)):
        same(tensor[begin:end], [item[column] for item in expected])
    assert (picks[end:] == -7).all()
    same(state[2], keys)


def runs_of(entries, side, n, device):
    """The entries by their first (0) or second (1) side, as an operation takes them."""
    entries = sorted(entries, key=lambda entry: entry[side])
    keys = np.array([entry[side] for entry in entries], np.int64)
    others = np.array([entry[1 - side] for entry in entries], np.int32)
    logs = [entry[2] for entry in entries]
    first = np.searchsorted(keys, np.arange(n + 1))
    unused = np.array([-7], np.int32)
    return torch_entropy_ops.Runs(
        int64(first, device),
        torch.from_numpy(np.concatenate([others, unused])).to(device),
        int64([*logs, -7], device),
    )


def empty_balls(capacity, device, begin):
    numbers = torch.full((2, capacity), -7, dtype=torch.int32, device=device)
    logs = torch.full((capacity,), -7, dtype=torch.int64, device=device)
    return torch_entropy_ops.Balls(*numbers, logs, count_of(begin, device))


def entries_of(balls, begin):
    rows, members, logs, count = (part.cpu().numpy() for part in balls)
    assert (rows[:begin] == -7).all()
    assert (rows[count[0] :] == -7).all()
    listed = slice(begin, count[0])
    found = zip(rows[listed], members[listed], logs[listed], strict=True)
    return sorted(tuple(map(int, entry)) for entry in found)


@pytest.mark.parametrize(("dtype", "cosine"), [(d, c) for d in DTYPES for c in (False, True)])
@pytest.mark.parametrize("case", ["normal-65x8", "duplicates"])
def test_enter_balls(place, case, dtype, cosine):
    operations, device = place
    points, wide = points_of(CASES[case], device, dtype, cosine)
    n, n_members, first = len(wide), 20, 4
    _, log_eps, gains, _, entries = oracle.entropy_state(wide, n_members)
    gains[30] = LAST
    rows = np.arange(n)[:n_members:-1].copy()
    seen = np.random.default_rng(6).integers(0, n_members + 1, n)
    pairs = np.stack(
        np.meshgrid(np.arange(n_members - first), np.arange(len(rows)), indexing="ij"), axis=-1
    ).reshape(-1, 2)
    unread = np.full((9, 2), 2**30)
    expected, expected_gains = [], gains.copy()
    for r, m, log in entries:
        if r in rows and m >= first and m >= seen[r]:
            expected.append((int(r), int(m), int(log)))
            expected_gains[r] += 0 if gains[r] == LAST else log - log_eps[m]
    balls, ours = empty_balls(len(expected) + 5, device, 3), int64(gains, device)
    operations.enter_balls(
        points,
        int64(np.arange(n_members), device),
        first,
        int64(rows, device),
        torch.from_numpy(np.concatenate([pairs, unread]).astype(np.int32)).to(device),
        count_of(len(pairs), device),
        int64(seen, device),
        int64(log_eps, device),
        ours,
        balls,
    )
    assert expected
    assert entries_of(balls, 3) == sorted(expected)
    same(ours, expected_gains)


def special_distances():
    """Squared distances around every binade's ends and the ends of the series, and subnormal."""
    rng = np.random.default_rng(7)
    powers = 2.0 ** np.arange(-1022, 990)
    ends = np.concatenate([powers, powers * np.sqrt(0.5), np.exp(rng.uniform(-744, 680, 2000))])
    near = [np.nextafter(ends, side) for side in (0.0, np.inf)]
    subnormal = 5e-324 * np.array([1, 2, 3, 1000, 2**51, 2**52 - 1])
    return np.concatenate([ends, *near, ends * (1 + 2.0**-42), subnormal, [0.0]])


@pytest.mark.parametrize("least", [-1.0, 0.0, 1.0])
def test_renew_gains_takes_canonical_logarithms(place, least):
    operations, device = place
    now = special_distances()
    n = len(now)
    before = np.where(np.arange(n) % 2 == 0, now * 2.0, np.maximum(now, 0.25))
    before[before == 0] = 3.0
    gains = np.random.default_rng(8).integers(-(2**50), 2**50, n)
    gains[:3] = LAST
    gains[3:6] = NEVER
    now[:3] = before[:3] = 0.0
    rows = np.random.default_rng(9).permutation(n)[: n - 1]
    changed = gains + oracle.log_sq_dists(now) - oracle.log_sq_dists(before)
    changed[gains <= LAST] = gains[gains <= LAST]
    changed[(now == 0) & (gains > LAST)] = LAST
    changed[now <= least] = NEVER
    expected = gains.copy()
    expected[rows] = changed[rows]
    ours = int64(gains, device)
    operations.renew_gains(
        int64(rows, device),
        torch.from_numpy(before[rows]).to(device),
        torch.from_numpy(now).to(device),
        least,
        ours,
    )
    same(ours, expected)


@pytest.mark.parametrize("case", ["normal-65x8", "normal-65x33", "scales", "translated"])
@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize(("capacity", "least"), [(64, -1.0), (5, -1.0), (64, 2.0)])
def test_entropy_pick(place, case, share, capacity, least):
    operations, device = place
    x = CASES[case][:65]
    n, n_members = len(x), 9
    dist, log_eps, gains, nearest, entries = oracle.entropy_state(x, n_members)
    gains[(nearest <= least) & (gains > NEVER)] = NEVER
    entries = [entry for entry in entries if gains[entry[0]] > NEVER]
    free = np.flatnonzero(gains > NEVER)
    leading = free[np.lexsort((free, -gains[free]))]
    rows = np.sort(leading[: int(share * len(free))])
    # Rows outside know no more than the members before the round: the picks end where one of them
    # might be better.
    rival_row = max(np.setdiff1d(free, rows), key=lambda i: (gains[i], -i), default=-1)
    rival = (int(gains[rival_row]) if rival_row >= 0 else NEVER, int(rival_row))
    capacity = min(capacity, len(rows))
    spot = np.full(n, -1)
    spot[rows] = np.arange(len(rows))
    listed = [(spot[r], m, log) for r, m, log in entries if spot[r] >= 0]
    own, nearby = int64(gains, device), torch.from_numpy(nearest.copy()).to(device)
    eps = int64([*log_eps, *[-7] * capacity], device)
    picked = [torch.full((capacity,), -7, dtype=torch.int64, device=device) for _ in range(2)]
    sq = [nan((capacity,), device) for _ in range(2)]
    counts = torch.zeros(2, dtype=torch.int64, device=device)
    matrix = torch.from_numpy(np.ascontiguousarray(dist[np.ix_(rows, rows)])).to(device)
    operations.entropy_pick(
        matrix,
        int64(rows, device),
        torch.from_numpy(spot.astype(np.int32)).to(device),
        runs_of(listed, 0, len(rows), device),
        runs_of(entries, 1, n_members, device),
        count_of(rival[0], device),
        count_of(rival[1], device),
        least,
        own,
        nearby,
        eps,
        picked[0],
        *sq,
        picked[1],
        counts,
    )
    count, entered = counts.tolist()
    # Some picks are made, and each is the best of the rows by the definition.
    members, sq_eps, exact_gains, exact_nearest = oracle.entropy_picks(
        dist, n_members, rows, (NEVER, -1) if share == 1.0 else rival, count, least
    )
    assert len(members) == count > 0
    assert count == capacity or share < 1.0 or least > 0
    same(picked[0][:count], members)
    same(picked[1][:count], spot[members])
    assert (picked[0][count:] == -7).all()
    same(own[rows], exact_gains[rows])
    same(nearby[rows][own[rows] > NEVER], exact_nearest[rows][exact_gains[rows] > NEVER])
    same(eps[: n_members + count], oracle.log_sq_dists(sq_eps))
    same(sq[0][:count], sq_eps[n_members:])
    order = [dist[p, [*range(n_members), *members[:i]]].min() for i, p in enumerate(members)]
    same(sq[1][:count], order)
    # Those outside have gained what they no longer lose to the older members.
    outside = np.setdiff1d(free, rows)
    logs = oracle.log_sq_dists(dist[outside, :n_members])
    losses = np.minimum(logs - oracle.log_sq_dists(sq_eps[:n_members]), 0).sum(axis=1)
    same(own[outside], oracle.log_sq_dists(nearest[outside]) + losses)
    # And the entries of the picks.
    balls = empty_balls(entered + 4, device, 2)
    if count:
        operations.enter_picks(
            matrix, int64(rows, device), own, picked[1][:count], sq[0][:count], n_members, balls
        )
    found = dist[np.ix_(rows, members)]
    inside = (found > 0) & (found < sq_eps[n_members:]) & (exact_gains[rows] > NEVER)[:, None]
    expected = [
        (int(rows[r]), n_members + int(p), oracle.log_sq_dist(found[r, p]))
        for r, p in np.argwhere(inside)
    ]
    assert len(expected) == entered
    assert entries_of(balls, 2) == sorted(expected)


def test_logarithms_equal_the_canonical_ones():
    values = special_distances()
    same(torch_canonical.log_sq_dists(torch.from_numpy(values)), canonical.log_sq_dists(values))


@pytest.mark.parametrize("case", ["normal-63x320", "scales", "translated", "zeros", "normal-1x1"])
def test_codes_bound_their_errors(case):
    """As csrc/cpu/filter.h needs them, made by torch."""
    x = CASES[case]
    points, _ = points_of(x, "cpu")
    shift, scale = torch_codes.frame(points)
    codes = torch_codes.encode(points, shift, scale)
    assert codes.values.shape[1] % torch_codes.CODE_UNIT == 0
    assert not codes.values[:, x.shape[1] :].any()
    values = codes.values[:, : x.shape[1]].double().numpy()
    decoded = values * codes.scales.double().numpy()[:, None]
    images = (x - shift.numpy()) * scale
    errors = codes.errors.double().numpy()
    assert (np.linalg.norm(images - decoded, axis=1) <= errors).all()
    assert (np.linalg.norm(images, axis=1) <= 1 + 1e-12).all()
    assert (codes.sq_norms.double().numpy() <= (decoded**2).sum(axis=1)).all()


@pytest.mark.parametrize("case", ["normal-63x320", "scales", "zeros", "normal-1x1", "one-ulp"])
def test_codes_for_products_are_of_points_on_a_sphere(case):
    """The largest products are the least distances, of rows with one more component."""
    x = CASES[case].astype(np.float64)
    points, _ = points_of(x, "cpu")
    shift, scale = torch_codes.frame(points, centred=False)
    assert not shift.any()
    images, decoded, squares = {}, {}, {}
    for role in ("query", "point"):
        codes = torch_codes.encode(points, shift, scale, role)
        values = codes.values[:, : x.shape[1]].double().numpy()
        decoded[role] = values * codes.scales.double().numpy()[:, None]
        images[role] = x * scale
        if role == "query":
            norms = np.linalg.norm(images[role], axis=1)
            images[role] *= 2.0 ** -np.frexp(norms)[1][:, None]
            assert ((norms == 0) | (np.linalg.norm(images[role], axis=1) >= 0.5)).all()
        errors = codes.errors.double().numpy()
        assert (np.linalg.norm(images[role] - decoded[role], axis=1) <= errors).all()
        assert (np.linalg.norm(images[role], axis=1) < 1).all()
        squares[role] = codes.sq_norms.double().numpy()
    lifted = np.sqrt(1 - np.square(images["point"]).sum(axis=1))
    whole = np.square(decoded["point"]).sum(axis=1) + lifted**2
    for role, sq_norm in (("query", np.square(decoded["query"]).sum(axis=1)), ("point", whole)):
        assert (squares[role] <= sq_norm).all()
        assert (squares[role] >= sq_norm * (1 - 2.0**-19) - 1e-300).all()
    sq_dists = np.square(images["query"][:, None] - images["point"]).sum(axis=2) + lifted**2
    products = images["query"] @ images["point"].T
    sq_norms = np.square(images["query"]).sum(axis=1)
    np.testing.assert_allclose(sq_dists, sq_norms[:, None] + 1 - 2 * products, atol=1e-12)


def test_an_error_stated_too_small_is_caught(monkeypatch):
    import fastsel

    x = np.random.default_rng(0).normal(size=(2000, 24)).astype(np.float32)
    expected = fastsel.greedy_select(x, 500, backend="reference")
    np.testing.assert_array_equal(fastsel.greedy_select(x, 500, backend="torch"), expected)
    encode = torch_codes.encode

    def overconfident(*args):
        codes = encode(*args)
        return codes._replace(errors=codes.errors - 0.01)

    monkeypatch.setattr(torch_codes, "encode", overconfident)
    picks = fastsel.greedy_select(x, 500, backend="torch")
    assert (picks != expected).any()


@pytest.mark.skipif(not INTERPRETED, reason="calls a kernel in the interpreter")
def test_tuning_tries_tiles_and_leaves_the_table(capsys, monkeypatch):
    tune = importlib.import_module("fastsel.kernels.tune")
    tiles = importlib.import_module("fastsel.kernels.tiles").INTERPRETER
    before = dict(tiles)
    tried = [Tile(64, 64, 64, 4, 3), Tile(128, 64, 64, 4, 3), Tile(256, 64, 64, 8, 3)]
    monkeypatch.setattr(tune, "candidates", lambda: iter(tried))
    milliseconds = iter([3.0, 1.0, 2.0])
    used = []

    def time(call):
        call()
        used.append(tiles["survivors"])
        return next(milliseconds)

    tune.tune("survivors", tune.calls(70, 40, "cpu")["survivors"], tiles, time)
    assert used == tried
    assert tiles == before
    assert f'fastest: "survivors": {tried[1]},' in capsys.readouterr().out


def test_candidates_of_tuning_are_whole_tiles():
    tune = importlib.import_module("fastsel.kernels.tune")
    candidates = list(tune.candidates())
    assert len(candidates) > 10
    assert all(torch_codes.CODE_UNIT % tile.depth == 0 for tile in candidates)
