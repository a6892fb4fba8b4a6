"""What the CUDA kernels take of each architecture, as the compiler reports it.

    python -m bench.gpu_resources        # writes docs/gpu-resources.json

No GPU is needed, only nvcc: that of $CUDA_HOME, the one on PATH, or that of the wheels which
cuda-toolkit[nvcc] installs. tests/cuda/test_resources.py compares a new report with the file.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, TypedDict

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "gpu-resources.json"
TILE_TABLE = ROOT / "csrc" / "cuda" / "tiles.h"
SOURCES = sorted(ROOT.glob("csrc/cuda/*.cu"))
ARCHITECTURES = ("sm_80", "sm_90a", "sm_100")

# As setup.py compiles them.
FLAGS = ["-std=c++17", "-O3", "--fmad=false", f"-I{ROOT / 'csrc'}"]


class Tile(NamedTuple):
    """An entry of the table of tiles, as csrc/cuda/tiles.h has it."""

    capability: int
    rows: int
    cols: int
    warp_rows: int
    warp_cols: int
    stages: int
    blocks: int

    @property
    def threads(self) -> int:
        """Threads of a block: a warp for each part of the tile."""
        return 32 * (self.rows // self.warp_rows) * (self.cols // self.warp_cols)


def read_tiles(source: str) -> list[Tile]:
    """The entries of csrc/cuda/tiles.h."""
    table = source.split("kTiles[] = {")[1].split("};")[0]
    entries = re.findall(r"\{([\d, ]+)\}", table)
    return [Tile(*map(int, entry.split(","))) for entry in entries]


TILES = read_tiles(TILE_TABLE.read_text())


class Resources(TypedDict):
    """Of a thread: registers, and bytes spilled; of a block: bytes of shared memory."""

    registers: int
    spilled: int
    shared: int


Report = dict[str, dict[str, Resources]]  # architecture, kernel


def find_nvcc() -> str | None:
    """The CUDA compiler, if there is one."""
    if home := os.environ.get("CUDA_HOME"):
        return shutil.which("nvcc", path=f"{home}/bin")
    if on_path := shutil.which("nvcc"):
        return on_path
    spec = find_spec("nvidia")  # the namespace of the wheels
    folders = spec.submodule_search_locations if spec is not None else None
    found = [path for folder in folders or [] for path in Path(folder).glob("cu*/bin/nvcc")]
    return str(max(found)) if found else None


def release(nvcc: str) -> str:
    """Its version, such as 13.0.88."""
    text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\bV(\d+\.\d+\.\d+)", text)
    assert found is not None
    return found[1]


def report(nvcc: str) -> Report:
    """Compile every kernel for every architecture."""
    with ThreadPoolExecutor(os.cpu_count()) as pool, tempfile.TemporaryDirectory() as folder:

        def compile_one(job: tuple[str, Path]) -> str:
            architecture, source = job
            target = str(Path(folder) / f"{source.stem}-{architecture}.cubin")
            command = [nvcc, *FLAGS, f"-arch={architecture}", "-cubin", "-Xptxas", "-v"]
            return subprocess.run(
                [*command, str(source), "-o", target], capture_output=True, text=True, check=True
            ).stderr

        jobs = [(architecture, source) for architecture in ARCHITECTURES for source in SOURCES]
        texts = list(pool.map(compile_one, jobs))
    found: Report = {architecture: {} for architecture in ARCHITECTURES}
    for (architecture, _), text in zip(jobs, texts, strict=True):
        found[architecture].update(parse(text))
    return {architecture: dict(sorted(kernels.items())) for architecture, kernels in found.items()}


def parse(text: str) -> Iterator[tuple[str, Resources]]:
    """The kernels in the output of ptxas -v."""
    for part in text.split("Compiling entry function ")[1:]:
        numbers = {
            name: int(found[1]) if (found := re.search(pattern, part)) else 0
            for name, pattern in (
                ("registers", r"Used (\d+) registers"),
                ("stores", r"(\d+) bytes spill stores"),
                ("shared", r"(\d+) bytes smem"),
            )
        }
        # A product has its tile and the bytes that it is launched with among its template's
        # arguments.
        tiled = re.search(r"_kernelILi(\d+)ELm(\d+)E", part)
        yield (
            kernel_name(part),
            Resources(
                registers=numbers["registers"],
                spilled=numbers["stores"],
                shared=int(tiled[2]) if tiled else numbers["shared"],
            ),
        )


def kernel_name(mangled: str) -> str:
    """Such as "pick", "min_update float16 cosine", "top_k float32 inner" or "group_min sm_80".

    One that is compiled for each storage type has that in its name, and what it computes if that is
    not the distance of rows as they are; one for each tile, the architecture that the entry of the
    table is for.
    """
    name = re.search(r"\d([a-z_]+)_kernel", mangled)
    assert name is not None, mangled
    if tiled := re.search(r"_kernelILi(\d+)ELm", mangled):
        return f"{name[1]} sm_{TILES[int(tiled[1])].capability}"
    types = {"Half": "float16", "Bfloat16": "bfloat16", "f": "float32", "d": "float64"}
    storage = re.search(r"4RowsI(?:NS_\d+)?(Half|Bfloat16|f|d)E?Lb([01])EEE(Lb[01]E)?", mangled)
    if storage is None:
        return name[1]
    what = " cosine" if storage[2] == "1" else " inner" if storage[3] == "Lb1E" else ""
    return f"{name[1]} {types[storage[1]]}{what}"


def main() -> None:
    """The command."""
    nvcc = find_nvcc()
    if nvcc is None:
        raise SystemExit("nvcc was not found; set CUDA_HOME, or install cuda-toolkit[nvcc]")
    table = {"nvcc": release(nvcc), "architectures": report(nvcc)}
    TABLE.write_text(json.dumps(table, indent=1) + "\n")
    print(f"wrote {TABLE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
