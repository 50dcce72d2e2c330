"""One connection to the bus that stands for ever: made anew whenever it breaks, for one event loop.

Wraps nats-py, which closes for good on some errors of the server and keeps what was published while
disconnected; here a message is handed over only while connected, and subscriptions are made again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Awaitable, Callable, Dict, Iterable, List, Optional, Tuple
from urllib.parse import urlsplit

from nats import errors as nats_errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from . import clock
from .trouble import Trouble
from .wire import subject as subjects

Handler = Callable[[Msg], Awaitable[None]]
Pairs = Iterable[Tuple[str, str]]

#: A connection that is silent is asked after this, and given up after two more.
PING_EVERY_S = 5
CONNECT_WITHIN_S = 2
RECONNECT_EVERY_S = 0.1
#: More than the sender ever has under way (8 messages of 640 KiB), so that publishing never waits.
PENDING_BYTES_MAX = 16 << 20
#: How long the end waits for what was published to be out.
FLUSH_WITHIN_S = 1.0
_log = logging.getLogger(__name__)


class Away(Exception):
    """The bus cannot be reached now; nothing was sent."""


class Headers(Dict[str, str]):
    """Headers as read: the last value by name, and all of them in order."""

    pairs: List[Tuple[str, str]]


class Repeated:
    """Headers to send, in which a name may stand more than once."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = list(pairs)

    def items(self) -> List[Tuple[str, str]]:
        """What nats-py asks for."""
        return self._pairs


class _Client(Client):
    """nats-py's client, which keeps repeated headers and never waits for a dead peer."""

    @staticmethod
    def _parse_header_lines(raw: bytes) -> Dict[str, str]:
        headers = Headers()
        headers.pairs = []
        for line in raw.split(b"\r\n"):
            name, colon, value = line.partition(b":")
            if colon:
                pair = (
                    name.strip().decode("ascii", "replace"),
                    value.strip().decode("utf-8", "replace"),
                )
                headers.pairs.append(pair)
                headers[pair[0]] = pair[1]
        return headers

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        try:
            await super()._close(status, do_cbs)
        except OSError as error:
            # What was pending met a connection that the server had reset. nats-py stops there and tells
            # nobody, so that nobody would connect anew.
            _log.debug("the connection was reset: %r", error)
            self._pending, self._pending_data_size = [], 0
            self._status = Client.DISCONNECTED
            await super()._close(status, do_cbs)

    async def _process_op_err(self, e: Exception) -> None:
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
        await super()._process_op_err(e)


def header_pairs(message: Msg) -> List[Tuple[str, str]]:
    """All headers of a message in order."""
    headers = message.headers or {}
    return headers.pairs if isinstance(headers, Headers) else list(headers.items())


