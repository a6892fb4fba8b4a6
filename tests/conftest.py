from __future__ import annotations

import pytest

import fastsel
from fastsel.backends import cpu


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


@pytest.fixture(params=_backend_params(fastsel.backends()))
def backend(request):
    """Name of a backend; for the cpu one, its instruction set is switched for the test."""
    yield from _switched(*request.param)


@pytest.fixture(params=_backend_params(["cpu", "reference"]))
def host_backend(request):
    """As `backend`, of those that have all primitives."""
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
