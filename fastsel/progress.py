"""Progress of long calls, on standard error or to a callable of the user's."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

ProgressOption = bool | Callable[[int, int], object]

INTERVAL = 0.2  # seconds between two reports: often enough to be alive, too rare to cost


class Progress:
    """Reports `done` of `total` to the user, at most every INTERVAL seconds and at the end."""

    def __init__(self, option: ProgressOption, what: str, total: int) -> None:
        if not isinstance(option, bool) and not callable(option):
            raise TypeError(
                f"progress must be a bool or a callable of (done, total), got {option!r}"
            )
        self._option = option
        self._what = what
        self._total = total
        self._start = self._last = time.monotonic()

    def update(self, done: int) -> None:
        """Say that `done` of the total are done."""
        if self._option is False:
            return
        now = time.monotonic()
        if now - self._last < INTERVAL and done < self._total:
            return
        self._last = now
        if callable(self._option):
            self._option(done, self._total)
            return
        end = "\n" if done == self._total else ""
        seconds = now - self._start
        print(
            f"\r{self._what}: {done:,} of {self._total:,} ({seconds:.0f} s)",
            end=end,
            file=sys.stderr,
            flush=True,
        )
