"""Clocks: contenders take turns, so that a busy moment of the machine hits all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

Calls = Mapping[str, Callable[[], object]]


# Threads of some OpenMP libraries spin for 0.2 s after their last work, which takes a core from the
# library that comes next.
SETTLE = 0.3


def interleaved(calls: Calls, rounds: int, settle: float = 0.0) -> dict[str, list[float]]:
    """Seconds of every call in every round.

    settle: seconds to wait before each call, until the threads of other libraries sleep.
    """
    return turns({name: partial(timed, call, settle) for name, call in calls.items()}, rounds)


def turns(measures: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What every one measures in every round. The order within a round is turned each time."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    names = list(measures)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(measures[name]())
    return found


def timed(call: Callable[[], object], settle: float = SETTLE) -> float:
    """Seconds of one call."""
    time.sleep(settle)
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def per_pick(one: list[float], many: list[float], picks: int) -> tuple[float, float]:
    """Seconds for a run of a single pick, and for each further one, from medians.

    `one` are times of runs that pick once, `many` of runs with `picks` more. Where the noise hides
    the picks, the second is not positive, and nothing can be made of it.
    """
    first = statistics.median(one)
    return first, (statistics.median(many) - first) / picks
