"""Builds the native cores of fastsel; everything else is in pyproject.toml.

FASTSEL_BUILD says which:
  auto  (default) the CPU core, and the CUDA core where nvcc is found; what a compiler can not build
        is left out, with the reason in `fastsel.backends()`
  cpu   the CPU core, or the build fails
  cuda  both cores, or the build fails
  none  no native code
nvcc is that of $CUDA_HOME, or else the one on PATH. No GPU is needed to build.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError
from setuptools.modified import newer_group

MODES = ("auto", "cpu", "cuda", "none")

CPU_CORE, CUDA_CORE = "fastsel._core_cpu", "fastsel._core_cuda"

KERNELS = sorted(str(path) for path in Path("csrc/cpu").glob("*.cpp") if path.stem != "dispatch")
CUDA_KERNELS = sorted(str(path) for path in Path("csrc/cuda").glob("*.cu"))

# No contraction to fused multiply-adds: canonical distances round every operation once. Kernels
# whose results are checked afterwards ask for them explicitly.
# -Wno-psabi: vectors passed between functions are only ever passed within one instruction set.
FLAGS = ["-std=c++17", "-O3", "-g0", "-fvisibility=hidden", "-ffp-contract=off"]
# -Wno-maybe-uninitialized and the like: GCC 12 warns of its own AVX-512 header (GCC bug 105593).
FLAGS += ["-Wall", "-Wextra", "-Wno-psabi", "-Wno-maybe-uninitialized", "-Wno-uninitialized"]
FLAGS += shlex.split(os.environ.get("CXXFLAGS", ""))  # those of whoever builds, last

# One build of every kernel file for each level; the best one that the processor has is picked at
# import, so a wheel runs on any machine of its architecture.
LEVELS = {"baseline": []}
if platform.machine() in ("x86_64", "AMD64"):
    LEVELS["avx2"] = ["-mavx2", "-mfma", "-mf16c"]
    LEVELS["avx512"] = [
        "-mavx512f",
        "-mavx512bw",
        "-mavx512dq",
        "-mavx512vl",
        "-mavx512vnni",
        "-mfma",
        "-mf16c",
        "-mprefer-vector-width=512",
    ]


# Machine code for these, and an intermediate form that a driver translates for the rest.
CUDA_ARCHITECTURES = ("80", "90a", "100")
CUDA_INTERMEDIATE = "80"
# No contraction here either: the filter's arithmetic is the one that the tests run.
CUDA_FLAGS = ["-std=c++17", "-O3", "--fmad=false", "-Xcompiler", "-fPIC,-fvisibility=hidden,-g0"]


def build_mode() -> str:
    mode = os.environ.get("FASTSEL_BUILD", "auto")
    if mode not in MODES:
        raise SystemExit(f"FASTSEL_BUILD must be one of {', '.join(MODES)}, got {mode!r}")
    if mode == "cuda" and find_nvcc() is None:
        raise SystemExit("FASTSEL_BUILD=cuda: nvcc was not found; set CUDA_HOME, or PATH")
    return mode


def find_nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME")
    return shutil.which("nvcc", path=f"{home}/bin" if home else None)


class BuildCores(build_ext):
    """Compiles each CPU kernel file once per level, CUDA's once, and records how it went."""

    def run(self) -> None:
        self.mode = build_mode()
        self.left_out: dict[str, str] = {}
        names = [ext.name for ext in self.extensions]
        for ext in list(self.extensions):
            if self.mode == "none" or (self.mode == "cpu" and ext.name == CUDA_CORE):
                self.leave_out(ext, f"FASTSEL_BUILD={self.mode}")
            elif ext.name == CUDA_CORE and find_nvcc() is None:
                self.leave_out(ext, "nvcc was not found")
        super().run()
        for name in names:
            path = Path(self.get_ext_fullpath(name))
            if name in self.left_out:
                path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            record = path.with_name(f"{name.removeprefix('fastsel.')}.build.txt")
            record.write_text(self.left_out.get(name, "built") + "\n")

    def build_extensions(self) -> None:
        for ext in list(self.extensions):
            try:
                self.build_extension(ext)
            except (BaseError, CCompilerError, OSError, subprocess.CalledProcessError) as error:
                if self.mode != "auto":
                    raise
                self.leave_out(ext, f"the compiler failed: {error}")
                self.warn(f"building without {ext.name}: {error}")

    def leave_out(self, ext: Extension, reason: str) -> None:
        self.extensions = [other for other in self.extensions if other is not ext]
        self.left_out[ext.name] = f"not built: {reason}"

    def build_extension(self, ext: Extension) -> None:
        if ext.name == CUDA_CORE:
            self.build_cuda(ext)
        else:
            self.build_cpu(ext)

    def build_cuda(self, ext: Extension) -> None:
        import pybind11

        target = Path(self.get_ext_fullpath(ext.name))
        if not self.force and not newer_group(ext.depends, str(target)):
            return
        folder = Path(self.build_temp) / "cuda"
        folder.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        nvcc = [str(find_nvcc())]
        if compiler := os.environ.get("CXX"):
            nvcc += ["-ccbin", compiler]
        codes = [(a, f"sm_{a}") for a in CUDA_ARCHITECTURES]
        codes.append((CUDA_INTERMEDIATE, f"compute_{CUDA_INTERMEDIATE}"))
        gencode = [f"-gencode=arch=compute_{a},code={code}" for a, code in codes]

        def compile_kernel(source: str) -> str:
            out = str(folder / f"{Path(source).stem}.o")
            subprocess.run(
                [*nvcc, *CUDA_FLAGS, *gencode, "-Icsrc", "-c", source, "-o", out], check=True
            )
            return out

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compile_kernel, CUDA_KERNELS))
        objects += self.compiler.compile(
            ext.sources,
            output_dir=self.build_temp,
            macros=[
                ("FASTSEL_MODULE", "_core_cuda"),
                ("FASTSEL_ARCHITECTURES", '"' + " ".join(code for _, code in codes) + '"'),
            ],
            include_dirs=["csrc", pybind11.get_include(), *self.include_dirs],
            extra_postargs=FLAGS,
        )
        subprocess.run(
            [*nvcc, "-shared", "-cudart", "static", *objects, "-o", str(target)], check=True
        )

    def build_cpu(self, ext: Extension) -> None:
        import pybind11

        openmp = ["-fopenmp"] if self.compiles("-fopenmp") else []
        flags = [*FLAGS, *openmp]
        include_dirs = ["csrc", pybind11.get_include()]

        def compile_kernel(task: tuple[str, str]) -> list[str]:
            level, source = task
            return self.compiler.compile(
                [source],
                output_dir=str(Path(self.build_temp) / level),
                macros=[("FASTSEL_LEVEL", level)],
                include_dirs=include_dirs,
                extra_postargs=[*flags, *LEVELS[level]],
                depends=ext.depends,
            )

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for objects in pool.map(compile_kernel, product(LEVELS, KERNELS)):
                ext.extra_objects += objects
        ext.define_macros += [(f"FASTSEL_HAS_{level.upper()}", "1") for level in LEVELS]
        ext.include_dirs += include_dirs
        ext.extra_compile_args += flags
        ext.extra_link_args += openmp
        super().build_extension(ext)

    def compiles(self, flag: str) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "flag.cpp"
            source.write_text("int main() { return 0; }\n")
            try:
                self.compiler.compile([str(source)], output_dir=folder, extra_postargs=[flag])
            except CCompilerError:
                return False
        return True


def sources_in(*patterns: str) -> list[str]:
    return sorted(str(path) for pattern in patterns for path in Path("csrc").glob(pattern))


setup(
    packages=["fastsel", "fastsel.backends", "fastsel.backends.device", "fastsel.kernels"],
    package_dir={"fastsel.kernels": "kernels"},
    package_data={"fastsel": ["py.typed", "_core_cpu.build.txt", "_core_cuda.build.txt"]},
    ext_modules=[
        Extension(
            CPU_CORE,
            ["csrc/bindings_cpu.cpp", "csrc/cpu/dispatch.cpp"],
            language="c++",
            depends=["setup.py", *sources_in("*.h", "cpu/*")],
        ),
        Extension(
            CUDA_CORE,
            ["csrc/bindings_cuda.cpp"],
            language="c++",
            depends=["setup.py", "csrc/bindings_cuda.cpp", *sources_in("*.h", "cuda/*")],
        ),
    ],
    cmdclass={"build_ext": BuildCores},
)
