"""Threshold decay beside greedy selection and the released loop over candidates, on one pool.

The loop is quadratic in what it accepts: it is timed over few picks. `pairs` in its extra_info says
how many distances it computed, `extrapolated_seconds` how long it would take for all the picks at
that rate; `python -m bench.threshold` does so on the whole pool.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastsel
from bench import loops, ours
from bench.data import Features

DECAY = 0.95
LOOP_PICKS = 60
LOOP = f"released loop, {LOOP_PICKS} picks"


@pytest.mark.parametrize("share", [5, 2])
@pytest.mark.parametrize("kind", ["auto", "fixed"])
@pytest.mark.parametrize("who", [ours.NAME, "greedy", LOOP])
def test_threshold_decay_select(
    benchmark: Any, pool: Features, who: str, kind: str, share: int
) -> None:
    n, dim = pool.shape
    m = n // share
    benchmark.group = f"threshold_decay_select: {m:,} of {n:,} x {dim}, {kind} threshold"
    if who == "greedy":
        benchmark.pedantic(ours.select, (pool, m), rounds=3)
        return
    # What "auto" means, and one that someone might choose.
    farthest = float(np.linalg.norm(pool.astype(np.float64) - pool[0], axis=1).max())
    first = farthest if kind == "auto" else farthest / 2
    options: dict[str, Any] = {
        "threshold": kind if kind == "auto" else first,
        "decay": DECAY,
        "decay_when": "sweep",
    }
    picks, sweeps = fastsel.threshold_decay_select(pool, m, return_sweeps=True, **options)
    few = min(LOOP_PICKS, m)
    prefix = loops.threshold_decay_loop(pool, few, first, DECAY)
    np.testing.assert_array_equal(prefix, picks[:few])
    if who == ours.NAME:
        record: dict[str, float] = {}
        fastsel.threshold_decay_select(pool, m, record=record, **options)
        benchmark.extra_info["work"] = record
        benchmark.pedantic(fastsel.threshold_decay_select, (pool, m), options, rounds=3)
        return
    benchmark.pedantic(loops.threshold_decay_loop, (pool, few, first, DECAY), rounds=1)
    pairs = loops.threshold_decay_loop_pairs(n, picks[:few], sweeps[:few])
    whole = loops.threshold_decay_loop_pairs(n, picks, sweeps)
    benchmark.extra_info["pairs"] = pairs
    benchmark.extra_info["extrapolated_seconds"] = benchmark.stats.stats.min * whole / pairs
