"""Exact nearest neighbours beside faiss, scikit-learn, torch and KeOps: speed, growth, accuracy.

    python -m bench.neighbors --features features.npy
    python -m bench.neighbors --quick --out /tmp/trial
    python -m bench.neighbors --render     # the page again, from the JSON record

Writes docs/neighbors.md, its JSON record and its plot. Leave the machine alone meanwhile; it takes
about ten minutes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import command, machine, ours
from bench.knn_case import TOLERANCE, Case
from bench.neighbors_page import page, plot
from bench.workers import Failed, Worker

if TYPE_CHECKING:
    from bench.data import Features

ROUNDS = 3
CAP = 1.0  # seconds of one run of a peer, or what one block of its queries takes
SECTIONS = ("features", "synthetic", "growth", "accuracy")
GROWTH = (ours.NAME, "faiss", "scikit-learn", "torch")


@dataclass(frozen=True)
class Plan:
    """Sizes of a measurement."""

    synthetic: tuple[int, int] = (65_536, 768)
    cases: tuple[Case, ...] = (
        Case("self 1-NN", 1),
        Case("self, k = 10", 10),
        Case("self, k = 100", 100),
        Case("other points, k = 10", 10, alone=False),
        Case("other points, k = 4,096", 4_096, alone=False, queries=1_024),
    )
    growth_dim: int = 384
    growth_n: tuple[int, ...] = (8_192, 16_384, 32_768, 65_536)
    growth_k: tuple[int, ...] = (1, 10, 100, 1_000, 4_096)
    fixed_k: int = 10
    fixed_n: int = 16_384
    cap: float = CAP


# To try the command out; its figures mean nothing.
QUICK = Plan(
    (1_500, 64),
    (
        Case("self 1-NN", 1),
        Case("other points, k = 10", 10, alone=False),
        Case("other points, k = 300", 300, alone=False, queries=200),
    ),
    64,
    (600, 1_200),
    (1, 10, 300),
    fixed_n=1_200,
    cap=0.05,
)


def main(arguments: list[str]) -> None:
    """The command."""
    command.run("bench.neighbors", __doc__, arguments, measure, plot, page, sections=SECTIONS)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as plain numbers."""
    # After restart_with: these load the libraries whose environment it sets.
    from bench import accuracy
    from bench.data import clustered, load, thinned

    log = command.stopwatch()
    plan = QUICK if options.quick else Plan()
    pools = {}
    if options.features and "features" in options.sections:
        features = load(options.features)
        name = options.name or options.features.stem
        pools[name] = thinned(features, plan.synthetic[0]) if options.quick else features
    if "synthetic" in options.sections:
        pools["synthetic"] = clustered(*plan.synthetic)
    record: dict[str, Any] = {
        "trial": options.quick,
        "sections": list(options.sections),
        "all": set(options.sections) == set(SECTIONS),
        "rounds": ROUNDS,
        "cap": plan.cap,
        "tolerance": TOLERANCE,
        "machine": machine.describe(),
        "data": [measure_pool(name, pool, plan, log) for name, pool in pools.items()],
    }
    if "growth" in options.sections:
        log("growth")
        record["growth"] = measure_growth(plan, log)
    if "accuracy" in options.sections:
        log("accuracy")
        record["accuracy"] = accuracy.measure()
    record["machine"]["load_average_after"] = round(os.getloadavg()[0], 2)
    log("done")
    return record


def measure_pool(name: str, pool: Features, plan: Plan, log: command.Log) -> dict[str, Any]:
    """Every case on one feature matrix."""
    from bench import product
    from bench.knn_case import reference, split

    log(f"{name}, {len(pool):,} x {pool.shape[1]}")
    truths = {True: reference(pool, None), False: reference(*split(pool))}
    with contenders(pool) as (workers, path):
        cases = [
            measure_case(case, workers, path, len(pool), truths[case.alone], plan.cap, log)
            for case in plan.cases
        ]
    return {
        "name": name,
        "n": len(pool),
        "dim": pool.shape[1],
        "sgemm_gflops": product.best_sgemm(product.rates(pool.shape[1])),
        "cases": cases,
    }


@contextmanager
def contenders(pool: Features) -> Iterator[tuple[dict[str, Worker], Path]]:
    """A process for each contender that is installed, and a file with the pool for them."""
    import numpy as np

    from bench.knn_case import Contender
    from bench.knn_peers import PEERS

    names = [ours.NAME, *(peer.name for peer in PEERS if peer.missing() is None)]
    workers = {name: Worker(Contender, name) for name in names}
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pool.npy"
            np.save(path, pool)
            yield workers, path
    finally:
        for worker in workers.values():
            worker.close()


