"""Whole calls through the device backends: on CUDA tensors, or by Triton's interpreter.

Plain torch on the processor is among the backends of all other tests.
"""

from __future__ import annotations

import importlib

import numpy as np
import oracle
import pytest
from cases import CASES
from devices import PLACES, torch

import fastsel
from fastsel import schedule
from fastsel.backends import resolve, torch_ops
from fastsel.backends.device import neighbours, pool, survivors
from fastsel.points import Points

pytest.importorskip("triton")

SMALL = [
    "normal-1x1",
    "normal-2x7",
    "normal-65x33",
    "all-equal",
    "zeros",
    "duplicates",
    "one-ulp",
    "lattice-3d",
    "scales",
    "translated",
    "collapsed",
    "signed-zeros",
]


class Calls:
    """The public functions on one backend and device, with results in host memory."""

    def __init__(self, backend, device):
        self.backend = backend
        self.device = device

    def tensor(self, x, dtype=None):
        tensor = torch.from_numpy(np.ascontiguousarray(x)).to(self.device)
        return tensor if dtype is None else tensor.to(dtype)

    def __getattr__(self, name):
        def call(*arguments, **options):
            moved = [self.tensor(a) if isinstance(a, np.ndarray) else a for a in arguments]
            result = getattr(fastsel, name)(*moved, backend=self.backend, **options)
            if isinstance(result, tuple):
                return tuple(self.checked(part) for part in result)
            return self.checked(result)

        return call

    def checked(self, result):
        if not isinstance(result, torch.Tensor):
            return result
        assert result.device.type == self.device
        return result.cpu().numpy()


@pytest.fixture(params=[place for place in PLACES if place.values[0] != ("torch", "cpu")])
def calls(request):
    """The public functions on a device backend."""
    return Calls(*request.param)


def assert_equal(results, expected):
    for result, whole in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, whole)


@pytest.mark.parametrize("case", SMALL)
def test_greedy_select(case, calls):
    x = CASES[case]
    m = (len(x) + 1) // 2
    assert_equal(calls.greedy_select(x, m, return_distances=True), oracle.greedy(x, m))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_dtype(dtype, metric, calls):
    x = calls.tensor(CASES["normal-65x33"], getattr(torch, dtype))
    wide = x.double().cpu().numpy()
    options = {"metric": metric, "return_distances": True}
    expected = fastsel.greedy_select(wide, 30, backend="reference", **options)
    assert_equal(calls.greedy_select(x, 30, **options), expected)
    for by in {metric, "inner_product"}:
        expected = fastsel.knn(wide[:9], wide, 4, metric=by, backend="reference")
        assert_equal(calls.knn(x[:9], x, 4, metric=by), expected)


def by_entropy(x, m, **options):
    options = {"objective": "entropy", "return_distances": True, **options}
    return fastsel.greedy_select(x, m, backend="reference", **options)


@pytest.mark.parametrize("case", SMALL)
def test_greedy_entropy(case, calls):
    x = CASES[case][:120]
    m = (len(x) + 1) // 2
    results = calls.greedy_select(x, m, objective="entropy", return_distances=True)
    assert_equal(results, oracle.greedy_entropy(x, m))


def test_greedy_entropy_with_what_was_before(calls):
    x = CASES["normal-65x8"]
    options = {"objective": "entropy", "return_distances": True}
    results = calls.greedy_select(x, 40, initial=[9, 3, 12], metric="cosine", **options)
    assert_equal(results, by_entropy(x, 40, initial=[9, 3, 12], metric="cosine"))
    results = calls.greedy_select(x[3:], 30, anchors=calls.tensor(x[:3]), **options)
    assert_equal(results, by_entropy(x[3:], 30, anchors=x[:3]))
    results = calls.greedy_select(x, 65, min_distance=2.5, **options)
    assert_equal(results, by_entropy(x, 65, min_distance=2.5))
    assert 2 < len(results[0]) < 65


