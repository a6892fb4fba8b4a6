"""How the distances of samples to their nearest training images are spread, drawn."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from matplotlib.ticker import MaxNLocator

from training.glossary import Record
from training.metrics import QUANTILES
from training.plots import STYLE, arm_styles, generation_axis, panels, plain, to_png

KEY = "generalization_quantiles/"
# Pairs of quantiles with a band between them, the wider first, and the line in their midst.
_BANDS = ((0.05, 0.95, 0.18), (0.25, 0.75, 0.35))
_MEDIAN = 0.5


def distribution_figures(records: Sequence[Record], arms: Sequence[str]) -> dict[str, bytes]:
    """One PNG for each extractor, a panel for each arm; none for runs without the quantiles.

    Args:
        records: lines of metrics.jsonl.
        arms: the arms to draw.
    """
    keys = dict.fromkeys(key for record in records for key in record if key.startswith(KEY))
    return {
        f"generalization_distribution_{key.removeprefix(KEY)}": _figure(records, arms, key)
        for key in keys
    }


def _figure(records: Sequence[Record], arms: Sequence[str], key: str) -> bytes:
    with matplotlib.rc_context(STYLE):
        figure, axes_of = panels(len(arms), sharey=True)
        for axes, (arm, style) in zip(axes_of, arm_styles(arms).items(), strict=True):
            own = [record for record in records if record["arm"] == arm and key in record]
            own.sort(key=lambda record: int(record["generation"]))
            generations = [record["generation"] for record in own]
            at = {
                quantile: [record[key][i] for record in own] for i, quantile in enumerate(QUANTILES)
            }
            for low, high, alpha in _BANDS:
                axes.fill_between(
                    generations, at[low], at[high], color=style.colour, alpha=alpha, linewidth=0
                )
            axes.plot(
                generations,
                at[_MEDIAN],
                color=style.colour,
                marker=style.marker,
                markeredgecolor="white",
                markeredgewidth=0.8,
                clip_on=False,
            )
            generation_axis(axes, {record["generation"] for record in records})
            axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
            axes.set_title(plain(arm))
        # Only now: a limit ends the scaling of the axis that the panels share.
        axes_of[0].set_ylim(bottom=0)
        axes_of[0].set_ylabel(plain(f"distance ({key.removeprefix(KEY)} features)"))
        return to_png(figure)
