from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from training.correlation import correlation_figure, correlations

ENTROPY = {"none": [9.0, 7.5, 6.0, 4.0], "greedy": [9.0, 8.5, 8.25, 7.0]}
SCORE = {"none": [2.0, 1.5, 0.75, 0.25], "greedy": [2.0, 1.75, 1.8, 1.25]}
TRACE = {"none": [5.0, 4.0, 6.0, 5.5], "greedy": [5.0, 7.0, 3.0, 4.25]}


def make_records(extractor="clip"):
    return [
        {
            "arm": arm,
            "generation": g + 1,
            f"entropy_train/{extractor}": ENTROPY[arm][g],
            f"generalization/{extractor}": SCORE[arm][g],
            f"trace_cov/{extractor}": TRACE[arm][g],
        }
        for arm in ENTROPY
        for g in range(4)
    ]


def test_the_correlation_is_pearsons_over_every_model_once():
    entropy = ENTROPY["none"] + ENTROPY["greedy"][1:]
    score = np.log(SCORE["none"] + SCORE["greedy"][1:])
    trace = TRACE["none"] + TRACE["greedy"][1:]
    (found,) = correlations(make_records())
    assert (found.extractor, found.n) == ("clip", 7)
    assert found.entropy == pytest.approx(np.corrcoef(entropy, score)[0, 1], rel=1e-12)
    assert found.trace == pytest.approx(np.corrcoef(trace, score)[0, 1], rel=1e-12)


def test_each_extractor_has_its_own():
    records = [
        {**a, **b} for a, b in zip(make_records("clip"), make_records("dinov2"), strict=True)
    ]
    assert [c.extractor for c in correlations(records)] == ["clip", "dinov2"]


@pytest.mark.parametrize("score", [0.0, -1.0, math.nan, math.inf, None])
def test_what_has_no_logarithm_is_left_out(score):
    records = make_records()
    records[2]["generalization/clip"] = score
    (found,) = correlations(records)
    assert found.n == 6
    assert math.isfinite(found.entropy)


def test_without_variance_to_compare_the_entropy_is_still_told():
    records = make_records()
    del records[1]["trace_cov/clip"]
    (found,) = correlations(records)
    assert math.isnan(found.trace)
    assert math.isfinite(found.entropy)


@pytest.mark.parametrize("change", ["few", "flat", "absent"])
def test_nothing_is_made_of_too_little(change):
    records = make_records()
    if change == "few":
        records = records[:3]
    for record in records:
        if change == "flat":
            record["entropy_train/clip"] = 3.0
        if change == "absent":
            del record["generalization/clip"]
    assert correlations(records) == []
    assert correlation_figure(records, ["none", "greedy"]) is None


def test_the_figure_shows_both_arms_and_is_the_same_each_time():
    records = make_records()
    png = correlation_figure(records, ["none", "greedy"])
    assert png == correlation_figure(records, ["none", "greedy"])
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)
    for colour in ((0x5C, 0x60, 0x66), (0x00, 0x72, 0xB2)):
        assert (pixels == colour).all(axis=1).sum() > 100
