"""What the generations of a run have in common, and how they read, write and embed."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training.arms import Features
from training.budget import UNLIMITED, Budget
from training.config import Config
from training.device import resolve_device
from training.embed import Extractor, extract, load_extractor
from training.labels import Labels
from training.processes import ALONE, Processes
from training.run import RunFolder

Images = npt.NDArray[np.uint8]


@dataclass
class Experiment:
    """What the generations of a run have in common.

    Attributes:
        images: the data set, uint8 [M, H, W, C], M >= N.
        labels: the class of each image, int64 [M], where the models are told it.
        n_classes: how many classes there are.
        show: show progress bars.
        processes: those that make the run together.
        budget: what the command may spend.
        seconds: of the phases of the generation that is being made.
    """

    config: Config
    run: RunFolder
    images: Images
    extractors: Mapping[str, Extractor]
    labels: Labels | None = None
    n_classes: int = 0
    show: bool = False
    processes: Processes = ALONE
    budget: Budget = UNLIMITED
    seconds: dict[str, float] = field(default_factory=dict)

    def has(self, path: Path) -> bool:
        """Whether a file is there, as the first process sees it."""
        return self.processes.first(path.exists)

    def write(self, path: Path, content: Callable[[], bytes]) -> None:
        """Write a file of the run within the budget, by the first process."""
        self.processes.first(lambda: self.budget.write(path, content()))

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there, by the first process."""
        self.processes.first(lambda: path.unlink(missing_ok=True))

    def check_time(self) -> None:
        """Raise BudgetSpent in every process when the first one's time is over."""
        self.processes.first(self.budget.check_time)

    def embed(self, name: str, images: Images) -> Features:
        """Features of images, float32 [N, D], cached in the run folder."""
        started = time.monotonic()
        features: Features = extract(
            self.extractors[name],
            images,
            cache_dir=self.run.path / "cache",
            processes=self.processes,
            budget=self.budget,
        )
        spent = time.monotonic() - started
        self.seconds["embed"] = self.seconds.get("embed", 0.0) + spent
        return features


def load_extractors(config: Config) -> dict[str, Extractor]:
    """Every extractor that a run needs, loaded up front: a missing weight file is found at once.

    Raises:
        ExtractorError: the weights of one cannot be had.
    """
    weights = dict(config.extractor_weights)
    device = str(resolve_device(config))
    names = dict.fromkeys((config.extractor, *config.metrics_extractors))
    return {name: load_extractor(name, weights=weights.get(name), device=device) for name in names}


def npz(**arrays: Any) -> bytes:
    """The content of an .npz of arrays, for :meth:`Experiment.write`."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def labelled(name: str, labels: Labels | None) -> dict[str, Labels]:
    """Labels as an array of :func:`npz`; no array where there are none."""
    return {} if labels is None else {name: labels}
