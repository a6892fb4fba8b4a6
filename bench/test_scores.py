"""Entropy, scores and groups of duplicates of the pool beside how one would compute them otherwise.

`python -m bench.scores` prints the same as one table, on a larger pool.
"""

from __future__ import annotations

from typing import Any

import pytest

from bench import ours
from bench.data import Features, thinned
from bench.scores_peers import SCORES, Score

MOST = 2_048  # rows: the k-d trees and graphs of some peers take long on more


@pytest.mark.parametrize(
    ("score", "who"),
    [
        pytest.param(score, who, id=f"{score.name}-{who}")
        for score in SCORES
        for who in (ours.NAME, *(peer.name for peer in score.peers))
    ],
)
def test_score(benchmark: Any, pool: Features, score: Score, who: str) -> None:
    inputs = score.inputs(thinned(pool, MOST))
    benchmark.group = f"{score.name}: {min(len(pool), MOST):,} x {pool.shape[1]}"
    if who == ours.NAME:
        benchmark.pedantic(score.ours, inputs, rounds=3)
        return
    peer = next(peer for peer in score.peers if peer.name == who)
    if reason := peer.missing() or peer.same(peer.compute(*inputs), score.ours(*inputs)):
        pytest.skip(reason)
    benchmark.pedantic(peer.compute, inputs, rounds=3)
