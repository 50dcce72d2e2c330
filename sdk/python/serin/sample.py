"""Which spans are told: all while they fit the budget, beyond it whole traces by their identity, and
always the failed and the slow.

A trace is kept where the random bits of its identity are at or above a threshold that rises with the load
(W3C trace context level 2). So what a busy service keeps, a less busy one keeps too, and traces stay whole
without asking anybody; the rule is that of the other SDKs. ``now`` is a parameter. Start at :class:`Sampler`.
"""

from __future__ import annotations

import threading
from typing import Dict, NamedTuple

from .wire.histogram import BUCKETS, Histogram, bucket_of
from .wire.trace import SAMPLED, Trace

#: Spans told per second and process: at some 400 bytes each, 200 KB.
SPANS_PER_S = 500
WINDOW_S = 1.0
#: A window ends early once it had this many, so that a burst is met at once.
OFFERED_MAX = 1_000
#: A percentile of fewer durations says nothing.
DURATIONS_MIN = 100
#: Names whose durations are followed; a process has few, unless names are made of data.
NAMES_MAX = 256
#: The random bits of a trace identity, by W3C.
RANDOM_RANGE = 1 << 56


class Offer(NamedTuple):
    """What is known of a span when it ends."""

    trace: Trace
    name: str
    duration_us: int
    has_failed: bool


class _Durations:
    """How long the spans of a name took in this window, and which bucket is slow by the last one."""

    def __init__(self, slow_above: int = BUCKETS) -> None:
        self.window = Histogram()
        #: A span in a higher bucket is slow.
        self.slow_above = slow_above

    def next(self) -> _Durations:
        """For the next window; one that had too few durations goes on."""
        if self.window.count < DURATIONS_MIN:
            return self
        return _Durations(self.window.bucket_at(0.99))


class Sampler:
    """See the module."""

    def __init__(self, now: float) -> None:
        self._lock = threading.Lock()
        self._opened = now
        self._offered = 0
        #: The share of traces that is kept.
        self._share = 1.0
        self._names: Dict[str, _Durations] = {}

    def takes(self, trace_id: int) -> bool:
        """Whether a new trace of this identity is one that is kept."""
        return _is_within(trace_id, self._share)

    def keeps(self, offer: Offer, now: float) -> bool:
        """Whether a span is told."""
        with self._lock:
            if now - self._opened >= WINDOW_S or self._offered >= OFFERED_MAX:
                self._roll(now)
            self._offered += 1
            is_slow = self._is_slow(offer.name, offer.duration_us)
        if offer.has_failed or is_slow:
            return True
        is_sampled = bool(offer.trace.flags & SAMPLED)
        return is_sampled and _is_within(offer.trace.trace_id, self._share)

    def _roll(self, now: float) -> None:
        per_s = self._offered / max(now - self._opened, 1e-3)
        self._share = min(SPANS_PER_S / max(per_s, 1.0), 1.0)
        self._opened = now
        self._offered = 0
        used = {name: one for name, one in self._names.items() if one.window.count}
        self._names = {name: one.next() for name, one in used.items()}

    def _is_slow(self, name: str, duration_us: int) -> bool:
        durations = self._names.get(name)
        if durations is None:
            if len(self._names) >= NAMES_MAX:
                return False
            durations = self._names[name] = _Durations()
        durations.window.record(duration_us)
        return bucket_of(duration_us) > durations.slow_above


def _is_within(trace_id: int, share: float) -> bool:
    return trace_id % RANDOM_RANGE >= (1.0 - share) * RANDOM_RANGE
