"""Backends: which there are, which can run here, and why the others can not.

A backend is a module with the primitives that the algorithms in fastsel/schedule.py and
fastsel/neighbors.py are written over, and three names more: NAME, unusable_because(), describe().
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import NamedTuple

from fastsel.backends import cpu, reference

# In the order in which "auto" prefers them.
_BACKENDS: dict[str, ModuleType] = {module.NAME: module for module in (cpu, reference)}


class BackendStatus(NamedTuple):
    """Whether a backend can run here; `detail` says with what, or else every reason why not."""

    usable: bool
    detail: str


def backends() -> dict[str, BackendStatus]:
    """Which backends are usable on this machine, and for the rest, why not.

    >>> import fastsel
    >>> fastsel.backends()["reference"].usable
    True
    """
    status = {}
    for name, module in _BACKENDS.items():
        reasons = module.unusable_because()
        status[name] = BackendStatus(not reasons, "; ".join(reasons) or module.describe())
    return status


def resolve(backend: str) -> ModuleType:
    """The module of the named backend, or of the best usable one for "auto".

    "auto" is first replaced by the value of the environment's FASTSEL_BACKEND, if set. Raises
    ValueError for a name that does not exist, RuntimeError with every reason for one that can not
    run.
    """
    source = "backend"
    if backend == "auto" and os.environ.get("FASTSEL_BACKEND"):
        source, backend = "FASTSEL_BACKEND", os.environ["FASTSEL_BACKEND"]
    if backend == "auto":
        return next(module for module in _BACKENDS.values() if not module.unusable_because())
    if backend not in _BACKENDS:
        names = ", ".join(repr(name) for name in ("auto", *_BACKENDS))
        raise ValueError(f"{source} must be one of {names}, got {backend!r}")
    reasons = _BACKENDS[backend].unusable_because()
    if reasons:
        raise RuntimeError(f"{source} {backend!r} can not run here: {'; '.join(reasons)}")
    return _BACKENDS[backend]
