"""The report of a run: report.html and plots/*.png, made from the run folder alone.

`python -m training.report RUN` makes it again, whether the run is finished or still going;
`--figure OUT.png` draws the collapse in one picture instead.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from training import page, plots
from training.by_class import class_figures
from training.collapse import collapse_figure
from training.correlation import correlation_figure
from training.glossary import Record
from training.novelty import distribution_figures
from training.run import write_atomic
from training.summary import by_arm, load_run, summary_columns


def write_report(run: Path) -> Path:
    """Write report.html and plots/*.png into a run folder, each whole or not at all.

    The run may be unfinished: the report then shows what there is, and says so.

    Returns:
        The path of report.html, one file that needs no other and no network.

    Raises:
        ReportError: the folder is no run, or no generation of it is finished.
    """
    loaded = load_run(run)
    present = [arm for arm in loaded.arms if any(r["arm"] == arm for r in loaded.records)]
    records = loaded.records
    figures: dict[str, dict[str, bytes]] = {
        "curves": plots.metric_figures(records, present),
        "novelty": distribution_figures(records, present),
        "classes": class_figures(loaded, present),
        "correlation": _named("correlation", correlation_figure(records, present)),
        "seconds": _named("seconds", plots.seconds_figure(records, present)),
    }
    (run / "plots").mkdir(exist_ok=True)
    for section in figures.values():
        for name, png in section.items():
            write_atomic(run / "plots" / f"{name}.png", png)
    report = run / "report.html"
    write_atomic(report, page.render(loaded, figures).encode())
    return report


def _named(name: str, png: bytes | None) -> dict[str, bytes]:
    return {} if png is None else {name: png}


def format_table(records: Sequence[Record]) -> str:
    """The summary of a run as aligned plain text, arm by arm, a line for each generation.

    Entropy, generalization score and Fréchet distance carry the name of their extractor in the
    heading; a missing value is "-". Without records the table is its heading.
    """
    records = by_arm(records)
    columns = summary_columns(records)
    table = [
        ["", "arm", "", *(str(record["arm"]) for record in records)],
        ["", "gen", "", *(str(record["generation"]) for record in records)],
        *([*column.heading, column.extractor, *column.cells] for column in columns),
    ]
    widths = [max(map(len, column)) for column in table]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in zip(*table, strict=True)
    ]
    lines.insert(3, "-" * max(map(len, lines)))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: 0 when the report is written, 2 for a folder that can't be reported on."""
    parser = argparse.ArgumentParser(
        prog="python -m training.report", description="Make the report of a run again."
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument(
        "--figure",
        type=Path,
        metavar="OUT.png",
        help="draw the collapse in one picture, and leave the report as it is",
    )
    options = parser.parse_args(argv)
    try:
        if options.figure is not None:
            collapse_figure(options.run, options.figure)
            print(options.figure)
        else:
            print(write_report(options.run))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
