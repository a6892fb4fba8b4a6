"""Nearest neighbours of the pool: of its rows among each other, and of other queries.

A peer's distances are checked on a sample first; `worst_error` in its extra_info is the largest
relative error found there, `work` in ours what a search did. `python -m bench.neighbors` measures
on large pools, and every peer in a process of its own: here libraries with an OpenMP of their own
may slow each other down.
"""

from __future__ import annotations

from typing import Any

import pytest

import fastsel
from bench import knn_case, ours
from bench.data import Features
from bench.knn_case import Case
from bench.knn_peers import PEERS

CASES = (
    Case("self 1-NN", 1),
    Case("self, k = 10", 10),
    Case("other points, k = 10", 10, alone=False),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("who", [ours.NAME, *(peer.name for peer in PEERS)])
def test_knn(benchmark: Any, pool: Features, who: str, case: Case) -> None:
    queries, points = knn_case.sides(pool, case)
    benchmark.group = f"knn: {case.name}, {len(queries):,} among {len(points):,} x {pool.shape[1]}"
    truth = knn_case.reference(queries, None if case.alone else points)
    if who == ours.NAME:
        knn_case.require_exact(knn_case.ours_search(queries, points, case), truth, case)
        benchmark.extra_info["work"] = record = dict[str, Any]()
        fastsel.knn(queries, points, case.k, exclude_self=case.alone, record=record)
        benchmark.pedantic(knn_case.ours_search, (queries, points, case), rounds=3)
        return
    peer = next(peer for peer in PEERS if peer.name == who)
    if reason := peer.missing():
        pytest.skip(reason)
    search = peer.prepare(points)
    reason, error = knn_case.examine(search, queries, points, truth, case)
    if reason:
        pytest.fail(reason)
    benchmark.extra_info["worst_error"] = error
    benchmark.pedantic(search, (queries, case.k + case.alone), rounds=3)
