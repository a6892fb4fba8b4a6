"""What every metric of a run is called, measured in, and how it is read.

The table, the plots and the report take their words from here, so that a metric has one name.
Metric keys are those of metrics.jsonl: `family/extractor`, or for the two distances between
distributions `fd_extractor` and `kd_extractor`, with `fid` and `kid` kept for the standard ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

# A line of metrics.jsonl: "arm", "generation", "real_share", "seconds/<phase>", metric keys.
Record = Mapping[str, Any]

INCEPTION = "standard Inception"


class Metric(NamedTuple):
    """A measured quantity, whatever extractor it was measured with.

    `family` groups quantities that belong in one figure. `bounds` are the limits of the quantity
    where both are known. `source` names the definition that we follow.
    """

    name: str
    family: str
    title: str
    unit: str
    reading: str
    source: str
    bounds: tuple[float, float] | None = None


class Series(NamedTuple):
    """A column of metrics.jsonl: a metric, and the extractor that it was measured with."""

    key: str
    metric: Metric
    extractor: str | None

    @property
    def title(self) -> str:
        """The metric's plain name with its extractor."""
        return f"{self.metric.title} ({self.extractor})" if self.extractor else self.metric.title


_ENTROPY_SOURCE = "Kozachenko and Leonenko 1987, nearest neighbour, as in arXiv:2509.16499"
_PRECISION_SOURCE = "Kynkäänniemi et al. 2019, arXiv:1904.06991, k = 3"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "entropy_train",
            "entropy",
            "Entropy of the training set",
            "nats",
            "How widely the training images are spread in feature space. Lower means that they "
            "crowd together; the value may be negative, and only differences carry meaning.",
            _ENTROPY_SOURCE,
        ),
        Metric(
            "entropy_samples",
            "entropy",
            "Entropy of the samples",
            "nats",
            "The same for the images that the generation's model makes. A fall from generation to "
            "generation is the collapse.",
            _ENTROPY_SOURCE,
        ),
        Metric(
            "entropy_samples_class",
            "entropy",
            "Entropy within the classes",
            "nats",
            "The entropy of the samples of one class, averaged over the classes. It falls where "
            "each class becomes more uniform, though the classes stay apart.",
            _ENTROPY_SOURCE,
        ),
        Metric(
            "generalization",
            "generalization",
            "Generalization score",
            "feature distance",
            "Mean distance from a sample to the nearest image of its model's training set. "
            "Towards zero the model copies what it was trained on.",
            "arXiv:2509.16499",
        ),
        Metric(
            "fd",
            "frechet",
            "Fréchet distance",
            "squared feature distance",
            "How far the samples are from the real images, by mean and covariance of their "
            "features. Lower is better. It is called FID only with the standard Inception "
            "network; values of different extractors can't be compared.",
            "Heusel et al. 2017, arXiv:1706.08500",
        ),
        Metric(
            "kd",
            "kernel",
            "Kernel distance",
            "squared MMD",
            "How far the samples are from the real images, by the mean discrepancy (MMD) of "
            "a polynomial kernel. Lower is better; less biased than the Fréchet distance when "
            "there are few images.",
            "Bińkowski et al. 2018, arXiv:1801.01401",
        ),
        Metric(
            "inception_score",
            "inception_score",
            "Inception Score",
            "",
            "How surely Inception tells the class of each sample, and how many classes there are. "
            "Higher is better. It does not look at the real images, and means little for images "
            "that are unlike ImageNet's.",
            "Salimans et al. 2016, arXiv:1606.03498",
        ),
        Metric(
            "precision",
            "precision_recall",
            "Precision",
            "share of the samples",
            "Share of the samples that lie among the real images: how plausible they are.",
            _PRECISION_SOURCE,
            (0.0, 1.0),
        ),
        Metric(
            "recall",
            "precision_recall",
            "Recall",
            "share of the real images",
            "Share of the real images that lie among the samples: how much of the variety is left.",
            _PRECISION_SOURCE,
            (0.0, 1.0),
        ),
        Metric(
            "recall_class",
            "precision_recall",
            "Recall within the classes",
            "share of the real images",
            "Share of the real images of a class that lie among the samples of the same class, "
            "averaged over the classes.",
            _PRECISION_SOURCE,
            (0.0, 1.0),
        ),
        Metric(
            "trace_cov",
            "trace_cov",
            "Total variance of the training set",
            "squared feature distance",
            "Trace of the covariance of the training features. It follows the entropy only "
            "loosely: it sees the spread of the whole and not the crowding within.",
            "arXiv:2509.16499",
        ),
        Metric(
            "real_share",
            "real_share",
            "Real images in the training set",
            "share",
            "How much of what the model was trained on is real. In the replace paradigm it is "
            "zero after the first generation.",
            "counted from the picks",
            (0.0, 1.0),
        ),
    )
}


def parse_key(key: str) -> Series | None:
    """Split a key of metrics.jsonl into metric and extractor; None for what is no metric.

    A metric that is not described above is still shown: under its own name, in its own figure.
    """
    if key in ("arm", "generation") or key.startswith("seconds/"):
        return None
    if key in ("fid", "kid"):
        return Series(key, METRICS["fd" if key == "fid" else "kd"], INCEPTION)
    if key == "inception_score":
        return Series(key, METRICS[key], INCEPTION)
    if key.startswith(("fd_", "kd_")):
        return Series(key, METRICS[key[:2]], key[3:])
    name, _, extractor = key.partition("/")
    metric = METRICS.get(name) or Metric(
        name, name, name.replace("_", " ").capitalize(), "", "", ""
    )
    return Series(key, metric, extractor or None)


def number(record: Record, key: str) -> float | None:
    """The value under a key, NaN and infinities included; None where there is no number."""
    value = record.get(key)
    return float(value) if isinstance(value, int | float) else None


def series_of(records: Iterable[Record]) -> list[Series]:
    """Every metric with a number in some record; described ones first, in the order above."""
    found: dict[str, Series] = {}
    for record in records:
        for key in record:
            if key not in found and number(record, key) is not None:
                series = parse_key(key)
                if series is not None:
                    found[key] = series
    rank = {name: i for i, name in enumerate(METRICS)}
    return sorted(found.values(), key=lambda s: rank.get(s.metric.name, len(rank)))


def primary_series(records: Iterable[Record]) -> dict[str, Series]:
    """For every metric, by name, the one series that a summary shows.

    FID and KID come before the same distances by other extractors; apart from that the extractor
    that the records name first comes first.
    """
    primary: dict[str, Series] = {}
    for series in series_of(records):
        if series.metric.name not in primary or series.extractor == INCEPTION:
            primary[series.metric.name] = series
    return primary


def arm_words(arm: str) -> str:
    """The arm as it stands in a sentence: 'without selection', 'with greedy selection'."""
    return "without selection" if arm == "none" else f"with {arm} selection"
