"""Runs set against each other: curves of mean and spread over seeds, and a table of the ends.

``python -m training.compare RUN...``. Runs that differ in ``--seed`` alone are one experiment;
others are told apart by the options in which they differ.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np

from training.glossary import Series, series_of
from training.plots import STYLE, arm_styles, curve, legend_above, name_axes, panels, to_png
from training.run import write_atomic
from training.summary import MISSING, ReportError, Run, figures, load_run


@dataclass(frozen=True)
class Line:
    """One arm of one experiment, over all its seeds.

    Attributes:
        name: of the arm, with the options that set the experiment apart where there are several.
        arm: of the run folders.
        runs: one for each seed.
    """

    name: str
    arm: str
    runs: list[Run]

    def values(self, key: str) -> dict[int, list[float]]:
        """Finite values of a metric by generation, one for each run that has it."""
        found: dict[int, list[float]] = {}
        for run in self.runs:
            for generation, value in zip(*curve(run.records, self.arm, key), strict=True):
                if math.isfinite(value):
                    found.setdefault(generation, []).append(value)
        return dict(sorted(found.items()))


def lines_of(runs: Sequence[Run]) -> list[Line]:
    """The arms of all experiments, in the order of the runs.

    Raises:
        ReportError: two runs are the same experiment with the same seed.
    """
    experiments: dict[str, list[Run]] = {}
    seen: dict[str, Path] = {}
    for run in runs:
        same = seen.setdefault(json.dumps([run.config, run.data], sort_keys=True), run.folder.path)
        if same is not run.folder.path:
            raise ReportError(
                f"{same} and {run.folder.path} are the same experiment with the same seed"
            )
        # Arms do not depend on which others run, so that they are no difference.
        options = {k: v for k, v in run.config.items() if k not in ("seed", "arms")}
        # --limit draws other images with another seed.
        data = run.data.get("digest" if run.config.get("limit") is None else "source")
        key = json.dumps([options, data], sort_keys=True)
        experiments.setdefault(key, []).append(run)
    members = list(experiments.values())
    lines = []
    for own in members:
        words = _differences(own[0].config, [other[0].config for other in members])
        arms = dict.fromkeys(r["arm"] for run in own for r in run.records)
        for arm in arms:
            with_arm = [run for run in own if any(r["arm"] == arm for r in run.records)]
            lines.append(Line(", ".join([arm, *words]), arm, with_arm))
    return lines


def _differences(config: Mapping[str, object], others: Sequence[Mapping[str, object]]) -> list[str]:
    """The options of a config in which experiments differ, as "name value"."""
    return [
        f"{name.replace('_', '-')} {config[name]}"
        for name in config
        if name not in ("seed", "arms") and any(other.get(name) != config[name] for other in others)
    ]


def family_figures(lines: Sequence[Line]) -> dict[str, bytes]:
    """One PNG for every family of metrics: means as curves, smallest to largest seed as bands."""
    records = [record for line in lines for run in line.runs for record in run.records]
    families: dict[str, list[Series]] = {}
    for series in series_of(records):
        families.setdefault(series.metric.family, []).append(series)
    return {family: _figure(lines, members) for family, members in families.items()}


def _figure(lines: Sequence[Line], members: Sequence[Series]) -> bytes:
    names = [line.name for line in lines]
    styles = arm_styles(names)
    with matplotlib.rc_context(STYLE):
        figure, axes_of = panels(len(members))
        for axes, series in zip(axes_of, members, strict=True):
            for line in lines:
                values = line.values(series.key)
                if not values:
                    continue
                generations, style = list(values), styles[line.name]
                means = [float(np.mean(v)) for v in values.values()]
                low, high = map(min, values.values()), map(max, values.values())
                axes.fill_between(
                    generations, list(low), list(high), color=style.colour, alpha=0.18, linewidth=0
                )
                axes.plot(
                    generations,
                    means,
                    color=style.colour,
                    marker=style.marker,
                    markeredgecolor="white",
                    markeredgewidth=0.8,
                )
            axes.set_xlabel("generation")
            axes.xaxis.get_major_locator().set_params(integer=True)
            name_axes(axes, series)
        legend_above(figure, names)
        return to_png(figure)


def format_comparison(lines: Sequence[Line]) -> str:
    """A table for every metric: each line's mean in its first and last generation, and the spread.

    The spread is the standard deviation over the seeds (N - 1), "-" for one.
    """
    records = [record for line in lines for run in line.runs for record in run.records]
    width = max(len(line.name) for line in lines)
    blocks = []
    for series in series_of(records):
        rows = [(line, values) for line in lines if (values := line.values(series.key))]
        if not rows:
            continue
        ends = [(min(values), max(values)) for _, values in rows]
        means = figures(
            [float(np.mean(v[g])) for (_, v), both in zip(rows, ends, strict=True) for g in both]
        )
        spreads = [v[g] for (_, v), both in zip(rows, ends, strict=True) for g in both]
        told = figures([float(np.std(v, ddof=1)) if len(v) > 1 else None for v in spreads])
        block = [series.title]
        for i, ((line, values), (first, last)) in enumerate(zip(rows, ends, strict=True)):
            parts = [
                f"gen {g} {means[j]} ± {told[j]}" if told[j] != MISSING else f"gen {g} {means[j]}"
                for g, j in ((first, 2 * i), (last, 2 * i + 1))
            ]
            seeds = len(values[last])
            block.append(
                f"  {line.name:<{width}}  {'  ->  '.join(parts)}"
                f"  ({seeds} seed{'s' if seeds > 1 else ''})"
            )
        blocks.append("\n".join(block))
    return "\n\n".join(blocks)


def write_comparison(runs: Sequence[Path], out: Path) -> str:
    """Compare run folders: a PNG for every family of metrics in ``out``, and the table.

    Raises:
        ReportError, RunError: a folder is no run, or has nothing to compare.
        OSError: a figure cannot be written.
    """
    lines = lines_of([load_run(path) for path in runs])
    out.mkdir(parents=True, exist_ok=True)
    for family, png in family_figures(lines).items():
        write_atomic(out / f"{family}.png", png)
    return format_comparison(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: 0 when the figures are written, 2 for folders that can't be compared."""
    parser = argparse.ArgumentParser(
        prog="python -m training.compare",
        description="Set runs against each other: those that differ in their seed are averaged.",
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/comparison"),
        metavar="FOLDER",
        help="where the figures go (default: runs/comparison)",
    )
    options = parser.parse_args(argv)
    try:
        table = write_comparison(options.runs, options.out)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table)
    print(f"figures: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
