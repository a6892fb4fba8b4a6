"""Sampling images from a trained model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from diffusers import DDPMScheduler, UNet2DModel

from training.config import Config, ConfigError
from training.device import (
    autocast,
    callable_network,
    memory_format,
    resolve_device,
    resolve_precision,
)
from training.labels import Labels
from training.processes import ALONE, Processes
from training.train import noise_schedule

# What --sampling-batch-size auto is on a CPU, and where it begins on a GPU.
_CPU_BATCH = 256
_LARGEST_BATCH = 2048


def sampling_batch(config: Config, processes: Processes = ALONE) -> int:
    """Images in a batch: as many as allowed, evened out so that N images fill their batches.

    Where ``--sampling-batch-size`` is auto, 256 are allowed on a CPU, where more at once gain
    nothing. On a GPU it is where :func:`sample` begins to look for what fits: N shared out to all
    processes, but at most 2,048, so that the clock is looked at now and then.
    """
    limit, least = config.sampling_batch_size, 1
    if limit is None:
        on_cpu = resolve_device(config).type == "cpu"
        limit, least = (_CPU_BATCH, 1) if on_cpu else (_LARGEST_BATCH, processes.size)
    batches = max(-(-config.n // limit), least)
    return -(-config.n // batches)


def sample(
    config: Config,
    model: UNet2DModel,
    labels: Labels | None = None,
    *,
    generation: int,
    first: int,
    count: int,
    batch: int | None = None,
    halved: Callable[[int], None] | None = None,
    processes: Processes = ALONE,
) -> Iterator[npt.NDArray[np.uint8]]:
    """Sample images ``first`` to ``count`` of a generation, batch by batch.

    The noise of image i, that of every step with DDPM included, comes from (seed, generation, i),
    so the image does not depend on the batch that it stands in, but for rounding. As long as no
    batch is halved, it is the same bits whichever others are asked for: all batches have one size,
    the last one being filled up and cut. Several processes take a batch each at a time, so that
    their number changes nothing.

    Args:
        model: predicts the noise of [B, C, H, W] at a timestep; its size is that of the images.
        labels: int64 [count], the class of every image, for a class-conditional model.
        first: where an interrupted run goes on: the end of one of its batches, or 0.
        count: one past the last image.
        batch: images at once; default :func:`sampling_batch`.
        halved: where the memory of the device does not hold a batch, all from there on are half
            as large, and this is told their size; without it that is an error.
        processes: those that sample together; all get all images.

    Yields:
        uint8 [B, H, W, C], the last batch shorter where count needs it.

    Raises:
        ConfigError: the memory of the device does not hold a batch, or not one image.
        LostError: another process has ended.
    """
    size = batch or sampling_batch(config, processes)
    model.eval()
    model.to(memory_format=memory_format(config, model.config.sample_size))
    while first < count:
        starts = range(first, count, size)[: processes.size]
        attempt = functools.partial(_attempt, config, model, labels, generation, size)
        made = [images for images in processes.spread(starts, attempt) if images is not None]
        if len(made) == len(starts):
            for start, images in zip(starts, made, strict=True):
                yield images[: count - start]
            first = starts[-1] + size
        elif halved is None or size == 1:
            remedy = "" if size == 1 else "; expected fewer, or auto, which finds what fits"
            raise ConfigError(
                f"--sampling-batch-size: the memory of {resolve_device(config)} does not hold"
                f" a batch of {size:,}{remedy}"
            )
        else:
            size = -(-size // 2)
            halved(size)


def _attempt(
    config: Config,
    model: UNet2DModel,
    labels: Labels | None,
    generation: int,
    size: int,
    start: int,
) -> npt.NDArray[np.uint8] | None:
    """The batch of images from ``start`` on; None where the memory of the device does not do."""
    indices = range(start, start + size)
    seeds = [config.derive_seed("sampling", generation, i) for i in indices]
    # What fills up the last batch is thrown away, whatever its class.
    classes = None if labels is None else labels.take(indices, mode="wrap")
    try:
        return _denoise(config, model, seeds, classes)
    except torch.cuda.OutOfMemoryError:
        pass
    # Only here is what the failed attempt held free.
    torch.cuda.empty_cache()
    return None


@torch.inference_mode()
def _denoise(
    config: Config, model: UNet2DModel, seeds: list[int], labels: Labels | None
) -> npt.NDArray[np.uint8]:
    device = resolve_device(config)
    precision = resolve_precision(config, device)
    layout = memory_format(config, model.config.sample_size)
    # On the CPU, whose generators give the same numbers whatever the device of the model.
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    shape = (model.config.in_channels, model.config.sample_size, model.config.sample_size)
    images = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)
    predict = _predictor(config, model, labels)
    schedule = noise_schedule()
    schedule.set_timesteps(config.sampling_steps)
    # Also on the device: a number would be sent there in every step, and compiled into the network.
    for t, told in zip(schedule.timesteps.tolist(), schedule.timesteps.to(device), strict=True):
        with autocast(device, precision):
            noise = predict(images.contiguous(memory_format=layout), told)
        if config.sampler == "ddpm":
            images = schedule.step(noise, t, images, generator=generators).prev_sample
        else:
            images = _ddim_step(schedule, noise, t, images)
    pixels = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).cpu().numpy()


def _predictor(
    config: Config, model: UNet2DModel, labels: Labels | None
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The noise in images [B, C, H, W] at a timestep, under classifier-free guidance.

    With guidance w it is u + w (c - u), c the prediction for the class and u that for no class: w
    of diffusers, one more than in Ho and Salimans 2022, arXiv:2207.12598.
    """
    network = callable_network(config, model)
    if labels is None:
        return lambda images, t: network(images, t, return_dict=False)[0].float()
    classes = torch.from_numpy(labels).to(model.device)  # [B]
    if not config.guided:
        return lambda images, t: network(images, t, classes, return_dict=False)[0].float()
    no_class = torch.full_like(classes, model.config.num_class_embeds - 1)
    both = torch.cat([classes, no_class])

    def guided(images: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        noise = network(torch.cat([images, images]), t, both, return_dict=False)[0].float()
        told, untold = noise.chunk(2)
        towards: torch.Tensor = untold + config.guidance * (told - untold)
        return towards

    return guided


def _ddim_step(
    schedule: DDPMScheduler, noise: torch.Tensor, t: int, images: torch.Tensor
) -> torch.Tensor:
    """One deterministic step (Song et al. 2020, arXiv:2010.02502, equation 12 with sigma = 0).

    diffusers' DDIMScheduler assumes that the number of steps divides 1,000 and steps to the wrong
    noise level where it does not; this goes to the timestep that comes next.
    """
    following = int(schedule.previous_timestep(t))
    kept = schedule.alphas_cumprod[t].item()
    kept_next = schedule.alphas_cumprod[following].item() if following >= 0 else 1.0
    clean = ((images - (1 - kept) ** 0.5 * noise) / kept**0.5).clamp(-1, 1)
    stepped: torch.Tensor = kept_next**0.5 * clean + (1 - kept_next) ** 0.5 * noise
    return stepped
