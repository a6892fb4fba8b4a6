"""The machine, the versions and the threads behind a figure; and an environment fair to all."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from pathlib import Path
from typing import Any

# They make NumPy's OpenBLAS use other kernels than it would choose for the processor. Peers stand
# on those kernels: to run them with others would handicap them.
BLAS_OVERRIDES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")

# Each library reads its own, once, when it is loaded.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
)

PACKAGES = (
    "fastsel",
    "numpy",
    "torch",
    "fpsample",
    "skmatter",
    "lightly-mundig",
    "faiss-cpu",
    "scikit-learn",
    "scipy",
    "pykeops",
    "prdc",
    "npeet-plus",
    "infomeasure",
)


def overrides() -> list[str]:
    """Which variables that change NumPy's BLAS are set."""
    return [name for name in BLAS_OVERRIDES if name in os.environ]


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


def restart_with(threads: int, module: str, arguments: list[str]) -> None:
    """Run the module again in an environment with that thread count and no BLAS overrides.

    Returns if the environment is already so. Libraries read it when they are loaded: a new process
    is the one way that holds for all of them.
    """
    wanted = {name: value for name, value in os.environ.items() if name not in BLAS_OVERRIDES}
    wanted |= dict.fromkeys(THREAD_VARIABLES, str(threads))
    if wanted == dict(os.environ):
        return
    for name in overrides():
        print(f"warning: {name} is set; measuring without it", file=sys.stderr, flush=True)
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], wanted)


def describe() -> dict[str, Any]:
    """What a reader needs to judge the figures."""
    import fastsel
    from fastsel.backends import cpu

    return {
        "processor": _processor(),
        "cores": cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "backends": {
            name: status.detail for name, status in fastsel.backends().items() if status.usable
        },
        "fastsel_threads": cpu.threads() if not cpu.unusable_because() else 1,
        "blas": _blas(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    fields = (
        dict(line.split(":", 1) for line in info.read_text().split("\n\n")[0].splitlines())
        if info.is_file()
        else {}
    )
    known = {name.strip(): value.strip() for name, value in fields.items()}
    if "model name" not in known:
        return platform.processor() or platform.machine()
    family = f"family {known.get('cpu family', '?')}, model {known.get('model', '?')}"
    return f"{known['model name']} ({family})"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _blas() -> list[str]:
    """The BLAS libraries in this process and their threads."""
    if importlib.util.find_spec("threadpoolctl") is None:
        return ["unknown: threadpoolctl is not installed"]
    import threadpoolctl

    found = {
        f"{pool['internal_api']} {pool['version']} "
        f"({pool.get('architecture', 'own choice of kernels')}), {pool['num_threads']} threads"
        for pool in threadpoolctl.threadpool_info()
        if pool["user_api"] == "blas"
    }
    if importlib.util.find_spec("torch") is not None:
        import torch

        # Linked into torch, so that threadpoolctl does not see it.
        name = "MKL" if "BLAS_INFO=mkl" in torch.__config__.show() else "another BLAS"
        found.add(f"torch with {name}, {torch.get_num_threads()} threads")
    return sorted(found)