def test_greedy_entropy_in_many_rounds(calls, monkeypatch):
    """Few rows a round, refreshes in parts, and lists that run over."""
    x = CASES["lattice-16d"]
    entropy = importlib.import_module("fastsel.backends.device.entropy")
    monkeypatch.setattr(schedule, "MIN_REFRESHED", 60)
    monkeypatch.setattr(schedule, "MAX_REFRESHED", 60)
    monkeypatch.setattr(entropy, "MAX_ACTIVE", 9)
    monkeypatch.setattr(entropy, "CUT_PAIRS", 40)
    monkeypatch.setattr(entropy, "MIN_ENTRIES", 20)
    monkeypatch.setattr(survivors, "PAIRS_PER_ROW", 1)
    monkeypatch.setattr(survivors, "MIN_PAIRS", 70)
    results = calls.greedy_select(x, 60, objective="entropy", return_distances=True)
    assert_equal(results, oracle.greedy_entropy(x, 60))


def test_prefixes_anchors_and_limits(calls):
    x = CASES["normal-65x8"]
    whole = oracle.greedy(x, 40)
    assert_equal(calls.greedy_select(x, 40, initial=whole[0][:15], return_distances=True), whole)
    limit = float(whole[1][30])
    np.testing.assert_array_equal(calls.greedy_select(x, 65, min_distance=limit), whole[0][:30])
    anchored = fastsel.greedy_select(x[3:], 20, anchors=x[:3], backend="reference")
    result = calls.greedy_select(x[3:], 20, anchors=calls.tensor(x[:3]))
    np.testing.assert_array_equal(result, anchored)


def test_many_rounds(calls, monkeypatch):
    x = CASES["lattice-16d"]
    monkeypatch.setattr(schedule, "MIN_REFRESHED", 40)
    monkeypatch.setattr(schedule, "MAX_REFRESHED", 40)
    monkeypatch.setattr(schedule, "MAX_ACTIVE", 7)
    assert_equal(calls.greedy_select(x, 60, return_distances=True), oracle.greedy(x, 60))


@pytest.mark.parametrize("case", ["normal-65x8", "duplicates", "lattice-3d", "scales", "one-ulp"])
def test_active_rows_may_be_filtered(case, calls, monkeypatch):
    """Distances that can lower no key need not be computed."""
    monkeypatch.setattr(pool, "FILTERED_ACTIVE", 1)
    x = CASES[case][:100]
    m = len(x) // 2
    assert_equal(calls.greedy_select(x, m, return_distances=True), oracle.greedy(x, m))
    options = {"metric": "cosine", "return_distances": True}
    expected = fastsel.greedy_select(x + 9.0, m, backend="reference", **options)
    assert_equal(calls.greedy_select(x + 9.0, m, **options), expected)
    results = calls.threshold_decay_select(x, 30, return_distances=True)
    assert_equal(results, oracle.threshold_decay(x, 30, "auto", 0.95)[:2])


def test_filtered_distances_lower_the_keys_that_all_would(monkeypatch):
    monkeypatch.setattr(pool, "FILTERED_ACTIVE", 1)
    x = CASES["normal-65x33"]
    rows, n_active = torch.tensor([64, 20, 7, 3, 21, 2, 9]), 6
    everything = oracle.sq_dists(x[rows], x[rows])[:, :n_active]
    keys = torch.full((65,), float(np.median(everything)), dtype=torch.float64)
    keys[7], keys[2] = -1.0, np.inf
    own = keys[rows[:n_active]].numpy()
    ours = resolve("torch").Pool(Points(torch.from_numpy(x)), 5)
    found, missing = ours._distances(rows, keys, torch.tensor([n_active]))
    assert not missing
    found = found.numpy()[:, :n_active]
    np.testing.assert_array_equal(np.minimum(found, own), np.minimum(everything, own))
    assert np.isinf(found).any()
    computed = np.isfinite(found)
    np.testing.assert_array_equal(found[computed], everything[computed])
    monkeypatch.setattr(survivors, "PAIRS_PER_ROW", 0)
    monkeypatch.setattr(survivors, "MIN_PAIRS", 3)
    assert ours._distances(rows, keys, torch.tensor([n_active]))[1]


@pytest.fixture
def small_rounds(monkeypatch):
    """Rounds in which rows differ in what they have seen."""
    monkeypatch.setattr(schedule, "MIN_REFRESHED", 40)
    monkeypatch.setattr(schedule, "MAX_REFRESHED", 40)
    monkeypatch.setattr(schedule, "MAX_ACTIVE", 7)
    monkeypatch.setattr(torch_ops, "TOGETHER", 4)


