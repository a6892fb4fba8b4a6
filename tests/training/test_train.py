from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from training import train as training
from training.config import Config
from training.model import build_unet

TINY = Config(widths=(8, 8), steps=12, batch_size=5, checkpoint_every=4, device="cpu")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small are slower on two, and far slower where other work is running."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1), dtype=np.uint8)


def weights(model):
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


@pytest.fixture(scope="module")
def unbroken(images, tmp_path_factory):
    path = tmp_path_factory.mktemp("unbroken") / "checkpoint"
    return {
        config: weights(training.train(config, images, generation=2, checkpoint=path / name)[0])
        for name, config in [
            ("plain", TINY),
            ("ema", dataclasses.replace(TINY, ema=0.9)),
            ("bf16", dataclasses.replace(TINY, mixed_precision="bf16")),
        ]
    }


class Killed(BaseException):
    pass


@pytest.mark.parametrize("checkpoints", [1, 2])
@pytest.mark.parametrize("change", [{}, {"ema": 0.9}, {"mixed_precision": "bf16"}], ids=str)
def test_a_resumed_training_ends_in_the_same_bits(
    images, unbroken, tmp_path, monkeypatch, checkpoints, change
):
    config = dataclasses.replace(TINY, **change)
    path = tmp_path / "checkpoint.safetensors"
    save, saved = training._save_checkpoint, []

    def save_and_die(*arguments):
        save(*arguments)
        saved.append(arguments)
        if len(saved) == checkpoints:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(training, "_save_checkpoint", save_and_die)
        with pytest.raises(Killed):
            training.train(config, images, generation=2, checkpoint=path)
    steps = []
    update = training._update

    def count(config, state, loss, step, processes):
        steps.append(step)
        update(config, state, loss, step, processes)

    monkeypatch.setattr(training, "_update", count)
    model, seconds = training.train(config, images, generation=2, checkpoint=path)
    assert steps == list(range(4 * checkpoints, 12))
    assert weights(model) == unbroken[config]
    assert seconds > 0


def test_weights_depend_on_the_generation_and_the_seed(images, unbroken, tmp_path):
    path = tmp_path / "checkpoint"
    other = training.train(TINY, images, generation=3, checkpoint=path / "a")[0]
    seeded = training.train(
        dataclasses.replace(TINY, seed=1), images, generation=2, checkpoint=path / "b"
    )[0]
    assert weights(other) != unbroken[TINY]
    assert weights(seeded) != unbroken[TINY]


def test_the_global_random_state_is_neither_used_nor_changed(images, unbroken, tmp_path):
    torch.manual_seed(1234)
    state = torch.random.get_rng_state()
    model = training.train(TINY, images, generation=2, checkpoint=tmp_path / "c")[0]
    assert weights(model) == unbroken[TINY]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_training_learns(tmp_path):
    """One constant image: its noise can be told exactly, so the loss must fall far."""
    config = dataclasses.replace(TINY, steps=150, batch_size=16, lr=5e-3, checkpoint_every=1000)
    images = np.full((4, 8, 8, 1), 255, np.uint8)

    def loss(model):
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(64, 1, 8, 8, generator=generator)
        kept = training.noise_schedule().alphas_cumprod[500]
        noisy = kept.sqrt() + (1 - kept).sqrt() * noise
        with torch.inference_mode():
            return float(((model(noisy, 500).sample - noise) ** 2).mean())

    fresh = build_unet(config, 8, 1, seed=config.derive_seed("weights", 1))
    model, _ = training.train(config, images, generation=1, checkpoint=tmp_path / "c")
    assert loss(model) < 0.2 * loss(fresh)


@pytest.mark.parametrize(("n", "batch"), [(9, 5), (4, 4), (3, 10), (1, 1), (64, 7)])
def test_batches_pass_over_the_images_evenly_and_know_their_place(n, batch):
    config = dataclasses.replace(TINY, batch_size=batch)
    device = torch.device("cpu")
    batches = training._Batches(config, n, 1, device)
    drawn = [batches(step) for step in range(2 * n)]
    assert all(len(indices) == batch for indices in drawn)
    passes = torch.cat(drawn).view(-1, n)
    for one in passes:
        assert sorted(one.tolist()) == list(range(n))
    again = training._Batches(config, n, 1, device)
    for step in (2 * n - 1, 0, n):
        assert torch.equal(again(step), drawn[step])


def test_the_learning_rate_warms_up_then_falls_to_nothing():
    config = dataclasses.replace(TINY, steps=100, lr=2.0)
    rates = [training.learning_rate(config, step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert rates[10] == 2.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(1.0)
    assert rates[99] < 0.001
    long = dataclasses.replace(config, steps=100_000)
    assert training.learning_rate(long, 498) < 2.0 == training.learning_rate(long, 499)


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_a_run_too_short_to_warm_up_still_trains(steps):
    config = dataclasses.replace(TINY, steps=steps)
    rates = [training.learning_rate(config, step) for step in range(steps)]
    assert rates[0] == config.lr
    assert all(math.isfinite(rate) and rate > 0 for rate in rates)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_no_step_waits_for_the_device(images, tmp_path, monkeypatch):
    config = dataclasses.replace(TINY, device="cuda", mixed_precision="fp16", checkpoint_every=99)
    training.train(config, images, generation=1, checkpoint=tmp_path / "warm up")
    update, depth = training._update, []

    def checked(*arguments):
        torch.cuda.set_sync_debug_mode("error")
        update(*arguments)
        depth.append(1)

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "_update", checked)
            training.train(
                dataclasses.replace(config, steps=3),
                images,
                generation=1,
                checkpoint=tmp_path / "c",
            )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(depth) == 3
