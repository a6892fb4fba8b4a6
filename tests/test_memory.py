"""What a selection needs beyond its features, measured from outside the process."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import fastsel
from fastsel import schedule
from fastsel.backends import cpu, resolve
from fastsel.points import Points

MB = 1 << 20
N, DIM, PICKS = 200_000, 64, 6_000  # enough work for a sketch
THREADS = 2

# The peak counts from where the call begins: features and interpreter are there already.
MEASURE = """
import pathlib
import numpy as np, fastsel
x = np.random.default_rng(0).standard_normal(({n}, {dim}), dtype=np.float32)
{warm}

def status(field):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))

before = status("VmRSS")
pathlib.Path("/proc/self/clear_refs").write_text("5")
{call}
print(status("VmHWM") - before)
"""

measures_the_core = pytest.mark.skipif(
    sys.platform != "linux" or bool(cpu.unusable_because()),
    reason="reads /proc, and what the native core needs",
)


def peak_of(call, warm, n, dim):
    """Bytes that a call takes at most beyond features x, float32 [n, dim]."""
    run = subprocess.run(
        [sys.executable, "-c", MEASURE.format(call=call, warm=warm, n=n, dim=dim)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": str(THREADS)},
    )
    if "clear_refs" in run.stderr:
        pytest.skip("this system does not let a process reset its peak of memory")
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


def peak(select, **options):
    call = f"fastsel.{select}(x, {PICKS}, **{options!r})"
    return peak_of(call, f"fastsel.{select}(x[:1000], 500)", N, DIM)


@measures_the_core
@pytest.mark.parametrize("select", ["greedy_select", "threshold_decay_select"])
def test_memory_beyond_the_features(monkeypatch, select):
    monkeypatch.setattr(cpu, "threads", lambda: THREADS)
    features = 4 * N * DIM
    points = Points(np.zeros((N, DIM), np.float32))
    stated = schedule.bytes_needed(cpu, points, PICKS, schedule.MAX_ACTIVE)
    assert stated <= features // 2 + 64 * MB
    measured = peak(select)
    assert measured <= features // 2 + 64 * MB
    assert measured <= stated

    least = schedule.bytes_needed(cpu, points, PICKS, schedule.FEWEST_ACTIVE)
    assert peak(select, memory_limit=least) <= least


@pytest.mark.parametrize("limit", [100, 10**6])
def test_a_limit_too_low_says_what_is_needed(limit, backend):
    x = np.random.default_rng(0).normal(size=(40_000, 8))
    with pytest.raises(ValueError, match=r"memory_limit must be at least ([\d,]+) bytes") as error:
        fastsel.greedy_select(x, 100, memory_limit=limit, backend=backend)
    least = int(str(error.value).split("at least ")[1].split(" bytes")[0].replace(",", ""))
    assert least > limit
    picks = fastsel.greedy_select(x[:, :1], 5, memory_limit=least, backend=backend)
    assert len(picks) == 5


def test_a_limit_does_not_change_the_picks(backend):
    x = np.random.default_rng(0).normal(size=(3000, 8))
    points = Points(x)
    module = resolve(backend)
    least = schedule.bytes_needed(module, points, 500, schedule.FEWEST_ACTIVE)
    assert schedule.max_active(module, points, 500, least) < schedule.MAX_ACTIVE
    limited = fastsel.greedy_select(x, 500, memory_limit=least, backend=backend)
    np.testing.assert_array_equal(limited, fastsel.greedy_select(x, 500, backend=backend))


# Matrices of distances, or all pairs within the radius, would take a multiple of the bound.
BEYOND_A_SEARCH = 128 * MB
SCORES = {
    "knn, of more points than are coded at a time": ("fastsel.knn(x[:500], x, 10)", 400_000, 256),
    "kl_entropy of a subset": (
        "fastsel.kl_entropy(x, indices=np.arange(0, len(x), 2))",
        30_000,
        1024,
    ),
    "kl_entropy": ("fastsel.kl_entropy(x, [1, 4], return_distances=True)", 40_000, 32),
    "kl_entropy, large k": ("fastsel.kl_entropy(x, [1, 1500])", 8_000, 8),
    "generalization_score": ("fastsel.generalization_score(x[::2], x[1::2])", 60_000, 32),
    "memorization_ratio": ("fastsel.memorization_ratio(x[::2], x[1::2])", 60_000, 32),
    "prdc": ("fastsel.prdc(x[:30000], x[30000:])", 33_000, 16),
    "duplicate_groups": ("fastsel.duplicate_groups(x, [0, 1, 100])", 6_000, 16),
    "duplicate_groups, equal rows": ("fastsel.duplicate_groups(x, 0)", 100_000, 400),
}


@measures_the_core
@pytest.mark.parametrize("score", SCORES)
def test_memory_of_searches_and_scores(score):
    call, n, dim = SCORES[score]
    assert peak_of(call, "fastsel.prdc(x[:64], x[64:128])", n, dim) <= BEYOND_A_SEARCH
