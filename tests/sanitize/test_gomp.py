"""ThreadSanitizer with the stand-in for libgomp: it finds a race, and no other."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

GOMP = Path(__file__).with_name("gomp.cpp")
FLAGS = ["-std=c++17", "-O1", "-fopenmp", "-fsanitize=thread"]

# The second loop reads what other threads wrote in the first: only the barrier orders them.
PROGRAM = """
int main() {
  long total = 0, squares[1000] = {};
#pragma omp parallel num_threads(4)
  {
    long sum = 0;
#pragma omp for schedule(dynamic) FIRST
    for (int i = 0; i < 1000; ++i) squares[i] = long(i) * i;
#pragma omp for schedule(dynamic)
    for (int i = 0; i < 1000; ++i) sum += squares[999 - i];
#pragma omp critical
    total += sum;
  }
#pragma omp parallel for num_threads(4) schedule(static) reduction(+ : total)
  for (int i = 0; i < 1000; ++i) total -= squares[i];
  return total != 0;
}
"""


@pytest.mark.skipif(
    platform.machine() != "x86_64" or shutil.which("g++") is None, reason="g++ on x86-64 is needed"
)
@pytest.mark.parametrize(("first", "races"), [("", False), ("nowait", True)])
def test_race_is_found(tmp_path, first, races):
    source, program = tmp_path / "program.cpp", tmp_path / "program"
    source.write_text(PROGRAM.replace("FIRST", first))
    subprocess.run(["g++", *FLAGS, str(source), str(GOMP), "-o", str(program)], check=True)
    done = subprocess.run(
        ["setarch", "--addr-no-randomize", str(program)],
        env={"TSAN_OPTIONS": "exitcode=66"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == (66 if races else 0), done.stderr
    assert ("data race" in done.stderr) == races
