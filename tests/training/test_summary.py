from __future__ import annotations

import math
import re

import pytest
from made_runs import SLOPES, record, records_of

from training.glossary import parse_key, primary_series, series_of
from training.report import format_table
from training.summary import figures, headline


def test_the_headline_has_the_figures_of_the_records() -> None:
    records = records_of()
    said = headline(records)
    assert said.verdict == (
        "Without selection, the entropy of the samples and the generalization score fell; "
        "greedy and threshold selection slowed the fall."
    )
    ends = {r["arm"]: r["entropy_samples/pixel"] for r in records if r["generation"] == 3}
    assert said.sentences[0] == (
        "From generation 1 to 3 the entropy of the samples (pixel) went from 21.80 to "
        f"{ends['none']:.2f} without selection, to {ends['greedy']:.2f} with greedy selection and "
        f"to {ends['threshold']:.2f} with threshold selection."
    )
    told = [float(x) for x in re.findall(r"(?<=to )-?\d+\.\d+", said.sentences[1])]
    real = [r["generalization/pixel"] for r in records if r["generation"] == 3]
    assert told == pytest.approx(real, abs=5e-4)


@pytest.mark.parametrize(
    ("slopes", "verdict"),
    [
        ({"none": 1, "greedy": 2}, "fell; greedy selection did not slow the fall."),
        ({"none": 1, "greedy": 0.95}, "fell; greedy selection did not slow the fall."),
        ({"none": 1, "greedy": 0.85}, "fell; greedy selection slowed the fall."),
        (
            {"none": 1, "greedy": 2, "threshold": 0.5},
            "fell; threshold selection slowed the fall; greedy selection did not slow the fall.",
        ),
        ({"none": -1, "greedy": 1}, "No clear collapse without selection: not every measure fell."),
        (
            {"none": 1},
            "Without selection, the entropy of the samples and the generalization score fell.",
        ),
        (
            {"greedy": 1},
            "With greedy selection, the entropy of the samples and the generalization score fell.",
        ),
        ({"greedy": 0}, "No clear collapse with greedy selection: not every measure fell."),
        ({"greedy": 1, "threshold": 2}, "There is no arm without selection to compare with."),
    ],
)
def test_the_verdict_claims_no_more_than_the_records(
    slopes: dict[str, float], verdict: str
) -> None:
    records = [record(arm, g, slope) for arm, slope in slopes.items() for g in (1, 2, 3)]
    assert headline(records).verdict.endswith(verdict)


def test_a_selection_must_be_better_in_every_measure() -> None:
    records = [record(arm, g, SLOPES[arm]) for arm in ("none", "greedy") for g in (1, 2)]
    records[-1]["generalization/pixel"] = 0.1
    assert headline(records).verdict.endswith("greedy selection did not slow the fall.")


def test_no_verdict_where_an_arm_lacks_its_figures() -> None:
    records = [record(arm, g) for arm in ("none", "greedy") for g in (1, 2)]
    records[-1]["entropy_samples/pixel"] = math.nan
    assert headline(records).verdict.startswith("Too few finite figures")


def test_the_table_of_the_terminal() -> None:
    records = records_of(("none", "greedy"), 2)
    records[1]["entropy_train/pixel"] = math.nan
    lines = format_table(records).splitlines()
    assert len(lines) == 4 + 4
    assert lines[1].split() == (
        ["arm", "gen", "training", "set", "samples", "score", "distance", "images", "seconds"]
    )
    assert lines[2].split() == ["pixel", "pixel", "pixel", "efficientnet_lite0"]
    assert lines[4].split() == ["none", "1", "24.30", "21.80", "2.840", "8.10", "100%", "-"]
    assert lines[5].split() == ["none", "2", "nan", "13.18", "2.507", "11.40", "12%", "-"]
    assert lines[7].split() == ["greedy", "2", "20.07", "17.06", "2.657", "9.91", "12%", "0.0310"]
    assert {len(line) for line in lines[3:]} == {len(lines[3])}, "columns are aligned"


def test_the_table_goes_arm_by_arm_whatever_the_order_of_the_records() -> None:
    records = records_of()
    by_generation = sorted(records, key=lambda r: r["generation"])
    assert format_table(by_generation) == format_table(records)


def test_the_table_without_records_is_its_heading() -> None:
    assert len(format_table([]).splitlines()) == 4


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.00012, None], ["0.0001", "-"]),
        ([752.94, 5.2], ["752.9", "5.2"]),
        ([123456.0, -2.0], ["123456", "-2"]),
        ([3e9, 1.0], ["3.000e+09", "1.000e+00"]),
        ([0.0, 0.0], ["0.00", "0.00"]),
        ([math.nan, math.inf], ["nan", "inf"]),
        ([], []),
    ],
)
def test_figures_have_a_sensible_number_of_digits(
    values: list[float | None], texts: list[str]
) -> None:
    assert figures(values) == texts


def test_keys_name_metric_and_extractor() -> None:
    series = parse_key("fd_efficientnet_lite0")
    assert series is not None
    assert (series.metric.name, series.extractor) == ("fd", "efficientnet_lite0")
    assert series.title == "Fréchet distance (efficientnet_lite0)"
    fid = parse_key("fid")
    assert fid is not None
    assert fid.metric is series.metric
    assert "Inception" in fid.title
    assert parse_key("seconds/train") is None
    assert parse_key("arm") is None


def test_the_summary_prefers_fid_and_the_extractor_named_first() -> None:
    records = [{"arm": "none", "generation": 1, "fd_clip": 1.0, "fid": 2.0, "recall/b": 0.5}]
    records[0]["recall/a"] = 0.5
    primary = primary_series(records)
    assert primary["fd"].key == "fid"
    assert primary["recall"].key == "recall/b"
    assert len(series_of(records)) == 4
