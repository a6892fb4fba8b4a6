"""The parts that a page of the report is put together from: sections, tables, pictures."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Sequence
from html import escape

from training.plots import CSS_DPI, DPI, FRAME_HEIGHT, PANEL_WIDTH, ROW_HEIGHT, arm_styles
from training.summary import MISSING, Run


def section(heading: str, *parts: str) -> str:
    """A section of the page; the parts are HTML."""
    return "\n".join(["<section>", f"<h2>{escape(heading)}</h2>", *parts, "</section>"])


def details(summary: str, content: str) -> str:
    """HTML that shows when its summary is clicked."""
    return f"<details><summary>{escape(summary)}</summary>\n{content}\n</details>"


def table_by_arm(run: Run, heads: Sequence[str], columns: Sequence[Sequence[str]]) -> str:
    """A row for each record, arm by arm; heads are HTML, columns the texts of their cells."""
    styles = arm_styles(run.arms)
    parts = ['<div class="scroll"><table>', f"<thead><tr>{''.join(heads)}</tr></thead>"]
    for arm in run.arms:
        rows = [i for i, record in enumerate(run.records) if record["arm"] == arm]
        if rows:
            parts.append("<tbody>")
        for i in rows:
            name = (
                f'<th rowspan="{len(rows)}">{dot(styles[arm].colour)}{escape(arm)}</th>'
                if i == rows[0]
                else ""
            )
            cells = "".join(f"<td>{cell(column[i])}</td>" for column in columns)
            parts.append(f"<tr>{name}<td>{run.records[i]['generation']}</td>{cells}</tr>")
        if rows:
            parts.append("</tbody>")
    return "\n".join([*parts, "</table></div>"])


def prose_table(rows: Iterable[tuple[str, str]]) -> str:
    """Two columns: a plain name, and HTML."""
    body = "".join(f"<tr><th>{escape(name)}</th><td>{html}</td></tr>\n" for name, html in rows)
    return f'<table class="prose"><tbody>\n{body}</tbody></table>'


def grid_table(run: Run, generations: Sequence[int], file: str, what: str) -> str:
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
        cells = [f"<th>{dot(styles[arm].colour)}{escape(arm)}</th>"]
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


def plot_figure(png: bytes, alt: str) -> str:
    """A plot in its frame, as many columns and rows of the page wide and high as its panels."""
    # A PNG's size stands at a fixed place. The page is laid out in columns of one panel's width.
    width, height = struct.unpack(">II", png[16:24])
    columns = round(width / DPI / PANEL_WIDTH)
    rows = max(1, round((height / DPI + FRAME_HEIGHT) / ROW_HEIGHT))
    return (
        f'<figure style="--columns:{columns};--rows:{rows}">'
        f'<img src="{_data_uri(png)}" width="{width * CSS_DPI // DPI}" '
        f'alt="{escape(alt)}"></figure>'
    )


def by_generation(name: str) -> str:
    """What a plot of the name shows, in words."""
    return f"{name.replace('_', ' ')} by generation, for each arm"


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def dot(colour: str) -> str:
    """The mark of an arm, in its colour."""
    return f'<span class="dot" style="background:{colour}"></span>'


def cell(text: str) -> str:
    """A figure as it stands in a table."""
    return "–" if text == MISSING else minus(escape(text))


def minus(text: str) -> str:
    """Hyphens before a digit become minus signs, which are as wide as a digit."""
    return "".join(
        "−" if c == "-" and text[i - 1 : i] in ("", " ") and text[i + 1 : i + 2].isdigit() else c
        for i, c in enumerate(text)
    )


def linked(source: str) -> str:
    """Escape a source, and make its arXiv number a link (followed only when it is clicked)."""
    before, found, rest = source.partition("arXiv:")
    if not found:
        return escape(source)
    number = rest[: next((i for i, c in enumerate(rest) if c not in "0123456789."), len(rest))]
    link = f'<a href="https://arxiv.org/abs/{number}">arXiv:{number}</a>'
    return escape(before) + link + escape(rest[len(number) :])
