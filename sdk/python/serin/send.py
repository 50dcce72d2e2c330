"""Sends batches in order and keeps each until the bus has acknowledged it.

Runs in a loop and thread of its own. A few messages are under way at a time; when one is refused,
times out or the connection breaks, all that are not acknowledged are sent again in order, under the
same numbers, one at a time until one is taken. What was under way with a refused one may overtake
it, and the numbers tell. While the bus is away, batches go to disk. Start at :meth:`Sender.run`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from typing import Deque, Dict, List, NamedTuple, Optional, Tuple

from nats.aio.msg import Msg
from nats.errors import MaxPayloadError

from . import clock, dropped
from .bus import Away, Bus
from .dropped import Dropped
from .queue import Batch, Queue
from .spill import Spill
from .telemetry import Lines
from .wire import batch as wire_batch

#: An open batch waits this long for more events; longer while the bus is away.
SEAL_AFTER_S = 0.025
SEAL_AFTER_AWAY_S = 1.0
#: Messages under way: enough to keep the disk of the bus busy, few to send again.
WINDOW = 8
#: An acknowledgement that takes longer is not awaited.
ACK_WITHIN_S = 5.0
#: A refused message is sent again after this, doubling up to the second.
BACKOFF_S = (0.05, 2.0)
#: JetStream's code for a message that is larger than the stream takes; it will not take it later.
MESSAGE_TOO_LARGE = 10_054
#: Spans, logs and requests go out this often.
LINES_EVERY_S = 0.25
#: The longest sleep: a full disk is tried again.
LOOK_EVERY_S = 1.0
_log = logging.getLogger(__name__)


class _Flight:
    """A batch in our hands."""

    def __init__(self, batch: Batch, is_on_disk: bool) -> None:
        self.batch = batch
        #: Whether its bytes count as the queue's.
        self.is_held = not is_on_disk
        self.is_on_disk = is_on_disk
        self.is_acked = False
        #: When it was sent, and on which connection.
        self.sent: Optional[Tuple[float, int]] = None


class Sender:
    """See the module."""

    def __init__(
        self,
        queue: Queue,
        drops: Dropped,
        bus: Bus,
        spill: Optional[Spill],
        subject: str,
        producer: str,
        lines: Dict[str, Lines],
    ) -> None:
        self._queue = queue
        self._dropped = drops
        self._bus = bus
        self._spill = spill
        self._subject = subject
        self._producer = producer
        #: What is told beside events, by subject.
        self._lines = lines
        #: Acknowledgements come to ``<inbox>.<number>``.
        self._inbox = bus.new_inbox()
        self._window: Deque[_Flight] = deque()
        self._acks: List[Msg] = []
        self._woken = asyncio.Event()
        #: The open batch, and when it was first seen.
        self._open_since: Optional[Tuple[int, float]] = None
        self._retry_at = 0.0
        #: When the disk, which refused or was full, is tried again.
        self._disk_again_at = 0.0
        self._is_disk_failing = False
        self._backoff_s = BACKOFF_S[0]
        self._lines_at = 0.0
        self._deadline: Optional[float] = None

    def wake(self) -> None:
        """There is something new; called in the sender's loop."""
        self._woken.set()

    def stop(self, deadline_s: float) -> None:
        """To be done within this time; called in the sender's loop."""
        self._deadline = clock.monotonic() + deadline_s
        self._woken.set()

    async def run(self) -> bool:
        """Runs until it is stopped; whether everything was acknowledged."""
        loop = asyncio.get_running_loop()
        await self._bus.subscribe(f"{self._inbox}.*", self._take)
        while True:
            self._woken.clear()
            self._take_acks()
            await self._step()
            wait_s = self._wake_at() - clock.monotonic()
            if self._deadline is not None:
                left_s = self._deadline - clock.monotonic()
                if self._is_done() or left_s <= 0:
                    break
                wait_s = min(wait_s, left_s)
            timer = loop.call_later(max(wait_s, 0), self._woken.set)
            await self._woken.wait()
            timer.cancel()
        return self._leave()

    async def _step(self) -> None:
        """One round: seal what is old, then send, or put on disk while the bus is away."""
        is_away = self._is_away()
        self._seal_old(is_away)
        self._recall()
        if is_away:
            self._move_to_disk()
            return
        await self._send_all()
        is_disk_behind = self._spill is not None and not self._spill.is_all_read()
        if self._queue.is_half_full() and (is_disk_behind or len(self._window) >= self._width()):
            self._move_to_disk()
        await self._send_lines()

    def _is_away(self) -> bool:
        return self._retry_at > clock.monotonic() or not self._bus.is_connected

    def _is_done(self) -> bool:
        is_read = self._spill is None or self._spill.is_all_read()
        return not self._window and is_read and not self._queue.pending

    def _seal_old(self, is_away: bool) -> None:
        number = self._queue.open_number()
        if number is None:
            self._open_since = None
            return
        now = clock.monotonic()
        seen = self._open_since
        since = seen[1] if seen and seen[0] == number else now
        wait_s = SEAL_AFTER_AWAY_S if is_away else SEAL_AFTER_S
        if self._deadline is not None or now - since >= wait_s:
            self._queue.seal()
            self._open_since = None
        else:
            self._open_since = (number, since)

    def _recall(self) -> None:
        """Marks as not sent what died with its connection or was not acknowledged in time."""
        now = clock.monotonic()
        is_late = False
        for flight in self._window:
            if flight.is_acked or flight.sent is None:
                continue
            at, connection = flight.sent
            if connection != self._bus.connection:
                flight.sent = None
            elif now - at > ACK_WITHIN_S:
                is_late = True
        if is_late:
            _log.warning("the bus does not acknowledge events; they are kept and sent again")
            self._back_off()

    def _back_off(self) -> None:
        """Everything under way is sent again, a little later each time."""
        self._retry_at = clock.monotonic() + self._backoff_s
        self._backoff_s = min(self._backoff_s * 2, BACKOFF_S[1])
        for flight in self._window:
            flight.sent = None

    def _width(self) -> int:
        """How many may be under way: after a refusal the oldest alone, until one is taken.

        A full stream might have room for a smaller one behind it, and is not asked eight times.
        """
        return 1 if self._backoff_s > BACKOFF_S[0] else WINDOW

    async def _send_all(self) -> None:
        width = self._width()
        for flight in list(self._window)[:width]:
            if not await self._send(flight):
                return
        while len(self._window) < width:
            flight_or_none = self._next_flight()
            if flight_or_none is None:
                return
            self._window.append(flight_or_none)
            if not await self._send(flight_or_none):
                return

    def _next_flight(self) -> Optional[_Flight]:
        """The oldest batch that waits: what is on disk is older than what is in memory."""
        spilled = self._spill.next() if self._spill else None
        if spilled:
            batch, is_whole = spilled
            return _Flight(batch if is_whole else self.emptied(batch, dropped.SPILL_LOST), True)
        popped = self._queue.pop()
        return _Flight(popped, False) if popped else None

    def emptied(self, lost: Batch, reason: str) -> Batch:
        """A message without events in place of one that cannot be sent: numbers have no holes."""
        self._dropped.count(reason, lost.events)
        _log.error("%d events are lost: %s", lost.events, reason)
        return lost.with_payload(self._queue.head)

    async def _send(self, flight: _Flight) -> bool:
        """Sends one flight unless it is under way already; whether the next may follow."""
        if flight.sent is not None or flight.is_acked:
            return True
        batch = flight.batch
        reply = f"{self._inbox}.{batch.number}"
        sent = (clock.monotonic(), self._bus.connection)
        try:
            await self._bus.publish(
                self._subject, batch.payload, reply, headers(self._producer, 0, batch.number)
            )
        except MaxPayloadError:
            self._give_up(flight)
            return await self._send(flight)
        except Away:
            self._back_off()
            return False
        flight.sent = sent
        return True

    def _give_up(self, flight: _Flight) -> None:
        """Has a message without events go in place of one that is larger than the bus takes."""
        if flight.is_held:
            flight.is_held = False
            self._queue.release(flight.batch)
        flight.batch = self.emptied(flight.batch, dropped.TOO_LARGE)
        flight.sent = None

    async def _take(self, ack: Msg) -> None:
        self._acks.append(ack)
        self._woken.set()

    def _take_acks(self) -> None:
        if not self._acks:
            return
        acks, self._acks = self._acks, []
        is_refused = not all([self._take_ack(ack) for ack in acks])
        while self._window and self._window[0].is_acked:
            flight = self._window.popleft()
            if flight.is_held:
                self._queue.release(flight.batch)
            if self._spill:
                self._spill.acknowledge(flight.batch.number)
            self._queue.acknowledge(flight.batch)
        if is_refused:
            self._back_off()
        else:
            self._backoff_s, self._retry_at = BACKOFF_S[0], 0.0

    def _take_ack(self, ack: Msg) -> bool:
        """Marks the flight it is for; ``False`` where the bus refused."""
        number = ack.subject.rpartition(".")[2]
        for flight in self._window:
            if str(flight.batch.number) == number and not flight.is_acked:
                refusal = read_ack(ack)
                if refusal and refusal.is_final and flight.batch.payload != self._queue.head:
                    self._give_up(flight)
                elif refusal:
                    words = refusal.words
                    _log.debug("the bus refused events, they are kept and sent again: %s", words)
                    return False
                else:
                    flight.is_acked = True
        return True

    def _move_to_disk(self) -> None:
        """Moves to disk what is not acknowledged: first what is under way, then what waits."""
        now = clock.monotonic()
        if self._spill is None or self._disk_again_at > now:
            return
        is_full = False
        for flight in self._window:
            if flight.is_on_disk or flight.is_acked:
                continue
            if not self._store(flight.batch, True):
                is_full = True
                break
            flight.is_on_disk = True
            if flight.is_held:
                flight.is_held = False
                self._queue.release(flight.batch)
        while not is_full:
            batch = self._queue.pop()
            if batch is None:
                break
            if self._store(batch, False):
                self._queue.release(batch)
            else:
                self._queue.put_back(batch)
                is_full = True
        self._disk_again_at = now + LOOK_EVERY_S if is_full else 0.0
        self._queue.is_spill_full = is_full

    def _store(self, batch: Batch, is_read: bool) -> bool:
        assert self._spill is not None
        if not self._spill.has_room(batch):
            return False
        try:
            self._spill.append(batch, is_read)
        except OSError as error:
            if not self._is_disk_failing:
                folder = self._spill.folder
                _log.warning("cannot keep events in %s while the bus is away: %s", folder, error)
            self._is_disk_failing = True
            return False
        self._is_disk_failing = False
        return True

    async def _send_lines(self) -> None:
        """Telemetry: what the bus does not get in time is not kept."""
        if self._lines_at > clock.monotonic() and self._deadline is None:
            return
        self._lines_at = clock.monotonic() + LINES_EVERY_S
        for subject, lines in self._lines.items():
            taken = lines.take()
            if taken:
                try:
                    await self._bus.publish(subject, taken)
                except (Away, MaxPayloadError):
                    lines.lose(taken)

    def _wake_at(self) -> float:
        """When there is something to do by the clock."""
        now = clock.monotonic()
        is_away = self._is_away()
        at = now + (LOOK_EVERY_S if is_away else LINES_EVERY_S)
        if self._open_since:
            wait_s = SEAL_AFTER_AWAY_S if is_away else SEAL_AFTER_S
            at = min(at, self._open_since[1] + wait_s)
        return min(at, self._retry_at) if self._retry_at > now else at

    def _leave(self) -> bool:
        """Leaves what is not acknowledged on disk for the next run, and counts what nobody will send;
        whether there was nothing."""
        self._queue.seal()
        is_done = self._is_done()
        if not is_done:
            self._disk_again_at = 0.0
            self._move_to_disk()
            self._abandon()
        if self._spill:
            self._spill.close()
        return is_done

    def _abandon(self) -> None:
        batches = [
            flight.batch for flight in self._window if not flight.is_on_disk and not flight.is_acked
        ]
        batch = self._queue.pop()
        while batch is not None:
            batches.append(batch)
            batch = self._queue.pop()
        abandoned = sum(batch.events for batch in batches)
        if abandoned:
            self._dropped.count(dropped.ABANDONED, abandoned)
            _log.error("%d events are lost: neither the bus nor the disk took them", abandoned)
        for lines in self._lines.values():
            lines.lose(lines.take())


def headers(producer: str, epoch: int, number: int) -> Dict[str, str]:
    """The headers of a batch."""
    return {
        "Nats-Msg-Id": f"{producer}/{epoch}/{number}",
        "content-type": wire_batch.CONTENT_TYPE,
    }


class Refusal(NamedTuple):
    """Why JetStream does not have a message."""

    words: str
    #: Whether it will not be taken later either.
    is_final: bool = False


def read_ack(ack: Msg) -> Optional[Refusal]:
    """``None`` where JetStream has the message."""
    if (ack.headers or {}).get("Status") == "503":
        return Refusal("no stream takes events")
    try:
        answer = json.loads(ack.data)
        # A refusal has a sequence as well: 0.
        error = answer.get("error")
        if error:
            return Refusal(str(error["description"]), error["err_code"] == MESSAGE_TOO_LARGE)
        return None if "seq" in answer else Refusal("no answer")
    except (ValueError, KeyError, TypeError, AttributeError):
        return Refusal("no answer")
