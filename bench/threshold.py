"""What the first threshold and its decay do to a selection, and how fast threshold decay is.

    python -m bench.threshold --features features.npy
    python -m bench.threshold --quick --out /tmp/trial
    python -m bench.threshold --render     # the page again, from the JSON record

Writes docs/threshold.md, its JSON record and its plot. Leave the machine alone meanwhile; it takes
a few minutes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from functools import partial
from typing import Any

from bench import command, machine
from bench.threshold_page import ALL_DECAYS, DECAY, DECAYS, SHARES, STARTS, page, phases, plot

SPEED_SHARES = (5, 2)
ABLATION_POINTS = 16_384
PAIRS_DRAWN = 100_000  # for the median distance
LOOP_PICKS = (60, 120)
ROUNDS = 3


def main(arguments: list[str]) -> None:
    """The command."""
    command.run("bench.threshold", __doc__, arguments, measure, plot, page)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as plain numbers."""
    log = command.stopwatch()
    n = 1_500 if options.quick else ABLATION_POINTS
    pools, whole = command.pools(options, n)
    record: dict[str, Any] = {
        "trial": options.quick,
        "rounds": ROUNDS,
        "machine": machine.describe(),
        "ablation": [ablate(name, pool, log) for name, pool in pools.items()],
    }
    log("speed")
    record["speed"] = [
        measure_speed(next(iter(pools)), whole, len(whole) // share) for share in SPEED_SHARES
    ]
    record["machine"]["load_average_after"] = round(os.getloadavg()[0], 2)
    log("done")
    return record


def ablate(name: str, pool: Any, log: Any) -> dict[str, Any]:
    """Entropy and seconds against the first threshold and the decay, on one pool."""
    import numpy as np

    import fastsel
    from bench import timing

    n, dim = pool.shape
    log(f"{name}, {n:,} x {dim}")
    farthest = float(np.linalg.norm(pool.astype(np.float64) - pool[0], axis=1).max())
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, n, (2, PAIRS_DRAWN))
    median = float(np.median(np.linalg.norm(pool[a[a != b]] - pool[b[a != b]], axis=1)))
    cases = []
    for share in SHARES:
        m = n // share
        random = np.sort(rng.choice(n, m, replace=False))
        greedy = fastsel.greedy_select(pool, m)
        selections: dict[tuple[float | str, float], dict[str, Any]] = {
            **{("auto", decay): {} for decay in ALL_DECAYS},
            **{(farthest * start, decay): {} for start in STARTS for decay in DECAYS},
            **{(farthest * start, DECAY): {} for start in phases()},
            **{(median, decay): {} for decay in DECAYS},
        }
        calls: dict[Any, Any] = {
            (first, decay): partial(
                fastsel.threshold_decay_select, pool, m, threshold=first, decay=decay
            )
            for first, decay in selections
        }
        calls["greedy"] = partial(fastsel.greedy_select, pool, m)
        seconds = timing.interleaved(calls, ROUNDS)
        for (first, decay), entry in selections.items():
            picks, thresholds, sweeps = fastsel.threshold_decay_select(
                pool,
                m,
                threshold=first,
                decay=decay,
                return_thresholds=True,
                return_sweeps=True,
            )
            entry |= {
                "start": 1.0 if first == "auto" else float(first) / farthest,
                "auto": first == "auto",
                "decay": decay,
                "entropy": fastsel.kl_entropy(pool[picks]),
                "seconds": statistics.median(seconds[first, decay]),
                "last": float(thresholds[-1]) / farthest,
                "sweeps": int(sweeps[-1]),
                "shared_with_greedy": len(np.intersect1d(picks, greedy)) / m,
            }
        cases.append(
            {
                "n_samples": m,
                "selections": list(selections.values()),
                "median_start": median / farthest,
                "greedy": {
                    "entropy": fastsel.kl_entropy(pool[greedy]),
                    "seconds": statistics.median(seconds["greedy"]),
                },
                "random": {"entropy": fastsel.kl_entropy(pool[random])},
            }
        )
    return {"name": name, "n": n, "dim": dim, "cases": cases}


def measure_speed(name: str, pool: Any, m: int) -> dict[str, Any]:
    """Threshold decay with the automatic and a fixed threshold, greedy, and the released loop."""
    import numpy as np

    import fastsel
    from bench import timing

    farthest = float(np.linalg.norm(pool.astype(np.float64) - pool[0], axis=1).max())
    firsts: dict[str, float | str] = {"auto": "auto", "fixed": farthest / 2}
    calls: dict[str, Any] = {
        kind: partial(fastsel.threshold_decay_select, pool, m, threshold=first, decay=DECAY)
        for kind, first in firsts.items()
    }
    calls["greedy"] = partial(fastsel.greedy_select, pool, m)
    seconds = timing.interleaved(calls, ROUNDS)
    entries = {}
    for kind, first in firsts.items():
        work: dict[str, float] = {}
        picks, sweeps = fastsel.threshold_decay_select(
            pool,
            m,
            threshold=first,
            decay=DECAY,
            decay_when="sweep",
            return_sweeps=True,
            record=work,
        )
        value = farthest if first == "auto" else float(first)
        entries[kind] = {
            "first_threshold": value,
            "seconds": seconds[kind],
            "median_seconds": statistics.median(seconds[kind]),
            "work": work,
            "loop": time_loop(pool, picks, sweeps, value),
        }
    return {
        "name": name,
        "n": len(pool),
        "dim": pool.shape[1],
        "n_samples": m,
        "entries": entries,
        "greedy_seconds": seconds["greedy"],
        "greedy_median_seconds": statistics.median(seconds["greedy"]),
    }


def time_loop(pool: Any, picks: Any, sweeps: Any, first: float) -> dict[str, Any]:
    """The released loop's seconds over two prefixes of its picks, and for all at that rate."""
    import numpy as np

    from bench import loops

    seconds, pairs = [], []
    for size in LOOP_PICKS:
        begin = time.perf_counter()
        loop = loops.threshold_decay_loop(pool, size, first, DECAY)
        seconds.append(time.perf_counter() - begin)
        if not np.array_equal(loop, picks[:size]):
            raise SystemExit(f"the loop and fastsel differ in the first {size} picks")
        pairs.append(loops.threshold_decay_loop_pairs(len(pool), picks[:size], sweeps[:size]))
    whole = loops.threshold_decay_loop_pairs(len(pool), picks, sweeps)
    each = (seconds[1] - seconds[0]) / (pairs[1] - pairs[0])
    return {
        "picks": LOOP_PICKS,
        "seconds": seconds,
        "pairs": pairs,
        "whole_pairs": whole,
        "whole_seconds": seconds[1] + each * (whole - pairs[1]),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