class Bus:
    """See the module. ``on_change`` is called whenever the connection breaks or stands again."""

    def __init__(self, url: str, name: str, on_change: Callable[[], None]) -> None:
        self._url = url
        self._inboxes = subjects.inbox(_user(url))
        self._name = name
        self._on_change = on_change
        self._client: Client = _Client()
        self._closed = asyncio.Event()
        self._connected = asyncio.Event()
        self._task: Optional[asyncio.Task[None]] = None
        self._is_ending = False
        self._trouble = Trouble()
        self._wanted: List[_Wanted] = []
        #: Rises with each connection, so that one knows which sendings died with one.
        self.connection = 0
        #: When the bus was found again, by the monotonic clock; ``None`` before a second connection.
        self.found_again: Optional[float] = None

    def start(self) -> None:
        """Connects in the background and for ever."""
        self._task = asyncio.get_running_loop().create_task(self._stand())

    def new_inbox(self) -> str:
        """What subjects begin with that answers to us, and nobody else's, come to."""
        return f"{self._inboxes}.{clock.secret_bits(96):024x}"

    @property
    def is_connected(self) -> bool:
        """Whether a message can be sent now."""
        return self._client.is_connected and self.connection > 0

    @property
    def pending_bytes(self) -> int:
        """What was published and is not yet out."""
        return self._client.pending_data_size

    async def connected(self) -> None:
        """Waits until the connection stands."""
        while not self.is_connected:
            self._connected.clear()
            await self._connected.wait()

    async def publish(
        self, subject: str, payload: bytes, reply: str = "", headers: Any = None
    ) -> None:
        """Hands a message over; raises :class:`Away`, or nats-py's ``MaxPayloadError``."""
        if not self.is_connected:
            raise Away
        if len(payload) + _header_bytes(headers) > self._client.max_payload:
            # nats-py looks at the payload alone; the server counts both and ends the connection.
            raise nats_errors.MaxPayloadError
        try:
            await self._client.publish(subject, payload, reply, headers)
        except (nats_errors.ConnectionClosedError, nats_errors.OutboundBufferLimitError) as error:
            raise Away from error

    async def subscribe(self, subject: str, handler: Handler, queue: str = "") -> _Wanted:
        """Has the handler called for each message, on this connection and all later ones."""
        wanted = _Wanted(subject, queue, handler)
        self._wanted.append(wanted)
        if self.is_connected:
            await self._make(wanted)
        return wanted

    async def unsubscribe(self, wanted: _Wanted) -> None:
        """Takes no more messages, once those that were sent to us already are handled."""
        self._wanted.remove(wanted)
        subscription, wanted.subscription = wanted.subscription, None
        if subscription and self.is_connected:
            try:
                draining = subscription.drain()  # type: ignore[no-untyped-call]
                await asyncio.wait_for(draining, FLUSH_WITHIN_S)
            except (nats_errors.Error, asyncio.TimeoutError, OSError) as error:
                _log.debug("a subscription ended with its connection: %r", error)

    async def flush(self) -> None:
        """Waits until the bus has taken everything so far; raises :class:`Away`."""
        try:
            await self._client.flush()
        except (nats_errors.Error, asyncio.TimeoutError, OSError) as error:
            raise Away from error

    async def close(self) -> None:
        """Sends what is pending, and ends."""
        self._is_ending = True
        self._closed.set()
        if self._task and not self.is_connected:
            # nats-py has nothing to close yet, and would wait for a connection that may never stand.
            self._task.cancel()
            await asyncio.wait([self._task], timeout=FLUSH_WITHIN_S)
        if self._task and self.is_connected:
            try:
                await asyncio.wait_for(self._client.close(), FLUSH_WITHIN_S)
            except (nats_errors.Error, asyncio.TimeoutError, OSError) as error:
                _log.debug("the connection ended: %r", error)
            self._task.cancel()
            await asyncio.wait([self._task], timeout=FLUSH_WITHIN_S)

    async def _stand(self) -> None:
        while not self._is_ending:
            client = self._client
            self._closed.clear()
            try:
                await client.connect(
                    self._url,
                    name=self._name,
                    error_cb=self._tell,
                    disconnected_cb=self._changed,
                    reconnected_cb=self._stands,
                    closed_cb=self._closes,
                    connect_timeout=CONNECT_WITHIN_S,
                    ping_interval=PING_EVERY_S,
                    reconnect_time_wait=RECONNECT_EVERY_S,  # type: ignore[arg-type]
                    max_reconnect_attempts=-1,
                    pending_size=PENDING_BYTES_MAX,
                )
                for wanted in self._wanted:
                    await self._make(wanted)
                await self._stands()
                await self._closed.wait()
            except (nats_errors.Error, OSError, asyncio.TimeoutError) as error:
                await self._tell(error)
                await asyncio.sleep(RECONNECT_EVERY_S)
            if not self._is_ending:
                self._client = _Client()

    async def _make(self, wanted: _Wanted) -> None:
        wanted.subscription = await self._client.subscribe(
            wanted.subject, wanted.queue, wanted.handler
        )

    async def _stands(self) -> None:
        self.connection += 1
        self.found_again = clock.monotonic() if self.connection > 1 else None
        self._trouble.end()
        self._connected.set()
        self._on_change()

    async def _changed(self) -> None:
        self._on_change()

    async def _closes(self) -> None:
        self._closed.set()
        self._on_change()

    async def _tell(self, error: Exception) -> None:
        """Says once what is wrong, not at each of ten tries a second."""
        said = f"{type(error).__name__}: {error}"
        if self._trouble.is_news(said, clock.monotonic()) and not self._is_ending:
            _log.warning("the bus: %s", said)


def _header_bytes(headers: Any) -> int:
    """What headers take on the way: "NATS/1.0", then "name: value", each with a line break."""
    if headers is None:
        return 0
    return 12 + sum(len(name) + len(value.encode()) + 4 for name, value in headers.items())


def _user(url: str) -> Optional[str]:
    """Who we are on the bus; a token is nobody's name."""
    address = urlsplit(url if "://" in url else f"nats://{url}")
    return address.username if address.password is not None else None


class _Wanted:
    """A subscription that outlives connections."""

    def __init__(self, subject: str, queue: str, handler: Handler) -> None:
        self.subject = subject
        self.queue = queue
        self.handler = handler
        self.subscription: Optional[Subscription] = None
