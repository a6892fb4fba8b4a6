"""Where and how the network runs."""

from __future__ import annotations

import pytest
import torch

from training import device
from training.config import Config, ConfigError


def test_auto_becomes_what_this_machine_has(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    here = device.resolved(Config())
    assert (here.device, here.mixed_precision) == ("cpu", "no")
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
