"""The command line: python -m fastsel entropy|knn|dedup|select FILE."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fastsel
from fastsel import files, neighbors

Result = dict[str, Any]

EPILOG = """\
FILE is a float matrix with a row for each item: .npy or .safetensors (memory-mapped), .npz or
.parquet. Outputs are .npy or .parquet, written whole or not at all. Results go to standard output,
progress to standard error if that is a terminal.

exit codes: 0 done; 1 the work failed (a backend that can not run, a full disk); 2 wrong usage or
input, found before the work; 130 interrupted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        _check_outputs(arguments)
        features = files.load(arguments.file, arguments.key)
        begin = time.perf_counter()
        result, outputs = arguments.run(arguments, features)
        seconds = time.perf_counter() - begin
    except (ValueError, TypeError, OSError, ImportError) as error:
        return _fail(error, 2)
    except (RuntimeError, MemoryError) as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    n, dim = features.shape
    what = {"command": arguments.command, "file": str(arguments.file), "n": n, "dim": dim}
    report = {**what, "dtype": str(features.dtype), **result, "seconds": round(seconds, 3)}
    try:
        for path, name, array in outputs:
            if path is not None:
                files.save(path, name, array)
        _print(report, arguments.json)
    except OSError as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    return 0


def _check_outputs(arguments: argparse.Namespace) -> None:
    inputs = [
        getattr(arguments, name, None)
        for name in ("file", "indices", "queries", "initial", "anchors")
    ]
    output, distances = getattr(arguments, "output", None), arguments.distances
    if output is not None:
        files.check_output(output, *inputs)
    if distances is not None:
        files.check_output(distances, output, *inputs)


def _print(report: Result, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name}: {value}")
    try:
        sys.stdout.flush()
    except OSError:
        # Or the interpreter tries again at its end, and says so in its own words.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _fail(error: object, code: int) -> int:
    print(f"fastsel: {error or type(error).__name__}", file=sys.stderr)
    return code


Outputs = list[tuple[Path | None, str, Any]]


def _entropy(arguments: argparse.Namespace, features: Any) -> tuple[Result, Outputs]:
    indices = None if arguments.indices is None else files.load_indices(arguments.indices)
    entropies, distances = fastsel.kl_entropy(
        features,
        arguments.k,
        indices=indices,
        base=arguments.base,
        duplicates=arguments.duplicates,
        floor=arguments.floor,
        return_distances=True,
        **_common(arguments),
    )
    result = {"k": arguments.k, "unit": "nats" if arguments.base is None else arguments.base}
    return {**result, "entropy": entropies.tolist()}, [(arguments.distances, "distance", distances)]


def _knn(arguments: argparse.Namespace, features: Any) -> tuple[Result, Outputs]:
    alone = arguments.queries is None
    distances, indices = fastsel.knn(
        features if alone else files.load(arguments.queries, arguments.key),
        features,
        arguments.k,
        exclude_self=alone,
        metric=arguments.metric,
        **_common(arguments),
    )
    result = {
        "k": arguments.k,
        "metric": arguments.metric,
        "queries": len(distances),
        "mean_nearest": float(distances[:, 0].mean()),
        "mean_farthest": float(distances[:, -1].mean()),
    }
    outputs: Outputs = [
        (arguments.output, "index", indices),
        (arguments.distances, "distance", distances),
    ]
    return result, outputs


def _dedup(arguments: argparse.Namespace, features: Any) -> tuple[Result, Outputs]:
    if arguments.write == "kept" and arguments.output and len(arguments.radius) > 1:
        raise ValueError("--output of the kept rows needs a single --radius; or --write groups")
    groups = fastsel.duplicate_groups(
        features, arguments.radius, metric=arguments.metric, **_common(arguments)
    )
    kept = [np.unique(row) for row in groups]
    result = {
        "radius": arguments.radius,
        "metric": arguments.metric,
        "kept": [len(rows) for rows in kept],
        "dropped": [len(features) - len(rows) for rows in kept],
    }
    if arguments.write == "kept":
        return result, [(arguments.output, "index", kept[0])]
    # A row for each item, a column for each radius; for one radius no columns.
    table = groups[0] if len(groups) == 1 else groups.T
    return result, [(arguments.output, "group", np.ascontiguousarray(table))]


