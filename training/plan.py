"""What a run will do, from its options alone: how many images, how much disk."""

from __future__ import annotations

import math

from training.config import Config
from training.model import count_flops, count_parameters
from training.select import candidates_per_generation

# The widest features of our extractors, those of VGG-16; pixels may be wider.
_WIDEST_FEATURES = 4096
# A grid of 64 images with room for text, and the plots and report of a run.
_GRID_BYTES = 300_000
_REPORT_BYTES = 20_000_000
# What the prediction of GPU hours supposes that a GPU sustains on networks this small.
_FLOPS_PER_SECOND = 10e12
# Forward, and the gradients of activations and of weights, which cost as much each.
_TRAINING_PASSES = 3


def samples_needed(config: Config, arm: str, generation: int) -> int:
    """Images to sample from the model of a generation.

    The last generation is only measured, on N; the shared first one serves the arm that wants
    most; any other as many as its arm may pick from.
    """
    if generation == config.generations:
        return config.n
    if generation == 1:
        return max(candidates_per_generation(config, each) for each in config.arms)
    return candidates_per_generation(config, arm)


def generations_to_train(config: Config) -> list[tuple[str, int]]:
    """Arm and number of every generation that has a model of its own; the first is shared."""
    later = range(2, config.generations + 1)
    return [(config.arms[0], 1), *((arm, g) for g in later for arm in config.arms)]


def disk_bytes(config: Config, resolution: int, channels: int) -> int:
    """Bytes of the finished run folder, estimated from above."""
    places = generations_to_train(config)
    parameters = count_parameters(config, resolution, channels)
    pixels = resolution**2 * channels
    sampled = sum(samples_needed(config, arm, generation) for arm, generation in places)
    embedded = sampled + config.n * len(places) + config.metrics_real
    extractors = {config.extractor, *config.metrics_extractors}
    features = sum(pixels if name == "pixel" else _WIDEST_FEATURES for name in extractors)
    checkpoint = 4 * parameters * (3 if config.ema is None else 4)
    return (
        4 * parameters * len(places)
        + checkpoint
        + sampled * pixels
        + 4 * embedded * features
        + 3 * _GRID_BYTES * len(places)
        + _REPORT_BYTES
    )


def run_flops(config: Config, resolution: int, channels: int) -> tuple[int, int]:
    """Floating-point operations of all training and of all sampling.

    With F those of the network for one image: 3 F x steps x batch size x models, and F x sampling
    steps x images, twice that with guidance. Embedding, selection and metrics are left out.
    """
    places = generations_to_train(config)
    one = count_flops(config, resolution, channels)
    sampled = sum(samples_needed(config, arm, generation) for arm, generation in places)
    passes = 2 if config.guided else 1
    return (
        _TRAINING_PASSES * one * config.steps * config.batch_size * len(places),
        passes * one * config.sampling_steps * sampled,
    )


def _cost(config: Config, resolution: int, channels: int) -> str:
    training, sampling = run_flops(config, resolution, channels)
    hours = [count / _FLOPS_PER_SECOND / 3600 for count in (training, sampling)]
    return (
        f"{training:.2g} + {sampling:.2g} floating-point operations to train and to sample:"
        f" {hours[0]:.3g} + {hours[1]:.3g} GPU hours at {_FLOPS_PER_SECOND / 1e12:g} TFLOP/s"
    )


def describe(
    config: Config,
    source: str,
    n_images: int | None,
    resolution: int,
    channels: int,
    n_classes: int | None = None,
) -> str:
    """The plan in words, a line for each part.

    ``n_images`` and ``n_classes`` are None where the data were not read; then the parameters are
    those without the embedding of the classes.
    """
    places = generations_to_train(config)
    sampled = sum(samples_needed(config, arm, generation) for arm, generation in places)
    parameters = count_parameters(config, resolution, channels, n_classes or 0)
    epochs = config.steps * config.batch_size / config.n
    size = f"{resolution}x{resolution}x{channels}"
    threshold = "auto" if config.threshold is None else f"{config.threshold:g}"
    within = ", within classes" if config.select_within == "class" else ""
    images = "images" if n_images is None else f"{n_images:,} images"
    n_real = config.metrics_real if n_images is None else min(config.metrics_real, n_images)
    lines = {
        "data": f"{images} of {size} from {source}",
        "experiment": f"{config.paradigm}, {', '.join(config.arms)};"
        f" {config.generations} generations of {config.n:,} images",
        "selection": f"from {config.pool_factor} x {config.n:,} samples a generation,"
        f" {config.extractor} features, threshold {threshold}{within}",
        "model": f"UNet of {parameters:,} parameters, {len(places)} to train",
        "classes": f"{'those of the data' if n_classes is None else n_classes}, hidden from"
        f" {config.label_dropout:.0%} of the images of a step; guidance {config.guidance:g}",
        "training": f"{config.steps:,} steps of {config.batch_size} ({epochs:,.0f} epochs) each,"
        f" {config.device}, mixed precision {config.mixed_precision}",
        "sampling": f"{sampled:,} images in all, {config.sampler} with"
        f" {config.sampling_steps} steps",
        "metrics": f"{', '.join(config.metrics_extractors)} against {n_real:,} real images",
        "cost": _cost(config, resolution, channels),
        "disk": f"at most {_megabytes(disk_bytes(config, resolution, channels))} in {config.out}",
    }
    if config.condition == "none":
        del lines["classes"]
    return "\n".join(f"{name:<11} {text}" for name, text in lines.items())


def _megabytes(count: int) -> str:
    return f"{math.ceil(count / 1e6):,} MB"
