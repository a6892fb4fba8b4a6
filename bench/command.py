"""What the commands have in common that measure, keep a JSON record and write a page of docs/."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import machine

if TYPE_CHECKING:
    from bench.data import Features

Log = Callable[[str], None]
Record = dict[str, Any]


def parser(module: str, doc: str | None, *, features: bool = True) -> argparse.ArgumentParser:
    """The options that all of them take."""
    options = argparse.ArgumentParser(prog=f"python -m {module}", description=doc)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    add = options.add_argument
    if features:
        add("--features", type=Path, help="a .npy file with a float matrix [N, D]")
        add("--name", help="what the page calls those features; default: the file name")
    add("--out", type=Path, default=Path("docs"), help="folder; default: docs")
    add("--threads", type=int, default=machine.cores(), help="of every contender; default: cores")
    add("--quick", action="store_true", help="tiny sizes, to try the command out")
    add("--render", action="store_true", help="measure nothing, write the page")
    return options


def run(
    module: str,
    doc: str | None,
    arguments: list[str],
    measure: Callable[[argparse.Namespace], Record],
    plot: Callable[[Record, Path], None],
    page: Callable[[Record, str, str], str],
    *,
    features: bool = True,
    sections: tuple[str, ...] = (),
) -> None:
    """The command bench.NAME: writes NAME.json, NAME.png and NAME.md.

    With `sections`, it takes an option that leaves out all others.
    """
    commands = parser(module, doc, features=features)
    if sections:
        commands.add_argument(
            "--sections", nargs="+", choices=sections, default=sections, help="default: all"
        )
    options = commands.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / f"{module.removeprefix('bench.')}.json"
    drawn, written = target.with_suffix(".png"), target.with_suffix(".md")
    if not options.render:
        machine.restart_with(options.threads, module, arguments)
        target.write_text(json.dumps(measure(options), indent=1) + "\n")
    record = json.loads(target.read_text())
    plot(record, drawn)
    written.write_text(page(record, target.name, drawn.name))
    print(f"wrote {written}, {drawn.name} and {target.name}")


def stopwatch() -> Log:
    """A log on standard error, in seconds from now."""
    begin = time.monotonic()

    def log(line: str) -> None:
        print(f"[{time.monotonic() - begin:6.0f} s] {line}", file=sys.stderr, flush=True)

    return log


def pools(options: argparse.Namespace, n: int) -> tuple[dict[str, Features], Features]:
    """Pools of n points, those of --features first, and the whole of the first one."""
    # After restart_with: it loads the libraries whose environment that sets.
    from bench.data import clustered, load, thinned

    synthetic = clustered(n, 64 if options.quick else 384)
    if not options.features:
        return {"synthetic": synthetic}, synthetic
    whole = load(options.features)
    if options.quick:
        whole = thinned(whole, n)
    named = options.name or options.features.stem
    return {named: thinned(whole, n), "synthetic": synthetic}, whole
