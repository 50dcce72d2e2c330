"""What this process uses: processor time, and resident memory from ``/proc`` where there is one."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

#: A share over less is mostly chance.
SHARE_OVER_AT_LEAST_S = 0.25


class Usage(NamedTuple):
    """Totals of this process; 0 where unknown."""

    cpu_s: float
    memory_bytes: int


class CpuShare:
    """How much of a core was used lately."""

    def __init__(self, cpu_s: float, at: float) -> None:
        self._cpu_s = cpu_s
        self._at = at
        self._share = 0.0

    def next(self, cpu_s: float, at: float) -> float:
        """The share since it was last told, 1.0 being a whole core. Too soon after that it is the
        last one again: a few milliseconds of an ending say nothing of a service."""
        over_s = at - self._at
        if over_s >= SHARE_OVER_AT_LEAST_S:
            self._share = (cpu_s - self._cpu_s) / over_s
            self._cpu_s, self._at = cpu_s, at
        return self._share


def read() -> Usage:
    """Reads the totals now."""
    try:
        with open("/proc/self/statm", "rb") as file:
            pages = int(file.read().split()[1])
        memory_bytes = pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        memory_bytes = 0
    return Usage(time.process_time(), memory_bytes)