def test_a_refresh_begins_with_what_is_new_to_a_row(small_rounds, monkeypatch):
    x = CASES["lattice-16d"]
    looked_at = passed_over = 0
    survivors_of = torch_ops.survivors

    def counted(*args):
        nonlocal looked_at, passed_over
        first, n_centres = args[-1], len(args[3])
        assert (first[1:] >= first[:-1]).all()  # rows of a kind are together
        for tile in first.split(4):
            looked_at += len(tile) * int(n_centres - tile.min())
            passed_over += len(tile) * int(tile.min())
        survivors_of(*args)

    monkeypatch.setattr(torch_ops, "survivors", counted)
    record = {}
    picks = fastsel.greedy_select(x, 60, backend="torch", record=record)
    np.testing.assert_array_equal(picks, oracle.greedy(x, 60)[0])
    assert type(record["refresh_pairs"]) is int
    assert record["refresh_pairs"] >= looked_at > 0  # that of the first pick too
    assert passed_over > looked_at


def test_rows_that_claim_to_have_seen_more_are_caught(small_rounds, monkeypatch):
    """What a row has not seen must be looked at: the picks depend on it."""
    x = CASES["lattice-16d"]
    expected = oracle.greedy(x, 60)[0]
    state = importlib.import_module("fastsel.backends.device.state").State
    mark_seen = state.mark_seen
    monkeypatch.setattr(state, "mark_seen", lambda self, rows, count: self.seen.fill_(count))
    assert (fastsel.greedy_select(x, 60, backend="torch") != expected).any()
    monkeypatch.setattr(state, "mark_seen", mark_seen)
    np.testing.assert_array_equal(fastsel.greedy_select(x, 60, backend="torch"), expected)


@pytest.mark.parametrize("filtered_from", [1, 1000])
@pytest.mark.parametrize("case", ["normal-65x8", "duplicates", "all-equal"])
def test_lists_that_are_too_short(case, filtered_from, calls, monkeypatch):
    """Rows whose survivors do not fit are compared with everything."""
    x = CASES[case]
    monkeypatch.setattr(pool, "FILTERED_ACTIVE", filtered_from)
    monkeypatch.setattr(survivors, "PAIRS_PER_ROW", 0)
    monkeypatch.setattr(survivors, "MIN_PAIRS", 70)
    m = 40
    assert_equal(calls.greedy_select(x, m, return_distances=True), oracle.greedy(x, m))
    monkeypatch.setattr(survivors, "PAIRS_PER_NEIGHBOUR", 0)
    sq_dist, index = oracle.knn(x, x, 3, exclude_self=True)
    assert_equal(calls.knn(x, x, 3, exclude_self=True), (np.sqrt(sq_dist), index))
    key, index = oracle.knn(x, x, 3, exclude_self=True, by_inner_product=True)
    found = calls.knn(x, x, 3, exclude_self=True, metric="inner_product")
    assert_equal(found, (-key, index))


@pytest.mark.parametrize("case", ["normal-65x8", "lattice-3d", "scales"])
@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_threshold_decay_select(case, decay, calls):
    x = CASES[case][:100]
    flags = ("return_distances", "return_thresholds", "return_sweeps")
    results = calls.threshold_decay_select(x, 30, decay=decay, **dict.fromkeys(flags, True))
    assert_equal(results, oracle.threshold_decay(x, 30, "auto", decay))


@pytest.mark.parametrize("case", [name for name in SMALL if len(CASES[name]) > 1])
def test_knn(case, calls):
    x = CASES[case][:100]
    for k in sorted({1, min(5, len(x) - 1)}):
        sq_dist, index = oracle.knn(x, x, k, exclude_self=True)
        assert_equal(calls.knn(x, x, k, exclude_self=True), (np.sqrt(sq_dist), index))


@pytest.mark.parametrize("case", [name for name in SMALL if len(CASES[name]) > 1])
def test_inner_products(case, calls):
    x = CASES[case][:100]
    key, index = oracle.knn(x, x, min(5, len(x) - 1), exclude_self=True, by_inner_product=True)
    found = calls.knn(x, x, min(5, len(x) - 1), exclude_self=True, metric="inner_product")
    assert_equal(found, (-key, index))


