"""Measure everything and write docs/benchmarks.md, its JSON record and its plot.

    python -m bench.report --features features.npy
    python -m bench.report --quick --out /tmp/trial
    python -m bench.report --render        # the page again, from the JSON record

Leave the machine alone meanwhile; the full measurement takes about a quarter of an hour.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bench import command, machine

PAGE, RECORD, PLOT = "benchmarks.md", "benchmarks.json", "benchmarks-growth.png"


def main(arguments: list[str]) -> None:
    """The command."""
    options = parse(arguments)
    target = options.out / RECORD
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.render:
        machine.restart_with(options.threads, "bench.report", arguments)
        _measure(options, target)
    _render(target)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options."""
    parser = command.parser("bench.report", __doc__)
    parser.add_argument("--rounds", type=int, help="how often everyone takes a turn; default: 3")
    return parser.parse_args(arguments)


def _measure(options: argparse.Namespace, target: Path) -> None:
    # After restart_with: these load the libraries whose environment it sets.
    from dataclasses import replace

    from bench import data
    from bench.measure import QUICK, Plan, measure

    plan = QUICK if options.quick else Plan()
    if options.rounds:
        plan = replace(plan, rounds=options.rounds)
    named = {}
    if options.features:
        features = data.load(options.features)
        named[options.name or options.features.stem] = (
            data.thinned(features, 2_048) if options.quick else features
        )
    log = command.stopwatch()
    record = measure(plan, named, log)
    target.write_text(json.dumps(record, indent=1) + "\n")
    log(f"wrote {target}")


def _render(target: Path) -> None:
    from bench.page import page
    from bench.plots import plot_growth

    record = json.loads(target.read_text())
    plot_growth(record["growth"], target.with_name(PLOT))
    target.with_name(PAGE).write_text(page(record, RECORD, PLOT))
    print(f"wrote {target.with_name(PAGE)} and {target.with_name(PLOT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
