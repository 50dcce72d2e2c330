"""Requests and their answers over one connection, and the routes that callers follow.

One for each event loop that calls or serves. Answers come to one inbox and are told apart by its last
word. Start at :meth:`Link.request`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, Callable, Dict, Optional

from nats.aio.msg import Msg

from . import clock
from .bus import Away, Bus
from .wire import subject as subjects
from .wire.route import Route, Routes

#: The routes are awaited this long before the first call; without them calls go to any version.
ROUTES_WITHIN_S = 0.5
_log = logging.getLogger(__name__)


class LinkError(Exception):
    """A request got no answer."""


class NotSent(LinkError):
    """The bus was away for all of the time."""


class NoResponders(LinkError):
    """Nobody listens there."""


class Lost(LinkError):
    """It was sent, and no answer came: in time, or before the connection broke."""

    def __init__(self, is_broken: bool) -> None:
        super().__init__("the connection broke" if is_broken else "no answer in time")
        self.is_broken = is_broken


class Link:
    """See the module."""

    def __init__(self, url: str, name: str) -> None:
        self.bus = Bus(url, name, self._changed)
        self._inbox = self.bus.new_inbox()
        self._next = 0
        self._waiting: Dict[str, asyncio.Future[Msg]] = {}
        self._listening: Dict[str, Callable[[Optional[Msg]], None]] = {}
        self._connection = 0
        self._asking: Optional[asyncio.Task[None]] = None
        self._routes = Routes(-1, {})
        self._routes_known = asyncio.Event()

    async def start(self) -> None:
        """Connects in the background."""
        await self.bus.subscribe(f"{self._inbox}.*", self._answer)
        await self.bus.subscribe(subjects.ROUTES, self._take_routes)
        self.bus.start()

    async def close(self) -> None:
        """Ends the connection; who waits for an answer is told."""
        self._fail_waiting()
        await self.bus.close()

    async def request(self, subject: str, payload: bytes, headers: Any, within_s: float) -> Msg:
        """The answer to a message; raises :class:`LinkError`."""
        deadline = clock.monotonic() + within_s
        if not self.bus.is_connected:
            try:
                await asyncio.wait_for(self.bus.connected(), within_s)
            except asyncio.TimeoutError:
                raise NotSent("the bus is away") from None
        token, answer = self.expect()
        try:
            await self.bus.publish(subject, payload, f"{self._inbox}.{token}", headers)
            message = await asyncio.wait_for(answer, deadline - clock.monotonic())
        except Away:
            raise NotSent("the bus is away") from None
        except asyncio.TimeoutError:
            raise Lost(is_broken=False) from None
        finally:
            self._waiting.pop(token, None)
        if (message.headers or {}).get("Status") == "503" and not message.data:
            raise NoResponders(f"nobody serves {subject}")
        return message

    def expect(self) -> "tuple[str, asyncio.Future[Msg]]":
        """A new word of the inbox, and what comes to it; forgotten by :meth:`forget`."""
        token = self._new_token()
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._waiting[token] = answer
        return token, answer

    def listen(self, hear: Callable[[Optional[Msg]], None]) -> str:
        """A new word of the inbox; calls with each message there until :meth:`forget`, and with ``None``
        when the connection breaks."""
        token = self._new_token()
        self._listening[token] = hear
        return token

    def _new_token(self) -> str:
        self._next += 1
        return f"{self._next:x}"

    def forget(self, token: str) -> None:
        """Nothing more is expected there."""
        self._listening.pop(token, None)

    def inbox(self, token: str) -> str:
        """The subject of a word."""
        return f"{self._inbox}.{token}"

    async def route(self, service: str) -> Optional[Route]:
        """The route of a service; ``None`` where nobody tells any."""
        if not self._routes_known.is_set():
            try:
                await asyncio.wait_for(self._routes_known.wait(), ROUTES_WITHIN_S)
            except asyncio.TimeoutError:
                self._routes_known.set()
        return self._routes.services.get(service)

    @property
    def revision(self) -> int:
        """Of the routes known now; -1 before the first."""
        return self._routes.revision

    def known_route(self, service: str) -> Optional[Route]:
        """The route of a service as known now."""
        return self._routes.services.get(service)

    async def _answer(self, message: Msg) -> None:
        token = message.subject.rpartition(".")[2]
        hear = self._listening.get(token)
        if hear:
            hear(message)
        answer = self._waiting.pop(token, None)
        if answer and not answer.done():
            answer.set_result(message)

    def _changed(self) -> None:
        if not self.bus.is_connected:
            self._fail_waiting()
        elif self.bus.connection != self._connection:
            self._connection = self.bus.connection
            self._asking = asyncio.get_running_loop().create_task(self._ask_routes())

    def _fail_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(Lost(is_broken=True))
                answer.exception()
        for hear in list(self._listening.values()):
            hear(None)

    async def _ask_routes(self) -> None:
        try:
            answer = await self.request(subjects.ROUTES_GET, b"", None, ROUTES_WITHIN_S)
            await self._take_routes(answer)
        except LinkError as error:
            _log.debug("no routes are told: %s", error)
        self._routes_known.set()

    async def _take_routes(self, message: Msg) -> None:
        try:
            told = Routes.from_json(json.loads(message.data))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("routes on %s cannot be read: %r", message.subject, error)
            return
        if told.revision >= self._routes.revision:
            self._routes = told
        self._routes_known.set()
