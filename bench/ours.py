"""fastsel, as the benchmarks call it."""

from __future__ import annotations

from typing import Any

import fastsel
from bench.data import Features
from bench.loops import Picks

NAME = "fastsel"


def select(features: Features, m: int) -> Picks:
    """The call that is timed."""
    picks: Picks = fastsel.greedy_select(features, m, start=0)
    return picks


def work_record(features: Features, m: int) -> dict[str, Any]:
    """What the same selection did: pairs, rounds, seconds by phase. Another run, not timed."""
    record: dict[str, Any] = {}
    fastsel.greedy_select(features, m, start=0, record=record)
    return record
