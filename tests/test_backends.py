from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from cases import CASES

import fastsel
from fastsel.backends import cpu
from fastsel.points import Points

needs_core = pytest.mark.skipif(bool(cpu.unusable_because()), reason="the native core is not built")


def test_reference_is_always_usable():
    assert fastsel.backends()["reference"].usable


@needs_core
def test_cpu_names_the_instruction_set_in_use():
    core = cpu._core()
    assert core.level() in core.levels()
    assert fastsel.backends()["cpu"].detail.startswith(core.level())
    with pytest.raises(ValueError, match="no usable instruction set is called mmx"):
        core.use_level("mmx")


def test_a_named_backend_that_can_not_run_raises(monkeypatch):
    monkeypatch.setattr(cpu, "_core", lambda: "no compiler was found")
    status = fastsel.backends()["cpu"]
    assert status == (False, "no compiler was found")
    with pytest.raises(RuntimeError, match="backend 'cpu' can not run here: no compiler was found"):
        fastsel.greedy_select(CASES["normal-65x8"], 3, backend="cpu")
    expected = fastsel.greedy_select(CASES["normal-65x8"], 3, backend="reference")
    np.testing.assert_array_equal(fastsel.greedy_select(CASES["normal-65x8"], 3), expected)
    monkeypatch.setenv("FASTSEL_BACKEND", "cpu")
    with pytest.raises(RuntimeError, match="FASTSEL_BACKEND 'cpu' can not run here"):
        fastsel.greedy_select(CASES["normal-65x8"], 3)


def test_environment_names_the_default(monkeypatch):
    monkeypatch.setenv("FASTSEL_BACKEND", "tpu")
    with pytest.raises(ValueError, match=r"FASTSEL_BACKEND must be one of .* got 'tpu'"):
        fastsel.greedy_select(CASES["normal-65x8"], 3)
    fastsel.greedy_select(CASES["normal-65x8"], 3, backend="reference")


@needs_core
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_thread_count_does_not_change_results(monkeypatch, threads):
    x = CASES["normal-1000x20"].astype(np.float32)
    expected = [
        *fastsel.greedy_select(x, 300, return_distances=True, backend="reference"),
        *fastsel.knn(x[:50], x, 5, backend="reference"),
    ]
    monkeypatch.setattr(cpu, "threads", lambda: threads)
    results = [
        *fastsel.greedy_select(x, 300, return_distances=True, backend="cpu"),
        *fastsel.knn(x[:50], x, 5, backend="cpu"),
    ]
    for result, reference in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, reference)


@needs_core
def test_the_gil_is_released():
    x = np.random.default_rng(0).normal(size=(20_000, 64)).astype(np.float32)
    ticks = []
    done = threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    points = Points(x)
    neighbours = cpu.Neighbours(points, points)
    sq_dist, index = np.empty((len(x), 1)), np.empty((len(x), 1), np.int64)
    thread.start()
    try:
        begin = time.monotonic()
        neighbours.search(0, True, sq_dist, index, lambda done: None)
        end = time.monotonic()
    finally:
        done.set()
        thread.join()
    assert sum(begin < t < end for t in ticks) > 5


@needs_core
@pytest.mark.parametrize(
    "call",
    [
        "fastsel.greedy_select(x, 50_000)",
        "fastsel.threshold_decay_select(x, 50_000)",
        "fastsel.knn(x, x, 1, exclude_self=True)",
    ],
)
def test_interrupt_is_answered(call):
    script = textwrap.dedent(f"""
        import signal
        import numpy as np, fastsel
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores it
        x = np.random.default_rng(0).normal(size=(100_000, 128)).astype(np.float32)
        print("ready", flush=True)
        try:
            {call}
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """)
    environment = {k: v for k, v in os.environ.items() if k != "FASTSEL_BACKEND"}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        assert process.stdout.readline() == "interrupted\n"
        # Promised is a second; a busy machine gets more.
        assert time.monotonic() - sent < 5


@needs_core
def test_the_bindings_refuse_wrong_arrays():
    core = cpu._core()
    x = np.zeros((4, 3))
    out = np.zeros(4)
    with pytest.raises(ValueError, match="centre is out of range"):
        core.min_update(x, None, x, None, 4, out, 1)
    with pytest.raises(ValueError, match="same number of columns"):
        core.min_update(x, None, np.zeros((4, 2)), None, 0, out, 1)
    with pytest.raises(ValueError, match="unsupported storage type"):
        core.min_update(x.astype(int), None, x, None, 0, out, 1)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        core.min_update(x, None, x, None, 0, out.astype(np.float32), 1)
    with pytest.raises(ValueError, match=r"sq_dist must be float64 \[n\]"):
        core.min_update(x, None, x, None, 0, np.zeros(3), 1)
    shift = np.zeros(3)
    with pytest.raises(ValueError, match=r"shift must be float64 \[d\]"):
        core.CodedPoints(x, None, np.zeros(4), 1.0, 127, 1)
    with pytest.raises(ValueError, match="limit is out of range"):
        core.CodedPoints(x, None, shift, 1.0, 128, 1)
    coded = core.CodedPoints(x, None, shift, 1.0, 127, 1)
    index = np.zeros((4, 4), np.int64)
    rows = np.arange(4)
    with pytest.raises(ValueError, match=r"limits must be float64 \[s\], s >= 1"):
        core.accept(coded, rows, out, np.zeros(0), rows.copy(), rows.copy(), out.copy(), 1)
    with pytest.raises(ValueError, match="must have the same length"):
        core.accept(coded, rows, out, np.ones(1), rows[:3].copy(), rows.copy(), out.copy(), 1)
    with pytest.raises(ValueError, match=r"sq_dist and index must be \[n, k\]"):
        core.Searched(coded, 0, np.zeros((3, 4)), index)
    with pytest.raises(ValueError, match="sq_dist and index belong together"):
        core.Searched(coded, 0, np.zeros((4, 4)))
    with pytest.raises(ValueError, match=r"order must be int64 \[n\] in \[0, n\)"):
        core.CodedPoints(x, None, shift, 1.0, 127, 1).reorder(np.arange(4) + 1)
    queries = core.Searched(coded, 0, np.zeros((4, 4)), index)
    with pytest.raises(ValueError, match="queries must have heaps"):
        core.Searched(coded, 0).meet(queries, False, False, 0, 1, 1)
    with pytest.raises(ValueError, match="rounds are out of range"):
        queries.meet(core.Searched(coded, 0), False, False, 0, 2, 1)
    narrow = core.Searched(coded, 0, np.zeros((4, 3)), index[:, :3].copy())
    with pytest.raises(ValueError, match="heaps must be of one size"):
        queries.meet(narrow, False, False, 0, 1, 1)
    singles = core.CodedPoints(x.astype(np.float32), None, shift, 1.0, 127, 1)
    with pytest.raises(ValueError, match="same dtype and metric"):
        queries.meet(core.Searched(singles, 0), False, False, 0, 1, 1)
    rescaled = core.CodedPoints(x, None, shift, 2.0, 127, 1)
    with pytest.raises(ValueError, match="codes must be of one scale and depth"):
        queries.meet(core.Searched(rescaled, 0), False, False, 0, 1, 1)
    with pytest.raises(ValueError, match=r"rows must be int64 \[r\] in \[0, n\)"):
        core.filter_matrix(coded, np.array([4]), 1)
