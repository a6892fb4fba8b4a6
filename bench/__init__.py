"""Benchmarks: fastsel beside what a user would otherwise pick.

Two ways in. `pytest bench/` times whole calls on a small pool, in groups, within minutes.
`python -m bench.report` is the full measurement behind docs/benchmarks.md. Both check that the
picks are right before they time anything, and both need the extra `[bench]`; a peer that is not
installed is skipped with a reason.
"""
