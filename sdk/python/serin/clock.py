"""Where time and randomness enter; everything else takes them as parameters."""

from __future__ import annotations

import os
import random
import time

#: The random part of a ULID, 80 bits; its highest bit of the low 24 stays free, so that counting up
#: within a millisecond has room.
_RANDOM_MASK = (1 << 80) - 1 & ~(1 << 23)
_system = random.SystemRandom()
#: Seeded by the system once. Asking the system each time lets go of the interpreter for a moment, and
#: a thread that is woken by such a moment and comes too late waits anew: done each millisecond, that
#: held the beats' thread up for 0.1 s at a time.
_quick = random.Random(_system.getrandbits(256))
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _quick.seed(_system.getrandbits(256)))

#: A clock that only goes forward, in seconds.
monotonic = time.perf_counter


def now_us() -> int:
    """Microseconds since 1970 UTC by the system's clock."""
    return time.time_ns() // 1000


def since_us(started: float) -> int:
    """Microseconds since a moment of :data:`monotonic`."""
    return max(0, int((monotonic() - started) * 1e6))


def secret_bits(bits: int) -> int:
    """Unpredictable bits, never all zero: for names that only we shall know."""
    return _system.getrandbits(bits) or 1


def random_bits(bits: int) -> int:
    """Bits that nobody else has, never all zero: for the ids of events and spans."""
    return _quick.getrandbits(bits) or 1


def random_slot(slots: int) -> int:
    """One of so many slots."""
    return int(random.random() * slots)


class Ulids:
    """Makes ULIDs, each greater than the one before, also when the clock goes back."""

    def __init__(self) -> None:
        self._last = 0

    def next(self, time_us: int) -> int:
        """The next, at this time."""
        millis = max(time_us // 1000, 0) & (1 << 48) - 1
        if millis <= self._last >> 80:
            self._last += 1
        else:
            self._last = millis << 80 | random_bits(80) & _RANDOM_MASK
        return self._last
