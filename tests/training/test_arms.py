from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_recursive import TOY, load, run_all

import fastsel
from training import recursive, select
from training.arms import ARMS
from training.labels import apportion

PAIRED = ("none", "random-2N", "greedy", "real-fraction")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(5).integers(0, 256, (24, 8, 8, 1), dtype=np.uint8)


def choose(arm, features, n, *, generation=2, real=None, real_share=0.0, labels=None, **options):
    # The arm fresh picks what its fresh images leave of N.
    config = dataclasses.replace(TOY, n=n, fresh_fraction=0.01, **options)
    return select.pick(
        config,
        arm,
        features,
        generation=generation,
        real=real,
        real_share=real_share,
        labels=labels,
    )


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("different", [1, 2, 9, 10, 11, 40])
def test_every_arm_picks_n_distinct_members_by_the_seed(arm, different):
    features = np.random.default_rng(0).normal(size=(different, 3)).astype(np.float32)
    features = np.resize(features, (40, 3))
    picks = choose(arm, features, 10)
    assert picks.dtype == np.int64
    assert len(set(picks.tolist())) == 10
    assert set(picks.tolist()) <= set(range(40))
    assert np.array_equal(picks, choose(arm, features, 10))
    others = [choose(arm, features, 10, generation=g) for g in range(3, 8)]
    assert arm == "kmeans" or not all(np.array_equal(picks, other) for other in others)


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize(("n", "parts"), [(12, [6, 4, 1, 0, 1]), (39, [18, 14, 4, 0, 3]), (2, [])])
def test_within_classes_every_arm_takes_its_part_of_each(arm, n, parts):
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1, 2, 4], [20, 15, 4, 3]))  # none of class 3
    features = rng.normal(size=(42, 3)).astype(np.float32)
    real = rng.random(42) < 0.5
    options = {"condition": "class", "select_within": "class", "labels": labels, "real": real}
    picks = choose(arm, features, n, real_share=np.full(5, 0.5), **options)
    assert picks.dtype == np.int64
    assert len(set(picks.tolist())) == len(picks) == n
    counts = np.bincount(labels[picks], minlength=5)
    assert np.array_equal(counts, apportion(np.bincount(labels), n))
    assert not parts or counts.tolist() == parts
    assert np.array_equal(picks, choose(arm, features, n, real_share=np.full(5, 0.5), **options))


def test_within_a_class_greedy_picks_as_from_the_class_alone():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1], [30, 20]))
    features = rng.normal(size=(50, 3)).astype(np.float32)
    options = {"condition": "class", "select_within": "class"}
    picks = choose("greedy", features, 10, labels=labels, **options)
    config = dataclasses.replace(TOY, **options)
    for label, count in ((0, 6), (1, 4)):
        members = np.flatnonzero(labels == label)
        seed = config.derive_seed("selection", 2, label)
        expected = members[fastsel.greedy_select(features[members], count, random_state=seed)]
        assert np.array_equal(picks[labels[picks] == label], expected)


def test_the_real_share_of_greedy_is_taken_class_by_class():
    labels, real = np.repeat([0, 1], 20), np.tile([True, False], 20)
    features = np.zeros((40, 0), np.float32)
    options = {"condition": "class", "select_within": "class", "labels": labels, "real": real}
    picks = choose("real-fraction", features, 20, real_share=np.array([0.2, 0.9]), **options)
    assert np.bincount(labels[picks][real[picks]]).tolist() == [2, 9]
    assert np.bincount(labels[picks]).tolist() == [10, 10]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(sum), st.data())
def test_parts_are_proportional_and_exact(counts, data):
    counts = np.array(counts)
    n = data.draw(st.integers(0, int(counts.sum())))
    parts = apportion(counts, n)
    assert parts.sum() == n
    assert (parts <= counts).all()
    assert (np.abs(parts * counts.sum() - counts * n) < counts.sum()).all()


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_with_nothing_to_choose_picks_everything(arm):
    features = np.random.default_rng(1).normal(size=(10, 3)).astype(np.float32)
    assert sorted(choose(arm, features, 10)) == list(range(10))


def test_dedup_takes_a_second_of_a_group_only_when_every_group_has_one():
    # Each group is a chain with steps of 0.75, longer than the radius of 1 from end to end.
    starts = np.arange(12) * 100.0
    features = (starts[:, None] + np.arange(4) * 0.75).reshape(-1, 1).astype(np.float32)
    groups = np.repeat(np.arange(12), 4)
    few = choose("dedup", features, 8, dedup_radius=1.0)
    assert len(set(groups[few])) == 8
    many = choose("dedup", features, 20, dedup_radius=1.0)
    assert sorted(np.bincount(groups[many])) == [1] * 4 + [2] * 8
    # The border belongs to the radius, and a smaller one makes every point its own group.
    at_border = choose("dedup", features, 12, dedup_radius=0.75)
    assert len(set(groups[at_border])) == 12
    below = [choose("dedup", features, 12, dedup_radius=0.74, generation=g) for g in range(9)]
    assert any(len(set(groups[picks])) < 12 for picks in below)


