"""A process for each contender: libraries that bring an OpenMP or BLAS of their own slow each other
down within one process, by half or double, in the order in which they were loaded.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class Failed(Exception):
    """What the other process raised, or that it ended."""


class Worker:
    """An object in a process of its own, whose methods are called from here, one at a time."""

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, make, arguments), daemon=True)
        self._process.start()
        other.close()

    def __call__(self, method: str, *arguments: Any) -> Any:
        """The method's result; Failed with the first line of its error."""
        try:
            self._connection.send((method, arguments))
            good, result = self._connection.recv()
        except (EOFError, OSError):
            raise Failed("its process ended") from None
        if not good:
            raise Failed(result)
        return result

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join()


def _serve(connection: Connection, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    target = make(*arguments)
    while True:
        try:
            method, given = connection.recv()
        except EOFError:
            return
        try:
            answer = True, getattr(target, method)(*given)
        except Exception as error:
            answer = False, str(error).strip().partition("\n")[0] or type(error).__name__
        connection.send(answer)
