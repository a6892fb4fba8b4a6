"""Benchmarks: fastsel beside what a user would otherwise pick.

Ways in. `pytest bench/` times whole calls on a small pool, in groups, within minutes.
`python -m bench.report` is the full measurement behind docs/benchmarks.md, `python -m
bench.threshold` that behind docs/threshold.md, `python -m bench.neighbors` that behind
docs/neighbors.md; `python -m bench.scores` prints the table of docs/scores.md. All check that the
results are right before they time anything, and all need the extra `[bench]`; a peer that is not
installed is skipped with a reason.
"""
