"""Requests and their answers over one connection, and the routes that callers follow.

One for each event loop that calls or serves. Answers come to one inbox and are told apart by its last
word. Start at :meth:`Link.request`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, Callable, Dict, NamedTuple, Optional

from nats.aio.msg import Msg

from . import clock
from .bus import Away, Bus
from .wire import subject as subjects
from .wire.route import Route, Routes

#: The routes are awaited this long before the first call; without them calls go to any version.
ROUTES_WITHIN_S = 0.5
#: An answer at the deadline is on its way for so long at most, also on a busy machine.
ANSWERED_WITHIN_S = 1.0
#: After a bus came back, services may take this long to listen again: some tries to connect.
SETTLES_WITHIN_S = 1.5
_log = logging.getLogger(__name__)


class LinkError(Exception):
    """A request got no answer."""


class NotSent(LinkError):
    """The bus was away for all of the time."""


class NoResponders(LinkError):
    """Nobody listens there."""


class Lost(LinkError):
    """It was sent, and no answer came: in time, or before the connection broke. The ``token`` is where
    one may still come."""

    def __init__(self, is_broken: bool, token: Optional[str] = None) -> None:
        super().__init__("the connection broke" if is_broken else "no answer in time")
        self.is_broken = is_broken
        self.token = token


class _Waiting(NamedTuple):
    """Who waits for an answer, and whether a connection that breaks ends the waiting."""

    answer: "asyncio.Future[Msg]"
    gives_up_when_broken: bool


class Link:
    """See the module."""

    def __init__(self, url: str, name: str) -> None:
        self.bus = Bus(url, name, self._changed)
        self._inbox = self.bus.new_inbox()
        self._next = 0
        self._waiting: Dict[str, _Waiting] = {}
        #: What is to be told of calls that nobody answered: as many as ended within the last moment.
        self._unanswered: Dict[str, Callable[[], None]] = {}
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
        self._tell_broken(to_all=True)
        await self.bus.close()

    async def request(
        self,
        subject: str,
        payload: bytes,
        headers: Any,
        within_s: float,
        gives_up_when_broken: bool = True,
    ) -> Msg:
        """The answer to a message; raises :class:`LinkError`.

        One that does not give up when the connection breaks still gets what comes over the next one.
        """
        deadline = clock.monotonic() + within_s
        if not self.bus.is_connected:
            try:
                await asyncio.wait_for(self.bus.connected(), within_s)
            except asyncio.TimeoutError:
                raise NotSent("the bus is away") from None
        token = self._new_token()
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._waiting[token] = _Waiting(answer, gives_up_when_broken)
        try:
            await self.bus.publish(subject, payload, f"{self._inbox}.{token}", headers)
            message = await asyncio.wait_for(answer, deadline - clock.monotonic())
        except Away:
            raise NotSent("the bus is away") from None
        except asyncio.TimeoutError:
            is_open = token in self._waiting
            raise Lost(is_broken=False, token=token if is_open else None) from None
        finally:
            self._waiting.pop(token, None)
        if (message.headers or {}).get("Status") == "503" and not message.data:
            raise NoResponders(f"nobody serves {subject}")
        return message

    def tell_unless_answered(self, token: str, tell: Callable[[], None]) -> None:
        """Calls this a moment later, unless an answer still comes: whoever takes a call tells it, and
        answers no later than at its deadline."""
        self._unanswered[token] = tell
        asyncio.get_running_loop().call_later(ANSWERED_WITHIN_S, self._tell_unanswered, token)

    def _tell_unanswered(self, token: str) -> None:
        tell = self._unanswered.pop(token, None)
        if tell:
            tell()

    def tell_now(self) -> None:
        """Tells of the calls that nobody answered so far: the process ends. From any thread."""
        for token in list(self._unanswered):
            self._tell_unanswered(token)

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

    async def routes_known(self) -> None:
        """Waits, not long, until somebody has told routes."""
        if not self._routes_known.is_set():
            try:
                await asyncio.wait_for(self._routes_known.wait(), ROUTES_WITHIN_S)
            except asyncio.TimeoutError:
                self._routes_known.set()

    @property
    def revision(self) -> int:
        """Of the routes known now; -1 before the first."""
        return self._routes.revision

    def route(self, service: str) -> Optional[Route]:
        """The route of a service as known now; ``None`` where nobody tells any."""
        return self._routes.services.get(service)

    @property
    def is_settling(self) -> bool:
        """Whether the bus just came back, so that who serves may still be on the way."""
        found_again = self.bus.found_again
        return found_again is not None and clock.monotonic() - found_again < SETTLES_WITHIN_S

    async def _answer(self, message: Msg) -> None:
        token = message.subject.rpartition(".")[2]
        hear = self._listening.get(token)
        if hear:
            hear(message)
        self._unanswered.pop(token, None)
        waiting = self._waiting.pop(token, None)
        if waiting and not waiting.answer.done():
            waiting.answer.set_result(message)

    def _changed(self) -> None:
        if not self.bus.is_connected:
            self._tell_broken(to_all=False)
        elif self.bus.connection != self._connection:
            self._connection = self.bus.connection
            # A bus that was made anew begins at revision one.
            asking = self.ask_routes(ROUTES_WITHIN_S, is_new=True)
            self._asking = asyncio.get_running_loop().create_task(asking)

    def _tell_broken(self, to_all: bool) -> None:
        for waiting in self._waiting.values():
            if (to_all or waiting.gives_up_when_broken) and not waiting.answer.done():
                waiting.answer.set_exception(Lost(is_broken=True))
                # Whoever does not await it any more need not hear it.
                waiting.answer.exception()
        for hear in list(self._listening.values()):
            hear(None)

    async def ask_routes(self, within_s: float, is_new: bool = False) -> None:
        """Asks for the routes; those of a bus that ``is_new`` are taken whatever their revision."""
        try:
            within_s = min(within_s, ROUTES_WITHIN_S)
            self._put_routes(await self.request(subjects.ROUTES_GET, b"", None, within_s), is_new)
        except LinkError as error:
            _log.debug("no routes are told: %s", error)
        self._routes_known.set()

    async def _take_routes(self, message: Msg) -> None:
        self._put_routes(message, is_new=False)

    def _put_routes(self, message: Msg, is_new: bool) -> None:
        try:
            told = Routes.from_json(json.loads(message.data))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("routes on %s cannot be read: %r", message.subject, error)
            return
        if is_new or told.revision > self._routes.revision:
            self._routes = told
        self._routes_known.set()
