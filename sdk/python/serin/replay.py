"""Sends on what earlier runs left on disk, under the numbers it had.

Runs beside the sender in its loop, one message at a time: order within a run is kept, and a message
the bus has already is known by its number. A folder is removed once all of it is acknowledged.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Callable, List, Optional

from nats.errors import MaxPayloadError

from . import dropped
from .link import Link, LinkError
from .queue import Batch
from .send import ACK_WITHIN_S, Refusal, headers, read_ack
from .spill import Left

#: Gives a message without events in place of one that is lost, which is counted for a reason.
Emptied = Callable[[Batch, str], Batch]

#: Between two tries of the same message.
RETRY_PAUSE_S = 0.5
_log = logging.getLogger(__name__)


async def replay(link: Link, subject: str, left: List[Left], emptied: Emptied) -> None:
    """Sends everything that is left, however long the bus is away."""
    for run in left:
        events = 0
        for batch in run.batches():
            numbered = headers(run.producer, run.epoch, batch.number)
            is_whole, refusal = True, await _send(link, subject, batch, numbered)
            while refusal:
                if refusal.is_final and is_whole:
                    is_whole, batch = False, emptied(batch, dropped.TOO_LARGE)
                else:
                    await asyncio.sleep(RETRY_PAUSE_S)
                refusal = await _send(link, subject, batch, numbered)
            events += batch.events if is_whole else 0
        _log.info("sent %d events that an earlier run left", events)
        run.remove()


async def _send(link: Link, subject: str, batch: Batch, numbered: object) -> Optional[Refusal]:
    try:
        return read_ack(await link.request(subject, batch.payload, numbered, ACK_WITHIN_S))
    except MaxPayloadError:
        return Refusal("larger than the bus takes", is_final=True)
    except LinkError as error:
        return Refusal(str(error))