def test_dedups_own_radius_follows_the_scale_and_joins_near_copies():
    rng = np.random.default_rng(2)
    points = rng.normal(size=(30, 8))
    near = points[:10] + 1e-4 * rng.normal(size=(10, 8))
    features = np.concatenate([points, near])
    for scale in (1e-3, 1.0, 1e3):
        picks = choose("dedup", (features * scale).astype(np.float32), 30)
        assert len(set((picks % 30).tolist())) == 30


def test_kmeans_picks_the_medoid_of_every_cluster():
    rng = np.random.default_rng(3)
    features = np.repeat(np.arange(2.0)[:, None] * 100, 15, axis=0) + rng.normal(size=(30, 4))
    features = features.astype(np.float32)
    expected = []
    for part in (features[:15], features[15:]):
        distances = np.linalg.norm(part - part.mean(axis=0), axis=1)
        expected.append(len(expected) * 15 + int(distances.argmin()))
    # From a random start both centres may stay in one blob for good; most starts part them.
    found = [sorted(choose("kmeans", features, 2, generation=g).tolist()) for g in range(2, 8)]
    assert expected in found


def test_greedy_entropy_picks_what_adds_most_to_the_entropy():
    features = np.random.default_rng(4).normal(size=(30, 3)).astype(np.float32)
    picks = choose("greedy-entropy", features, 8)
    for i in range(2, 8):
        others = np.setdiff1d(np.arange(30), picks[:i])
        gains = [fastsel.kl_entropy(features[[*picks[:i], other]]) for other in others]
        assert others[int(np.argmax(gains))] == picks[i]


@pytest.mark.parametrize(
    ("n_real", "share", "expected"),
    [(20, 0.0, 0), (20, 0.45, 4), (20, 1.0, 10), (3, 0.9, 3), (35, 0.0, 5)],
)
def test_real_fraction_keeps_the_share_as_far_as_the_pool_allows(n_real, share, expected):
    real = np.arange(40) < n_real
    features = np.empty((40, 0), np.float32)
    picks = choose("real-fraction", features, 10, real=real, real_share=share)
    assert real[picks].sum() == expected


@pytest.mark.parametrize("paradigm", ["accumulate", "accumulate-subsample"])
def test_real_fraction_follows_greedy_in_a_run(images, tmp_path, paradigm):
    # Samples of an untrained model are mostly black and white; so is every second real image.
    images = images.copy()
    images[::2] = np.where(images[::2] < 128, 0, 255)
    images[1::2] = 128
    config = dataclasses.replace(TOY, arms=PAIRED, paradigm=paradigm)
    shares = {
        (r["arm"], r["generation"]): r["real_share"]
        for r in run_all(config, images, tmp_path / "run").records()
    }
    assert 0 < shares["greedy", 2] < 1
    for generation in (1, 2, 3):
        assert shares["real-fraction", generation] == shares["greedy", generation]


def test_a_subsampled_pool_is_no_larger_than_that_of_replace(images, tmp_path):
    config = dataclasses.replace(
        TOY, arms=("none", "greedy"), paradigm="accumulate-subsample", generations=4
    )
    folder = run_all(config, images, tmp_path / "run")
    for arm, size in [("none", 8), ("greedy", 16)]:
        sources = set()
        for generation in (2, 3, 4):
            picks = load(folder, arm, generation, "picks")
            assert picks["position"].max() < size
            sources |= set((generation - picks["generation"]).tolist())
        assert len(sources) > 2  # not of the last model alone


@pytest.mark.parametrize("paradigm", ["replace", "accumulate", "fresh"])
def test_fresh_images_are_real_and_never_used_before(images, tmp_path, paradigm):
    config = dataclasses.replace(
        TOY, arms=("none", "greedy", "fresh"), paradigm=paradigm, fresh_fraction=0.25
    )
    assert select.images_needed(config) == 8 + 2 * 2
    folder = run_all(config, images, tmp_path / "run")
    for arm in config.arms:
        first = set(load(folder, arm, 1, "picks")["index"].tolist())
        used = set(first)
        for generation in (2, 3):
            picks = load(folder, arm, generation, "picks")
            assert len(picks["position"]) == config.n
            drawn = set(picks["index"][picks["generation"] == 0].tolist()) - first
            assert len(drawn) == (2 if arm == "fresh" or paradigm == "fresh" else 0)
            assert not drawn & used
            used |= drawn
            if paradigm != "accumulate":
                assert np.sum(picks["generation"] == 0) == len(drawn)


def test_too_few_images_to_stay_fresh_are_refused_before_any_work(tmp_path, capsys):
    command = ["--limit", "30", "--n", "20", "--paradigm", "fresh", "--fresh-fraction", "0.2"]
    assert recursive.main([*command, "--out", str(tmp_path / "run")]) == 2
    message = capsys.readouterr().err
    assert "needs 32 images over 4 generations of 20, got 30 in --data" in message
    assert not (tmp_path / "run").exists()
