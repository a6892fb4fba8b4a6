"""fastsel, as the benchmarks call it."""

from __future__ import annotations

import numpy as np

import fastsel
from bench.data import Features
from bench.loops import Picks
from fastsel.backends import resolve
from fastsel.points import as_points
from fastsel.progress import Progress
from fastsel.schedule import Greedy

NAME = "fastsel"


def select(features: Features, m: int) -> Picks:
    """The call that is timed."""
    picks: Picks = fastsel.greedy_select(features, m, start=0)
    return picks


def work_record(features: Features, m: int) -> dict[str, float]:
    """What the same selection did: pairs, rounds, seconds by phase. Another run, not timed."""
    selection = Greedy(resolve("auto"), as_points("features", features), m)
    selection.add_prefix(np.zeros(1, np.int64))
    selection.run(-1.0, Progress(False, "", m))
    return selection.record.as_dict()
