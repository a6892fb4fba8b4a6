"""The figures of a run: curves over generations, seconds by phase, and what all figures share.

Figures are built on Figure objects alone: no pyplot, no window, no state left behind.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from training.glossary import Record, Series, number, series_of

# The report shows a figure at half its pixels, so that it is sharp on dense screens and on paper.
DPI = 192
CSS_DPI = 96
# Inches. A figure of two rows of panels is as high on the page as two figures of one row with the
# frames and the gap between them, so that figures of either kind stand side by side without holes.
PANEL_WIDTH = 3.35
ROW_HEIGHT = 3.15
FRAME_HEIGHT = 38 / CSS_DPI

INK, FAINT = "#1f2328", "#d9dce1"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": "#57606a",
    "axes.edgecolor": "#8c959f",
    "xtick.color": "#57606a",
    "ytick.color": "#57606a",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e8eaed",
    "lines.linewidth": 2.0,
    "lines.markersize": 5.5,
    "legend.frameon": False,
    "text.usetex": False,
    "axes.unicode_minus": True,
}

PHASES = ("train", "sample", "embed", "select", "metrics")
# Paul Tol's muted scheme: told apart by the colour-blind, and unlike the colours of the arms.
_PHASE_COLOURS = ("#332288", "#88ccee", "#ddcc77", "#cc6677", "#44aa99", "#999933", "#882255")


class ArmStyle(NamedTuple):
    """Colour and marker of an arm, the same in every figure of a run."""

    colour: str
    marker: str


# Okabe and Ito's palette, which colour-blind readers tell apart; markers serve print in grey.
_NO_SELECTION = ArmStyle("#5c6066", "o")
_KNOWN_ARMS = {
    "none": _NO_SELECTION,
    "greedy": ArmStyle("#0072b2", "s"),
    "threshold": ArmStyle("#d55e00", "^"),
}
_OTHER_ARMS = (
    ArmStyle("#009e73", "D"),
    ArmStyle("#cc79a7", "v"),
    ArmStyle("#56b4e9", "P"),
    ArmStyle("#e69f00", "X"),
    ArmStyle("#882255", "*"),
    ArmStyle("#999933", "h"),
)


def arm_styles(arms: Sequence[str]) -> dict[str, ArmStyle]:
    """A style for every arm: fixed for the usual arms, by order of appearance for the others."""
    others = [arm for arm in arms if arm not in _KNOWN_ARMS]
    return {
        arm: _KNOWN_ARMS.get(arm) or _OTHER_ARMS[others.index(arm) % len(_OTHER_ARMS)]
        for arm in arms
    }


def curve(records: Sequence[Record], arm: str, key: str) -> tuple[list[int], list[float]]:
    """Generations and values of one metric in one arm, by generation; NaN for what isn't finite."""
    points = sorted(
        (record["generation"], value if math.isfinite(value) else math.nan)
        for record in records
        if record["arm"] == arm and (value := number(record, key)) is not None
    )
    return [g for g, _ in points], [v for _, v in points]


def metric_figures(records: Sequence[Record], arms: Sequence[str]) -> dict[str, bytes]:
    """One PNG for every family of metrics, by the family's name; a panel for every series.

    Args:
        records: lines of metrics.jsonl.
        arms: the arms to draw, in the order of the legend.
    """
    families: dict[str, list[Series]] = {}
    for series in series_of(records):
        families.setdefault(series.metric.family, []).append(series)
    return {family: _family_figure(records, arms, members) for family, members in families.items()}


def _family_figure(
    records: Sequence[Record], arms: Sequence[str], members: Sequence[Series]
) -> bytes:
    styles = arm_styles(arms)
    with matplotlib.rc_context(STYLE):
        figure, axes_of = panels(len(members))
        for axes, series in zip(axes_of, members, strict=True):
            draw_curves(axes, records, styles, series.key)
            name_axes(axes, series)
            if series.metric.bounds is not None:
                low, high = series.metric.bounds
                room = 0.04 * (high - low)
                axes.set_ylim(low - room, high + room)
        if len(arms) > 1:
            legend_above(figure, arms)
        return to_png(figure)


def name_axes(axes: Any, series: Series) -> None:
    """Title in plain words, the extractor under it, the unit at the axis."""
    axes.set_title(plain(series.metric.title), pad=19 if series.extractor else 8)
    axes.set_ylabel(plain(series.metric.unit))
    if series.extractor:
        axes.annotate(
            plain(f"features: {series.extractor}"),
            (0, 1),
            xytext=(0, 7),
            xycoords="axes fraction",
            textcoords="offset points",
            color="#57606a",
            size="small",
        )


