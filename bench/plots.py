"""The plot of growth, from the record of a measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import ours, peers

COLOURS = {
    ours.NAME: "#0b6e4f",
    peers.RELEASED_LOOP: "#b5442e",
    peers.BEST_LOOPS[0]: "#4361a8",
    peers.BEST_LOOPS[1]: "#2f8fb3",
    peers.BEST_LOOPS[2]: "#8f7fc2",
    "lightly-mundig": "#8a6d1f",
}


def plot_growth(growth: dict[str, Any], path: Path) -> None:
    """Two panels, seconds against N and against M, on one logarithmic scale of seconds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), sharey=True, layout="constrained")
    dim = growth["dim"]
    draw_lines(left, growth["n"], growth["against_n"], COLOURS)
    left.set_xlabel(f"points N ({growth['fixed_m']:,} picks, D = {dim})")
    left.set_ylabel("seconds")
    draw_lines(right, growth["m"], growth["against_m"], COLOURS)
    right.set_xlabel(f"picks M ({growth['fixed_n']:,} points, D = {dim})")
    figure.suptitle(
        "Greedy selection: fastsel measured (marks), peers extrapolated linearly (dashes)",
        fontsize=11,
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_lines(
    axes: Any, x: list[int], series: dict[str, list[float]], colours: dict[str, str]
) -> None:
    """Seconds against x, both logarithmic: ours solid, peers dashed, names beside the lines."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log")
    axes.set_yscale("log")
    for name, seconds in series.items():
        measured = name == ours.NAME
        axes.plot(
            x,
            seconds,
            color=colours[name],
            linewidth=2.2 if measured else 1.4,
            linestyle="-" if measured else "--",
            marker="o" if measured else None,
            markersize=5,
        )
    for name, height in _apart({name: values[-1] for name, values in series.items()}).items():
        axes.annotate(
            name,
            (x[-1], height),
            xytext=(8, 0),
            textcoords="offset points",
            color=colours[name],
            va="center",
            fontsize=9,
            fontweight="bold" if name == ours.NAME else "normal",
        )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(which="major", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    # Ticks where there are measurements, and room at the right for the names of the lines.
    axes.set_xlim(x[0] * 0.85, x[-1] * (x[-1] / x[0]) ** 0.62)
    axes.xaxis.set_major_locator(FixedLocator(x))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _apart(heights: dict[str, float], least: float = 1.35) -> dict[str, float]:
    """Where to write the names of lines that end at these heights: in order, not overlapping."""
    placed: dict[str, float] = {}
    lowest = 0.0
    for name, height in sorted(heights.items(), key=lambda item: item[1]):
        lowest = placed[name] = max(height, lowest * least)
    return placed
