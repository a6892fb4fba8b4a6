"""Where and how the network runs, and that compiling changes no promise."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from training import device, recursive
from training.config import Config, ConfigError
from training.model import build_unet, load_model, model_bytes
from training.sample import sample
from training.train import train

TINY = Config(
    widths=(8, 8),
    n=4,
    steps=6,
    batch_size=3,
    checkpoint_every=4,
    sampling_steps=3,
    device="cpu",
    compile="yes",
)


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small are slower on two, and far slower where other work is running."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_auto_becomes_what_this_machine_has(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    here = device.resolved(Config())
    assert (here.device, here.mixed_precision, here.compile) == ("cpu", "no", "no")
    assert device.resolved(here) == here


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "--device must be auto, cpu, cuda or cuda:N, got 'gpu'"),
        ({"device": "meta"}, "--device must be auto, cpu, cuda or cuda:N, got 'meta'"),
        ({"device": "cuda:77"}, "--device cuda:77 is not there"),
        ({"device": "cpu", "mixed_precision": "fp16"}, "fp16 needs a CUDA device, got cpu"),
    ],
)
def test_a_device_or_precision_that_cannot_be_had_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        device.resolved(Config(**options))


@pytest.mark.parametrize(("threads", "resolution", "inside"), [(None, 8, 1), (2, 8, 2), (1, 64, 1)])
def test_threads_are_set_inside_only(threads, resolution, inside):
    before = torch.get_num_threads()
    with device.training_threads(Config(threads=threads), resolution):
        assert torch.get_num_threads() == inside
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("kind", "precision", "resolution", "expected"),
    [
        ("cpu", "no", 8, torch.contiguous_format),
        ("cpu", "no", 16, torch.contiguous_format),
        ("cpu", "no", 32, torch.channels_last),
        ("cuda", "bf16", 8, torch.channels_last),
        ("cuda", "fp16", 32, torch.channels_last),
        ("cuda", "no", 32, torch.contiguous_format),
    ],
)
def test_the_layout_is_that_which_is_faster(monkeypatch, kind, precision, resolution, expected):
    monkeypatch.setattr(device, "resolve_device", lambda config: torch.device(kind))
    config = Config(mixed_precision=precision)
    assert device.memory_format(config, resolution) == expected


@pytest.mark.parametrize("resumed", [False, True])
def test_channels_last_changes_rounding_alone(monkeypatch, tmp_path, resumed):
    """Also from a checkpoint: the moments of the optimizer must lie as the weights do."""
    config = dataclasses.replace(TINY, compile="no")
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)

    def made(name):
        path = tmp_path / name
        model, _ = train(config, images, generation=1, checkpoint=path)
        if resumed:
            assert path.exists()
            model, _ = train(config, images, generation=1, checkpoint=path)
        samples = np.concatenate(list(sample(config, model, generation=1, first=0, count=4)))
        (tmp_path / "stored").write_bytes(model_bytes(model, seconds=0))
        again, _ = load_model(tmp_path / "stored")
        same = np.concatenate(list(sample(config, again, generation=1, first=0, count=4)))
        assert np.array_equal(samples, same)
        return [p.detach().clone() for p in model.parameters()]

    plain = made("plain")
    monkeypatch.setattr(device, "_TINY_RESOLUTION", 1)
    for one, other in zip(plain, made("beside"), strict=True):
        assert torch.allclose(one, other, atol=2e-4)


# --- compiling ------------------------------------------------------------------------------------


@pytest.fixture
def compiler(monkeypatch):
    """Put one in place of torch's own, which takes a minute."""
    torch._dynamo.reset()
    yield lambda backend: monkeypatch.setattr(device, "_COMPILER", backend)
    torch._dynamo.reset()


class Counting:
    """Compiles nothing, and counts how often it is asked to."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph


def failing(graph, inputs):
    raise RuntimeError("no such instruction\nand more")


def weights(model):
    return [p.detach().numpy().tobytes() for p in model.parameters()]


def test_a_compiled_network_is_compiled_once_and_trains_and_samples_as_another(tmp_path, compiler):
    """The counting compiler leaves every operation as it is, so that even the bits are equal."""
    backend = Counting()
    compiler(backend)
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), dtype=np.uint8)
    found = []
    for name in ("no", "yes", "yes"):
        config = dataclasses.replace(TINY, compile=name)
        path = tmp_path / f"{len(found)}"
        model, _ = train(config, images, generation=1, checkpoint=path)
        samples = np.concatenate(list(sample(config, model, generation=1, first=0, count=6)))
        resumed, _ = train(config, images, generation=1, checkpoint=path)
        assert weights(resumed) == weights(model)
        found.append((weights(model), samples.tobytes()))
        assert backend.graphs == (0 if name == "no" else 2)  # one to train, one to sample
    assert found[0] == found[1] == found[2]


def test_the_network_compiles_with_gradients_and_classes(tmp_path, compiler):
    """By the part of torch's own compiler that traces the backward pass."""
    compiler("aot_eager")
    config = dataclasses.replace(TINY, widths=(8,), condition="class", guidance=2.0, ema=0.9)
    images = np.random.default_rng(0).integers(0, 256, (4, 4, 4, 1), dtype=np.uint8)
    labels = np.array([0, 1, 0, 1])
    model, _ = train(config, images, labels, 2, generation=1, checkpoint=tmp_path / "one")
    plain = dataclasses.replace(config, compile="no")
    other, _ = train(plain, images, labels, 2, generation=1, checkpoint=tmp_path / "other")
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.allclose(one, two, atol=2e-4)
    ours, theirs = (
        np.concatenate(list(sample(each, model, labels, generation=1, first=0, count=4)))
        for each in (config, plain)
    )
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_a_compiler_that_fails_is_one_line_with_the_remedy(tmp_path, compiler, capsys):
    compiler(failing)
    options = ["--preset", "smoke", "--device", "cpu", "--metrics-extractors", "pixel"]
    status = recursive.main(
        [*options, "--compile", "yes", "--out", str(tmp_path / "run"), "--quiet"]
    )
    errors = capsys.readouterr().err
    assert status == 2
    assert errors.startswith("error: --compile: torch can not compile here (")
    assert "no such instruction" in errors
    assert errors.endswith("; --compile no does without\n")
    assert errors.count("\n") == 1


def test_auto_compiles_long_trainings_on_a_gpu_where_the_compiler_works(compiler):
    gpu = torch.device("meta")  # as good as one, for what is asked here
    long = Config(steps=10_000)
    compiler("aot_eager")
    assert device._resolve_compile(long, gpu) == "yes"
    assert device._resolve_compile(Config(steps=9_999), gpu) == "no"
    assert device._resolve_compile(long, torch.device("cpu")) == "no"
    assert device._resolve_compile(dataclasses.replace(long, compile="no"), gpu) == "no"
    torch._dynamo.reset()
    compiler(failing)
    with pytest.warns(UserWarning, match="can not compile here .*; going on without"):
        assert device._resolve_compile(long, gpu) == "no"
    assert device._resolve_compile(dataclasses.replace(long, compile="yes"), gpu) == "yes"


def test_a_compiler_that_can_only_time_kernels_is_refused(monkeypatch):
    monkeypatch.setattr(torch._inductor, "list_options", lambda: ["max_autotune"])
    with pytest.raises(ConfigError, match="needs a torch whose compiler can be deterministic"):
        device.callable_network(TINY, build_unet(TINY, 8, 1, seed=0))
