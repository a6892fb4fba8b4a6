"""The report as one HTML page: pictures are data URIs, nothing is loaded from anywhere."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from training.correlation import correlations
from training.glossary import Series, number, series_of
from training.plots import (
    CSS_DPI,
    DPI,
    FRAME_HEIGHT,
    PANEL_WIDTH,
    ROW_HEIGHT,
    arm_styles,
    phase_seconds,
    phases_of,
)
from training.summary import MISSING, SLOWER, Run, figures, headline, summary_columns

# More generations than this side by side are too small to see; evenly spaced ones are shown.
MAX_GRID_COLUMNS = 8
# Plots with a section of their own.
_PLACED = ("seconds", "correlation")

_CSS = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --line: #d9dce1;
  --paper: #ffffff; --wash: #f5f6f8; --link: #0a58a8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #9aa4af; --line: #343a42;
  --paper: #14171b; --wash: #1d2127; --link: #7ab7f5; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-size: 16px; -webkit-text-size-adjust: 100%; }
main { max-width: 1140px; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.1rem; font-weight: 600; color: var(--soft); margin: 0 0 .35rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 .5rem; letter-spacing: -.01em; }
p { margin: .4rem 0; max-width: 46rem; overflow-wrap: anywhere; }
a { color: var(--link); }
.verdict { font-size: 1.75rem; line-height: 1.25; font-weight: 700; letter-spacing: -.02em;
  margin: 0 0 .75rem; max-width: 44rem; }
.soft { color: var(--soft); font-size: .9rem; }
.state { border-left: 4px solid #e69f00; background: var(--wash); padding: .5rem .9rem;
  max-width: 46rem; margin: 1rem 0; }
.facts { display: flex; flex-wrap: wrap; gap: .75rem 2.25rem; margin: 1.5rem 0 0; padding: 0; }
.facts div { min-width: 0; }
.facts dt { color: var(--soft); font-size: .8rem; }
.facts dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .8rem; text-align: right; vertical-align: top; }
thead th { font-weight: 600; vertical-align: bottom; border-bottom: 2px solid var(--line);
  line-height: 1.3; }
thead .short { white-space: nowrap; }
thead small { display: block; font-weight: 400; color: var(--soft); font-size: .78rem; }
tbody tr:first-child > * { border-top: 1px solid var(--line); }
tbody th { text-align: left; font-weight: 600; min-width: 7rem; max-width: 16rem;
  overflow-wrap: break-word; }
th:first-child { padding-left: 0; text-align: left; }
.prose th, .prose td { text-align: left; border-top: 1px solid var(--line); }
.prose td { overflow-wrap: anywhere; }
.prose th { white-space: nowrap; font-weight: 600; }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .45em; }
.curves { display: flex; flex-wrap: wrap; gap: 1.25rem; align-items: flex-start; }
figure { margin: 0; }
.curves figure { background: #fff; border: 1px solid var(--line); border-radius: 8px;
  padding: .6rem .8rem .4rem; max-width: 100%; overflow-x: auto; }
@media (min-width: 1120px) {
  .curves { display: grid; grid-template-columns: repeat(3, auto); grid-auto-flow: dense;
    justify-content: start; align-items: stretch; }
  .curves figure { grid-column: span var(--columns); grid-row: span var(--rows); }
}
img { display: block; max-width: 100%; height: auto; }
.grids { border-spacing: 0; }
.grids th, .grids td { padding: .3rem .3rem; text-align: left; vertical-align: middle; }
.grids thead th { border: 0; color: var(--soft); font-weight: 400; font-size: .85rem; }
.grids tbody tr > * { border: 0; }
.grids td { vertical-align: top; }
.grids tbody th { min-width: 7.5rem; max-width: 11rem; padding-right: .8rem; }
.grids img { min-width: 112px; width: 100%; border-radius: 3px; }
.grids .none { color: var(--soft); font-size: .85rem; text-align: center; }
details { margin: 1rem 0; }
summary { cursor: pointer; font-weight: 600; }
@media (max-width: 640px) {
  main { padding: 1.25rem .9rem 3rem; }
  .verdict { font-size: 1.4rem; }
  .curves img { max-width: none; }
  th, td { padding: .3rem .5rem; }
  .prose, .prose tbody, .prose tr, .prose th, .prose td { display: block; }
  .prose th { padding: .6rem 0 0; white-space: normal; max-width: none; }
  .prose tbody tr > td { border-top: 0; padding: 0 0 .6rem; }
}
@media print {
  :root { --ink: #000; --soft: #444; --paper: #fff; --wash: #fff; --line: #bbb; }
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  h2 { break-after: avoid; margin-top: 1.5rem; }
  figure, tr { break-inside: avoid; }
  .scroll { overflow: visible; }
  .grids img { min-width: 0; }
  .grids thead th { white-space: normal; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""


def render(run: Run, plots: Mapping[str, bytes]) -> str:
    """The whole page.

    Args:
        run: the run, finished or not.
        plots: PNGs by name; "seconds" and "correlation" have their own sections, the others are
            curves.
    """
    title = f"Recursive training on {_source(run)}"
    sections = [
        _head(run, title),
        _section("Summary", _summary_table(run)),
        _section("What the models make", *_grids(run)),
        _section(
            "Curves over the generations",
            '<div class="curves">',
            *(_plot(name, png) for name, png in plots.items() if name not in _PLACED),
            "</div>",
        ),
        *_correlation(run, plots.get("correlation")),
        _section("How to read the metrics", _readings(run)),
        _section("Where the time goes", *_seconds(run, plots.get("seconds"))),
        _section("All metrics", *_all_metrics(run)),
        _section("Configuration", *_configuration(run)),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def _section(heading: str, *parts: str) -> str:
    return "\n".join(["<section>", f"<h2>{escape(heading)}</h2>", *parts, "</section>"])


def _source(run: Run) -> str:
    """The data's own name, without the folders of the machine that it was read on."""
    return Path(str(run.data.get("source", "images"))).name


