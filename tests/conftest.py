from __future__ import annotations

import os

import pytest

import fastsel
from fastsel.backends import cpu

try:
    import torch
except ImportError:
    HAS_CUDA = False
else:
    HAS_CUDA = torch.cuda.is_available()

# Triton asks for this when it is imported, which nothing has done yet.
if not HAS_CUDA:
    os.environ.setdefault("TRITON_INTERPRET", "1")


def _backend_params(names):
    """Every usable backend of those, the cpu one at each instruction set of this machine."""
    params = []
    for name in names:
        if not fastsel.backends()[name].usable:
            continue
        levels = cpu._core().levels() if name == "cpu" else [None]
        params += [
            pytest.param((name, level), id="-".join(filter(None, (name, level))))
            for level in levels
        ]
    return params


def _fast(names):
    # Triton's interpreter takes seconds for what others do in milliseconds; its calls are in
    # test_device_backends.py.
    return [name for name in names if HAS_CUDA or name != "triton"]


@pytest.fixture(params=_backend_params(_fast(fastsel.backends())))
def backend(request):
    """Name of a backend; for the cpu one, its instruction set is switched for the test."""
    yield from _switched(*request.param)


def _switched(name, level):
    if level is None:
        yield name
        return
    core = cpu._core()
    before = core.level()
    core.use_level(level)
    yield name
    core.use_level(before)


@pytest.fixture(params=[] if cpu.unusable_because() else cpu._core().levels())
def level(request):
    """An instruction set, which the cpu backend uses during the test."""
    core = cpu._core()
    before = core.level()
    core.use_level(request.param)
    yield request.param
    core.use_level(before)
