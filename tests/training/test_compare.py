from __future__ import annotations

import numpy as np
import pytest
from made_runs import build_run, png_size, record

from training import compare
from training.plots import DPI, PANEL_WIDTH
from training.summary import ReportError, load_run

ARMS = ("none", "greedy")


def make(path, *, shift=0.0, arms=ARMS, **options):
    records = [record(arm, g) for g in (1, 2, 3) for arm in arms]
    for r in records:
        r["entropy_train/pixel"] += shift
    run = build_run(path, records, arms=arms, config=options, grids=False)
    return load_run(run)


@pytest.fixture
def seeds(tmp_path):
    return [make(tmp_path / f"s{s}", shift=s * s, seed=s) for s in (0, 1, 2)]


def test_runs_that_differ_in_their_seed_are_one_line_for_each_arm(seeds):
    lines = compare.lines_of(seeds)
    assert [(line.name, len(line.runs)) for line in lines] == [("none", 3), ("greedy", 3)]
    values = lines[0].values("entropy_train/pixel")
    assert list(values) == [1, 2, 3]
    assert values[1] == pytest.approx([24.3, 25.3, 28.3])


def test_other_options_tell_experiments_apart(tmp_path, seeds):
    other = make(tmp_path / "other", seed=0, paradigm="accumulate", pool_factor=5, arms=("greedy",))
    same = make(tmp_path / "same", seed=5, paradigm="replace", pool_factor=5, arms=("greedy",))
    names = [line.name for line in compare.lines_of([other, same])]
    assert names == ["greedy, paradigm accumulate", "greedy, paradigm replace"]


def test_a_limit_draws_other_images_with_another_seed(tmp_path):
    runs = [make(tmp_path / f"s{s}", seed=s, limit=20) for s in (0, 1)]
    for i, run in enumerate(runs):
        run.data["digest"] = str(i)
    assert [(line.name, len(line.runs)) for line in compare.lines_of(runs)] == [
        ("none", 2),
        ("greedy", 2),
    ]


def test_the_same_run_twice_is_refused(tmp_path, seeds):
    with pytest.raises(ReportError, match="the same experiment with the same seed"):
        compare.lines_of([*seeds, make(tmp_path / "copy", seed=1)])


def test_the_table_has_mean_and_standard_deviation(seeds):
    text = compare.format_comparison(compare.lines_of(seeds))
    block = text.partition("Entropy of the training set (pixel)")[2].partition("\n\n")[0]
    mean, spread = np.mean([0, 1, 4]), np.std([0, 1, 4], ddof=1)
    assert f"gen 1 {24.3 + mean:.2f} ± {spread:.3f}" in block
    assert "gen 3" in block
    assert "(3 seeds)" in block
    alone = compare.format_comparison(compare.lines_of(seeds[:1]))
    assert "±" not in alone
    assert "(1 seed)" in alone


def test_a_value_that_is_not_finite_is_left_out(seeds):
    seeds[1].records[0]["entropy_train/pixel"] = float("nan")
    values = compare.lines_of(seeds)[0].values("entropy_train/pixel")
    assert len(values[1]) == 2


def test_the_command(tmp_path, seeds, capsys):
    out = tmp_path / "made" / "comparison"
    paths = [str(run.folder.path) for run in seeds]
    assert compare.main([*paths, "--out", str(out)]) == 0
    assert "Entropy of the training set (pixel)" in capsys.readouterr().out
    png = (out / "generalization.png").read_bytes()
    assert png_size(png)[0] == pytest.approx(2 * PANEL_WIDTH * DPI, rel=0.01)
    assert (out / "entropy.png").is_file()


def test_a_folder_that_is_no_run_is_one_line(tmp_path, capsys):
    assert compare.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()
