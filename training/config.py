"""The options of the training command: one frozen dataclass.

Every option is a field of :class:`Config` that carries its help text and its check, so that the
command line (:mod:`training.parser`), the presets, ``config.json`` and Python callers share one
definition. Nothing here imports torch: ``--help`` and a mistyped option answer at once.
"""

from __future__ import annotations

import dataclasses
import json
import math
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from training.arms import ARMS
from training.options import (
    ConfigError,
    Kind,
    between,
    list_of,
    one_of,
    optional,
    string,
    whole,
)

__all__ = ["EXTRACTORS", "Config", "ConfigError", "flag", "seed_runs", "shown"]

EXTRACTORS = ("pixel", "efficientnet_lite0", "clip", "dinov2", "inception", "vgg16")


def _parse_weights(text: str) -> tuple[tuple[str, str], ...]:
    pairs = [part.partition("=") for part in text.split(",")]
    return tuple((name, path) for name, _, path in pairs)


_WEIGHTS = Kind(
    "NAME=PATH,... with NAME one of " + ", ".join(EXTRACTORS[1:]),
    _parse_weights,
    lambda v: isinstance(v, tuple) and all(name in EXTRACTORS[1:] and path for name, path in v),
)
_EXTRACTOR = one_of(*EXTRACTORS)
_WIDTHS = list_of(
    Kind("a positive multiple of 8", int, lambda v: isinstance(v, int) and v > 0 and v % 8 == 0)
)


def _option(
    default: Any, kind: Kind | None, group: str, text: str, *, affects_results: bool = True
) -> Any:
    """A field with what the parser and the checks need; ``kind`` None makes it a flag."""
    metadata = {"kind": kind, "group": group, "help": text, "affects_results": affects_results}
    return field(default=default, metadata=metadata)


def shown(value: Any) -> str:
    """A value as it would be written on the command line."""
    if not isinstance(value, tuple):
        return str(value)
    pairs = all(isinstance(part, tuple) for part in value)
    return ",".join("=".join(part) if pairs else str(part) for part in value) or "none"


