"""Counts of what was not taken, by reason. Nothing is dropped without being counted here."""

from __future__ import annotations

import threading
from typing import Dict

#: The queue in memory is full and there is no spill folder.
QUEUE_FULL = "queue-full"
#: The queue in memory and the spill folder are full.
SPILL_FULL = "spill-full"
#: A span that was neither failed nor slow, of a trace beyond the budget or not to be sampled.
SPAN_SAMPLED = "span-sampled"
#: The data are not a JSON object.
NOT_AN_OBJECT = "not-an-object"
#: The data cannot be written as JSON.
NOT_JSON = "not-json"
#: The event is larger than the bus takes.
TOO_LARGE = "too-large"
#: The event type breaks the rules of names.
BAD_TYPE = "bad-type"
#: It came after the drain.
DRAINED = "drained"
#: The spill folder did not give it back.
SPILL_LOST = "spill-lost"
#: At the end it was neither acknowledged nor on disk.
ABANDONED = "abandoned"


class Dropped:
    """One counter per reason."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Dict[str, int] = {}

    def count(self, reason: str, count: int = 1) -> bool:
        """Counts; whether these are the first for this reason, which is worth a line in the log."""
        with self._lock:
            before = self._counts.get(reason, 0)
            self._counts[reason] = before + count
        return before == 0

    def by_reason(self) -> Dict[str, int]:
        """The reasons that occurred."""
        with self._lock:
            return dict(self._counts)
