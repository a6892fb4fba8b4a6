"""How closely entropy goes with novelty over a run: the paper's finding, computed and drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np

from training.glossary import Record, number, series_of
from training.plots import STYLE, arm_styles, legend_above, panels, plain, to_png

# Fewer points lie on a line too easily.
_FEWEST = 4


class Correlation(NamedTuple):
    """Pearson correlations over the generations of all arms, in the features of one extractor.

    Attributes:
        extractor: of the features.
        n: how many generations were counted; the shared first one once.
        entropy: of the entropy of the training set and log generalization score.
        trace: of the trace of the training set's covariance and log generalization score; NaN
            where it is not in the records or the same throughout.
    """

    extractor: str
    n: int
    entropy: float
    trace: float


def correlations(records: Sequence[Record]) -> list[Correlation]:
    """One for every extractor with at least 4 generations of finite entropy and positive score."""
    found = []
    for extractor in _extractors(records):
        points = _points(records, extractor)
        if len(points) < _FEWEST:
            continue
        entropy, score = np.array([(e, s) for _, e, s in points]).T
        own = {id(record): record for record, _, _ in points}.values()
        traces = [number(record, f"trace_cov/{extractor}") for record in own]
        trace = math.nan if None in traces else _pearson(np.array(traces, float), score)
        r = _pearson(entropy, score)
        if math.isfinite(r):
            found.append(Correlation(extractor, len(points), r, trace))
    return found


def correlation_figure(records: Sequence[Record], arms: Sequence[str]) -> bytes | None:
    """Entropy against generalization score, a panel for each of :func:`correlations`, as PNG."""
    shown = correlations(records)
    if not shown:
        return None
    styles = arm_styles(arms)
    with matplotlib.rc_context(STYLE):
        figure, axes_of = panels(len(shown))
        for axes, (extractor, n, r, _) in zip(axes_of, shown, strict=True):
            points = _points(records, extractor)
            for arm, style in styles.items():
                own = [(e, math.exp(s)) for record, e, s in points if record["arm"] == arm]
                axes.plot(
                    [e for e, _ in own],
                    [score for _, score in own],
                    linestyle="none",
                    color=style.colour,
                    marker=style.marker,
                    markeredgecolor="white",
                    markeredgewidth=0.8,
                )
            axes.set_yscale("log")
            sign = "−" if r < 0 else ""
            axes.set_title(f"Pearson r = {sign}{abs(r):.2f} over {n} models", pad=19)
            axes.annotate(
                plain(f"features: {extractor}"),
                (0, 1),
                xytext=(0, 7),
                xycoords="axes fraction",
                textcoords="offset points",
                color="#57606a",
                size="small",
            )
            axes.set_xlabel("entropy of the training set (nats)")
            axes.set_ylabel("generalization score (log scale)")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("{x:g}")
        if len(arms) > 1:
            legend_above(figure, arms)
        return to_png(figure)


def _extractors(records: Sequence[Record]) -> list[str]:
    series = series_of(records)
    return [s.extractor for s in series if s.metric.name == "entropy_train" and s.extractor]


def _points(records: Sequence[Record], extractor: str) -> list[tuple[Record, float, float]]:
    """Record, entropy and log score of every model once, in the order of the records."""
    points, shared_seen = [], False
    for record in records:
        entropy = number(record, f"entropy_train/{extractor}")
        score = number(record, f"generalization/{extractor}")
        if entropy is None or score is None or not math.isfinite(entropy):
            continue
        if not math.isfinite(score) or score <= 0 or (shared_seen and record["generation"] == 1):
            continue
        shared_seen = shared_seen or record["generation"] == 1
        points.append((record, entropy, math.log(score)))
    return points


def _pearson(x: np.typing.NDArray[np.float64], y: np.typing.NDArray[np.float64]) -> float:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])
