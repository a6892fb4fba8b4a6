"""The collapse of a run in one picture: curves on the left, samples on the right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.glossary import Record, Series, primary_series
from training.plots import (
    INK,
    STYLE,
    ArmStyle,
    arm_styles,
    curve,
    draw_curves,
    name_axes,
    plain,
    shortened,
    to_png,
)
from training.run import write_atomic
from training.summary import ReportError, Run, load_run


def collapse_figure(run: Path, out: Path) -> None:
    """Draw a run's collapse in one PNG of 1600 x 700 pixels.

    Left, the entropy of the samples over the generations; right, the first samples (not chosen
    ones) of the shared first generation and of the last generation of every arm.

    Raises:
        ReportError: the folder is no run, or lacks the samples or the entropies to draw.
    """
    loaded = load_run(run)
    series = primary_series(loaded.records).get("entropy_samples")
    if series is None:
        raise ReportError(f"{run} has no entropy of samples in metrics.jsonl")
    last = {r["arm"]: r["generation"] for r in loaded.records}
    arms = list(last)
    if max(last.values()) == 1:
        raise ReportError(f"{run} has one generation; the figure sets the last against the first")
    shared = _samples(loaded, arms[0], 1)
    strips = [Strip("Generation 1, the same for all arms", None, shared)]
    for arm in (arm for arm in arms if last[arm] > 1):
        name = "no selection" if arm == "none" else f"{arm} selection"
        caption = f"Generation {last[arm]}, {name}"
        strips.append(Strip(caption, arm, _samples(loaded, arm, last[arm])))
    source = Path(str(loaded.data.get("source", "images"))).name
    png = collapse_png(
        loaded.records,
        arms,
        series,
        strips,
        title=f"Diffusion models, each trained on images made by the one before ({source})",
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, png)


def _samples(run: Run, arm: str, generation: int) -> npt.NDArray[np.uint8]:
    path = run.folder.generation_dir(arm, generation) / "samples.npz"
    if not path.is_file():
        raise ReportError(f"{path} is missing: the figure shows the samples that it holds")
    with np.load(path, allow_pickle=False) as arrays:
        images: npt.NDArray[np.uint8] = arrays["images"]
    return images


class Strip(NamedTuple):
    """One block of the collapse picture: a caption, its arm (None: all arms) and its images."""

    caption: str
    arm: str | None
    images: npt.NDArray[np.uint8]  # [N, H, W, C]


def collapse_png(
    records: Sequence[Record],
    arms: Sequence[str],
    series: Series,
    strips: Sequence[Strip],
    *,
    title: str,
) -> bytes:
    """The collapse in one picture of 1600 x 700 pixels: curves on the left, samples on the right.

    Args:
        records: lines of metrics.jsonl.
        arms: the arms to draw.
        series: the metric of the curves.
        strips: blocks of samples, one under the other; two rows of the first images of each.
        title: the line above the picture.
    """
    styles = arm_styles(arms)
    page_width, page_height = 10.0, 4.375
    with matplotlib.rc_context({**STYLE, "font.size": 10.5, "axes.titlesize": 11.5}):
        figure = Figure(figsize=(page_width, page_height), dpi=160, facecolor="white")
        FigureCanvasAgg(figure)
        figure.text(0.018, 0.955, plain(title), size=13, weight="bold", va="center")

        axes = figure.add_axes((0.085, 0.115, 0.30, 0.70))
        draw_curves(axes, records, styles, series.key)
        name_axes(axes, series)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        # Fixed, because beside long tick labels the name of the axis would leave the picture.
        axes.yaxis.set_label_coords(0.022, 0.465, transform=figure.transFigure)
        _end_labels(axes, records, styles, series.key)

        left, width, top, bottom = 0.50, 0.485, 0.895, 0.025
        slot = (top - bottom) / len(strips)
        caption_height, gap = 0.048, 0.012
        height = slot - caption_height - gap
        for i, strip in enumerate(strips):
            slot_top = top - i * slot
            figure.text(
                left,
                slot_top - caption_height / 2,
                plain(shortened(strip.caption, 50)),
                color=INK if strip.arm is None else styles[strip.arm].colour,
                weight="bold",
                size=10,
                va="center",
            )
            _, image_height, image_width, _ = strip.images.shape
            rows = 2
            picture_width = height * page_height / rows * image_width / image_height
            columns = max(1, round(width * page_width / picture_width))
            block = figure.add_axes((left, slot_top - caption_height - height, width, height))
            block.imshow(
                _sheet(strip.images, rows, columns),
                cmap="gray",
                vmin=0,
                vmax=255,
                interpolation="nearest",
            )
            block.set_anchor("NW")
            block.set_axis_off()
        return to_png(figure, dpi=160)


def _sheet(images: npt.NDArray[np.uint8], rows: int, columns: int) -> npt.NDArray[np.uint8]:
    """The first rows * columns of uint8 [N, H, W, C] on one white sheet, close together."""
    n, height, width, channels = images.shape
    zoom = -(-32 // min(height, width))
    height, width = height * zoom, width * zoom
    gap = max(1, min(height, width) // 16)
    sheet = np.full(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8
    )
    for i in range(min(n, rows * columns)):
        y, x = (i // columns) * (height + gap), (i % columns) * (width + gap)
        tile = images[i].repeat(zoom, axis=0).repeat(zoom, axis=1)
        sheet[y : y + height, x : x + width] = tile
    return sheet[:, :, 0] if channels == 1 else sheet


def _end_labels(
    axes: Any, records: Sequence[Record], styles: Mapping[str, ArmStyle], key: str
) -> None:
    """Name each curve at its last point, and push names apart that would overlap."""
    ends = []
    for arm, style in styles.items():
        points = zip(*curve(records, arm, key), strict=True)
        finite = [point for point in points if math.isfinite(point[1])]
        if finite:
            generation, value = finite[-1]
            ends.append((value, generation, arm, style))
    ends.sort(key=lambda end: end[0])
    low, high = axes.get_ylim()
    line_height = 0.062 * (high - low)
    lowest_free = -math.inf
    for value, generation, arm, style in ends:
        y = max(value, lowest_free)
        lowest_free = y + line_height
        axes.annotate(
            plain("no selection" if arm == "none" else shortened(arm, 14)),
            (generation, y),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            color=style.colour,
            weight="bold",
            annotation_clip=False,
        )
