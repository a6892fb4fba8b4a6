"""Options and the pool of `pytest bench/`. Small sizes: minutes, not the figures of the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import machine
from bench.data import Features, clustered, load, thinned


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastsel benchmarks")
    group.addoption("--features", type=Path, help="a .npy file with a float matrix [N, D]")
    group.addoption("--n-points", type=int, default=8_192, help="rows of the pool (default: 8192)")
    group.addoption("--dim", type=int, default=384, help="columns, without --features")
    group.addoption(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="cuda: what runs on a GPU, and nothing else",
    )


def pytest_configure(config: pytest.Config) -> None:
    if names := machine.overrides():
        raise pytest.UsageError(f"unset {' and '.join(names)}: NumPy's BLAS would be handicapped")
    if not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError("pytest-benchmark is not installed; pip install 'fastsel[bench]'")


@pytest.hookimpl(optionalhook=True)  # so that the message above is what a user gets
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: Any) -> None:
    machine_info["fastsel"] = machine.describe()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    on_device = config.getoption("--device") != "cpu"
    others = [item for item in items if ("device_name" in item.fixturenames) != on_device]  # type: ignore[attr-defined]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


@pytest.fixture(scope="session")
def device_name(request: pytest.FixtureRequest) -> str:
    """Where a benchmark that asks for it runs; it is left out on a cpu."""
    return str(request.config.getoption("--device"))


@pytest.fixture(scope="session")
def pool(request: pytest.FixtureRequest) -> Features:
    """Features of a file, thinned, or synthetic ones."""
    n = request.config.getoption("--n-points")
    path = request.config.getoption("--features")
    if path is None:
        return clustered(n, request.config.getoption("--dim"))
    return thinned(load(path), n)