@dataclass(frozen=True)
class Config:
    """Everything that decides a run, checked on construction.

    The defaults are the ``digits`` preset. Two runs with equal results-affecting options
    (:meth:`identity`) make the same numbers on the same machine.

    Raises:
        ConfigError: for a value outside its option's range.
    """

    data: str = _option(
        "digits",
        string("digits, a folder, a .zip, an .npz, an idx file or a Hugging Face data set name"),
        "data",
        "images to train on: digits (built in), a folder or .zip of images, an .npz, an idx file"
        " (as of MNIST, gzipped or not), or the name of a Hugging Face data set",
    )
    limit: int | None = _option(
        None,
        optional("all", whole(2)),
        "data",
        "use only this many images, drawn with --seed",
    )
    resolution: int | None = _option(
        None,
        optional("auto", whole(4)),
        "data",
        "resize and crop to this side; auto: the data's own",
    )
    channels: int | None = _option(
        None,
        optional("auto", one_of(1, 3)),
        "data",
        "1 (grey) or 3 (colour); auto: 1 where every image is grey",
    )

    n: int = _option(256, whole(2), "experiment", "images in the training set of a generation, N")
    generations: int = _option(4, whole(1), "experiment", "models trained one after another")
    arms: tuple[str, ...] = _option(
        ("none", "greedy", "threshold"),
        list_of(one_of(*ARMS), distinct=True),
        "experiment",
        "ways to choose the next training set, run side by side from one shared first generation",
    )
    paradigm: str = _option(
        "replace",
        one_of("replace", "accumulate", "accumulate-subsample", "fresh"),
        "experiment",
        "replace: candidates are the previous model's images; accumulate: the N real images and"
        " the images of every model so far; accumulate-subsample: as many of those, drawn evenly,"
        " as replace has; fresh: replace, with --fresh-fraction of each training set real images"
        " that were never used",
    )
    pool_factor: int = _option(
        2,
        whole(1),
        "experiment",
        "images made per training image for an arm to select from",
    )
    fresh_fraction: float = _option(
        0.1,
        between(0, 1),
        "experiment",
        "share of unseen real images in the training sets of the paradigm fresh and the arm fresh",
    )
    seed: int = _option(0, whole(0), "experiment", "source of all randomness")

    extractor: str = _option("pixel", _EXTRACTOR, "selection", "features that selection works on")
    extractor_weights: tuple[tuple[str, str], ...] = _option(
        (), _WEIGHTS, "selection", "local weight files or folders of extractors"
    )
    select_within: str = _option(
        "all",
        one_of("all", "class"),
        "selection",
        "all: an arm picks from the whole pool; class: from each class of the pool by itself, as"
        " many as is the share of the class in the pool (with --condition class)",
    )
    threshold: float | None = _option(
        None,
        optional("auto", between(0, math.inf)),
        "selection",
        "first distance threshold of the threshold arm; auto: the median distance between"
        " members of the pool, measured anew in every generation",
    )
    decay: float = _option(
        0.95,
        between(0, 1),
        "selection",
        "factor by which the threshold arm's threshold decays",
    )
    decay_when: str = _option(
        "stalled",
        one_of("stalled", "sweep"),
        "selection",
        "decay after a sweep that accepted nothing (the paper) or after every sweep (its code); the"
        " picks are the same, see fastsel.threshold_decay_select",
    )
    dedup_radius: float | None = _option(
        None,
        optional("auto", between(0, math.inf)),
        "selection",
        "distance up to which the dedup arm takes two images for duplicates; auto: half the median"
        " distance of a pool member to its nearest other, measured anew in every generation",
    )
    metrics_extractors: tuple[str, ...] = _option(
        ("pixel", "efficientnet_lite0"),
        list_of(_EXTRACTOR, distinct=True),
        "selection",
        "features that the metrics are measured in",
    )
    metrics_real: int = _option(
        512,
        whole(2),
        "selection",
        "real images, at most, that samples are compared with, drawn with --seed",
    )

    widths: tuple[int, ...] | None = _option(
        (16, 32),
        optional("none", _WIDTHS),
        "model",
        "channels of each level of a UNet with one layer per level and no attention",
    )
    unet: int | None = _option(
        None,
        optional("none", one_of(32, 48, 64, 128)),
        "model",
        "the paper's six-level UNet of this width, in place of --widths",
    )
    condition: str = _option(
        "none",
        one_of("none", "class"),
        "model",
        "what the models are told of an image: nothing, or its class",
    )
    label_dropout: float = _option(
        0.1,
        between(0, 1, from_low=True),
        "model",
        "share of the images of a training step whose class is hidden, which is what guidance needs"
        " (with --condition class)",
    )
    steps: int = _option(1100, whole(1), "model", "training steps of a generation")
    batch_size: int = _option(16, whole(1), "model", "images in a training step")
    lr: float = _option(
        4e-3,
        between(0, math.inf),
        "model",
        "peak learning rate; warm-up over 500 steps, or a tenth of --steps where that is less,"
        " then cosine decay to zero",
    )
    ema: float | None = _option(
        None,
        optional("none", between(0, 1)),
        "model",
        "decay of the weights' running average",
    )
    mixed_precision: str = _option(
        "auto",
        one_of("auto", "no", "fp16", "bf16"),
        "model",
        "auto: bf16 or else fp16 on a CUDA device, no on a CPU",
    )
    compile: str = _option(
        "auto",
        one_of("auto", "yes", "no"),
        "model",
        "train and sample with torch.compile: yes, no; auto: no on a CPU, yes on a CUDA device for"
        " 10,000 steps or more, if the compiler works",
    )

    sampler: str = _option("ddpm", one_of("ddpm", "ddim"), "sampling", "how images are sampled")
    sampling_steps: int = _option(
        50,
        whole(1, 1000),
        "sampling",
        "denoising steps per image",
    )
    guidance: float = _option(
        1.0,
        between(0, math.inf, from_low=True),
        "sampling",
        "scale of classifier-free guidance: 1 is none, 0 ignores the class, more than 1 makes"
        " samples more typical of their class (with --condition class)",
    )
    sampling_batch_size: int | None = _option(
        None,
        optional("auto", whole(1)),
        "sampling",
        "images sampled at once, at most; auto: 256 on a CPU; on a CUDA device what fits, halved"
        " from 2,048 where memory runs out",
    )

    out: str | None = _option(
        None,
        optional("auto", string("a folder")),
        "run",
        "run folder; auto: a folder under runs/ named after the options, so that the same command"
        " finds its run again",
        affects_results=False,
    )
    device: str = _option(
        "auto",
        string("auto, cpu, cuda or cuda:N"),
        "run",
        "where to train; auto: cuda where there is one, else cpu",
    )
    threads: int | None = _option(
        None,
        optional("auto", whole(1)),
        "run",
        "CPU threads to train and sample with; auto: 1 for images of at most 16x16, else all cores",
        affects_results=False,
    )
    seeds: tuple[int, ...] | None = _option(
        None,
        optional("none", list_of(whole(0), distinct=True)),
        "run",
        "in place of --seed: a run for each of these, in folders of --out, and their comparison",
        affects_results=False,
    )
    max_hours: float | None = _option(
        None,
        optional("none", between(0, math.inf)),
        "run",
        "stop after this many hours of this command, between two steps; the same command goes on",
        affects_results=False,
    )
    max_disk: float | None = _option(
        None,
        optional("none", between(0, math.inf)),
        "run",
        "stop before a file that would take the run folder beyond this many GB (10^9 bytes)",
        affects_results=False,
    )
    track: str | None = _option(
        None,
        optional("none", one_of("tensorboard", "wandb")),
        "run",
        "also send the metrics to TensorBoard (files in the run folder) or Weights & Biases",
        affects_results=False,
    )
    checkpoint_every: int = _option(
        100,
        whole(1),
        "run",
        "training steps between checkpoints: the most that a kill can lose",
        affects_results=False,
    )
    dry_run: bool = _option(
        False, None, "run", "print what would be done, and do nothing", affects_results=False
    )
    quiet: bool = _option(False, None, "run", "print the closing table only", affects_results=False)

    def __post_init__(self) -> None:
        for option in dataclasses.fields(self):
            kind: Kind | None = option.metadata["kind"]
            value = getattr(self, option.name)
            if kind is not None and not kind.valid(value):
                raise ConfigError(
                    f"{flag(option.name)} must be {kind.expected}, got {shown(value)!r}"
                )
        if (self.widths is None) == (self.unet is None):
            raise ConfigError(
                "exactly one of --widths and --unet must be given,"
                f" got --widths {shown(self.widths)} and --unet {self.unet}"
            )

        if self.guidance != 1 and (self.condition == "none" or self.label_dropout == 0):
            raise ConfigError(
                f"--guidance {self.guidance:g} needs --condition class and a --label-dropout above"
                f" 0, got --condition {self.condition} and --label-dropout {self.label_dropout:g}"
            )
        if self.select_within == "class" and self.condition == "none":
            raise ConfigError(
                "--select-within class needs images with a class: --condition must be class,"
                " got none"
            )
        if "real-fraction" in self.arms:
            if "greedy" not in self.arms[: self.arms.index("real-fraction")]:
                raise ConfigError(
                    "--arms must have greedy before real-fraction, which takes its share of real"
                    f" images, got {shown(self.arms)!r}"
                )
            if not self.paradigm.startswith("accumulate"):
                raise ConfigError(
                    "the arm real-fraction needs real images to choose from: --paradigm must be"
                    f" accumulate or accumulate-subsample, got {self.paradigm!r}"
                )

    @property
    def guided(self) -> bool:
        """Whether samples need the network's prediction both for their class and for none."""
        return self.condition == "class" and self.guidance != 1

    def identity(self) -> dict[str, Any]:
        """The options that decide the results, as plain JSON values."""
        kept = [f.name for f in dataclasses.fields(self) if f.metadata["affects_results"]]
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return {name: values[name] for name in kept}

    def derive_seed(self, purpose: str, *path: int) -> int:
        """A 63-bit seed for one draw, a pure function of the run's seed, purpose and position.

        No generator lives longer than one draw, so an interrupted run needs no random state to go
        on exactly where it stopped, and arms see the same noise.
        """
        # The length, because SeedSequence does not tell trailing zeros from nothing.
        entropy = [self.seed, zlib.crc32(purpose.encode()), len(path), *path]
        return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))


def flag(name: str) -> str:
    """The command-line spelling of a field of Config."""
    return "--" + name.replace("_", "-")


def seed_runs(config: Config) -> list[Config]:
    """The runs of ``--seeds``, each in its folder of ``--out``."""
    return [
        dataclasses.replace(config, seed=seed, seeds=None, out=f"{config.out}/seed-{seed}")
        for seed in config.seeds or ()
    ]
