from __future__ import annotations

import dataclasses
import types

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from training import sample as sampling
from training.config import Config, ConfigError
from training.model import build_unet
from training.processes import Processes
from training.sample import sample, sampling_batch

TINY = Config(
    widths=(8, 8), n=5, sampling_batch_size=5, sampling_steps=4, sampler="ddim", device="cpu"
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small are slower on two, and far slower where other work is running."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model():
    return build_unet(TINY, 8, 3, seed=0)


def draw(config, model, *, generation=1, first=0, count=5):
    parts = sample(config, model, generation=generation, first=first, count=count)
    return np.concatenate(list(parts))


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("steps", [1, 3, 7])
def test_samples_are_images(model, sampler, steps):
    config = dataclasses.replace(TINY, sampler=sampler, sampling_steps=steps)
    images = draw(config, model, count=7)
    assert images.shape == (7, 8, 8, 3)
    assert images.dtype == np.uint8


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("count", [1, 4, 5, 6, 12])
def test_an_image_does_not_depend_on_the_others_that_are_asked_for(model, sampler, count):
    config = dataclasses.replace(TINY, sampler=sampler)
    assert np.array_equal(draw(config, model, count=count), draw(config, model, count=15)[:count])


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_sampling_goes_on_where_it_stopped(model, sampler):
    config = dataclasses.replace(TINY, sampler=sampler)
    rest = draw(config, model, first=5, count=13)
    assert np.array_equal(rest, draw(config, model, count=13)[5:])


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_noise_depends_on_the_image_and_not_on_the_batch_size(model, sampler):
    """Up to rounding: convolutions may sum in another order for another batch size."""
    config = dataclasses.replace(TINY, sampler=sampler)
    small = dataclasses.replace(config, sampling_batch_size=2)
    difference = draw(config, model).astype(int) - draw(small, model).astype(int)
    assert np.abs(difference).max() <= 1


def test_samples_differ_by_image_generation_and_seed(model):
    images = draw(TINY, model, count=2)
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images, draw(TINY, model, generation=2, count=2))
    assert not np.array_equal(images, draw(dataclasses.replace(TINY, seed=1), model, count=2))


def test_the_global_random_state_is_neither_used_nor_changed(model):
    config = dataclasses.replace(TINY, sampler="ddpm")
    images = draw(config, model)
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    assert np.array_equal(draw(config, model), images)
    assert torch.equal(torch.random.get_rng_state(), state)


class Device:
    """A GPU whose memory holds some images, and which says so as torch does."""

    def __init__(self, monkeypatch, holds):
        self.holds, self.asked = holds, []
        self.denoise = sampling._denoise
        monkeypatch.setattr(sampling, "_denoise", self)

    def __call__(self, config, model, seeds, labels):
        self.asked.append(len(seeds))
        if len(seeds) > self.holds:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return self.denoise(config, model, seeds, labels)


@pytest.mark.parametrize(
    ("n", "holds", "asked"),
    [
        (9, 9, [9, 9]),
        (9, 8, [9, 5, 5, 5, 5]),
        (9, 4, [9, 5, 3, 3, 3, 3, 3, 3]),
        (9, 1, [9, 5, 3, 2, *[1] * 18]),
    ],
)
def test_a_batch_is_halved_until_it_fits(model, monkeypatch, n, holds, asked):
    config = dataclasses.replace(TINY, n=n, sampling_batch_size=None)
    expected = draw(config, model, count=18)
    gpu, told = Device(monkeypatch, holds), []
    parts = list(sample(config, model, generation=1, first=0, count=18, halved=told.append))
    assert gpu.asked == asked
    assert [n, *told] == list(dict.fromkeys(asked))
    images = np.concatenate(parts)
    assert images.shape == expected.shape
    assert np.abs(images.astype(int) - expected).max() <= 1


