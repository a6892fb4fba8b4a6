"""Builds the native cores of fastsel; everything else is in pyproject.toml.

FASTSEL_BUILD says which:
  auto  (default) the CPU core; without a working compiler, a package that runs on the reference
        backend, with the reason in `fastsel.backends()`
  cpu   the CPU core, or the build fails
  cuda  the CUDA core too, or the build fails
  none  no native code
"""

from __future__ import annotations

import os
import platform
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

MODES = ("auto", "cpu", "cuda", "none")

KERNELS = sorted(str(path) for path in Path("csrc/cpu").glob("*.cpp") if path.stem != "dispatch")

# No contraction to fused multiply-adds: canonical distances round every operation once. Kernels
# whose results are checked afterwards ask for them explicitly.
# -Wno-psabi: vectors passed between functions are only ever passed within one instruction set.
FLAGS = ["-std=c++17", "-O3", "-g0", "-fvisibility=hidden", "-ffp-contract=off"]
# -Wno-maybe-uninitialized and the like: GCC 12 warns of its own AVX-512 header (GCC bug 105593).
FLAGS += ["-Wall", "-Wextra", "-Wno-psabi", "-Wno-maybe-uninitialized", "-Wno-uninitialized"]

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


def build_mode() -> str:
    mode = os.environ.get("FASTSEL_BUILD", "auto")
    if mode not in MODES:
        raise SystemExit(f"FASTSEL_BUILD must be one of {', '.join(MODES)}, got {mode!r}")
    if mode == "cuda":
        raise SystemExit("FASTSEL_BUILD=cuda: this version has no CUDA core; use auto, cpu or none")
    return mode


class BuildCore(build_ext):
    """Compiles each kernel file once per level and records how the build went."""

    def run(self) -> None:
        self.mode = build_mode()
        if self.mode == "none":
            self.leave_out("FASTSEL_BUILD=none")
            return
        try:
            super().run()
        except (BaseError, CCompilerError, OSError) as error:
            if self.mode != "auto":
                raise
            self.leave_out(f"the compiler failed: {error}")
            self.warn(f"building without the native core: {error}")
        else:
            self.record("built")

    def build_extension(self, ext: Extension) -> None:
        import pybind11

        openmp = ["-fopenmp"] if self.compiles("-fopenmp") else []
        flags = [*FLAGS, *openmp]
        include_dirs = ["csrc", pybind11.get_include()]
        for level, level_flags in LEVELS.items():
            ext.extra_objects += self.compiler.compile(
                KERNELS,
                output_dir=str(Path(self.build_temp) / level),
                macros=[("FASTSEL_LEVEL", level)],
                include_dirs=include_dirs,
                extra_postargs=[*flags, *level_flags],
                depends=ext.depends,
            )
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

    def leave_out(self, reason: str) -> None:
        for ext in self.extensions:
            Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)
        self.extensions = []
        self.record(f"not built: {reason}")

    def record(self, text: str) -> None:
        path = Path(self.get_ext_fullpath("fastsel._core_cpu")).with_name("_core_cpu.build.txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


setup(
    packages=["fastsel", "fastsel.backends", "fastsel.kernels"],
    package_dir={"fastsel.kernels": "kernels"},
    package_data={"fastsel": ["py.typed", "_core_cpu.build.txt"]},
    ext_modules=[
        Extension(
            "fastsel._core_cpu",
            ["csrc/bindings_cpu.cpp", "csrc/cpu/dispatch.cpp"],
            language="c++",
            depends=["setup.py", *map(str, sorted(Path("csrc").rglob("*.[ch]*")))],
        )
    ],
    cmdclass={"build_ext": BuildCore},
)
