"""How far an answer of many messages may be ahead of whoever reads it.

Each message but the last names a word of our inbox. There the reader says how many it took, and we send
no more than its window ahead; anything else said there, or that nobody listens, means that nobody reads
any more. A reader that says no window is not waited for.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Optional

from nats.aio.msg import Msg

from .link import Link
from .wire import call as wire

#: A reader that takes nothing for so long holds a place in vain.
STALLED_AFTER_S = 30.0
_log = logging.getLogger(__name__)


class Flow:
    """See the module; :meth:`end` is to be called."""

    def __init__(self, link: Link, window: Optional[str]) -> None:
        self._link = link
        self._window = int(window) if window and window.isdigit() else 0
        self._token = link.listen(self._hear)
        self._sent = 0
        self._taken = 0
        self._heard = asyncio.Event()
        #: Done when nobody reads any more.
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def subject(self) -> str:
        """What a message names."""
        return self._link.inbox(self._token)

    async def may_send(self) -> bool:
        """Waits until one message more may be sent; ``False`` where nobody reads any more."""
        while not self.gone.done() and self._window and self._sent >= self._taken + self._window:
            self._heard.clear()
            try:
                await asyncio.wait_for(self._heard.wait(), STALLED_AFTER_S)
            except asyncio.TimeoutError:
                _log.warning("gave up an answer that nobody takes")
                self._leave()
        self._sent += 1
        return not self.gone.done()

    def end(self) -> None:
        """Nothing more is sent."""
        self._link.forget(self._token)
        self.gone.cancel()

    def _hear(self, said: Optional[Msg]) -> None:
        taken = (said.headers or {}).get(wire.WEB_TAKEN, "") if said else ""
        if taken.isdigit():
            self._taken = max(self._taken, int(taken))
        else:
            self._leave()
        self._heard.set()

    def _leave(self) -> None:
        if not self.gone.done():
            _log.debug("nobody reads an answer any more")
            self.gone.set_result(None)
