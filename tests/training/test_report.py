from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Callable
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from training import plots
from training.glossary import parse_key, primary_series, series_of
from training.grids import grid_png
from training.report import collapse_figure, format_table, main, write_report
from training.run import RunFolder
from training.summary import ReportError, figures, headline

ARMS = ("none", "greedy", "threshold")
MakeRun = Callable[..., Path]
VOID = {"meta", "img", "br", "link", "input", "hr"}


def record(arm: str, generation: int, slope: float = 1.0) -> dict[str, Any]:
    steps = slope * (generation - 1)
    made: dict[str, Any] = {"arm": arm, "generation": generation}
    for extractor, unit in (("pixel", 1.0), ("efficientnet_lite0", 9.0)):
        made[f"entropy_train/{extractor}"] = unit * (24.3 - 7.7 * steps)
        made[f"entropy_samples/{extractor}"] = unit * (21.8 - 8.625 * steps)
        made[f"generalization/{extractor}"] = unit * (2.84 - 0.333 * steps)
    made["fd_efficientnet_lite0"] = 8.1 + 3.3 * steps
    made["real_share"] = 1.0 if generation == 1 else 0.125
    made["seconds/train"] = 31.0
    made["seconds/sample"] = 9.25
    made["seconds/select"] = 0.031 if generation > 1 and arm != "none" else 0.0
    return made


SLOPES = {"none": 1.0, "greedy": 0.55, "threshold": 0.5}


def records_of(arms: tuple[str, ...] = ARMS, generations: int = 3) -> list[dict[str, Any]]:
    return [record(arm, g, SLOPES.get(arm, 0.7)) for arm in arms for g in range(1, generations + 1)]


