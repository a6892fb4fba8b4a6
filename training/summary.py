"""What a run says in figures: its records, the summary table, and a headline computed from both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from training.glossary import Record, Series, arm_words, number, primary_series
from training.run import RunFolder

MISSING = "-"


class ReportError(ValueError):
    """The folder is no run, or lacks what was asked for."""


@dataclass(frozen=True)
class Run:
    """What a report is made from, read once.

    `records` are the finished generations, ordered by arm and generation; `arms` those of the
    configuration and of the records; `expected` is how many records the run will have, None where
    the configuration does not say.
    """

    folder: RunFolder
    config: Mapping[str, Any]
    data: Mapping[str, Any]
    versions: Mapping[str, Any]
    records: list[Record]
    arms: list[str]
    expected: int | None

    @property
    def generations(self) -> list[int]:
        """Every generation that some arm has finished."""
        return sorted({record["generation"] for record in self.records})


def load_run(path: Path) -> Run:
    """Read a run folder, finished or not.

    Raises:
        ReportError: the folder is no run, or no generation of it is finished.
        RunError: a file of the run is damaged.
    """
    if not (path / "config.json").is_file():
        raise ReportError(f"{path} is no run folder: it has no config.json")
    folder = RunFolder(path)
    whole = folder.config()
    config = whole.get("config", {})
    records = folder.records()
    if not records:
        raise ReportError(f"{path} has no finished generation yet: metrics.jsonl has no line")
    arms = list(dict.fromkeys([*config.get("arms", ()), *(r["arm"] for r in records)]))
    generations = config.get("generations")
    return Run(
        folder=folder,
        config=config,
        data=whole.get("data", {}),
        versions=whole.get("versions", {}),
        records=by_arm(records),
        arms=arms,
        expected=len(arms) * generations if isinstance(generations, int) else None,
    )


def by_arm(records: Sequence[Record]) -> list[Record]:
    """Records arm by arm, arms in order of appearance, each by generation."""
    arms = list(dict.fromkeys(record["arm"] for record in records))
    return sorted(records, key=lambda r: (arms.index(r["arm"]), r["generation"]))


class Column(NamedTuple):
    """A column of the summary table: two lines of heading, the extractor or "", and the cells."""

    heading: tuple[str, str]
    extractor: str
    cells: list[str]


_HEADINGS = {
    "entropy_train": ("entropy of", "training set"),
    "entropy_samples": ("entropy of", "samples"),
    "generalization": ("generalization", "score"),
    "fd": ("Fréchet", "distance"),
    "real_share": ("real", "images"),
}


def summary_columns(records: Sequence[Record]) -> list[Column]:
    """The table of a run, a cell for each record: entropy, generalization, distance, real, seconds.

    A column has the same number of decimals from top to bottom, so that its figures can be
    compared; a missing value is "-", and so are the seconds where nothing was selected.
    """
    primary = primary_series(records)
    columns = []
    for name, heading in _HEADINGS.items():
        series = primary.get(name)
        values = [None if series is None else number(record, series.key) for record in records]
        cells = _shares(values) if name == "real_share" else figures(values)
        columns.append(Column(heading, (series and series.extractor) or "", cells))
    seconds = [number(record, "seconds/select") or None for record in records]
    columns.append(Column(("selection", "seconds"), "", figures(seconds)))
    return columns


def figures(values: Sequence[float | None]) -> list[str]:
    """Numbers as text, with about four digits for the largest of them; None as "-"."""
    largest = max((abs(v) for v in values if v is not None and math.isfinite(v)), default=0.0)
    if largest >= 1e7:
        return [MISSING if v is None else f"{v:.3e}" for v in values]
    decimals = 3 - math.floor(math.log10(largest)) if largest > 0 else 2
    decimals = min(max(decimals, 0), 4)
    return [MISSING if v is None else f"{v:.{decimals}f}" for v in values]


def _shares(values: Sequence[float | None]) -> list[str]:
    return [MISSING if v is None else f"{v:.0%}" if math.isfinite(v) else str(v) for v in values]


# The share of a fall that an arm must keep before it is said to slow the fall.
SLOWER = 0.1

_SHORT_NAMES = {
    "entropy_samples": "the entropy of the samples",
    "generalization": "the generalization score",
}


class Headline(NamedTuple):
    """A verdict in a few words, and the sentences with the figures that it rests on."""

    verdict: str
    sentences: list[str]


def headline(records: Sequence[Record]) -> Headline:
    """Say what a run shows, from its records alone.

    Arms are compared at the last generation that all of them have finished, so that an unfinished
    run does not set a late generation of one arm against an early one of another.
    """
    primary = primary_series(records)
    judged = [primary[name] for name in _SHORT_NAMES if name in primary]
    arms = list(dict.fromkeys(str(record["arm"]) for record in records))
    first = min(record["generation"] for record in records)
    last = min(max(r["generation"] for r in records if r["arm"] == arm) for arm in arms)
    if first == last:
        return Headline("One generation so far: nothing to compare yet.", [])

    sentences = []
    changes: dict[str, list[tuple[float, float]]] = {arm: [] for arm in arms}
    for series in judged:
        ends = {arm: _ends(records, arm, series.key, first, last) for arm in arms}
        told = {arm: both for arm, both in ends.items() if both is not None}
        if told:
            sentences.append(_sentence(series, told, first, last))
        for arm, both in told.items():
            changes[arm].append(both)
    return Headline(_verdict(changes, judged), sentences)


def _ends(
    records: Sequence[Record], arm: str, key: str, first: int, last: int
) -> tuple[float, float] | None:
    values = {r["generation"]: number(r, key) for r in records if r["arm"] == arm}
    before, after = values.get(first), values.get(last)
    if before is None or after is None or not (math.isfinite(before) and math.isfinite(after)):
        return None
    return before, after


def _sentence(
    series: Series, ends: Mapping[str, tuple[float, float]], first: int, last: int
) -> str:
    flat = figures([value for both in ends.values() for value in both])
    texts = {arm: (flat[2 * i], flat[2 * i + 1]) for i, arm in enumerate(ends)}
    starts = {before for before, _ in texts.values()}
    if len(starts) == 1:
        parts = [f"to {after} {arm_words(arm)}" for arm, (_, after) in texts.items()]
        went = f"from {starts.pop()} {_list(parts)}"
    else:
        went = _list([f"from {b} to {a} {arm_words(arm)}" for arm, (b, a) in texts.items()])
    title = series.title[0].lower() + series.title[1:]
    return f"From generation {first} to {last} the {title} went {went}."


def _verdict(changes: Mapping[str, list[tuple[float, float]]], judged: Sequence[Series]) -> str:
    """Name what falls and which arms slow it; `changes` has first and last by arm and measure."""
    if not judged or any(len(ends) < len(judged) for ends in changes.values()):
        return "Too few finite figures to say whether the run collapsed."
    base = "none" if "none" in changes else next(iter(changes))
    if base != "none" and len(changes) > 1:
        return "There is no arm without selection to compare with."
    if not all(after < before for before, after in changes[base]):
        return f"No clear collapse {arm_words(base)}: not every measure fell."
    slower = [
        arm
        for arm, ends in changes.items()
        if arm != base
        and all(
            after - lowest >= SLOWER * (before - lowest)
            for (_, after), (before, lowest) in zip(ends, changes[base], strict=True)
        )
    ]
    others = [arm for arm in changes if arm not in (base, *slower)]
    where = arm_words(base)
    what = _list([_SHORT_NAMES[series.metric.name] for series in judged])
    parts = [f"{where[0].upper()}{where[1:]}, {what} fell"]
    if slower:
        parts.append(f"{_list(slower)} selection slowed the fall")
    if others:
        parts.append(f"{_list(others)} selection did not slow the fall")
    return "; ".join(parts) + "."


def _list(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
