"""Sampling images from a trained model."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from diffusers import DDPMScheduler, UNet2DModel

from training.config import Config
from training.device import autocast, resolve_device, resolve_precision
from training.labels import Labels
from training.processes import ALONE, Processes
from training.train import noise_schedule


def sampling_batch(config: Config) -> int:
    """Images in a batch: as many as allowed, evened out so that N images fill their batches."""
    batches = -(-config.n // config.sampling_batch_size)
    return -(-config.n // batches)


def sample(
    config: Config,
    model: UNet2DModel,
    labels: Labels | None = None,
    *,
    generation: int,
    first: int,
    count: int,
    processes: Processes = ALONE,
) -> Iterator[npt.NDArray[np.uint8]]:
    """Sample images ``first`` to ``count`` of a generation, batch by batch.

    Image i is the same bits whichever others are asked for: its noise, that of every step with
    DDPM included, comes from (seed, generation, i), and it always stands in the same batch of the
    same size, the last one being filled up and cut. Several processes take a batch each at a time,
    so that their number changes nothing.

    Args:
        model: predicts the noise of [B, C, H, W] at a timestep; its size is that of the images.
        labels: int64 [count], the class of every image, for a class-conditional model.
        first: a multiple of :func:`sampling_batch`; where an interrupted run goes on.
        count: one past the last image.
        processes: those that sample together; all get all images.

    Yields:
        uint8 [B, H, W, C], the last batch shorter where count needs it.

    Raises:
        ValueError: first is not the start of a batch.
        LostError: another process has ended.
    """
    size = sampling_batch(config)
    if first % size:
        raise ValueError(f"first must be a multiple of the batch, {size}, got {first}")
    model.eval()

    def batch(start: int) -> npt.NDArray[np.uint8]:
        indices = range(start, start + size)
        seeds = [config.derive_seed("sampling", generation, i) for i in indices]
        # What fills up the last batch is thrown away, whatever its class.
        classes = None if labels is None else labels.take(indices, mode="wrap")
        return _denoise(config, model, seeds, classes)[: count - start]

    starts = range(first, count, size)
    for turn in range(0, len(starts), processes.size):
        yield from processes.spread(starts[turn : turn + processes.size], batch)


@torch.inference_mode()
def _denoise(
    config: Config, model: UNet2DModel, seeds: list[int], labels: Labels | None
) -> npt.NDArray[np.uint8]:
    device = resolve_device(config)
    precision = resolve_precision(config, device)
    # On the CPU, whose generators give the same numbers whatever the device of the model.
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    shape = (model.config.in_channels, model.config.sample_size, model.config.sample_size)
    images = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)
    predict = _predictor(config, model, labels)
    schedule = noise_schedule()
    schedule.set_timesteps(config.sampling_steps)
    for t in schedule.timesteps.tolist():
        with autocast(device, precision):
            noise = predict(images, t)
        if config.sampler == "ddpm":
            images = schedule.step(noise, t, images, generator=generators).prev_sample
        else:
            images = _ddim_step(schedule, noise, t, images)
    pixels = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).cpu().numpy()


def _predictor(
    config: Config, model: UNet2DModel, labels: Labels | None
) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """The noise in images [B, C, H, W] at a timestep, under classifier-free guidance.

    With guidance w it is u + w (c - u), c the prediction for the class and u that for no class: w
    of diffusers, one more than in Ho and Salimans 2022, arXiv:2207.12598.
    """
    if labels is None:
        return lambda images, t: model(images, t, return_dict=False)[0].float()
    classes = torch.from_numpy(labels).to(model.device)  # [B]
    if not config.guided:
        return lambda images, t: model(images, t, classes, return_dict=False)[0].float()
    no_class = torch.full_like(classes, model.config.num_class_embeds - 1)
    both = torch.cat([classes, no_class])

    def guided(images: torch.Tensor, t: int) -> torch.Tensor:
        noise = model(torch.cat([images, images]), t, both, return_dict=False)[0].float()
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
