"""What each way to select buys: entropy, distances, coverage and seconds, side by side.

    python -m bench.selection --features features.npy
    python -m bench.selection --quick --out /tmp/trial
    python -m bench.selection --render     # the page again, from the JSON record

Writes docs/selection.md, its JSON record and its plot. Leave the machine alone meanwhile; it takes
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
from bench.selection_page import SHARES, page, plot

POINTS = 16_384  # k-means and refinement take long on more
SPEED_SHARES = (10, 2)
ROUNDS = 3


def main(arguments: list[str]) -> None:
    """The command."""
    command.run("bench.selection", __doc__, arguments, measure, plot, page)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as plain numbers."""
    log = command.stopwatch()
    n = 1_500 if options.quick else POINTS
    pools, whole = command.pools(options, n)
    record: dict[str, Any] = {
        "trial": options.quick,
        "rounds": ROUNDS,
        "machine": machine.describe(),
        "pools": [
            {"name": name, "n": n, "dim": pool.shape[1], "cases": compare(name, pool, log)}
            for name, pool in pools.items()
        ],
    }
    log("cost")
    record["cost"] = [measure_cost(next(iter(pools)), whole, share) for share in SPEED_SHARES]
    record["machine"]["load_average_after"] = round(os.getloadavg()[0], 2)
    log("done")
    return record


def compare(name: str, pool: Any, log: Any) -> list[dict[str, Any]]:
    """Every method's selection of each size from one pool."""
    import numpy as np

    import fastsel

    def refined(m: int, work: dict[str, Any]) -> Any:
        return fastsel.refine(
            pool, fastsel.greedy_select(pool, m, objective="entropy"), record=work
        )

    cases = []
    for share in SHARES:
        m = len(pool) // share
        methods: dict[str, Any] = {
            "random": lambda m=m: np.random.default_rng(0).permutation(len(pool))[:m],
            "k-means medoids": partial(medoids, pool, m),
            "threshold decay": partial(fastsel.threshold_decay_select, pool, m),
            "greedy": partial(fastsel.greedy_select, pool, m),
            "greedy entropy": partial(fastsel.greedy_select, pool, m, objective="entropy"),
        }
        work: dict[str, Any] = {}
        methods["refined"] = partial(refined, m, work)
        entries = []
        for method, select in methods.items():
            log(f"{name}, {m:,} of {len(pool):,}, {method}")
            begin = time.perf_counter()
            picks = select()
            seconds = time.perf_counter() - begin
            entries.append({"method": method, "seconds": seconds, **scores(pool, picks)})
        cases.append({"n_samples": m, "methods": entries, "refinement": work})
    return cases


def medoids(pool: Any, m: int) -> Any:
    """The points nearest to the centres of mini-batch k-means, without those taken twice."""
    import numpy as np
    from sklearn.cluster import MiniBatchKMeans

    import fastsel

    centres = MiniBatchKMeans(m, random_state=0, batch_size=4096, n_init=1).fit(pool)
    _, nearest = fastsel.knn(centres.cluster_centers_.astype(pool.dtype), pool, 1)
    return np.unique(nearest)


def scores(pool: Any, picks: Any) -> dict[str, Any]:
    """What the page tells of a selection."""
    import fastsel

    chosen = pool[picks]
    nearest, _ = fastsel.knn(chosen, chosen, 1, exclude_self=True)
    h1, h5 = fastsel.kl_entropy(chosen, [1, 5])
    return {
        "picks": len(picks),
        "h1": float(h1),
        "h5": float(h5),
        "least": float(nearest.min()),
        "mean": float(nearest.mean()),
        "radius": float(fastsel.nearest_distances(pool, chosen).max()),
    }


def measure_cost(name: str, pool: Any, share: int) -> dict[str, Any]:
    """Seconds of greedy selection by entropy and by distance, on the same call."""
    import fastsel
    from bench import timing

    m = len(pool) // share
    calls = {
        objective: partial(fastsel.greedy_select, pool, m, objective=objective)
        for objective in ("maxmin", "entropy")
    }
    seconds = timing.interleaved(calls, ROUNDS)
    work: dict[str, dict[str, Any]] = {objective: {} for objective in calls}
    for objective, call in calls.items():
        call(record=work[objective])
    return {
        "name": name,
        "n": len(pool),
        "dim": pool.shape[1],
        "n_samples": m,
        "seconds": {objective: statistics.median(times) for objective, times in seconds.items()},
        "work": work,
    }


if __name__ == "__main__":
    main(sys.argv[1:])
