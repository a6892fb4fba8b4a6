"""Whole selections, ours and every peer's, on the same pool."""

from __future__ import annotations

from typing import Any

import pytest

from bench import check, ours, peers
from bench.data import Features

CHECKED = 100


@pytest.mark.parametrize("share", [10, 2])
@pytest.mark.parametrize("peer", [None, *peers.PEERS], ids=lambda p: p.name if p else ours.NAME)
def test_greedy_select(benchmark: Any, pool: Features, peer: peers.Peer | None, share: int) -> None:
    n, dim = pool.shape
    m = n // share
    benchmark.group = f"greedy_select: {m:,} of {n:,} x {dim}"
    if peer is not None and (reason := peer.missing()):
        pytest.skip(reason)
    select = ours.select if peer is None else peer.select
    verdict = check.verify(pool, select(pool, CHECKED), ours.select(pool, CHECKED))
    assert verdict.good, verdict
    assert peer is not None or verdict.shortfall == 0
    # Those of N/2 take seconds each, which evens out noise by itself.
    benchmark.pedantic(select, (pool, m), rounds=3 if share == 10 else 1)
    benchmark.extra_info["shortfall"] = verdict.shortfall
    if peer is None:
        benchmark.extra_info["work"] = ours.work_record(pool, m)