def measure_case(
    case: Case,
    workers: dict[str, Worker],
    path: Path,
    n: int,
    truth: tuple[Any, Any, Any],
    cap: float,
    log: command.Log,
) -> dict[str, Any]:
    """Ours over all queries and every peer over as many as fit into the cap, in turns."""
    from bench.knn_peers import PEERS

    rows, *columns = truth
    cut = (rows, *(column[:, : case.k] for column in columns))
    workers[ours.NAME]("open", path, n, case)
    workers[ours.NAME]("check", cut)
    queries = workers[ours.NAME]("affordable", cap)
    entries: dict[str, dict[str, Any]] = {}
    for peer in PEERS:
        entries[peer.name] = entry = {"what": peer.what}
        entry |= (
            enter(workers[peer.name], path, n, case, cut, cap)
            if peer.name in workers
            else {"skipped": peer.missing()}
        )
        done = f"{entry.get('queries', 0):,} of {queries:,} queries a run"
        log(f"  {case.name}, {peer.name}: {entry.get('skipped', done)}")
    timed = {name: entry["queries"] for name, entry in entries.items() if "skipped" not in entry}
    seconds = in_turns(workers, {ours.NAME: queries, **timed})
    ours_seconds = statistics.median(seconds[ours.NAME])
    log(f"  {case.name}, fastsel: {ours_seconds:.3g} s")
    for name, count in timed.items():
        prepare = statistics.median(workers[name]("prepare") for _ in range(ROUNDS))
        whole = prepare + statistics.median(seconds[name]) * queries / count
        entries[name] |= {
            "seconds": seconds[name],
            "prepare_seconds": prepare,
            "whole_seconds": whole,
        }
    return {
        "name": case.name,
        "k": case.k,
        "alone": case.alone,
        "queries": queries,
        "points": truth[2].shape[1] + case.alone,
        "seconds": seconds[ours.NAME],
        "median_seconds": ours_seconds,
        "peers": entries,
    }


def enter(
    worker: Worker, path: Path, n: int, case: Case, truth: tuple[Any, Any, Any], cap: float
) -> dict[str, Any]:
    """A peer's entry before it is timed: its worst error and how many queries, or why not."""
    try:
        worker("open", path, n, case)
        reason, error = worker("check", truth)
        if reason is not None:
            return {"skipped": reason}
        return {"worst_error": error, "queries": worker("affordable", cap)}
    except Failed as failure:
        return {"skipped": f"it fails: {failure}"}


def in_turns(workers: dict[str, Worker], counts: dict[str, int]) -> dict[str, list[float]]:
    """Seconds of everyone's search in every round."""
    from bench import timing

    return timing.turns({who: partial(workers[who], "run", n) for who, n in counts.items()}, ROUNDS)


def measure_growth(plan: Plan, log: command.Log) -> dict[str, Any]:
    """Seconds of self-neighbours against N and against k; the peers' as in the cases."""
    from bench.data import clustered

    cap = plan.cap / 2  # a curve can do with less than a table
    with contenders(clustered(max(plan.growth_n), plan.growth_dim)) as (workers, path):
        curves = {who: worker for who, worker in workers.items() if who in GROWTH}
        against_n = [growth_point(curves, path, n, plan.fixed_k, cap, log) for n in plan.growth_n]
        against_k = [growth_point(curves, path, plan.fixed_n, k, cap, log) for k in plan.growth_k]
    return {
        "dim": plan.growth_dim,
        "n": list(plan.growth_n),
        "fixed_k": plan.fixed_k,
        "against_n": _series(against_n),
        "k": list(plan.growth_k),
        "fixed_n": plan.fixed_n,
        "against_k": _series(against_k),
    }


def growth_point(
    workers: dict[str, Worker], path: Path, n: int, k: int, cap: float, log: command.Log
) -> dict[str, float]:
    """Seconds of each contender."""
    case = Case(f"N = {n:,}, k = {k:,}", k)
    counts = {}
    for who, worker in workers.items():
        worker("open", path, n, case)
        counts[who] = worker("affordable", cap)
    seconds = in_turns(workers, counts)
    result = {who: statistics.median(times) * n / counts[who] for who, times in seconds.items()}
    log(f"  {case.name}: {', '.join(f'{who} {value:.3g} s' for who, value in result.items())}")
    return result


def _series(points: list[dict[str, float]]) -> dict[str, list[float]]:
    return {who: [point[who] for point in points] for who in points[0]}


if __name__ == "__main__":
    main(sys.argv[1:])