def _head(run: Run, title: str) -> str:
    said = headline(run.records)
    parts = [
        "<header>",
        f"<h1>{escape(title)}</h1>",
        f'<p class="verdict">{escape(said.verdict)}</p>',
        *(f"<p>{_minus(escape(sentence))}</p>" for sentence in said.sentences),
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
    return _table_by_arm(run, heads, [column.cells for column in columns])


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
        table = _table_by_arm(run, ["<th>arm</th>", "<th>gen.</th>", *titles], cells)
        parts.append(_details(summary, table))
    return parts


def _table_by_arm(run: Run, heads: Sequence[str], columns: Sequence[Sequence[str]]) -> str:
    styles = arm_styles(run.arms)
    parts = ['<div class="scroll"><table>', f"<thead><tr>{''.join(heads)}</tr></thead>"]
    for arm in run.arms:
        rows = [i for i, record in enumerate(run.records) if record["arm"] == arm]
        if rows:
            parts.append("<tbody>")
        for i in rows:
            name = (
                f'<th rowspan="{len(rows)}">{_dot(styles[arm].colour)}{escape(arm)}</th>'
                if i == rows[0]
                else ""
            )
            cells = "".join(f"<td>{_cell(column[i])}</td>" for column in columns)
            parts.append(f"<tr>{name}<td>{run.records[i]['generation']}</td>{cells}</tr>")
        if rows:
            parts.append("</tbody>")
    return "\n".join([*parts, "</table></div>"])


def _dot(colour: str) -> str:
    return f'<span class="dot" style="background:{colour}"></span>'


def _cell(text: str) -> str:
    return "–" if text == MISSING else _minus(escape(text))


def _minus(text: str) -> str:
    """Hyphens before a digit become minus signs, which are as wide as a digit."""
    return "".join(
        "−" if c == "-" and text[i - 1 : i] in ("", " ") and text[i + 1 : i + 2].isdigit() else c
        for i, c in enumerate(text)
    )


def _correlation(run: Run, png: bytes | None) -> list[str]:
    """The section on entropy and novelty; none where the run has too few models."""
    if png is None:
        return []
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
        _section(
            "Entropy and novelty",
            *(f"<p>{_minus(escape(line))}</p>" for line in lines),
            f'<p class="soft">{note}</p>',
            '<div class="curves">',
            _plot("correlation", png),
            "</div>",
        )
    ]


