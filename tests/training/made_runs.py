"""Run folders with made-up metrics, and what a browser would make of their reports."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.grids import grid_png
from training.report import write_report
from training.run import RunFolder

ARMS = ("none", "greedy", "threshold")
MakeRun = Callable[..., Path]
VOID = {"meta", "img", "br", "link", "input", "hr"}
SLOPES = {"none": 1.0, "greedy": 0.55, "threshold": 0.5}


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


def png_size(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        assert image.format == "PNG"
        return image.size
