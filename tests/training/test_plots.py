from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_runs import ARMS, MakeRun, page_of, png_size, records_of
from matplotlib.figure import Figure

from training import novelty, plots
from training.collapse import collapse_figure
from training.grids import grid_png
from training.metrics import QUANTILES
from training.novelty import distribution_figures
from training.run import RunFolder
from training.summary import ReportError


def test_plots_are_png_of_one_panel_size(reported: Path) -> None:
    sizes = {path.stem: png_size(path.read_bytes()) for path in (reported / "plots").glob("*.png")}
    panel = plots.PANEL_WIDTH * plots.DPI
    panels = {name: width / panel for name, (width, _) in sizes.items()}
    assert panels == pytest.approx(
        {
            "entropy": 2,
            "generalization": 2,
            "frechet": 1,
            "real_share": 1,
            "seconds": 3,
            "correlation": 2,
        },
        abs=0.01,
    )
    # Four panels in two rows are as high as two figures with a frame between them.
    one_row = plots.metric_figures(records_of(), ARMS)["generalization"]
    frame = plots.FRAME_HEIGHT * plots.DPI
    assert sizes["entropy"][1] == pytest.approx(2 * png_size(one_row)[1] + frame, abs=3)


def test_a_legend_that_is_too_wide_for_its_figure_takes_more_lines() -> None:
    narrow = plots.metric_figures(records_of(), ARMS)["frechet"]
    many = ("none", "greedy", "threshold", "random", "an arm with a long name", "fifth")
    wide = plots.metric_figures(records_of(many), many)["frechet"]
    assert png_size(wide)[0] == png_size(narrow)[0]
    assert png_size(wide)[1] > png_size(narrow)[1]


def test_a_curve_has_the_values_of_the_records() -> None:
    records = records_of()
    for arm in ARMS:
        expected = [r["entropy_train/pixel"] for r in records if r["arm"] == arm]
        drawn = plots.curve(list(reversed(records)), arm, "entropy_train/pixel")
        assert drawn == ([1, 2, 3], expected)


def test_arms_keep_their_colours() -> None:
    styles = plots.arm_styles(["none", "greedy", "threshold", "random", "dedup", "x", "y"])
    assert len({style.colour for style in styles.values()}) == 7
    assert plots.arm_styles(["greedy"])["greedy"] == styles["greedy"]


@pytest.mark.parametrize(("height", "width", "channels"), [(8, 8, 1), (32, 32, 3), (12, 40, 3)])
def test_the_figure_of_the_collapse(
    make_run: MakeRun, tmp_path: Path, height: int, width: int, channels: int
) -> None:
    run = make_run()
    folder = RunFolder(run)
    images = np.random.default_rng(1).integers(
        0, 256, (40, height, width, channels), dtype=np.uint8
    )
    for arm in ARMS:
        for generation in (1, 3):
            np.savez(folder.generation_dir(arm, generation) / "samples.npz", images=images)
    out = tmp_path / "docs" / "collapse.png"
    collapse_figure(run, out)
    assert png_size(out.read_bytes()) == (1600, 700)


def test_the_figure_needs_two_generations(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(generations=1)
    with pytest.raises(ReportError, match="has one generation"):
        collapse_figure(run, tmp_path / "collapse.png")


def test_the_figure_names_what_is_missing(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    (RunFolder(run).generation_dir("greedy", 3) / "samples.npz").unlink()
    with pytest.raises(ReportError, match=r"samples\.npz is missing"):
        collapse_figure(run, tmp_path / "collapse.png")
    assert not (tmp_path / "collapse.png").exists()


def test_the_distribution_has_a_panel_for_each_arm_and_no_others(make_run: MakeRun) -> None:
    assert distribution_figures(records_of(), ARMS) == {}
    records = records_of()
    for record in records:
        for i, name in enumerate(("pixel", "clip")):
            spread = [float(100 * i + q * record["generation"]) for q in QUANTILES]
            record[f"generalization_quantiles/{name}"] = spread
    figures = distribution_figures(records, ARMS)
    assert list(figures) == [f"generalization_distribution_{name}" for name in ("pixel", "clip")]
    for png in figures.values():
        assert png_size(png)[0] == pytest.approx(3 * plots.PANEL_WIDTH * plots.DPI, abs=2)
    del records[2]["generalization_quantiles/pixel"]  # as of an unfinished run
    assert (
        distribution_figures(records, ARMS)["generalization_distribution_clip"]
        == (figures["generalization_distribution_clip"])
    )
    page = page_of(make_run(records))
    assert "Are the samples copies?" in page.text
    assert "nearest to it in" not in page.text  # there is no nearest.png


def test_no_band_of_the_distribution_leaves_its_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The panels share an axis, and a later arm may reach higher than the first."""
    limits = []

    def look(figure: Figure) -> bytes:
        limits.extend(axes.get_ylim() for axes in figure.axes)
        return b""

    monkeypatch.setattr(novelty, "to_png", look)
    records = records_of()
    for record in records:
        highest = 100.0 * (1 + ARMS.index(record["arm"]))
        record["generalization_quantiles/pixel"] = [q * highest for q in QUANTILES]
    distribution_figures(records, ARMS)
    assert len(limits) == len(ARMS)
    assert all(low == 0 and high >= 95.0 * len(ARMS) for low, high in limits)


def test_samples_stand_above_their_nearest_training_images(make_run: MakeRun) -> None:
    run = make_run()
    picture = grid_png(np.zeros((4, 8, 8, 1), np.uint8), columns=2)
    for record in records_of():
        place = RunFolder(run).generation_dir(record["arm"], record["generation"])
        (place / "nearest.png").write_bytes(picture)
    page = page_of(run)
    assert page.images.count(picture) == 9
    assert "nearest to it in its features" in page.text
