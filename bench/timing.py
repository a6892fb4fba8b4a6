"""Clocks: contenders take turns, so that a busy moment of the machine hits all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

Calls = Mapping[str, Callable[[], object]]


def interleaved(calls: Calls, rounds: int) -> dict[str, list[float]]:
    """Seconds of every call in every round. The order within a round is turned each time."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            begin = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def per_pick(one: list[float], many: list[float], picks: int) -> tuple[float, float]:
    """Seconds for a run of a single pick, and for each further one, from medians.

    `one` are times of runs that pick once, `many` of runs with `picks` more. Where the noise hides
    the picks, the second is not positive, and nothing can be made of it.
    """
    first = statistics.median(one)
    return first, (statistics.median(many) - first) / picks
