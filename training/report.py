"""The report of a run: report.html and plots/*.png, made from the run folder alone.

`python -m training.report RUN` makes it again, whether the run is finished or still going;
`--figure OUT.png` draws the collapse in one picture instead.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training import page, plots
from training.correlation import correlation_figure
from training.glossary import Record, primary_series
from training.run import write_atomic
from training.summary import ReportError, Run, by_arm, load_run, summary_columns


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
    figures = plots.metric_figures(loaded.records, present)
    seconds = plots.seconds_figure(loaded.records, present)
    if seconds is not None:
        figures["seconds"] = seconds
    correlation = correlation_figure(loaded.records, present)
    if correlation is not None:
        figures["correlation"] = correlation
    (run / "plots").mkdir(exist_ok=True)
    for name, png in figures.items():
        write_atomic(run / "plots" / f"{name}.png", png)
    report = run / "report.html"
    write_atomic(report, page.render(loaded, figures).encode())
    return report


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


def collapse_figure(run: Path, out: Path) -> None:
    """Draw a run's collapse in one PNG of 1600 x 700 pixels.

    Left, the entropy of the samples over the generations; right, the first samples (not chosen
    ones) of the shared first generation and of the last generation of every arm.

    Raises:
        ReportError: the folder is no run, or lacks the samples or the entropies to draw.
    """
    loaded = load_run(run)
    series = primary_series(loaded.records).get("entropy_samples")
    if series is None:
        raise ReportError(f"{run} has no entropy of samples in metrics.jsonl")
    last = {r["arm"]: r["generation"] for r in loaded.records}
    arms = list(last)
    if max(last.values()) == 1:
        raise ReportError(f"{run} has one generation; the figure sets the last against the first")
    shared = _samples(loaded, arms[0], 1)
    strips = [plots.Strip("Generation 1, the same for all arms", None, shared)]
    for arm in (arm for arm in arms if last[arm] > 1):
        name = "no selection" if arm == "none" else f"{arm} selection"
        caption = f"Generation {last[arm]}, {name}"
        strips.append(plots.Strip(caption, arm, _samples(loaded, arm, last[arm])))
    source = Path(str(loaded.data.get("source", "images"))).name
    png = plots.collapse_png(
        loaded.records,
        arms,
        series,
        strips,
        title=f"Diffusion models, each trained on images made by the one before ({source})",
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, png)


def _samples(run: Run, arm: str, generation: int) -> npt.NDArray[np.uint8]:
    path = run.folder.generation_dir(arm, generation) / "samples.npz"
    if not path.is_file():
        raise ReportError(f"{path} is missing: the figure shows the samples that it holds")
    with np.load(path, allow_pickle=False) as arrays:
        images: npt.NDArray[np.uint8] = arrays["images"]
    return images


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
