"""Who else does exact farthest-point selection on the processor, each as picks = select(x, m)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench import loops
from bench.data import Features
from bench.loops import Picks


@dataclass(frozen=True)
class Peer:
    """One way to select; `prefix` is how many picks are timed where a whole run takes too long."""

    name: str
    what: str
    module: str  # that it needs
    prefix: int
    select: Callable[[Features, int], Picks]

    def missing(self) -> str | None:
        """Why the peer is skipped, or None."""
        return missing(self.module)


def missing(module: str) -> str | None:
    """Why what needs that module is skipped, or None."""
    return f"{module} is not installed" if importlib.util.find_spec(module) is None else None


def fpsample_select(features: Features, m: int) -> Picks:
    """The plain loop of fpsample; its k-d tree variants refuse features this wide."""
    import fpsample

    return np.asarray(fpsample.fps_sampling(features, m, start_idx=0), np.int64)


def fpsample_tree_refusal(features: Features) -> str | None:
    """What fpsample's k-d tree says to these features; None if it takes them."""
    import fpsample

    try:
        fpsample.bucket_fps_kdline_sampling(features[:1024], 2, h=3, start_idx=0)
    except RuntimeError as error:
        return str(error)
    return None


def skmatter_select(features: Features, m: int) -> Picks:
    """FPS of scikit-matter, over samples."""
    from skmatter.sample_selection import FPS

    selector = FPS(initialize=0, n_to_select=m)
    selector.fit(features)
    return np.asarray(selector.selected_idx_, np.int64)


def mundig_select(features: Features, m: int) -> Picks:
    """The diversifying strategy of lightly-mundig, alone."""
    from lightly_mundig import Selection

    selection = Selection()
    selection.add_diversifying_strategy(features, 1.0)
    return np.asarray(selection.run_selection([0], len(features), m), np.int64)


RELEASED_LOOP = "released loop"
BEST_LOOPS = (
    "best plain loop, NumPy",
    "best plain loop, NumPy by columns",
    "best plain loop, torch",
)

PEERS = (
    Peer(
        RELEASED_LOOP,
        "torch.cdist of all points with the newest centre, minimum, argmax",
        "torch",
        100,
        loops.released_loop,
    ),
    Peer(
        BEST_LOOPS[0],
        "cached norms, one matrix-vector product a pick, in place",
        "numpy",
        300,
        loops.best_loop_numpy,
    ),
    Peer(
        BEST_LOOPS[1],
        "the same over a second copy of the features, column by column",
        "numpy",
        300,
        loops.best_loop_columns,
    ),
    Peer(BEST_LOOPS[2], "the first in torch", "torch", 300, loops.best_loop_torch),
    Peer("fpsample", "fps_sampling, one thread", "fpsample", 100, fpsample_select),
    Peer("scikit-matter", "sample_selection.FPS", "skmatter", 100, skmatter_select),
    Peer(
        "lightly-mundig",
        "Selection with a diversifying strategy",
        "lightly_mundig",
        300,
        mundig_select,
    ),
)
