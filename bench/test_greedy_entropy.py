"""Greedy selection by entropy beside the plain loop and beside greedy selection by distance.

The loop is quadratic in what it picks: it is timed over few picks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastsel
from bench import loops, ours
from bench.data import Features

LOOP_PICKS = 100
LOOP = f"plain loop, {LOOP_PICKS} picks"


def select(pool: Features, m: int, **options: Any) -> Any:
    return fastsel.greedy_select(pool, m, objective="entropy", **options)


@pytest.mark.parametrize("share", [10, 2])
@pytest.mark.parametrize("who", [ours.NAME, "maxmin", LOOP])
def test_greedy_entropy(benchmark: Any, pool: Features, who: str, share: int) -> None:
    n, dim = pool.shape
    m = n // share
    benchmark.group = f"greedy_select by entropy: {m:,} of {n:,} x {dim}"
    if who == "maxmin":
        benchmark.pedantic(ours.select, (pool, m), rounds=3)
        return
    few = min(LOOP_PICKS, m)
    np.testing.assert_array_equal(loops.greedy_entropy_loop(pool, few), select(pool, few))
    if who == LOOP:
        benchmark.pedantic(loops.greedy_entropy_loop, (pool, few), rounds=1)
        return
    record: dict[str, Any] = {}
    select(pool, m, record=record)
    benchmark.extra_info["work"] = record
    benchmark.pedantic(select, (pool, m), rounds=3)