def build_run(
    run: Path,
    records: list[dict[str, Any]] | None = None,
    *,
    arms: tuple[str, ...] = ARMS,
    generations: int = 3,
    config: dict[str, Any] | None = None,
    grids: bool = True,
) -> Path:
    """A run folder with made-up metrics, and noise for images."""
    run.mkdir()
    records = records_of(arms, generations) if records is None else records
    options = {"arms": list(arms), "generations": generations, "seed": 7, **(config or {})}
    whole = {
        "config": options,
        "data": {"source": "digits", "n_images": 1797, "resolution": 8},
        "versions": {"python": "3.11.4"},
    }
    (run / "config.json").write_text(json.dumps(whole))
    (run / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    folder = RunFolder(run)
    rng = np.random.default_rng(0)
    for r in records if grids else ():
        place = folder.generation_dir(r["arm"], r["generation"])
        if not place.exists():
            place.mkdir(parents=True)
            images = rng.integers(0, 256, (16, 8, 8, 1), dtype=np.uint8)
            np.savez(place / "samples.npz", images=images)
            (place / "samples.png").write_bytes(grid_png(images))
            (place / "training.png").write_bytes(grid_png(images[::-1]))
    return run


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    return partial(build_run, tmp_path / "run")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its report, for tests that only read it."""
    run = build_run(tmp_path_factory.mktemp("reported") / "run")
    write_report(run)
    return run


class Page(HTMLParser):
    """What a browser would make of the report: tags, text, images, and the cells of tables."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.feed(html)
        self.close()
        assert self.open == [], "every tag is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    @property
    def images(self) -> list[bytes]:
        found = []
        for tag, attributes in self.tags:
            if tag == "img":
                head, _, body = (attributes["src"] or "").partition(",")
                assert head == "data:image/png;base64"
                found.append(base64.b64decode(body, validate=True))
        return found


def page_of(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


@pytest.fixture
def page(reported: Path) -> Page:
    return Page((reported / "report.html").read_text(encoding="utf-8"))


def png_size(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        assert image.format == "PNG"
        return image.size


def test_the_page_loads_nothing(reported: Path, page: Page) -> None:
    html = (reported / "report.html").read_text(encoding="utf-8")
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    assert "url(" not in html
    assert "@import" not in html
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            if name != "href" or tag != "a":
                assert "://" not in (value or ""), f"{tag} {name} points outside"


def test_every_plot_and_every_grid_is_in_the_page(reported: Path, page: Page) -> None:
    expected = [path.read_bytes() for path in (reported / "plots").iterdir()]
    folder = RunFolder(reported)
    for arm in ARMS:
        for generation in (1, 2, 3):
            for name in ("samples.png", "training.png"):
                expected.append((folder.generation_dir(arm, generation) / name).read_bytes())
    assert sorted(page.images) == sorted(expected)


def test_nothing_is_left_beside_the_report_and_it_can_be_made_again(make_run: MakeRun) -> None:
    run = make_run()
    before = {path.name for path in run.iterdir()}
    report = write_report(run)
    first = {p: p.read_bytes() for p in [report, *(run / "plots").iterdir()]}
    write_report(run)
    assert {p: p.read_bytes() for p in [report, *(run / "plots").iterdir()]} == first
    assert {path.name for path in run.iterdir()} == before | {"report.html", "plots"}


def test_the_summary_has_a_row_for_every_arm_and_generation(page: Page) -> None:
    rows = page.tables[0][1:]
    arms = [row.pop(0) for row in rows if len(row) == 8]
    assert arms == list(ARMS)
    assert [row[0] for row in rows] == ["1", "2", "3"] * 3
    assert rows[1] == ["2", "16.60", "13.18", "2.507", "11.40", "12%", "–"]
    assert rows[2][2] == "4.55"
    assert rows[5][-1] == "0.0310"


def test_the_correlation_is_told_beside_its_plot(page: Page) -> None:
    # The made-up entropies fall in step with the scores, but for the logarithm.
    pattern = (
        r"In (\w+) features the Pearson correlation of the entropy .*? is (0\.99|1\.00) over 7"
    )
    assert [name for name, _ in re.findall(pattern, page.text)] == ["pixel", "efficientnet_lite0"]


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


def test_values_that_are_not_finite_are_gaps_in_the_plots_and_told_in_the_tables(
    make_run: MakeRun,
) -> None:
    records = records_of()
    records[1]["entropy_samples/pixel"] = math.nan
    records[2]["entropy_samples/pixel"] = -math.inf
    records[4]["generalization/pixel"] = None
    for r in records:
        r["fd_efficientnet_lite0"] = math.nan
    generations, values = plots.curve(records, "none", "entropy_samples/pixel")
    assert generations == [1, 2, 3]
    assert values == pytest.approx([21.8, math.nan, math.nan], nan_ok=True)
    rows = page_of(make_run(records)).tables[0][1:]
    assert rows[1][2] == "nan"
    assert rows[2][2] == "-inf"
    assert rows[4][3] == "–"


@pytest.mark.parametrize(
    "arms",
    [
        ("<script>alert(1)</script>", "a&amp;b", "quo\"te'"),
        (r"$\frac$", "_hidden", "日本語"),
    ],
)
def test_arms_of_any_name_are_shown_as_they_are(make_run: MakeRun, arms: tuple[str, ...]) -> None:
    records = records_of(arms, 2)
    run = make_run(records, arms=arms, generations=2, config={"note": "</style><b>&"}, grids=False)
    page = page_of(run)
    assert [row[0] for row in page.tables[0][1:] if len(row) == 8] == list(arms)
    assert "</style><b>&" in page.text
    assert not {"script", "b"} & {tag for tag, _ in page.tags}


def test_a_metric_nobody_described_has_its_figure(make_run: MakeRun) -> None:
    records = records_of()
    for r in records:
        r["novel_thing/pixel"] = float(r["generation"])
    run = make_run(records)
    page = page_of(run)
    assert (run / "plots" / "novel_thing.png").is_file()
    assert "Novel thing" in page.text


def test_one_arm_one_generation_and_one_metric_make_a_report(make_run: MakeRun) -> None:
    records = [{"arm": "greedy", "generation": 1, "entropy_samples/pixel": -3.5}]
    run = make_run(records, arms=("greedy",), generations=1)
    page = page_of(run)
    assert "One generation so far" in page.text
    assert "not finished" not in page.text
    assert page.tables[0][1:] == [["greedy", "1", "–", "−3.500", "–", "–", "–", "–"]]
    assert len(page.images) == 3  # the entropy, the samples, the training images


def test_records_without_any_metric_make_a_report(make_run: MakeRun) -> None:
    page = page_of(make_run([{"arm": "none", "generation": g} for g in (1, 2)], arms=("none",)))
    assert "Too few finite figures" in page.text
    assert "recorded no seconds" in page.text


def test_an_unfinished_run_says_so_and_compares_what_can_be_compared(make_run: MakeRun) -> None:
    records = [r for r in records_of() if (r["arm"], r["generation"]) != ("greedy", 3)]
    records = [r for r in records if r["arm"] != "threshold"]
    page = page_of(make_run(records))
    assert "not finished: 5 of 9 generations" in page.text
    assert "From generation 1 to 2 the entropy of the samples" in page.text
    assert "threshold" in page.text
    assert page.text.count("not yet") == 2 * 4  # greedy 3 and threshold 1..3, twice


def test_a_grid_that_was_deleted_leaves_its_place_empty(make_run: MakeRun) -> None:
    run = make_run()
    (RunFolder(run).generation_dir("greedy", 2) / "samples.png").unlink()
    page = page_of(run)
    assert page.text.count("not there") == 1
    assert len(page.images) == len(list((run / "plots").iterdir())) + 2 * 9 - 1


def test_many_generations_are_thinned_out_in_the_grids_only(make_run: MakeRun) -> None:
    run = make_run(arms=("none",), generations=20)
    page = page_of(run)
    assert "8 of 20 generations are shown" in page.text
    grid = next(table for table in page.tables if "generation 1" in table[0])
    shown = [int(head.split()[1]) for head in grid[0][1:]]
    assert len(shown) == 8
    assert (shown[0], shown[-1]) == (1, 20)
    assert len(page.tables[0]) == 21


def test_every_metric_has_its_column_in_a_table_that_fits_on_paper(reported: Path) -> None:
    page = Page((reported / "report.html").read_text())
    by_extractor = [t for t in page.tables if t[0][:2] == ["arm", "gen."]][1:]
    heads = [table[0][2:] for table in by_extractor]
    entropies = ["Entropy of the training set", "Entropy of the samples", "Generalization score"]
    assert heads == [
        entropies,
        [*entropies, "Fréchet distance"],
        ["Real images in the training set"],
    ]
    assert all(len(table) == 1 + 9 for table in by_extractor)
    assert by_extractor[0][1][2:] == ["24.30", "21.80", "2.840"]


def test_seconds_of_the_shared_generation_are_counted_once(page: Page) -> None:
    table = next(table for table in page.tables if table[0][0] == "seconds")
    assert table[0] == ["seconds", "train", "sample", "select", "sum"]
    assert table[1][1:] == ["31.00", "9.25", "0.00", "40.25"]
    # One shared generation, and two more of each of three arms, two of which select.
    assert table[-1] == ["whole run", "217.00", "64.75", "0.12", "281.87"]


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


def test_the_command(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run()
    assert main([str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    figure = run / "collapse.png"
    assert main([str(run), "--figure", str(figure)]) == 0
    assert capsys.readouterr().out.strip() == str(figure)


def test_the_command_refuses_what_is_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "absent")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "absent is no run folder" in error
    (tmp_path / "config.json").write_text('{"config": {}, "data": {}, "versions": {}}')
    assert main([str(tmp_path)]) == 2
    assert "no finished generation" in capsys.readouterr().err
    (tmp_path / "metrics.jsonl").write_text('{"arm": "none", "gen')
    assert main([str(tmp_path)]) == 2
    assert "metrics.jsonl, line 1, is not the JSON of a run" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()
