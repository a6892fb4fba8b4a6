"""The same tests of the CUDA kernels with every access to memory checked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pybind11", reason="the emulation is built against pybind11")
import emulated

HERE = Path(__file__).parent


def library(name: str) -> str | None:
    """The path of a sanitizer of g++, if it is there."""
    try:
        found = subprocess.run(
            ["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return found if Path(found).is_absolute() else None


LIBRARIES = [library("libasan.so"), library("libubsan.so")]


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(None in LIBRARIES, reason="g++ has no sanitizers here"),
]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    emulated.compile_core(sanitize=True)  # here, for the compiler should not run under them
    environment = {
        **os.environ,
        "FASTSEL_TEST_SANITIZE": "1",
        "LD_PRELOAD": ":".join(map(str, LIBRARIES)),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python frees little at its end
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )


def test_kernels_stay_within_memory():
    options = ["-q", "-s", "-p", "no:cacheprovider", "-c", str(emulated.ROOT / "pyproject.toml")]
    # Those left out run many threads over memory that others cover.
    options += ["-k", "not order_of_threads and not half_precision and not more_pairs"]
    done = run("-m", "pytest", *options, str(HERE / "test_emulated.py"))
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert "passed" in done.stdout


def test_an_access_beyond_shared_memory_is_seen():
    program = "import ctypes, emulated; emulated.library().emulation_fault(b'beyond', bytes(256))"
    done = run("-c", f"import sys; sys.path[:0] = [{str(emulated.ROOT)!r}]; {program}")
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
