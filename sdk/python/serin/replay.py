"""Sends on what earlier runs left on disk, under the numbers it had.

Runs beside the sender in its loop, one message at a time: order within a run is kept, and a message
the bus has already is known by its number. A segment is removed once all of it is acknowledged. What
the disk does not give back whole is counted, and its number kept by a message without events, once it
is sure that no later segment has it; a file that cannot be read stays.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Callable, List, Optional, Set

from nats.errors import MaxPayloadError

from . import dropped
from .left import Left
from .link import Link, LinkError
from .queue import Batch
from .segment import Contents
from .send import ACK_WITHIN_S, Refusal, headers, read_ack

#: Gives a message without events in place of one that is lost, which is counted for a reason.
Emptied = Callable[[Batch, str], Batch]
#: Between two tries of the same message.
RETRY_PAUSE_S = 0.5
_log = logging.getLogger(__name__)


class Replay:
    """See the module; start at :meth:`run`."""

    def __init__(self, link: Link, subject: str, emptied: Emptied) -> None:
        self._link = link
        self._subject = subject
        self._emptied = emptied

    async def run(self, left: List[Left]) -> None:
        """Sends everything that is left, however long the bus is away."""
        try:
            for run in left:
                await self._send_run(run)
        finally:
            # Whoever finds that we have ended may take over what is still there.
            for run in left:
                run.release()

    async def _send_run(self, run: Left) -> None:
        events, last = 0, 0
        numbers: Set[int] = set()
        damaged: List[Batch] = []
        is_whole = True
        for path in run.segments():
            contents = _read(run, path, last)
            if contents is None:
                is_whole = False
                continue
            for batch in contents.whole:
                last = batch.number
                numbers.add(last)
                events += batch.events
                await self._deliver(run, batch)
            damaged += contents.damaged
            if contents.damaged:
                _log.error("left events in %s are damaged", path)
            else:
                path.unlink()
        _log.info("sent %d events that an earlier run left", events)
        if not is_whole:
            return
        for lost in damaged:
            if lost.number not in numbers:
                await self._deliver(run, self._emptied(lost, dropped.SPILL_LOST))
        run.remove()

    async def _deliver(self, run: Left, batch: Batch) -> None:
        """Returns once the bus has it."""
        numbered = headers(run.producer, run.epoch, batch.number)
        is_emptied = False
        refusal = await self._send(batch, numbered)
        while refusal:
            if refusal.is_final and not is_emptied:
                is_emptied, batch = True, self._emptied(batch, dropped.TOO_LARGE)
            else:
                await asyncio.sleep(RETRY_PAUSE_S)
            refusal = await self._send(batch, numbered)

    async def _send(self, batch: Batch, numbered: object) -> Optional[Refusal]:
        sent = self._link.request(self._subject, batch.payload, numbered, ACK_WITHIN_S)
        try:
            return read_ack(await sent)
        except MaxPayloadError:
            return Refusal("larger than the bus takes", is_final=True)
        except LinkError as error:
            return Refusal(str(error))


def _read(run: Left, path: Path, after: int) -> Optional[Contents]:
    try:
        return run.read(path, after)
    except OSError as error:
        _log.error("cannot read left events in %s, they stay there: %s", path, error)
        return None
