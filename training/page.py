"""The report as one HTML page: pictures are data URIs, nothing is loaded from anywhere."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from training import by_class
from training.correlation import correlations
from training.glossary import Series, number, series_of
from training.markup import (
    by_generation,
    details,
    grid_table,
    linked,
    minus,
    plot_figure,
    prose_table,
    section,
    table_by_arm,
)
from training.plots import phase_seconds, phases_of
from training.summary import SLOWER, Run, figures, headline, summary_columns

# More generations than this side by side are too small to see; evenly spaced ones are shown.
MAX_GRID_COLUMNS = 8
_CSS = Path(__file__).with_name("page.css").read_text(encoding="utf-8")

# Of the plots of a section, PNGs by name.
Plots = Mapping[str, bytes]


def render(run: Run, plots: Mapping[str, Plots]) -> str:
    """The whole page.

    Args:
        run: the run, finished or not.
        plots: those of the sections "curves", "novelty", "classes", "correlation" and "seconds".
    """
    title = f"Recursive training on {_source(run)}"
    sections = [
        _head(run, title),
        section("Summary", _summary_table(run)),
        section("What the models make", *_grids(run)),
        *_novelty(run, plots["novelty"]),
        section("Curves over the generations", _curves(plots["curves"])),
        *_classes(run, plots["classes"]),
        *_correlation(run, plots["correlation"]),
        section("How to read the metrics", _readings(run)),
        section("Where the time goes", *_seconds(run, plots["seconds"])),
        section("All metrics", *_all_metrics(run)),
        section("Configuration", *_configuration(run)),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def _curves(plots: Plots) -> str:
    figures = [plot_figure(png, by_generation(name)) for name, png in plots.items()]
    return "\n".join(['<div class="curves">', *figures, "</div>"])


def _source(run: Run) -> str:
    """The data's own name, without the folders of the machine that it was read on."""
    return Path(str(run.data.get("source", "images"))).name


def _head(run: Run, title: str) -> str:
    said = headline(run.records)
    parts = [
        "<header>",
        f"<h1>{escape(title)}</h1>",
        f'<p class="verdict">{escape(said.verdict)}</p>',
        *(f"<p>{minus(escape(sentence))}</p>" for sentence in said.sentences),
    ]
    if said.sentences and len(run.arms) > 1:
        parts.append(
            f'<p class="soft">An arm slows the fall where it keeps at least {SLOWER:.0%} of what '
            "is lost without selection, in each of these measures. One run with one seed: small "
            "differences may be chance.</p>"
        )
    if run.expected is not None and len(run.records) < run.expected:
        parts.append(
            f'<p class="state">This run is not finished: {len(run.records)} of {run.expected} '
            "generations (all arms together) are in this report.</p>"
        )
    facts = [
        ("real images", run.data.get("n_images")),
        ("resolution", run.data.get("resolution")),
        ("training set", run.config.get("n")),
        ("selection by", run.config.get("extractor")),
        ("paradigm", run.config.get("paradigm")),
        ("arms", ", ".join(run.arms)),
        ("generations", run.config.get("generations", len(run.generations))),
        *([("guidance", run.config.get("guidance"))] if "by_class" in run.records[0] else []),
        ("seed", run.config.get("seed")),
    ]
    parts.append('<dl class="facts">')
    parts += [
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in facts
        if value is not None
    ]
    return "\n".join([*parts, "</dl>", "</header>"])


def _summary_table(run: Run) -> str:
    columns = summary_columns(run.records)
    heads = ["<th>arm</th>", "<th>gen.</th>"]
    for column in columns:
        extractor = f"<small>{escape(column.extractor)}</small>" if column.extractor else ""
        heading = "<br>".join(map(escape, column.heading))
        heads.append(f'<th class="short">{heading}{extractor}</th>')
    return table_by_arm(run, heads, [column.cells for column in columns])


def _all_metrics(run: Run) -> list[str]:
    """A table for each extractor: of all together, the last columns would be off the paper."""
    groups: dict[str | None, list[Series]] = {}
    for series in series_of(run.records):
        groups.setdefault(series.extractor, []).append(series)
    parts = []
    for extractor, members in groups.items():
        titles = [f"<th>{escape(series.metric.title)}</th>" for series in members]
        cells = [
            figures([number(record, series.key) for record in run.records]) for series in members
        ]
        summary = f"Features: {extractor}" if extractor else "Without features"
        table = table_by_arm(run, ["<th>arm</th>", "<th>gen.</th>", *titles], cells)
        parts.append(details(summary, table))
    return parts


