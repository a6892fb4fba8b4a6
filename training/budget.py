"""What a command may spend of time and disk before it stops, to be gone on with later."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from training.run import folder_bytes, write_atomic

_HOUR = 3600.0
_GIGABYTE = 1e9


class BudgetSpent(Exception):
    """Time or disk that the user allowed is spent; the run can go on with the same command."""


@dataclass(frozen=True)
class Budget:
    """The limits of one command; None is none.

    Attributes:
        hours: of wall-clock time from ``started``.
        gigabytes: 10^9 bytes that ``folder`` may hold.
        folder: the run folder, or that of several runs.
        started: by ``time.monotonic``.
    """

    folder: Path
    hours: float | None = None
    gigabytes: float | None = None
    started: float = field(default_factory=time.monotonic)

    def check_time(self) -> None:
        """Between two steps.

        Raises:
            BudgetSpent: the time is over.
        """
        if self.hours is not None and time.monotonic() - self.started >= self.hours * _HOUR:
            raise BudgetSpent(f"the time of --max-hours {self.hours:g} is over")

    def write(self, path: Path, content: bytes) -> None:
        """Write a file of the run, whole or not at all (:func:`training.run.write_atomic`).

        Raises:
            BudgetSpent: the folder would hold more than it may, old and new version of the file
                together; nothing was written.
        """
        if self.gigabytes is not None:
            held = folder_bytes(self.folder)
            if held + len(content) > self.gigabytes * _GIGABYTE:
                raise BudgetSpent(
                    f"{self.folder} holds {held:,} bytes and {path.name} needs {len(content):,}"
                    f" more, beyond --max-disk {self.gigabytes:g}"
                )
        write_atomic(path, content)


UNLIMITED = Budget(Path())
