"""Nearest neighbours of the pool: of its rows among each other, and of other queries.

A peer's distances are checked on a sample first; `worst_error` in its extra_info is the largest
relative error found there. `python -m bench.neighbors` measures on large pools.
"""

from __future__ import annotations

from typing import Any

import pytest

from bench import neighbors, ours
from bench.data import Features
from bench.knn_peers import PEERS
from bench.neighbors import Case

CASES = (
    Case("self 1-NN", 1),
    Case("self, k = 10", 10),
    Case("other points, k = 10", 10, alone=False),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("who", [ours.NAME, *(peer.name for peer in PEERS)])
def test_knn(benchmark: Any, pool: Features, who: str, case: Case) -> None:
    queries, points = neighbors.sides(pool, case)
    benchmark.group = f"knn: {case.name}, {len(queries):,} among {len(points):,} x {pool.shape[1]}"
    truth = neighbors.reference(queries, None if case.alone else points)
    if who == ours.NAME:
        neighbors.require_exact(neighbors.ours_search(queries, points, case), truth, case)
        benchmark.pedantic(neighbors.ours_search, (queries, points, case), rounds=3)
        return
    peer = next(peer for peer in PEERS if peer.name == who)
    if reason := peer.missing():
        pytest.skip(reason)
    search = peer.prepare(points)
    if reason := neighbors.examine(search, queries, points, truth, case, entry := dict[str, Any]()):
        pytest.fail(reason)
    benchmark.extra_info |= entry
    benchmark.pedantic(search, (queries, case.k + case.alone), rounds=3)