def _plot(name: str, png: bytes) -> str:
    # A PNG's size stands at a fixed place. The page is laid out in columns of one panel's width.
    width, height = struct.unpack(">II", png[16:24])
    columns = round(width / DPI / PANEL_WIDTH)
    rows = max(1, round((height / DPI + FRAME_HEIGHT) / ROW_HEIGHT))
    alt = f"{name.replace('_', ' ')} by generation, for each arm"
    if name == "correlation":
        alt = "entropy of the training set against the generalization score, for each arm"
    return (
        f'<figure style="--columns:{columns};--rows:{rows}">'
        f'<img src="{_data_uri(png)}" width="{width * CSS_DPI // DPI}" '
        f'alt="{escape(alt)}"></figure>'
    )


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _readings(run: Run) -> str:
    rows = {
        series.metric.title: (series.metric.reading, _linked(series.metric.source))
        for series in series_of(run.records)
        if series.metric.reading
    }
    return _prose_table(
        (title, f'{escape(reading)} <span class="soft">Definition: {source}.</span>')
        for title, (reading, source) in rows.items()
    )


def _linked(source: str) -> str:
    """Escape a source, and make its arXiv number a link (followed only when it is clicked)."""
    before, found, rest = source.partition("arXiv:")
    if not found:
        return escape(source)
    number = rest[: next((i for i, c in enumerate(rest) if c not in "0123456789."), len(rest))]
    link = f'<a href="https://arxiv.org/abs/{number}">arXiv:{number}</a>'
    return escape(before) + link + escape(rest[len(number) :])


def _prose_table(rows: Iterable[tuple[str, str]]) -> str:
    """Two columns: a plain name, and HTML."""
    body = "".join(f"<tr><th>{escape(name)}</th><td>{html}</td></tr>\n" for name, html in rows)
    return f'<table class="prose"><tbody>\n{body}</tbody></table>'


def _grids(run: Run) -> list[str]:
    shown = _spread(run.generations, MAX_GRID_COLUMNS)
    note = "Each picture shows a model's first samples, not chosen ones."
    if len(shown) < len(run.generations):
        note += f" {len(shown)} of {len(run.generations)} generations are shown."
    return [
        f'<p class="soft">{note}</p>',
        _grid_table(run, shown, "samples.png", "samples"),
        _details(
            "What each model was trained on",
            _grid_table(run, shown, "training.png", "training images"),
        ),
    ]


def _spread(generations: Sequence[int], n: int) -> list[int]:
    """At most n of the generations, evenly spaced, the first and the last among them."""
    if len(generations) <= n:
        return list(generations)
    return [generations[round(i * (len(generations) - 1) / (n - 1))] for i in range(n)]


def _grid_table(run: Run, generations: Sequence[int], file: str, what: str) -> str:
    """Arms as rows, generations as columns; a generation that the arms share stands in each row."""
    styles = arm_styles(run.arms)
    finished = {(record["arm"], record["generation"]) for record in run.records}
    heads = ["<th></th>"]
    for generation in generations:
        folders = {run.folder.generation_dir(arm, generation) for arm in run.arms}
        shared = " (shared)" if len(folders) == 1 < len(run.arms) else ""
        heads.append(f"<th>generation {generation}{shared}</th>")
    rows = []
    for arm in run.arms:
        cells = [f"<th>{_dot(styles[arm].colour)}{escape(arm)}</th>"]
        for generation in generations:
            path = run.folder.generation_dir(arm, generation) / file
            if (arm, generation) in finished and path.is_file():
                alt = escape(f"{what} of {arm}, generation {generation}")
                cells.append(f'<td><img src="{_data_uri(path.read_bytes())}" alt="{alt}"></td>')
            else:
                missing = "not there" if (arm, generation) in finished else "not yet"
                cells.append(f'<td class="none">{missing}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>\n")
    return (
        '<div class="scroll"><table class="grids">\n'
        f"<thead><tr>{''.join(heads)}</tr></thead>\n"
        f"<tbody>\n{''.join(rows)}</tbody></table></div>"
    )


def _details(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>\n{content}\n</details>"


def _seconds(run: Run, plot: bytes | None) -> list[str]:
    if plot is None:
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
        f'<div class="curves" style="margin-top:1.25rem">{_plot("seconds", plot)}</div>',
    ]


def _configuration(run: Run) -> list[str]:
    return [
        _details(name, _prose_table((key, _value(value)) for key, value in content.items()))
        for name, content in (
            ("Options", run.config),
            ("Data", run.data),
            ("Versions", run.versions),
        )
        if content
    ]


def _value(value: object) -> str:
    return escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