def _novelty(run: Run, plots: Plots) -> list[str]:
    """The section on what is copied; a run of before there was one has nothing to show."""
    folders = [run.folder.generation_dir(r["arm"], r["generation"]) for r in run.records]
    parts = []
    if any((folder / "nearest.png").is_file() for folder in folders):
        shown = _spread(run.generations, MAX_GRID_COLUMNS)
        parts += [
            '<p class="soft">Above, samples; below each, the image of the model\'s training set '
            f"that is nearest to it in {escape(str(run.config.get('extractor', 'its')))} features. "
            "From left to right they go from the sample that is nearest to its training image to "
            "the one that is farthest, at even ranks. Where the rows look the same, the model "
            "copies.</p>",
            grid_table(run, shown, "nearest.png", "samples above their nearest training images"),
        ]
    if plots:
        parts += [
            '<p class="soft">Distances of the samples to their nearest training images, whose mean '
            "is the generalization score: the line is the median, the dark band holds the middle "
            "half of the samples, the light one nine of ten.</p>",
            _curves(plots),
        ]
    return [section("Are the samples copies?", *parts)] if parts else []


def _classes(run: Run, plots: Plots) -> list[str]:
    """The section on the classes; none where the models were not told any."""
    if not plots:
        return []
    return [
        section(
            "Class by class",
            '<p class="soft">The class of a sample is the one that it was made for. Empty cells: '
            "too few images of the class.</p>",
            _curves(plots),
            *(details(f"Figures: {title}", table) for title, table in by_class.tables(run)),
        )
    ]


def _correlation(run: Run, plots: Plots) -> list[str]:
    """The section on entropy and novelty; none where the run has too few models."""
    if not plots:
        return []
    alt = "entropy of the training set against the generalization score, for each arm"
    lines = [
        f"In {c.extractor} features the Pearson correlation of the entropy of the training set with"
        f" the logarithm of the generalization score is {c.entropy:.2f} over {c.n} models"
        + (f"; of the total variance with it, {c.trace:.2f}." if math.isfinite(c.trace) else ".")
        for c in correlations(run.records)
    ]
    note = (
        "The paper found 0.91 for entropy, and much less for the variance. A point is a model;"
        " models of one arm follow from each other, so that they are no independent draws."
    )
    return [
        section(
            "Entropy and novelty",
            *(f"<p>{minus(escape(line))}</p>" for line in lines),
            f'<p class="soft">{note}</p>',
            '<div class="curves">',
            *(plot_figure(png, alt) for png in plots.values()),
            "</div>",
        )
    ]


def _readings(run: Run) -> str:
    rows = {
        series.metric.title: (series.metric.reading, linked(series.metric.source))
        for series in series_of(run.records)
        if series.metric.reading
    }
    return prose_table(
        (title, f'{escape(reading)} <span class="soft">Definition: {source}.</span>')
        for title, (reading, source) in rows.items()
    )


def _grids(run: Run) -> list[str]:
    shown = _spread(run.generations, MAX_GRID_COLUMNS)
    note = "Each picture shows a model's first samples, not chosen ones."
    if len(shown) < len(run.generations):
        note += f" {len(shown)} of {len(run.generations)} generations are shown."
    return [
        f'<p class="soft">{note}</p>',
        grid_table(run, shown, "samples.png", "samples"),
        details(
            "What each model was trained on",
            grid_table(run, shown, "training.png", "training images"),
        ),
    ]


def _spread(generations: Sequence[int], n: int) -> list[int]:
    """At most n of the generations, evenly spaced, the first and the last among them."""
    if len(generations) <= n:
        return list(generations)
    return [generations[round(i * (len(generations) - 1) / (n - 1))] for i in range(n)]


def _seconds(run: Run, plots: Plots) -> list[str]:
    if not plots:
        return ['<p class="soft">This run recorded no seconds.</p>']
    phases = phases_of(run.records)
    # The arms share their first generation: its seconds were spent once.
    first = run.generations[0]
    rows: list[tuple[str, list[float]]] = []
    shared = next((r for r in run.records if r["generation"] == first), None)
    if shared is not None:
        rows.append((f"generation {first}, shared", [phase_seconds(shared, p) for p in phases]))
    for arm in run.arms:
        own = [r for r in run.records if r["arm"] == arm and r["generation"] != first]
        if own:
            rows.append((arm, [math.fsum(phase_seconds(r, p) for r in own) for p in phases]))
    sums = [math.fsum(column) for column in zip(*(values for _, values in rows), strict=True)]
    rows.append(("whole run", sums))
    heads = "".join(f"<th>{escape(phase)}</th>" for phase in phases)
    body = "".join(
        f"<tr><th>{escape(name)}</th>"
        + "".join(f"<td>{value:.2f}</td>" for value in [*values, math.fsum(values)])
        + "</tr>\n"
        for name, values in rows
    )
    return [
        '<div class="scroll"><table>',
        f"<thead><tr><th>seconds</th>{heads}<th>sum</th></tr></thead>",
        f"<tbody>\n{body}</tbody></table></div>",
        _curves(plots),
    ]


def _configuration(run: Run) -> list[str]:
    return [
        details(name, prose_table((key, _value(value)) for key, value in content.items()))
        for name, content in (
            ("Options", run.config),
            ("Data", run.data),
            ("Versions", run.versions),
        )
        if content
    ]


def _value(value: object) -> str:
    return escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