def draw_curves(
    axes: Any, records: Sequence[Record], styles: Mapping[str, ArmStyle], key: str
) -> None:
    """One curve for each arm, over its generations."""
    ends = {record["generation"] for record in records}
    drawn = False
    for i, (arm, style) in enumerate(styles.items()):
        generations, values = curve(records, arm, key)
        drawn = drawn or any(map(math.isfinite, values))
        axes.plot(
            generations,
            values,
            # Later curves are thinner, so that those below show where arms coincide.
            linewidth=max(1.6, 2.6 - 0.5 * i),
            color=style.colour,
            marker=style.marker,
            markeredgecolor="white",
            markeredgewidth=0.8,
            clip_on=False,
        )
    generation_axis(axes, ends)
    if not drawn:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no finite values", transform=axes.transAxes, ha="center", color=INK)


def generation_axis(axes: Any, generations: set[int]) -> None:
    """The horizontal axis, in whole generations."""
    first, last = min(generations), max(generations)
    room = 0.5 if first == last else 0.04 * (last - first)
    axes.set_xlim(first - room, last + room)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.set_xlabel("generation")


def seconds_figure(records: Sequence[Record], arms: Sequence[str]) -> bytes | None:
    """Stacked bars of the seconds of every phase, a panel for every arm; None without seconds."""
    phases = phases_of(records)
    if not phases:
        return None
    colours = dict(zip(phases, _cycle(_PHASE_COLOURS, len(phases)), strict=True))
    with matplotlib.rc_context(STYLE):
        figure, axes_of = panels(len(arms), sharey=True)
        for axes, arm in zip(axes_of, arms, strict=True):
            own = [record for record in records if record["arm"] == arm]
            generations = [record["generation"] for record in own]
            bottom = np.zeros(len(own))
            for phase in phases:
                heights = np.array([phase_seconds(record, phase) for record in own])
                axes.bar(generations, heights, 0.7, bottom=bottom, color=colours[phase])
                bottom += heights
            generation_axis(axes, {record["generation"] for record in records})
            first, last = axes.get_xlim()
            axes.set_xlim(min(first, 0.5), last + 0.4)
            axes.set_title(plain(arm))
            axes.xaxis.grid(visible=False)
        axes_of[0].set_ylabel("seconds")
        _legend_above(figure, [Patch(color=colours[phase]) for phase in phases], phases)
        return to_png(figure)


def phases_of(records: Sequence[Record]) -> list[str]:
    """The phases that some record has seconds for, in the order in which they run."""
    found = {key.removeprefix("seconds/"): None for r in records for key in r if "seconds/" in key}
    known = [phase for phase in PHASES if phase in found]
    return known + [phase for phase in found if phase not in PHASES]


def phase_seconds(record: Record, phase: str) -> float:
    """Seconds of a phase; a phase that a generation did not have took none."""
    value = number(record, f"seconds/{phase}")
    return value if value is not None and math.isfinite(value) else 0.0


def plain(text: str) -> str:
    """Text that matplotlib draws as it stands: a pair of dollar signs would start a formula."""
    return text.replace("$", r"\$")


def shortened(text: str, longest: int) -> str:
    """Text of at most ``longest`` characters, its end given up where it is longer."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def panel_columns(n: int) -> int:
    """How many of n panels stand side by side: three, but four panels make a square."""
    return 2 if n == 4 else min(n, 3)


def panels(n: int, *, sharey: bool = False) -> tuple[Figure, list[Any]]:
    """A figure with n empty panels."""
    columns = panel_columns(n)
    rows = -(-n // columns)
    figure = Figure(
        figsize=(columns * PANEL_WIDTH, rows * ROW_HEIGHT - FRAME_HEIGHT),
        dpi=DPI,
        facecolor="white",
        layout=ConstrainedLayoutEngine(wspace=0.05),
    )
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=sharey).ravel()
    for unused in grid[n:]:
        unused.remove()
    return figure, list(grid[:n])


def legend_above(figure: Figure, arms: Sequence[str]) -> None:
    """The legend of the arms, over the panels."""
    styles = arm_styles(arms).values()
    handles = [Line2D([], [], color=style.colour, marker=style.marker) for style in styles]
    _legend_above(figure, handles, arms)


def _legend_above(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """A legend over the panels, in as many lines as the width of the figure asks for."""
    short = [shortened(label, 24) for label in labels]
    entry_width = 0.5 + 0.065 * max(map(len, short))
    columns = min(len(labels), max(1, int(figure.get_figwidth() / entry_width)))
    lines = -(-len(labels) // columns)
    figure.set_figheight(figure.get_figheight() + 0.2 * (lines - 1))
    figure.legend(
        handles,
        list(map(plain, short)),
        loc="outside upper left",
        ncols=columns,
        handlelength=1.6,
        columnspacing=1.4,
        fontsize=9,
    )


def _cycle(colours: Sequence[str], n: int) -> list[str]:
    return [colours[i % len(colours)] for i in range(n)]


def to_png(figure: Figure, *, dpi: int = DPI) -> bytes:
    """The figure as PNG bytes; the same figure always gives the same bytes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # An arm may be named in a script that the font lacks; boxes in a legend are no failure.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
