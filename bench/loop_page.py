"""docs/loop.md, from the record of a measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.page import machine_section, table

PHASES = {"read": "read the images", "train": "train", "sample": "sample and store"}


def ratio(case: dict[str, Any], phase: str) -> float:
    """The released structure's time over ours."""
    seconds = case["seconds"]
    return float(seconds[f"{phase} released"] / seconds[f"{phase} ours"])


def plot(record: dict[str, Any], path: Path) -> None:
    """A bar for every phase and case."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 2.6), layout="constrained")
    names = [f"{case['name']}: {words}" for case in record["cases"] for words in PHASES.values()]
    values = [ratio(case, phase) for case in record["cases"] for phase in PHASES]
    bars = axes.barh(names[::-1], values[::-1], color="#4361a8")
    axes.bar_label(bars, fmt="%.3g", padding=3)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_xlabel("time of the released structure over ours")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def page(record: dict[str, Any], json_name: str, plot_name: str) -> str:
    """The whole page, as Markdown."""
    trial = "\n\n**A trial of the command with tiny sizes: its figures mean nothing.**"
    parts = [
        f"""# Speed of the training loop{trial if record["trial"] else ""}

Made by `python -m bench.loop`; all figures of this page are from one run, and are in
[{json_name}]({json_name}). Medians of {record["rounds"]} rounds, in which both take turns.

The released script has the structure of diffusers' unconditional example: images in a folder of
PNGs that are decoded again for every batch, AdamW as it comes, the loss fetched after every step,
and a pipeline that samples {record["cases"][0]["released_batch"]} images at a time, stored as a
PNG each. Ours keeps the images on the device, has a fused optimizer, fetches nothing in a step,
has the channels of a pixel side by side for images larger than 16x16, samples in the batch of
`--sampling-batch-size`, and stores one file. Network, steps, number of images and threads are
equal; the images are noise, since none of this depends on them.

![Ratio by phase]({plot_name})""",
        *(_case(case) for case in record["cases"]),
        _classes(record["classes"], record["cases"][0]),
        """## What this does not show

On a CPU the time of a step is that of the convolutions, which are the same code for both. On a GPU
a step is shorter, and what is around it weighs more; that was not measured here.""",
        machine_section(record["machine"]),
    ]
    return "\n\n".join(parts) + "\n"


def _case(case: dict[str, Any]) -> str:
    seconds = case["seconds"]
    rows = [
        [
            words,
            f"{seconds[f'{phase} ours']:.3g} s",
            f"{seconds[f'{phase} released']:.3g} s",
            f"{ratio(case, phase):.3g}",
        ]
        for phase, words in PHASES.items()
    ]
    size = f"{case['side']}x{case['side']}x{case['channels']}"
    widths = ",".join(map(str, case["widths"]))
    threads = f"{case['threads']} thread{'s' if case['threads'] > 1 else ''}"
    return f"""## {case["name"].capitalize()}

{case["n"]} images of {size}, widths {widths}, {case["steps"]} steps of {case["batch"]},
{case["sampling_steps"]} sampling steps, {threads}.

{table(["phase", "ours", "released structure", "ratio"], rows)}"""


def _classes(seconds: dict[str, float], case: dict[str, Any]) -> str:
    plain = seconds["no classes"]
    rows = [[name, f"{each:.3g} s", f"{each / plain:.3g}"] for name, each in seconds.items()]
    return f"""## Classes and guidance

Sampling by ours as in the first case, {case["n"]} images. At guidance 1 the network sees each image
once a step, as without classes; at any other it sees it twice.

{table(["models", "time", "over no classes"], rows)}"""