def _select(arguments: argparse.Namespace, features: Any) -> tuple[Result, Outputs]:
    greedy = arguments.method == "greedy"
    for name in _THRESHOLD_OPTIONS if greedy else _GREEDY_OPTIONS:
        if getattr(arguments, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} is not an option of --method {arguments.method}")
    names = ("memory_limit", *(_GREEDY_OPTIONS if greedy else _THRESHOLD_OPTIONS))
    options = {name: getattr(arguments, name) for name in names}
    options = {name: value for name, value in options.items() if value is not None}
    if arguments.initial is not None:
        options["initial"] = files.load_indices(arguments.initial)
    if arguments.anchors is not None:
        options["anchors"] = files.load(arguments.anchors, arguments.key)
    function = fastsel.greedy_select if greedy else fastsel.threshold_decay_select
    picks, radii = function(
        features,
        arguments.n_samples,
        start=arguments.start,
        metric=arguments.metric,
        random_state=arguments.seed,
        return_distances=True,
        **options,
        **_common(arguments),
    )
    last = float(radii[-1])
    result = {
        "method": arguments.method,
        "metric": arguments.metric,
        "selected": len(picks),
        "radius": last if np.isfinite(last) else None,
    }
    if arguments.output is None:
        result["picks"] = picks.tolist()
    outputs: Outputs = [(arguments.output, "index", picks), (arguments.distances, "radius", radii)]
    return result, outputs


_GREEDY_OPTIONS = ("objective", "min_distance")
_THRESHOLD_OPTIONS = ("threshold", "decay", "decay_when", "on_shortfall")


def _common(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"backend": arguments.backend, "progress": sys.stderr.isatty()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastsel",
        description="Entropy, neighbours, duplicates and diverse subsets of feature matrices.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=fastsel.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    entropy = _command(commands, "entropy", _entropy, "differential entropy (Kozachenko-Leonenko)")
    entropy.add_argument("-k", type=int, nargs="+", default=[1], help="which neighbours")
    entropy.add_argument("--base", type=float, help="unit of the result: 2 for bits; else nats")
    entropy.add_argument("--duplicates", choices=("raise", "floor", "drop"), default="raise")
    entropy.add_argument("--floor", type=float, default=1e-10, help="for --duplicates floor")
    entropy.add_argument("--indices", type=Path, metavar="FILE", help="the only rows to take")
    entropy.add_argument("--distances", type=Path, metavar="FILE", help="write the distances")

    knn = _command(commands, "knn", _knn, "nearest neighbours, exactly")
    knn.add_argument("-k", type=int, default=10, help="how many (10)")
    knn.add_argument("--queries", type=Path, metavar="FILE", help="default: FILE without itself")
    knn.add_argument("--output", type=Path, metavar="FILE", help="write the indices")
    knn.add_argument("--distances", type=Path, metavar="FILE", help="write the distances")

    dedup = _command(commands, "dedup", _dedup, "groups of duplicates within a radius")
    dedup.add_argument("--radius", type=float, nargs="+", default=[0.0], help="0: equal rows (0)")
    dedup.add_argument("--output", type=Path, metavar="FILE", help="write what --write says")
    dedup.add_argument(
        "--write",
        choices=("kept", "groups"),
        default="kept",
        help="the index of one row of every group, the lowest (default), or for every row of FILE "
        "the lowest in its group",
    )
    dedup.set_defaults(distances=None)

    select = _command(commands, "select", _select, "a diverse subset")
    select.add_argument("--n-samples", type=_count, required=True, help="a count, or a fraction")
    select.add_argument("--method", choices=("greedy", "threshold"), default="greedy")
    select.add_argument("--start", type=int, help="the first pick (0, or drawn by --seed)")
    select.add_argument("--seed", type=int)
    select.add_argument(
        "--output", type=Path, metavar="FILE", help="write the picks, not print them"
    )
    select.add_argument("--distances", type=Path, metavar="FILE", help="write the radii")
    select.add_argument("--initial", type=Path, metavar="FILE", help="indices picked already")
    select.add_argument("--anchors", type=Path, metavar="FILE", help="rows to keep away from")
    select.add_argument("--memory-limit", type=int, metavar="BYTES", help="beyond the features")
    select.add_argument("--objective", choices=("maxmin", "entropy"), help="greedy (maxmin)")
    select.add_argument("--min-distance", type=float, help="greedy: stop where none is farther")
    select.add_argument("--threshold", type=_threshold, help="threshold: the first one (auto)")
    select.add_argument("--decay", type=float, help="threshold: factor between sweeps (0.95)")
    select.add_argument("--decay-when", choices=("stalled", "sweep"), help="threshold (stalled)")
    select.add_argument(
        "--on-shortfall",
        choices=("raise", "return"),
        help="threshold: where fewer rows are distinct (raise)",
    )

    for command, metrics in (
        (knn, neighbors.METRICS),
        (dedup, neighbors.DISTANCES),
        (select, ("euclidean", "cosine")),
    ):
        command.add_argument("--metric", choices=metrics, default="euclidean")
    return parser


def _command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace, Any], tuple[Result, Outputs]],
    what: str,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=what,
        description=what,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--key", help="which array, tensor or column, where FILE has several")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--backend", default="auto", help="of fastsel.backends() (auto)")
    return parser


def _count(text: str) -> int | float:
    return int(text) if text.lstrip("+-").isdigit() else _number(text)


def _threshold(text: str) -> float | str:
    return text if text == "auto" else _number(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None
