"""The measurement: features in, a record of plain numbers out (what the JSON file holds)."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from bench import check, machine, ours, peers, product, timing
from bench.data import Features, clustered
from bench.loops import Picks

Log = Callable[[str], None]

SHARES = (10, 2)  # n_samples is N over this
GROWTH_PEERS = (peers.RELEASED_LOOP, *peers.BEST_LOOPS, "lightly-mundig")


@dataclass(frozen=True)
class Plan:
    """Sizes of a measurement."""

    synthetic: tuple[tuple[int, int], ...] = ((65_536, 384), (65_536, 768))
    rounds: int = 3
    growth_dim: int = 384
    growth_n: tuple[int, ...] = (8_192, 16_384, 32_768, 65_536)
    fixed_m: int = 4_096
    growth_m: tuple[int, ...] = (1_024, 2_048, 4_096, 8_192, 16_384, 32_768)
    product_dims: tuple[int, ...] = (320, 768)
    trial: bool = False


# To try the report out; its figures mean nothing.
QUICK = Plan(((2_048, 64),), 2, 64, (1_024, 2_048), 256, (128, 512), (64,), trial=True)


def measure(plan: Plan, named: dict[str, Features], log: Log) -> dict[str, Any]:
    """Everything, on the named features and on synthetic ones."""
    record: dict[str, Any] = {
        "trial": plan.trial,
        "machine": machine.describe(),
        "rounds": plan.rounds,
        "tolerance": check.TOLERANCE,
        "products": {},
        "data": [],
    }
    for dim in plan.product_dims:
        log(f"products of inner size {dim}")
        record["products"][str(dim)] = product.rates(dim)
    for name, features in named.items():
        record["data"].append(measure_data(name, features, plan.rounds, log))
    for n, dim in plan.synthetic:
        record["data"].append(measure_data("synthetic", clustered(n, dim), plan.rounds, log))
    record["growth"] = measure_growth(plan, log)
    record["machine"]["load_average_after"] = round(os.getloadavg()[0], 2)
    return record


def measure_data(name: str, features: Features, rounds: int, log: Log) -> dict[str, Any]:
    """Ours at every share and every peer's time per pick, on one feature matrix."""
    n, dim = features.shape
    log(f"{name}, {n:,} x {dim}")
    sizes = [n // share for share in SHARES]
    before = product.rates(dim)
    picks = ours.select(features, sizes[0])
    _require_exact(features, picks)
    results: dict[str, dict[str, Any]] = {}
    calls: dict[str, Any] = {f"ours {m}": partial(ours.select, features, m) for m in sizes}
    for peer in peers.PEERS:
        results[peer.name] = entry = examine(peer, features, picks)
        log(f"  {peer.name}: {entry.get('skipped') or entry['verdict']}")
        if "skipped" not in entry:
            calls[f"{peer.name} one"] = partial(peer.select, features, 1)
            calls[f"{peer.name} many"] = partial(peer.select, features, 1 + entry["prefix"])
    log(f"  {rounds} rounds")
    seconds = timing.interleaved(calls, rounds)
    for peer_name, entry in results.items():
        if "skipped" not in entry:
            one, many = seconds[f"{peer_name} one"], seconds[f"{peer_name} many"]
            first, each = timing.per_pick(one, many, entry["prefix"])
            entry |= {"first_pick_seconds": first, "pick_seconds": each}
            entry["seconds"] = {"one": one, "many": many}
            if each <= 0:
                entry["skipped"] = "its picks took less time than the noise of its set-up"
    after = product.rates(dim)
    return {
        "name": name,
        "n": n,
        "dim": dim,
        "sgemm_gflops": max(product.best_sgemm(before), product.best_sgemm(after)),
        "cases": [
            {
                "n_samples": m,
                "seconds": seconds[f"ours {m}"],
                "median_seconds": statistics.median(seconds[f"ours {m}"]),
                "work": ours.work_record(features, m),
            }
            for m in sizes
        ],
        "peers": results,
    }


def examine(peer: peers.Peer, features: Features, picks: Picks) -> dict[str, Any]:
    """A peer's entry in the record: its verdict, or why it is left out."""
    entry: dict[str, Any] = {"what": peer.what, "prefix": min(peer.prefix, len(picks) - 1)}
    reason = peer.missing()
    if reason is None:
        verdict = check.verify(features, peer.select(features, 1 + entry["prefix"]), picks)
        entry["verdict"] = asdict(verdict)
        if not verdict.good:
            reason = (
                f"wrong picks: one is nearer than the farthest point by {verdict.shortfall:.2%}"
            )
    if reason is not None:
        entry["skipped"] = reason
    if peer.name == "fpsample" and reason is None:
        entry["tree_refusal"] = peers.fpsample_tree_refusal(features)
    return entry


def measure_growth(plan: Plan, log: Log) -> dict[str, Any]:
    """Our time against N and against M, and the peers' times for the same, extrapolated."""
    log("growth")
    pool = clustered(max(plan.growth_n), plan.growth_dim)
    usable = [peer for peer in peers.PEERS if peer.name in GROWTH_PEERS and peer.missing() is None]
    against_n: dict[str, list[float]] = {ours.NAME: []}
    against_m: dict[str, list[float]] = {ours.NAME: []}
    for n in plan.growth_n:
        log(f"  N = {n:,}")
        features = pool[:n]
        m = min(plan.fixed_m, n)
        calls: dict[str, Any] = {ours.NAME: partial(ours.select, features, m)}
        good = []
        picks = ours.select(features, m)
        for peer in usable:
            entry = examine(peer, features, picks)
            if "skipped" not in entry:
                good.append((peer.name, entry["prefix"]))
                calls[f"{peer.name} one"] = partial(peer.select, features, 1)
                calls[f"{peer.name} many"] = partial(peer.select, features, 1 + entry["prefix"])
        seconds = timing.interleaved(calls, plan.rounds)
        against_n[ours.NAME].append(statistics.median(seconds[ours.NAME]))
        for name, prefix in good:
            first, each = timing.per_pick(seconds[f"{name} one"], seconds[f"{name} many"], prefix)
            if each <= 0:
                continue
            against_n.setdefault(name, []).append(first + each * (m - 1))
            if n == max(plan.growth_n):
                against_m[name] = [first + each * (size - 1) for size in plan.growth_m]
    for m in plan.growth_m:
        log(f"  M = {m:,}")
        seconds = timing.interleaved({ours.NAME: partial(ours.select, pool, m)}, plan.rounds)
        against_m[ours.NAME].append(statistics.median(seconds[ours.NAME]))
    complete = {name: v for name, v in against_n.items() if len(v) == len(plan.growth_n)}
    return {
        "dim": plan.growth_dim,
        "n": list(plan.growth_n),
        "fixed_m": plan.fixed_m,
        "against_n": complete,
        "m": list(plan.growth_m),
        "fixed_n": max(plan.growth_n),
        "against_m": against_m,
    }


def _require_exact(features: Features, picks: Picks) -> None:
    """Our first picks, by the definition; the whole selection is certified in tests/."""
    worst = check.shortfall(features, picks[:200])
    if worst > 0:
        raise SystemExit(f"fastsel's picks are wrong, by {worst:.2%} of a distance: not measured")
