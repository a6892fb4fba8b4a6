"""The presets: sets of options by name, the paper's among them, and where its code differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.options import ConfigError

_PAPER: Mapping[str, Any] = {
    "resolution": 32,
    "generations": 8,
    "metrics_real": 10_000,
    "extractor": "dinov2",
    "metrics_extractors": ("dinov2", "inception"),
    # The paper states no threshold; this one is of its code, as all of _AS_RELEASED.
    "threshold": 60.0,
    "widths": None,
    "unet": 48,
    "steps": 128_256,  # 501 epochs of 32,768 images in batches of 128, kept over N
    "batch_size": 128,
    "lr": 1e-4,
    "mixed_precision": "fp16",
    "sampler": "ddpm",
    "sampling_steps": 1000,
    "checkpoint_every": 1000,
}
_MNIST: Mapping[str, Any] = {**_PAPER, "data": "ylecun/mnist:train", "channels": 1, "n": 12_000}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "digits": {},
    "smoke": {
        "limit": 256,
        "n": 48,
        "generations": 2,
        "metrics_real": 64,
        "widths": (16, 16),
        "steps": 30,
        "batch_size": 16,
        "ema": 0.9,
        "sampling_steps": 5,
        "sampling_batch_size": 48,
        "checkpoint_every": 10,
    },
    "paper-cifar10": {**_PAPER, "data": "uoft-cs/cifar10:train", "channels": 3, "n": 32_768},
    "paper-ffhq": {**_PAPER, "data": "", "channels": 3, "n": 8_192},
    "paper-mnist": _MNIST,
    # Label dropout is not stated; a tenth is that of the source of guidance, arXiv:2207.12598.
    "paper-mnist-cfg": {
        **_MNIST,
        "paradigm": "accumulate",
        "condition": "class",
        "label_dropout": 0.1,
        "guidance": 2.0,
    },
}

#: Where the released code differs from the paper, by paradigm.
_AS_RELEASED: Mapping[str, Mapping[str, Any]] = {
    "replace": {"decay_when": "sweep", "decay": 0.95},
    "accumulate": {"decay_when": "sweep", "decay": 0.8},
}
_RELEASED_THRESHOLDS = {"dinov2": 60.0, "pixel": 2000.0}


def released(preset: str, paradigm: str, extractor: str) -> dict[str, Any]:
    """The values of the released code that differ from the paper's.

    Raises:
        ConfigError: nothing was released for these.
    """
    if not preset.startswith("paper-"):
        raise ConfigError(f"--as-released needs a preset of the paper, got --preset {preset}")
    if paradigm not in _AS_RELEASED:
        raise ConfigError(
            f"--as-released: the released code has the paradigms {', '.join(_AS_RELEASED)},"
            f" got --paradigm {paradigm}"
        )
    if extractor not in _RELEASED_THRESHOLDS:
        raise ConfigError(
            f"--as-released: the released code selects by {' or '.join(_RELEASED_THRESHOLDS)},"
            f" got --extractor {extractor}"
        )
    return {**_AS_RELEASED[paradigm], "threshold": _RELEASED_THRESHOLDS[extractor]}
