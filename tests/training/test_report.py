from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from made_runs import ARMS, MakeRun, Page, page_of, records_of

from training import plots
from training.report import main, write_report
from training.run import RunFolder


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