def test_memory_that_runs_out_later_loses_nothing(model, monkeypatch):
    config = dataclasses.replace(TINY, n=6, sampling_batch_size=None)
    expected = draw(config, model, count=18)
    gpu, told = Device(monkeypatch, 6), []
    parts = sample(config, model, generation=1, first=0, count=18, halved=told.append)
    images = [next(parts)]
    gpu.holds = 5
    images += parts
    assert gpu.asked == [6, 6, 3, 3, 3, 3]
    assert told == [3]
    assert np.abs(np.concatenate(images).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("halved", [None, print])
def test_memory_that_does_not_hold_what_was_asked_for_is_an_error(model, monkeypatch, halved):
    Device(monkeypatch, 0 if halved else 4)
    size = 1 if halved else 5
    with pytest.raises(
        ConfigError, match=f"the memory of cpu does not hold a batch of {size}(;|$)"
    ):
        list(sample(TINY, model, generation=1, first=0, count=5, halved=halved))


@pytest.mark.parametrize(
    ("kind", "n", "processes", "size"),
    [
        ("cpu", 1000, 1, 250),
        ("cpu", 1000, 8, 250),
        ("cuda", 1000, 1, 1000),
        ("cuda", 1000, 8, 125),
        ("cuda", 32_768, 1, 2048),
        ("cuda", 12_000, 4, 2000),
    ],
)
def test_the_automatic_batch_is_fixed_on_a_cpu_and_large_on_a_gpu(
    monkeypatch, kind, n, processes, size
):
    monkeypatch.setattr(sampling, "resolve_device", lambda config: torch.device(kind))
    config = dataclasses.replace(TINY, n=n, sampling_batch_size=None)
    assert sampling_batch(config, Processes(0, processes)) == size


@pytest.mark.parametrize(
    ("n", "limit", "size"), [(256, 256, 256), (257, 256, 129), (5, 256, 5), (10, 4, 4), (9, 1, 1)]
)
def test_batches_are_evened_out_over_n(n, limit, size):
    assert sampling_batch(dataclasses.replace(TINY, n=n, sampling_batch_size=limit)) == size


class Smooth:
    """Predicts noise smoothly, so that rounding stays rounding through many steps."""

    config = types.SimpleNamespace(in_channels=1, sample_size=4)

    def eval(self):
        return self

    def to(self, memory_format):
        return self

    def __call__(self, images, t, return_dict):
        return (torch.tanh(images) * (0.3 + t / 2000),)


@pytest.mark.parametrize("steps", [10, 50, 500])
def test_ddim_is_that_of_diffusers_where_steps_divide_the_schedule(steps):
    config = dataclasses.replace(TINY, sampling_steps=steps)
    theirs = DDIMScheduler(timestep_spacing="trailing")
    theirs.set_timesteps(steps)
    seeds = [config.derive_seed("sampling", 1, i) for i in range(5)]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    images = torch.stack([torch.randn(1, 4, 4, generator=g) for g in generators])
    for t in theirs.timesteps:
        images = theirs.step(Smooth()(images, t, False)[0], t, images).prev_sample
    expected = ((images + 1) * 127.5).round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
    assert np.ptp(expected) > 50
    assert np.abs(draw(config, Smooth()).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("steps", [1, 7, 300, 600, 999, 1000])
def test_any_number_of_steps_ends_at_the_image_that_the_noise_hides(sampler, steps):
    """A perfect predictor of one image must be led to exactly that image."""
    target = torch.linspace(-0.9, 0.9, 16).view(1, 1, 4, 4)
    schedule = sampling.noise_schedule()

    class Oracle(Smooth):
        def __call__(self, images, t, return_dict):
            kept = schedule.alphas_cumprod[t]
            return ((images - kept.sqrt() * target) / (1 - kept).sqrt(),)

    config = dataclasses.replace(TINY, sampler=sampler, sampling_steps=steps, n=2)
    images = draw(config, Oracle(), count=2).astype(int)
    expected = ((target + 1) * 127.5).round().permute(0, 2, 3, 1).numpy()
    assert np.abs(images - expected).max() <= 1
