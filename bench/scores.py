"""Entropy, scores and groups of duplicates beside how one would compute them otherwise.

    python -m bench.scores --features features.npy

Prints the table of docs/scores.md, in Markdown. Leave the machine alone meanwhile; it takes two
minutes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import command, machine

if TYPE_CHECKING:
    from bench.data import Features
    from bench.scores_peers import Score

POINTS, DIM = 16_384, 384
ROUNDS = 3


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.scores", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--features", type=Path, help="a .npy file with a float matrix [N, D]")
    parser.add_argument("--n-points", type=int, default=POINTS, help="at most; default: 16384")
    parser.add_argument("--threads", type=int, default=machine.cores(), help="default: cores")
    options = parser.parse_args(arguments)
    machine.restart_with(options.threads, "bench.scores", arguments)

    from bench.data import clustered, load, thinned
    from bench.page import table
    from bench.scores_peers import SCORES

    n = options.n_points
    pool = thinned(load(options.features), n) if options.features else clustered(n, DIM)
    log = command.stopwatch()
    rows = [row for score in SCORES for row in measure(score, pool, log)]
    header = ["score", "by", "N", "seconds", "ratio"]
    print(f"{len(pool):,} x {pool.shape[1]}, {options.threads} threads")
    print(table(header, rows, text_columns=2))


def measure(score: Score, pool: Features, log: command.Log) -> list[list[str]]:
    """Rows of the table: ours, and each peer with its ratio to ours over the same rows."""
    from bench import timing
    from bench.data import thinned
    from bench.page import in_seconds, in_times

    calls: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    rows: list[list[str]] = []
    skipped: list[list[str]] = []
    for peer in score.peers:
        part = thinned(pool, peer.most)
        inputs = score.inputs(part)
        label = f"{peer.name}: {peer.what}"
        reason = peer.missing()
        if reason is None:
            reason = peer.same(peer.compute(*inputs), score.ours(*inputs))
        log(f"{score.name}, {peer.name}: {reason or 'the same result'}")
        if reason is None:
            sizes[label] = len(part)
            calls[label] = partial(peer.compute, *inputs)
        else:
            skipped.append([score.name, label, f"{len(part):,}", f"left out: {reason}", ""])
    for size in sorted({len(pool), *sizes.values()}, reverse=True):
        calls[f"fastsel {size}"] = partial(score.ours, *score.inputs(thinned(pool, size)))
    found = timing.interleaved(calls, ROUNDS, timing.SETTLE)
    seconds = {name: statistics.median(times) for name, times in found.items()}
    whole = seconds[f"fastsel {len(pool)}"]
    rows.append([score.name, "**fastsel**", f"{len(pool):,}", in_seconds(whole), "1"])
    for label, size in sizes.items():
        ratio = in_times(seconds[label] / seconds[f"fastsel {size}"])
        rows.append([score.name, label, f"{size:,}", in_seconds(seconds[label]), ratio])
    return rows + skipped


if __name__ == "__main__":
    main(sys.argv[1:])
