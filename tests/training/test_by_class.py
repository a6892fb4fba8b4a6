from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_runs import ARMS, MakeRun, page_of, png_size, records_of

from training import plots
from training.by_class import class_figures
from training.summary import load_run


def with_classes(n_classes: int = 3, generations: int = 3) -> list[dict[str, Any]]:
    """Records whose values tell class and generation, 10 c + g; the last class lacks one."""
    records = records_of(ARMS, generations)
    for record in records:
        g = record["generation"]
        values: list[float | None] = [10.0 * c + g for c in range(n_classes)]
        record["by_class"] = {
            "share_train": [1 / n_classes] * n_classes,
            "entropy_samples/pixel": [*values[:-1], None],
        }
    return records


def name_classes(run: Path, names: list[str]) -> Path:
    whole = json.loads((run / "config.json").read_text())
    whole["data"]["class_names"] = names
    (run / "config.json").write_text(json.dumps(whole))
    return run


def test_the_classes_have_tables_with_the_first_and_the_last_values(make_run: MakeRun) -> None:
    run = name_classes(make_run(with_classes()), ["ant", "<bee>", "cow"])
    page = page_of(run)
    assert "Class by class" in page.text
    share, entropy = (table for table in page.tables if table[0][0] == "class")
    assert share[0][1:] == ["generation 1", *(f"{arm}generation 3" for arm in ARMS)]
    assert [row[0] for row in entropy[1:]] == ["ant", "<bee>", "cow"]
    assert entropy[1][1:] == ["1.00", "3.00", "3.00", "3.00"]
    assert entropy[2][1:] == ["11.00", "13.00", "13.00", "13.00"]
    assert entropy[3][1:] == ["–"] * 4
    assert {"class_share_train.png", "class_entropy_samples_pixel.png"} <= {
        path.name for path in (run / "plots").iterdir()
    }


def test_classes_without_names_have_numbers(make_run: MakeRun) -> None:
    page = page_of(make_run(with_classes()))
    table = next(table for table in page.tables if table[0][0] == "class")
    assert [row[0] for row in table[1:]] == ["0", "1", "2"]


@pytest.mark.parametrize(("n_classes", "generations"), [(2, 1), (40, 3)])
def test_any_number_of_classes_and_generations_is_drawn(
    make_run: MakeRun, n_classes: int, generations: int
) -> None:
    records = with_classes(n_classes, generations)
    figures = class_figures(load_run(make_run(records, generations=generations)), ARMS)
    assert len(figures) == 2
    for png in figures.values():
        assert png_size(png)[0] == pytest.approx(3 * plots.PANEL_WIDTH * plots.DPI, abs=2)


def test_an_unfinished_run_has_its_classes_too(make_run: MakeRun) -> None:
    records = [r for r in with_classes() if r["arm"] == "none" or r["generation"] == 1]
    page = page_of(make_run(records))
    table = next(table for table in page.tables if table[0][0] == "class")
    assert table[0][1:] == ["generation 1", "nonegeneration 3"]


def test_a_run_without_classes_has_no_such_section(make_run: MakeRun) -> None:
    run = make_run()
    assert class_figures(load_run(run), ARMS) == {}
    assert "Class by class" not in page_of(run).text
