"""Sends on what earlier runs left on disk, under the numbers it had.

Runs beside the sender in its loop, one message at a time: order within a run is kept, and a message
the bus has already is known by its number. A folder is removed once all of it is acknowledged.
"""

from __future__ import annotations

import asyncio
import logging
from typing import List

from .link import Link, LinkError
from .send import ACK_WITHIN_S, headers, read_ack
from .spill import Left

#: Between two tries of the same message.
RETRY_PAUSE_S = 0.5
_log = logging.getLogger(__name__)


async def replay(link: Link, subject: str, left: List[Left]) -> None:
    """Sends everything that is left, however long the bus is away."""
    for run in left:
        events = 0
        for batch in run.batches():
            numbered = headers(run.producer, run.epoch, batch.number)
            while not await _send(link, subject, batch.payload, numbered):
                await asyncio.sleep(RETRY_PAUSE_S)
            events += batch.events
        _log.info("sent %d events that an earlier run left", events)
        run.remove()


async def _send(link: Link, subject: str, payload: bytes, numbered: object) -> bool:
    try:
        return not read_ack(await link.request(subject, payload, numbered, ACK_WITHIN_S))
    except LinkError:
        return False
