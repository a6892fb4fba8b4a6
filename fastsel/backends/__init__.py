"""Backends: which there are, which can run here, and why the others can not.

A backend is a module with the primitives that the algorithms in fastsel/schedule.py and
fastsel/neighbors.py are written over, and three names more: NAME, unusable_because(), describe().
Those of _ON_DEVICE keep points in torch tensors, and are imported, with torch, when they are asked
for.
"""

from __future__ import annotations

import importlib
import os
from importlib.util import find_spec
from types import ModuleType
from typing import NamedTuple

from fastsel.backends import cpu, reference
from fastsel.points import Points

# In the order in which "auto" prefers them: for points in host memory, and for those on a device.
_IN_HOST_MEMORY: dict[str, ModuleType] = {module.NAME: module for module in (cpu, reference)}
_ON_DEVICE: dict[str, tuple[str, ...]] = {  # and the packages that they need
    "cuda": ("torch",),
    "triton": ("torch", "triton"),
    "torch": ("torch",),
}
_NAMES = (*_IN_HOST_MEMORY, *_ON_DEVICE)


class BackendStatus(NamedTuple):
    """Whether a backend can run here; `detail` says with what, or else every reason why not."""

    usable: bool
    detail: str


def backends() -> dict[str, BackendStatus]:
    """Which backends are usable on this machine, and for the rest, why not.

    Imports torch where it is installed.

    >>> import fastsel
    >>> fastsel.backends()["reference"].usable
    True
    """
    status = {}
    for name in _NAMES:
        reasons = _unusable_because(name)
        status[name] = BackendStatus(
            not reasons, "; ".join(reasons) or str(_module(name).describe())
        )
    return status


def resolve(backend: str, *points: Points) -> ModuleType:
    """The module of the named backend, or of the best usable one for "auto".

    "auto" is first replaced by the value of the environment's FASTSEL_BACKEND, if set. Where one of
    the points is a tensor on a device, the best one is of those that leave it there.

    Raises ValueError for a name that does not exist, RuntimeError with every reason for one that
    can not run.
    """
    source = "backend"
    if backend == "auto" and os.environ.get("FASTSEL_BACKEND"):
        source, backend = "FASTSEL_BACKEND", os.environ["FASTSEL_BACKEND"]
    if backend == "auto":
        on_device = any(one.is_tensor for one in points)
        names = tuple(_ON_DEVICE if on_device else _IN_HOST_MEMORY)
        return _module(next(name for name in names if not _unusable_because(name)))
    if backend not in _NAMES:
        names = ("auto", *_NAMES)
        raise ValueError(f"{source} must be one of {', '.join(map(repr, names))}, got {backend!r}")
    reasons = _unusable_because(backend)
    if reasons:
        raise RuntimeError(f"{source} {backend!r} can not run here: {'; '.join(reasons)}")
    return _module(backend)


def _module(name: str) -> ModuleType:
    return _IN_HOST_MEMORY.get(name) or importlib.import_module(f"fastsel.backends.{name}")


def _unusable_because(name: str) -> list[str]:
    missing = [package for package in _ON_DEVICE.get(name, ()) if find_spec(package) is None]
    if missing:
        return [f"the package {package} is not installed" for package in missing]
    try:
        reasons: list[str] = _module(name).unusable_because()
    except ImportError as error:  # of a package that is there, but broken
        return [str(error)]
    return reasons