@pytest.mark.parametrize("metric", ["sqeuclidean", "inner_product"])
@pytest.mark.parametrize("k", [60, 90])  # in registers, and by sorts
def test_all_neighbours_of_other_points(k, metric, calls):
    x = CASES["scales"]
    expected = fastsel.knn(x[:10], x[-k:], k, metric=metric, backend="reference")
    assert_equal(calls.knn(x[:10], x[-k:], k, metric=metric), expected)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_refine(metric, calls):
    x = np.concatenate([CASES["normal-65x8"][:40], CASES["normal-65x8"][:3]])
    record, ours = {}, {}
    start = np.arange(0, 40, 4)
    options = {"metric": metric, "return_gain": True}
    expected = fastsel.refine(x, start, **options, record=record, backend="cpu")
    assert record["swaps"] > 3
    assert_equal(calls.refine(x, start, **options, record=ours), expected)
    assert ours == record


def test_what_rests_on_neighbours(calls):
    x = CASES["normal-65x8"]
    np.testing.assert_array_equal(
        calls.nearest_distances(x), fastsel.nearest_distances(x, backend="reference")
    )
    for indices in (None, np.arange(30)):
        expected = fastsel.kl_entropy(x, 3, indices=indices, backend="reference")
        assert calls.kl_entropy(x, 3, indices=indices) == expected
    pair = x[:30], x[30:]
    for score in ("generalization_score", "memorization_ratio", "prdc"):
        expected = getattr(fastsel, score)(*pair, backend="reference")
        assert getattr(calls, score)(*pair) == expected
    expected = fastsel.duplicate_groups(x, 2.0, backend="reference")
    np.testing.assert_array_equal(calls.duplicate_groups(x, 2.0), expected)


def test_host_arrays_come_back_as_such(calls):
    x = CASES["normal-65x8"]
    picks = fastsel.greedy_select(x, 9, backend=calls.backend)
    assert isinstance(picks, np.ndarray)
    np.testing.assert_array_equal(picks, oracle.greedy(x, 9)[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_auto_takes_kernels_for_cuda_tensors():
    x = torch.from_numpy(CASES["normal-65x8"]).cuda()
    assert resolve("auto", Points(x)).NAME in ("cuda", "triton")
    entropy = fastsel.greedy_select(x, 9, objective="entropy")
    assert entropy.device == x.device
    np.testing.assert_array_equal(
        entropy.cpu(), fastsel.greedy_select(x.cpu(), 9, objective="entropy")
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_callers_stream_is_used():
    x = torch.randn(20_000, 64, device="cuda")
    expected = fastsel.greedy_select(x.cpu(), 2000)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        later = torch.zeros_like(x)
        torch.cuda._sleep(10**8)  # what comes before the call on its stream, comes before
        later.copy_(x)
        picks = fastsel.greedy_select(later, 2000)
    np.testing.assert_array_equal(picks.cpu(), expected)


def test_auto_prefers_what_leaves_tensors_where_they_are(monkeypatch):
    tensor = Points(torch.zeros(3, 2))
    monkeypatch.setattr(importlib.import_module("fastsel.backends.triton"), "INTERPRETED", False)
    if not torch.cuda.is_available():
        assert not fastsel.backends()["triton"].usable
        assert "torch finds no CUDA device" in fastsel.backends()["triton"].detail
        assert resolve("auto", tensor).NAME == "torch"
        with pytest.raises(RuntimeError, match="backend 'triton' can not run here: torch finds"):
            resolve("triton", tensor)


READS = ("item", "tolist", "cpu", "numpy", "__array__", "__bool__", "__int__", "__float__")


def counted_reads(monkeypatch):
    """A list to which every way to read a tensor is appended from now on; reads are what wait."""
    reads = []

    def count(owner, name):
        read = getattr(owner, name)

        def counted(*args, **options):
            reads.append(name)
            return read(*args, **options)

        monkeypatch.setattr(owner, name, counted)

    for name in READS:
        count(torch.Tensor, name)
    for name in ("nonzero", "bincount", "unique"):  # their shapes depend on what they find
        count(torch, name)
        count(torch.Tensor, name)
    return reads


@pytest.mark.parametrize("filtered_from", [1, 1000])
def test_a_round_waits_for_the_device_once(filtered_from, monkeypatch):
    monkeypatch.setattr(pool, "FILTERED_ACTIVE", filtered_from)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2000, 16)))
    reads = counted_reads(monkeypatch)
    module = resolve("torch")
    quiet = {name: lambda *args: None for name in ("group_min", "survivors", "pair_min", "pick")}
    quiet["pair_sq_dists"] = lambda *args: None
    quiet["sq_dist_matrix"] = lambda points, rows, out: None
    selection = schedule.Greedy(module, Points(x), 100)
    selection.add_prefix(np.array([0]))
    for name, operation in quiet.items():
        monkeypatch.setattr(torch_ops, name, operation)
    reads.clear()
    selection._round(-1.0)
    assert reads == ["tolist"]


