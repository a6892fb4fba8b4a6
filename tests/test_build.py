"""The package as a stranger gets it: built from its sources, installed and used outside them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "csrc", "fastsel", "kernels")

USE = """
import numpy as np
import fastsel, fastsel.kernels
x = np.random.default_rng(0).normal(size=(100, 8))
reference = fastsel.greedy_select(x, 50, backend="reference")
assert (fastsel.greedy_select(x, 50) == reference).all()
print(fastsel.backends()["cpu"])
fastsel.greedy_select(x, 50, backend="cpu")
"""


def run(command, cwd, **environment):
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def sources(tmp_path):
    """A copy of what the wheel is built from, without anything built in the checkout."""
    copy = tmp_path / "sources"
    copy.mkdir()
    ignore = shutil.ignore_patterns("*.so", "*.build.txt", "__pycache__")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, copy / name)
    return copy


def build(sources, **environment):
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    return run([*command, "-w", sources.parent, "."], sources, **environment)


def use(tmp_path):
    """Import the wheel's contents from a folder of their own and run a selection."""
    site = tmp_path / "site"
    (wheel,) = tmp_path.glob("fastsel-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # -S leaves out .pth files, and with them an editable install of the checkout.
    program = (
        f"import sys; sys.path[:0] = [{str(site)!r}, {sysconfig.get_path('purelib')!r}]\n{USE}"
    )
    return wheel, run([sys.executable, "-I", "-S", "-c", program], tmp_path)


@pytest.mark.slow
def test_wheel_works_outside_the_checkout(sources, tmp_path):
    built = build(sources, FASTSEL_BUILD="cpu")
    assert built.returncode == 0, built.stderr
    wheel, used = use(tmp_path)
    assert used.returncode == 0, used.stderr
    assert "usable=True" in used.stdout
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "fastsel/kernels/__init__.py" in names
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"fastsel"}


def test_no_native_code_when_none_is_asked_for(sources, tmp_path):
    built = build(sources, FASTSEL_BUILD="none")
    assert built.returncode == 0, built.stderr
    _, used = use(tmp_path)
    assert "usable=False" in used.stdout
    assert "not built: FASTSEL_BUILD=none" in used.stdout
    assert used.returncode == 1
    assert "RuntimeError: backend 'cpu' can not run here" in used.stderr


def test_without_a_compiler_auto_falls_back_and_says_so(sources, tmp_path):
    built = build(sources, FASTSEL_BUILD="auto", CC="/missing-compiler", CXX="/missing-compiler")
    assert built.returncode == 0, built.stderr
    _, used = use(tmp_path)
    assert "usable=False" in used.stdout
    assert "the compiler failed" in used.stdout
    assert "RuntimeError: backend 'cpu' can not run here" in used.stderr


def test_without_a_compiler_a_named_build_fails(sources, tmp_path):
    built = build(sources, FASTSEL_BUILD="cpu", CC="/missing-compiler", CXX="/missing-compiler")
    assert built.returncode != 0
    assert "missing-compiler" in built.stdout + built.stderr


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("gpu", "FASTSEL_BUILD must be one of auto, cpu, cuda, none, got 'gpu'"),
        ("cuda", "FASTSEL_BUILD=cuda: nvcc was not found; set CUDA_HOME, or PATH"),
    ],
)
def test_modes_that_can_not_be_built_are_refused(sources, mode, message):
    built = build(sources, FASTSEL_BUILD=mode, CUDA_HOME="/missing")
    assert built.returncode != 0
    assert message in built.stdout + built.stderr
