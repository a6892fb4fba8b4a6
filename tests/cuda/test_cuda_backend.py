"""Whole calls on the cuda backend, with its kernels on the processor, equal the reference's."""

from __future__ import annotations

import contextlib
import shutil

import numpy as np
import pytest
from cases import CASES, case_params

import fastsel

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("pybind11", reason="the emulation is built against pybind11")
pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="the emulation needs g++")

import emulated  # noqa: E402

from fastsel.backends import cuda, cuda_ops, device  # noqa: E402
from fastsel.backends.device import pool, survivors  # noqa: E402


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch):
    monkeypatch.setattr(cuda_ops, "tile", lambda like: 0)
    monkeypatch.setattr(cuda, "DEVICE_TYPE", "cpu")
    monkeypatch.setattr(cuda, "unusable_because", list)
    monkeypatch.setattr(cuda, "describe", lambda: "emulated")
    monkeypatch.setattr(cuda_ops, "core", emulated.core)
    monkeypatch.setattr(cuda_ops, "_stream", lambda tensor: contextlib.nullcontext(0))


def assert_same(call, *args, **options):
    expected = call(*args, **options, backend="reference")
    ours = call(*args, **options, backend="cuda")
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("case", case_params(min_n=2, max_n=200))
def test_greedy_select(case):
    x = CASES[case]
    m = max(1, len(x) // 2)
    assert_same(fastsel.greedy_select, x, m, return_distances=True)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_storage(dtype, metric):
    x = torch.from_numpy(CASES["normal-65x33"]).to(getattr(torch, dtype))
    assert_same(fastsel.greedy_select, x, 30, metric=metric, return_distances=True)
    assert_same(fastsel.knn, x, x, 3, exclude_self=True, metric=metric)


def test_active_rows_may_be_filtered(monkeypatch):
    monkeypatch.setattr(pool, "FILTERED_ACTIVE", 1)
    x = CASES["normal-1000x20"]
    assert_same(fastsel.greedy_select, x, 60, return_distances=True)
    assert_same(fastsel.threshold_decay_select, x[:200], 50, return_sweeps=True)


def test_every_tile(monkeypatch):
    x = CASES["normal-1000x20"]
    for entry in range(len(emulated.core().tiles)):
        monkeypatch.setattr(cuda_ops, "tile", lambda like, entry=entry: entry)
        assert_same(fastsel.greedy_select, x[:400], 60, return_distances=True)
        assert_same(fastsel.knn, x[:40], x, 3)


def test_a_gpu_has_the_newest_tile_that_is_not_newer(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(cuda_ops, "core", emulated.core)
    known = [capability for capability, _ in emulated.core().tiles]
    for number, (major, entry) in enumerate([(8, 80), (9, 90), (10, 100), (12, 100)]):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, major=major: (major, 0))
        assert known[cuda_ops._newest(torch.device("cuda", number))] == entry
    cuda_ops._newest.cache_clear()


def test_prefixes_anchors_and_distances():
    x = CASES["normal-1000x20"]
    options = {"initial": [5, 900, 17], "anchors": x[:4] + 0.5, "return_distances": True}
    assert_same(fastsel.greedy_select, x, 60, **options)
    assert_same(fastsel.greedy_select, x, 60, min_distance=5.0, return_distances=True)


@pytest.mark.parametrize("case", ["normal-65x8", "lattice-3d", "duplicates", "collapsed"])
def test_threshold_decay_select(case):
    x = CASES[case]
    assert_same(fastsel.threshold_decay_select, x, len(x) // 3, return_sweeps=True)


@pytest.mark.parametrize("case", case_params(min_n=2, max_n=200))
def test_greedy_entropy(case):
    x = CASES[case]
    for m in sorted({len(x) // 2 + 1, len(x)} if len(x) < 100 else {len(x) // 2}):
        assert_same(fastsel.greedy_select, x, m, objective="entropy", return_distances=True)


def test_greedy_entropy_with_what_was_before():
    x = CASES["normal-65x8"]
    options = {"objective": "entropy", "return_distances": True}
    assert_same(fastsel.greedy_select, x, 65, initial=[9, 3, 12], metric="cosine", **options)
    assert_same(fastsel.greedy_select, x[3:], 40, anchors=x[:3], **options)
    assert_same(fastsel.greedy_select, x, 65, min_distance=2.5, **options)
    assert_same(fastsel.greedy_select, CASES["duplicates"], 65, min_distance=0.0, **options)


SEARCHED = ["normal-65x8", "lattice-3d", "one-ulp", "scales", "translated", "signed-zeros"]


@pytest.mark.parametrize("metric", ["euclidean", "inner_product"])
@pytest.mark.parametrize("k", [1, 9, 64])
@pytest.mark.parametrize("case", SEARCHED)
def test_knn(case, k, metric):
    x = CASES[case]
    assert_same(fastsel.knn, x[:20], x, min(k, len(x)), metric=metric)
    few = x[:40]
    assert_same(fastsel.knn, few, few, min(k, len(few) - 1), metric=metric, exclude_self=True)


def test_more_neighbours_than_registers_hold():
    x = CASES["normal-1000x20"][:67]
    assert_same(fastsel.knn, x[:3], x, 65)
    assert_same(fastsel.knn, x[:3], x, 65, metric="inner_product")


@pytest.mark.parametrize("filtered_from", [1, 1000])
def test_lists_that_run_over(filtered_from, monkeypatch):
    monkeypatch.setattr(pool, "FILTERED_ACTIVE", filtered_from)
    monkeypatch.setattr(survivors, "PAIRS_PER_ROW", 1)
    monkeypatch.setattr(survivors, "MIN_PAIRS", 8)
    x = CASES["lattice-3d"]
    assert_same(fastsel.greedy_select, x, 90, return_distances=True)
    for metric in ("euclidean", "inner_product"):
        assert_same(fastsel.knn, x, x, 5, exclude_self=True, metric=metric)


def test_wrong_tensors_are_refused():
    points = device.adopt(fastsel.points.as_points("x", CASES["normal-65x8"]), torch.device("cpu"))
    centre, sq_dist = points.data[0], torch.zeros(65, dtype=torch.float64)
    for wrong in (centre.float(), centre[:7], points.data.repeat(1, 2)[0, ::2]):
        with pytest.raises(ValueError, match="a contiguous tensor of"):
            cuda_ops.min_update(points, wrong, sq_dist)
