"""What this process uses: processor time, and resident memory from ``/proc`` where there is one."""

from __future__ import annotations

import os
import time
from typing import NamedTuple


class Usage(NamedTuple):
    """Totals of this process; 0 where unknown."""

    cpu_s: float
    memory_bytes: int


def read() -> Usage:
    """Reads the totals now."""
    try:
        with open("/proc/self/statm", "rb") as file:
            pages = int(file.read().split()[1])
        memory_bytes = pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        memory_bytes = 0
    return Usage(time.process_time(), memory_bytes)