@pytest.fixture
def pretended_device(monkeypatch):
    """Tensors in host memory pass for such of a device, which plain torch then works on."""
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda self: True))


@pytest.mark.parametrize("k", [1, 9, 70])
def test_neighbours_never_leave_the_device(k, monkeypatch, pretended_device):
    """Nothing is read but one number of the whole search, and two of each part of the queries."""
    x = np.random.default_rng(0).normal(size=(300, 16))
    options = {"metric": "sqeuclidean", "exclude_self": True}
    expected = fastsel.knn(x, x, k, **options, backend="reference")
    monkeypatch.setattr(neighbours, "SEARCH_ROWS", 128)
    tensor = torch.from_numpy(x)
    out = torch.empty(300, k, dtype=torch.float64), torch.empty(300, k, dtype=torch.int64)
    reads = counted_reads(monkeypatch)
    for name in ("group_min", "survivors", "by_row", "top_k", "pair_sq_dists"):
        monkeypatch.setattr(torch_ops, name, uncounted(getattr(torch_ops, name), reads))
    made = fastsel.knn(tensor, tensor, k, **options, backend="torch")
    own = list(reads)
    fastsel.knn(tensor, tensor, k, **options, out=out, backend="torch")
    twice = list(reads)
    monkeypatch.undo()
    # Whether all values are finite, the largest norm, and how many pairs each part listed.
    assert own == ["item", "item"] + 3 * ["tolist"]
    assert twice == own + own
    assert_equal(made, expected)
    assert_equal(out, expected)


def uncounted(operation, reads):
    """The operation, without what plain torch reads in a kernel's place."""

    def quiet(*args, **options):
        before = len(reads)
        operation(*args, **options)
        del reads[before:]

    return quiet


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("there", ["cpu", "cuda"])
def test_results_are_put_where_the_caller_wants_them(device, there):
    x = torch.from_numpy(CASES["normal-65x8"])
    sq_dist, index = oracle.knn(x.numpy(), x.numpy(), 4)
    out = (
        torch.empty(65, 4, dtype=torch.float64, device=there),
        torch.empty(65, 4, dtype=torch.int64, device=there),
    )
    result = fastsel.knn(x.to(device), x.to(device), 4, metric="sqeuclidean", out=out)
    assert result is out
    assert_equal([part.cpu() for part in out], (sq_dist, index))
    narrow = (out[0].float(), out[1])
    with pytest.raises(ValueError, match=r"out\[0\] must be float64 \[65, 4\], C-contig.* float32"):
        fastsel.knn(x.to(device), x.to(device), 4, out=narrow)


@pytest.mark.parametrize(("value", "row"), [(np.nan, 4), (np.inf, 0), (-np.inf, 6)])
def test_values_on_a_device_are_checked(value, row):
    from fastsel.points import _check_tensor_finite

    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = torch.zeros(7, 3, dtype=dtype)
        _check_tensor_finite("features", x)
        x[row, 2] = value
        with pytest.raises(ValueError, match=f"features must be finite, .* row {row}, column 2"):
            _check_tensor_finite("features", x)
    x = torch.zeros(7, 3, dtype=torch.float64)
    x[row, 1] = 1e200
    with pytest.raises(ValueError, match=r"features must be finite below 1e\+149 in"):
        _check_tensor_finite("features", x)
