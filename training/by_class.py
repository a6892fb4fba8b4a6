"""The metrics of each class by itself, as plots and tables: `by_class` in the lines of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.ticker import MaxNLocator

from training.glossary import METRICS, Record
from training.markup import cell, dot
from training.plots import STYLE, arm_styles, panels, plain, shortened, to_png
from training.summary import Run, figures

# More names than this at the side of a plot are too small to read.
_NAMED_CLASSES = 24


def class_figures(run: Run, arms: Sequence[str]) -> dict[str, bytes]:
    """One PNG for each metric, a panel for each arm: classes down, generations across.

    None for runs whose models were not told classes.
    """
    return {f"class_{key.replace('/', '_')}": _figure(run, arms, key) for key in _keys(run.records)}


def tables(run: Run) -> Iterator[tuple[str, str]]:
    """Title and HTML of a table for each metric: its first value, and each arm's last."""
    first = run.generations[0]
    last = {r["arm"]: r["generation"] for r in run.records}
    arms = [arm for arm in run.arms if last.get(arm, first) > first]
    styles = arm_styles(run.arms)
    names = _class_names(run)
    for key in _keys(run.records):
        shared = next(_values(r, key) for r in run.records if r["generation"] == first)
        columns = [shared]
        heads = [f"<th>generation {first}</th>"]
        for arm in arms:
            end = next(r for r in run.records if (r["arm"], r["generation"]) == (arm, last[arm]))
            columns.append(_values(end, key))
            heads.append(
                f"<th>{dot(styles[arm].colour)}{escape(arm)}<small>generation {last[arm]}</small>"
                "</th>"
            )
        flat = figures([v for column in columns for v in column])
        texts = [flat[i * len(names) : (i + 1) * len(names)] for i in range(len(columns))]
        rows = "".join(
            f"<tr><th>{escape(name)}</th>{''.join(f'<td>{cell(t)}</td>' for t in row)}</tr>\n"
            for name, row in zip(names, zip(*texts, strict=True), strict=True)
        )
        yield (
            _title(key),
            '<div class="scroll"><table>\n'
            f"<thead><tr><th>class</th>{''.join(heads)}</tr></thead>\n"
            f"<tbody>\n{rows}</tbody></table></div>",
        )


def _keys(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(key for record in records for key in record.get("by_class", ())))


def _values(record: Record, key: str) -> list[float | None]:
    values: list[float | None] = record["by_class"][key]
    return values


def _class_names(run: Run) -> list[str]:
    """The names of the classes; their numbers where the run does not tell."""
    by_class: dict[str, list[Any]] = run.records[0]["by_class"]
    count = len(next(iter(by_class.values())))
    names = run.data.get("class_names", ())
    return [str(name) for name in names] if len(names) == count else list(map(str, range(count)))


def _title(key: str) -> str:
    name, _, extractor = key.partition("/")
    if name == "share_train":
        return "Share of the training set"
    title = METRICS[name].title if name in METRICS else name
    return f"{title} ({extractor})" if extractor else title


def _figure(run: Run, arms: Sequence[str], key: str) -> bytes:
    generations, names = run.generations, _class_names(run)
    grids = {arm: np.full((len(names), len(generations)), math.nan) for arm in arms}
    for record in run.records:
        values = np.array(_values(record, key), np.float64)  # None becomes NaN
        grids[record["arm"]][:, generations.index(record["generation"])] = values
    low, high = _limits(list(grids.values()))
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure, axes_of = panels(len(arms), sharey=True)
        for axes, arm in zip(axes_of, arms, strict=True):
            picture = axes.imshow(
                grids[arm],
                aspect="auto",
                interpolation="nearest",
                cmap="cividis",  # for the colour-blind too, and in print
                vmin=low,
                vmax=high,
                extent=(-0.5, len(generations) - 0.5, len(names) - 0.5, -0.5),
            )
            axes.set_title(plain(arm))
            axes.set_xlabel("generation")
            axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
            axes.xaxis.set_major_formatter(_of(generations))
            if len(names) <= _NAMED_CLASSES:
                axes.set_yticks(range(len(names)), [plain(shortened(n, 14)) for n in names])
            else:
                axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes_of[0].set_ylabel("class")
        bar = figure.colorbar(picture, ax=axes_of, fraction=0.04, pad=0.02)
        bar.outline.set_visible(False)
        figure.suptitle(plain(_title(key)), x=0.01, ha="left", fontsize=10, weight="bold")
        return to_png(figure)


def _of(generations: Sequence[int]) -> Any:
    """Ticks by place, in generations."""
    return lambda x, _: (
        str(generations[int(x)]) if x == int(x) and 0 <= x < len(generations) else ""
    )


def _limits(grids: Sequence[npt.NDArray[np.float64]]) -> tuple[float, float]:
    """The least and the largest finite value of all panels, so that their colours compare."""
    finite = np.concatenate([grid[np.isfinite(grid)] for grid in grids])
    return (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
