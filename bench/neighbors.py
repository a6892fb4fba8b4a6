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
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bench import command, machine
from bench.neighbors_page import page, plot

if TYPE_CHECKING:
    from bench.data import Features
    from bench.knn_peers import Peer

ROUNDS = 3
CAP = 1.0  # seconds of one run of a peer, or what one block of its queries takes
SAMPLE = 48  # queries whose distances are checked
CHECKED = 64  # queries of a search that is checked, the sample among them
# Of |x|^2 + |y|^2, by which a peer may err in a squared distance: what float32 leaves of it.
TOLERANCE = 1e-5
OURS_TOLERANCE = 1e-14  # of a distance: float64, whatever the order of its sum
QUERY_SHARE = 5  # every fifth row is a query for the others
GROWTH_PEERS = ("faiss", "scikit-learn", "torch")


@dataclass(frozen=True)
class Case:
    """A search: k neighbours, of the points themselves or of other queries."""

    name: str
    k: int
    alone: bool = True
    queries: int | None = None  # at most so many


@dataclass(frozen=True)
class Plan:
    """Sizes of a measurement."""

    synthetic: tuple[int, int] = (65_536, 768)
    cases: tuple[Case, ...] = (
        Case("self 1-NN", 1),
        Case("self, k = 10", 10),
        Case("self, k = 100", 100),
        Case("other points, k = 10", 10, alone=False),
        Case("other points, k = 4,096", 4_096, alone=False, queries=4_096),
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
    command.run("bench.neighbors", __doc__, arguments, measure, plot, page)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as plain numbers."""
    # After restart_with: these load the libraries whose environment it sets.
    from bench import accuracy
    from bench.data import clustered, load, thinned

    log = command.stopwatch()
    plan = QUICK if options.quick else Plan()
    pools = {}
    if options.features:
        features = load(options.features)
        name = options.name or options.features.stem
        pools[name] = thinned(features, plan.synthetic[0]) if options.quick else features
    pools["synthetic"] = clustered(*plan.synthetic)
    record: dict[str, Any] = {
        "trial": options.quick,
        "rounds": ROUNDS,
        "cap": plan.cap,
        "tolerance": TOLERANCE,
        "machine": machine.describe(),
        "data": [measure_pool(name, pool, plan, log) for name, pool in pools.items()],
    }
    log("growth")
    record["growth"] = measure_growth(plan, log)
    log("accuracy")
    record["accuracy"] = accuracy.measure()
    record["machine"]["load_average_after"] = round(os.getloadavg()[0], 2)
    log("done")
    return record


def measure_pool(name: str, pool: Features, plan: Plan, log: command.Log) -> dict[str, Any]:
    """Every case on one feature matrix."""
    from bench import product

    log(f"{name}, {len(pool):,} x {pool.shape[1]}")
    truths = {True: reference(pool, None), False: reference(*split(pool))}
    return {
        "name": name,
        "n": len(pool),
        "dim": pool.shape[1],
        "sgemm_gflops": product.best_sgemm(product.rates(pool.shape[1])),
        "cases": [
            measure_case(case, *sides(pool, case), truths[case.alone], plan.cap, log)
            for case in plan.cases
        ],
    }


def split(pool: Features) -> tuple[Features, Features]:
    """Queries and other points."""
    import numpy as np

    is_query = np.arange(len(pool)) % QUERY_SHARE == QUERY_SHARE - 1
    return pool[is_query], pool[~is_query]


def sides(pool: Features, case: Case) -> tuple[Features, Features]:
    """Queries and points of a case."""
    if case.alone:
        return pool, pool
    queries, points = split(pool)
    return queries[: case.queries], points


def reference(queries: Features, points: Features | None) -> tuple[Any, Any, Any]:
    """Some of the queries: which, their distances to all points sorted, and the points' order.

    Without `points`, to the other queries. In float64, from differences.
    """
    import numpy as np

    base = queries if points is None else points
    wide = base.astype(np.float64)
    rows = np.linspace(0, len(queries) - 1, min(SAMPLE, len(queries))).astype(np.int64)
    order, distances = [], []
    for row in rows:
        sq_dist = np.square(wide - queries[row].astype(np.float64)).sum(axis=1)
        if points is None:
            sq_dist[row] = -1
        nearest = np.argsort(sq_dist, kind="stable")[int(points is None) :]
        order.append(nearest)
        distances.append(np.sqrt(sq_dist[nearest]))
    return rows, np.array(distances), np.array(order)


def measure_case(
    case: Case,
    queries: Features,
    points: Features,
    truth: tuple[Any, Any, Any],
    cap: float,
    log: command.Log,
) -> dict[str, Any]:
    """Ours over all queries and every peer over as many as fit into the cap, in turns."""
    from bench import timing
    from bench.knn_peers import PEERS

    ours = partial(ours_search, queries, points, case)
    require_exact(ours(), truth, case)
    calls: dict[str, Any] = {"fastsel": ours}
    entries: dict[str, dict[str, Any]] = {}
    for peer in PEERS:
        entries[peer.name] = entry = {"what": peer.what}
        reason = peer.missing()
        if reason is None:
            search = peer.prepare(points)
            reason = examine(search, queries, points, truth, case, entry)
        if reason is None:
            count = affordable(peer, search, queries, case, cap)
            chosen = spread(queries, count)
            entry["queries"] = count
            calls[f"{peer.name} prepare"] = partial(peer.prepare, points)
            calls[peer.name] = partial(search, chosen, case.k + case.alone)
        else:
            entry["skipped"] = reason
        done = f"{entry.get('queries', 0):,} of {len(queries):,} queries a run"
        log(f"  {case.name}, {peer.name}: {entry.get('skipped', done)}")
    seconds = timing.interleaved(calls, ROUNDS, timing.SETTLE)
    ours_seconds = statistics.median(seconds["fastsel"])
    log(f"  {case.name}, fastsel: {ours_seconds:.3g} s")
    for name, entry in entries.items():
        if "skipped" not in entry:
            share = len(queries) / entry["queries"]
            prepare = statistics.median(seconds[f"{name} prepare"])
            entry["seconds"] = seconds[name]
            entry["prepare_seconds"] = prepare
            entry["whole_seconds"] = prepare + share * statistics.median(seconds[name])
    return {
        "name": case.name,
        "k": case.k,
        "alone": case.alone,
        "queries": len(queries),
        "points": len(points),
        "seconds": seconds["fastsel"],
        "median_seconds": ours_seconds,
        "peers": entries,
    }


def ours_search(queries: Features, points: Features, case: Case) -> tuple[Any, Any]:
    """The call that is timed."""
    import fastsel

    if case.alone:
        distances, indices = fastsel.knn(points, points, case.k, exclude_self=True)
    else:
        distances, indices = fastsel.knn(queries, points, case.k)
    return distances, indices


def require_exact(found: tuple[Any, Any], truth: tuple[Any, Any, Any], case: Case) -> None:
    """Our neighbours of the sample must be the reference's."""
    import numpy as np

    rows, expected, order = truth
    kept = rows < len(found[0])
    rows, expected, order = rows[kept], expected[kept, : case.k], order[kept, : case.k]
    distances, indices = found[0][rows], found[1][rows]
    # Equal distances may come in another order than in the reference, whose last bits differ.
    apart = (indices != order) & (distances != expected)
    if apart.any() or (np.abs(distances - expected) > OURS_TOLERANCE * expected).any():
        raise SystemExit(f"fastsel's neighbours are wrong ({case.name}): not measured")


def examine(
    search: Any,
    queries: Features,
    points: Features,
    truth: tuple[Any, Any, Any],
    case: Case,
    entry: dict[str, Any],
) -> str | None:
    """Why a peer is left out, or None. Notes its worst errors on the sample in its entry."""
    import numpy as np

    rows, expected, order = truth
    kept = rows < len(queries)
    rows, expected, order = rows[kept], expected[kept, : case.k], order[kept, : case.k]
    # More rows than the sample: some searches are others for few queries.
    chosen = np.concatenate([rows, np.setdiff1d(np.arange(min(CHECKED, len(queries))), rows)])
    try:
        found = search(queries[chosen], case.k + case.alone)[: len(rows), int(case.alone) :]
    except (RuntimeError, ValueError, MemoryError) as error:
        return f"it fails: {str(error).splitlines()[0]}"
    sq_norms = np.square(points.astype(np.float64)).sum(axis=1)
    scale = np.square(queries[rows].astype(np.float64)).sum(axis=1)[:, None] + sq_norms[order]
    off = float((np.abs(np.square(found.astype(np.float64)) - expected**2) / scale).max())
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(found == expected, 0, np.abs(found - expected) / expected)
    entry["worst_error"] = float(min(error.max(), np.finfo(np.float64).max))
    return None if off <= TOLERANCE else f"wrong distances: squares are off by {off:.1g} of norms"


def affordable(peer: Peer, search: Any, queries: Features, case: Case, cap: float) -> int:
    """How many queries a peer answers within the cap, by a trial: whole blocks, at least one."""
    from bench import timing

    trial = spread(queries, peer.block)
    seconds = timing.timed(partial(search, trial, case.k + case.alone))
    blocks = max(1, int(cap / seconds * len(trial) / peer.block))
    return min(len(queries), blocks * peer.block)


def spread(queries: Features, count: int) -> Features:
    """So many of the queries, evenly spaced."""
    from bench.data import thinned

    return thinned(queries, count)


def measure_growth(plan: Plan, log: command.Log) -> dict[str, Any]:
    """Seconds of self-neighbours against N and against k; the peers' as in the cases."""
    from bench.data import clustered

    pool = clustered(max(plan.growth_n), plan.growth_dim)
    cap = plan.cap / 2  # a curve can do with less than a table
    against_n = [growth_point(pool[:n], plan.fixed_k, cap, log) for n in plan.growth_n]
    against_k = [growth_point(pool[: plan.fixed_n], k, cap, log) for k in plan.growth_k]
    return {
        "dim": plan.growth_dim,
        "n": list(plan.growth_n),
        "fixed_k": plan.fixed_k,
        "against_n": _series(against_n),
        "k": list(plan.growth_k),
        "fixed_n": plan.fixed_n,
        "against_k": _series(against_k),
    }


def growth_point(pool: Features, k: int, cap: float, log: command.Log) -> dict[str, float]:
    """Seconds of each contender."""
    from bench import timing
    from bench.knn_peers import PEERS

    case = Case(f"N = {len(pool):,}, k = {k:,}", k)
    calls: dict[str, Any] = {"fastsel": partial(ours_search, pool, pool, case)}
    counts = {}
    for peer in PEERS:
        if peer.name in GROWTH_PEERS and peer.missing() is None:
            search = peer.prepare(pool)
            counts[peer.name] = affordable(peer, search, pool, case, cap)
            calls[peer.name] = partial(search, spread(pool, counts[peer.name]), k + 1)
    seconds = timing.interleaved(calls, ROUNDS, timing.SETTLE)
    result = {
        who: statistics.median(times) * len(pool) / counts.get(who, len(pool))
        for who, times in seconds.items()
    }
    log(f"  {case.name}: {', '.join(f'{who} {value:.3g} s' for who, value in result.items())}")
    return result


def _series(points: list[dict[str, float]]) -> dict[str, list[float]]:
    return {who: [point[who] for point in points] for who in points[0]}


if __name__ == "__main__":
    main(sys.argv[1:])
