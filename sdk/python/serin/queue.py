"""The queue between ``emit`` and the sender: one open batch, then sealed batches with numbers.

``emit`` appends under a short lock and never waits. An event is refused, and counted, before it
enters; once it is in a numbered batch it is never dropped, so that a producer's numbers have no
holes. Times are given out here too, since "sealed up to" must agree with them. No IO.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, replace
from typing import Callable, Deque, List, NamedTuple, Optional, Tuple

from . import dropped
from .clock import Ulids
from .wire import batch, name
from .wire.trace import Trace

#: A batch is sealed at this size: the bus syncs to disk per message, and reaches most of the disk's
#: speed at 100 KB.
SEAL_BYTES = 128 << 10
#: Largest event. With an open batch before it, it stays below NATS's default of 1 MiB per message.
EVENT_BYTES_MAX = 512 << 10
#: A clock set back by less than this is bridged by standing still; by more, we go back with it.
STEP_BACK_US = 1_000_000


@dataclass(frozen=True)
class Batch:
    """A sealed batch: one message, with its number."""

    number: int
    events: int
    #: Every event emitted with a time up to this is in this batch or an earlier one.
    sealed_us: int
    payload: bytes

    def with_payload(self, payload: bytes) -> Batch:
        """The same message with other bytes."""
        return replace(self, payload=payload)


class Mark(NamedTuple):
    """Acknowledged up to this number; complete up to this time."""

    number: int
    time_us: int


class Queue:
    """See the module."""

    def __init__(
        self,
        head: bytes,
        now_us: Callable[[], int],
        bytes_max: int,
        wake: Callable[[], None],
    ) -> None:
        self.head = head
        self._now_us = now_us
        self._bytes_max = bytes_max
        #: Told when there is something new for the sender.
        self._wake = wake
        self._lock = threading.Lock()
        self._open = bytearray(head)
        self._open_events = 0
        self._ulids = Ulids()
        self._number = 1
        #: Times given from now on are not before this, unless the clock was set back a lot.
        self._floor_us = now_us()
        self._sealed: Deque[Batch] = deque()
        self._mark = Mark(0, self._floor_us - 1)
        self._held_bytes = 0
        self._waiters: List[Tuple[int, Callable[[bool], None]]] = []
        self._is_closed = False
        self._is_abandoned = False
        self.is_spill_full = False
        self.emitted = 0
        self.acknowledged = 0
        #: Events in whose place a message without any went.
        self.lost = 0

    def push(self, kind: str, data: bytes, trace: Optional[Trace], arm: Optional[str]) -> str:
        """Appends an event; the reason why not, else an empty text."""
        if not isinstance(kind, str) or not name.is_type(kind):
            return dropped.BAD_TYPE
        size = len(data)
        if size > EVENT_BYTES_MAX:
            return dropped.TOO_LARGE
        with self._lock:
            if self._is_closed:
                return dropped.DRAINED
            if self._held_bytes + len(self._open) + size > self._bytes_max:
                return dropped.SPILL_FULL if self.is_spill_full else dropped.QUEUE_FULL
            now_us = self._now_us()
            is_news = not self._open_events
            if not is_news and len(self._open) + size > SEAL_BYTES:
                self._seal_open(now_us)
                is_news = True
            ulid, time_us = self._ulids.next(now_us), self._time(now_us)
            batch.put_event(self._open, ulid, kind, time_us, trace, arm, data)
            self._open_events += 1
            self.emitted += 1
        if is_news:
            self._wake()
        return ""

    def open_number(self) -> Optional[int]:
        """The number of the open batch, if an event is in it."""
        with self._lock:
            return self._number if self._open_events else None

    def seal(self) -> int:
        """Seals the open batch, if an event is in it; the last number that is sealed."""
        with self._lock:
            if self._open_events:
                self._seal_open(self._now_us())
            return self._number - 1

    def _seal_open(self, now_us: int) -> None:
        payload = bytes(self._open)
        sealed = Batch(self._number, self._open_events, self._promise(now_us), payload)
        self._held_bytes += len(payload)
        self._number += 1
        self._sealed.append(sealed)
        self._open = bytearray(self.head)
        self._open_events = 0

    def pop(self) -> Optional[Batch]:
        """The oldest sealed batch; its bytes stay counted until :meth:`release`."""
        with self._lock:
            return self._sealed.popleft() if self._sealed else None

    def put_back(self, sealed: Batch) -> None:
        """Puts back what :meth:`pop` gave."""
        with self._lock:
            self._sealed.appendleft(sealed)

    def release(self, sealed: Batch) -> None:
        """A batch left memory, for the disk or because it was acknowledged."""
        with self._lock:
            self._held_bytes -= len(sealed.payload)

    def is_half_full(self) -> bool:
        """Whether half of the memory is taken."""
        return self._held_bytes > self._bytes_max // 2

    def acknowledge(self, sealed: Batch) -> None:
        """The bus has this batch and all before it."""
        with self._lock:
            self._mark = Mark(sealed.number, sealed.sealed_us)
            if sealed.payload == self.head:
                self.lost += sealed.events
            else:
                self.acknowledged += sealed.events
            reached = [tell for number, tell in self._waiters if number <= sealed.number]
            self._waiters = [one for one in self._waiters if one[0] > sealed.number]
        for tell in reached:
            tell(True)

    def when_acknowledged(self, tell: Callable[[bool], None]) -> None:
        """Calls, from any thread, once everything emitted before is acknowledged, or never will be."""
        number = self.seal()
        with self._lock:
            is_there = self._mark.number >= number
            is_waiting = not is_there and not self._is_abandoned
            if is_waiting:
                self._waiters.append((number, tell))
        if is_waiting:
            self._wake()
        else:
            tell(is_there)

    def abandon(self) -> None:
        """The sender has ended: whoever waits is told that it will not be."""
        with self._lock:
            self._is_abandoned = True
            waiters, self._waiters = self._waiters, []
        for _, tell in waiters:
            tell(False)

    @property
    def pending(self) -> int:
        """Events that were taken and neither reached the bus nor are lost."""
        return max(0, self.emitted - self.acknowledged - self.lost)

    def mark(self) -> Mark:
        """Up to when everything emitted is acknowledged. With nothing under way that is this moment,
        and no later event will get an earlier time."""
        with self._lock:
            if not self._open_events and self._mark.number + 1 == self._number:
                self._mark = Mark(self._mark.number, self._promise(self._now_us()))
            return self._mark

    def close(self) -> None:
        """Refuses all further events."""
        with self._lock:
            self._is_closed = True

    def forget_parent(self) -> None:
        """In a forked child: the lock may have been held, and no thread of ours lives here."""
        self._lock = threading.Lock()
        self._is_closed = True

    def _time(self, now_us: int) -> int:
        if self._floor_us - now_us <= STEP_BACK_US:
            return max(now_us, self._floor_us)
        return now_us

    def _promise(self, now_us: int) -> int:
        """The time before which no later event will be; "up to" is inclusive, hence one less."""
        self._floor_us = self._time(now_us)
        return self._floor_us - 1
