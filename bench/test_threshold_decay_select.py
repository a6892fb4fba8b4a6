"""Threshold decay, ours and the loop over candidates, on the first rows of the pool.

The loop is quadratic in what it accepts: on few rows it runs whole, with nothing extrapolated.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import fastsel
from bench import loops
from bench.data import Features
from bench.loops import Picks

N_POINTS = 2_048
DECAY = 0.95


def fastsel_picks(features: Features, m: int, threshold: float, decay: float) -> Picks:
    picks: Picks = fastsel.threshold_decay_select(features, m, threshold=threshold, decay=decay)
    return picks


@pytest.mark.parametrize("select", [fastsel_picks, loops.threshold_decay_loop])
def test_threshold_decay_select(
    benchmark: Any, pool: Features, select: Callable[..., Picks]
) -> None:
    features = pool[:N_POINTS]
    n, dim = features.shape
    m = n // 10
    benchmark.group = f"threshold_decay_select: {m:,} of {n:,} x {dim}"
    # From the top: the first sweep accepts nothing but the start.
    threshold = float(np.linalg.norm(features - features[0], axis=1).max())
    call = partial(select, features, m, threshold, DECAY)
    expected = loops.threshold_decay_loop(features, m // 4, threshold, DECAY)
    np.testing.assert_array_equal(call()[: len(expected)], expected)
    benchmark.pedantic(call, rounds=3)
