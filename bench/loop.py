"""A generation of the training loop beside the structure of the released script, phase by phase.

    python -m bench.loop
    python -m bench.loop --quick --out /tmp/trial
    python -m bench.loop --render     # the page again, from the JSON record

Writes docs/loop.md, its JSON record and its plot. Leave the machine alone meanwhile; it takes about
a minute.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from bench import command, machine, timing
from bench.loop_page import page, plot

ROUNDS = 3
_CLASSES = 10


@dataclass(frozen=True)
class Case:
    """One size of images, model and training."""

    name: str
    side: int
    channels: int
    widths: tuple[int, ...]
    batch: int
    steps: int
    n: int
    sampling_steps: int


CASES = (
    Case("digits", 8, 1, (16, 32), 16, 60, 256, 10),
    Case("colour", 32, 3, (16, 32), 16, 8, 32, 5),
)
QUICK = (Case("trial", 8, 1, (8, 8), 4, 3, 8, 2),)


def main(arguments: list[str]) -> None:
    """The command."""
    command.run("bench.loop", __doc__, arguments, measure, plot, page, features=False)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as plain numbers."""
    log = command.stopwatch()
    rounds, cases = (1, QUICK) if options.quick else (ROUNDS, CASES)
    record: dict[str, Any] = {
        "trial": options.quick,
        "rounds": rounds,
        "machine": machine.describe(),
        "cases": [measure_case(case, rounds, log) for case in cases],
        "classes": measure_classes(cases[0], rounds, log),
    }
    versions = record["machine"]["versions"]
    versions |= {name: importlib.metadata.version(name) for name in ("diffusers", "torchvision")}
    record["machine"]["load_average_after"] = round(os.getloadavg()[0], 2)
    log("done")
    return record


def measure_case(case: Case, rounds: int, log: command.Log) -> dict[str, Any]:
    """Seconds of every phase, ours and theirs in turn, on equal images, network and threads."""
    import numpy as np
    import torch
    from PIL import Image

    from bench import released_loop
    from training.device import training_threads

    log(case.name)
    config = _config(case)
    shape = (case.n, case.side, case.side, case.channels)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with tempfile.TemporaryDirectory() as scratch, training_threads(config, case.side):
        root = Path(scratch)
        for i, image in enumerate(images):
            Image.fromarray(image.squeeze()).save(root / f"{i:05}.png")
        np.savez(root / "images.npz", images=images)
        theirs = released_loop.read(root, case.channels)
        expected = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
        if not torch.allclose(theirs, expected, atol=1e-6):
            raise SystemExit("the images differ: not measured")
        calls = {
            "read ours": lambda: np.load(root / "images.npz")["images"],
            "read released": partial(released_loop.read, root, case.channels),
            "train ours": partial(_train, config, images, root),
            "train released": partial(released_loop.train, config, root, case.channels),
            "sample ours": partial(_sample, config, shape, root / "ours.npz"),
            "sample released": partial(released_loop.sample, config, images, root / "theirs"),
        }
        for call in calls.values():
            call()  # what torch sets up once
        seconds = timing.interleaved(calls, rounds)
        stored = np.load(root / "ours.npz")["images"]
        if stored.shape != shape or len(list((root / "theirs").iterdir())) != case.n:
            raise SystemExit("not all images were sampled: not measured")
        return {
            **case.__dict__,
            "threads": torch.get_num_threads(),
            "released_batch": released_loop.SAMPLING_BATCH,
            "seconds": {name: statistics.median(times) for name, times in seconds.items()},
        }


def measure_classes(case: Case, rounds: int, log: command.Log) -> dict[str, float]:
    """Seconds of sampling without classes, with them, and under guidance, in turn."""
    from training.device import training_threads

    log("classes")
    plain = _config(case)
    told = replace(plain, condition="class")
    configs = {"no classes": plain, "classes": told, "guidance 2": replace(told, guidance=2.0)}
    with tempfile.TemporaryDirectory() as scratch, training_threads(plain, case.side):
        path = Path(scratch) / "samples.npz"
        shape = (case.n, case.side, case.side, case.channels)
        calls = {name: partial(_sample, one, shape, path) for name, one in configs.items()}
        for call in calls.values():
            call()  # what torch sets up once
        seconds = timing.interleaved(calls, rounds)
    return {name: statistics.median(times) for name, times in seconds.items()}


def _config(case: Case) -> Any:
    from training.config import Config

    return Config(
        n=case.n,
        widths=case.widths,
        steps=case.steps,
        batch_size=case.batch,
        sampling_steps=case.sampling_steps,
        checkpoint_every=case.steps,
        device="cpu",
        threads=1,  # two that share a core with another program wait for each other
    )


def _train(config: Any, images: Any, root: Path) -> None:
    from training.train import train

    train(config, images, generation=1, checkpoint=root / "checkpoint")


def _sample(config: Any, shape: tuple[int, ...], path: Path) -> None:
    import numpy as np

    from training.model import build_unet
    from training.sample import sample

    n, side, _, channels = shape
    told = config.condition == "class"
    model = build_unet(config, side, channels, _CLASSES if told else 0, seed=0)
    labels = np.arange(n) % _CLASSES if told else None
    batches = sample(config, model, labels, generation=1, first=0, count=n)
    np.savez(path, images=np.concatenate(list(batches)))


if __name__ == "__main__":
    main(sys.argv[1:])
