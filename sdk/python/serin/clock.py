"""Where time and randomness enter; everything else takes them as parameters."""

from __future__ import annotations

import random
import time

#: The random part of a ULID, 80 bits; its highest bit of the low 24 stays free, so that counting up
#: within a millisecond has room.
_RANDOM_MASK = (1 << 80) - 1 & ~(1 << 23)
_random = random.SystemRandom()

#: A clock that only goes forward, in seconds.
monotonic = time.perf_counter


def now_us() -> int:
    """Microseconds since 1970 UTC by the system's clock."""
    return time.time_ns() // 1000


def since_us(started: float) -> int:
    """Microseconds since a moment of :data:`monotonic`."""
    return max(0, int((monotonic() - started) * 1e6))


def random_bits(bits: int) -> int:
    """Unpredictable bits, never all zero."""
    return _random.getrandbits(bits) or 1


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
