"""What a call is answered with, and how a web answer is sent in chunks.

Start at :class:`Answer` and :func:`send_web`.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from concurrent.futures import Executor
from typing import Any, AsyncIterator, List, Optional, Tuple

from nats.errors import MaxPayloadError

from .bus import Away, Repeated
from .encode import to_json
from .errors import CallError
from .flow import Flow
from .link import Link
from .web import Response, chunks_of, to_bytes
from .wire import call as wire

Pairs = List[Tuple[str, str]]
#: A stream waits for the bus when this much was not taken yet.
PENDING_BYTES_MAX = 1 << 20
_END = object()
_log = logging.getLogger(__name__)


class Answer:
    """Status, headers and body; or a web response."""

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        headers: Optional[Pairs] = None,
        message: str = "",
        response: Optional[Response] = None,
    ) -> None:
        self.status = status
        self.body = body
        self.headers = headers or []
        self.message = message
        self.response = response

    @staticmethod
    def value(value: Any) -> Answer:
        """What a handler returned: bytes as they are, anything else as JSON."""
        return Answer(200, *_encoded(value))

    @staticmethod
    def error(error: CallError) -> Answer:
        """An error with its code and message; without its body where that has no JSON."""
        headers = [(wire.ERROR, error.message), (wire.ERROR_CODE, str(error.code))]
        try:
            body, kind = _encoded(error.body)
        except Exception as cause:  # noqa: BLE001, the service's own objects may raise anything
            _log.warning("left out what more an error says: %s", cause)
            body, kind = b"", []
        return Answer(error.code, body, headers + kind, error.message)

    @staticmethod
    def unrun(code: int, message: str) -> Answer:
        """A refusal: the handler did not run."""
        answer = Answer.error(CallError(code, message, may_have_run=False))
        answer.headers.append((wire.NOT_RUN, "1"))
        return answer

    @staticmethod
    def web(response: Response) -> Answer:
        """A web answer; raises where its body has no JSON."""
        response = response.rendered()
        message = "" if response.status < 400 else f"answered {response.status}"
        return Answer(response.status, message=message, response=response)


def _encoded(value: Any) -> Tuple[bytes, Pairs]:
    """A body, and the headers that say what it is."""
    if isinstance(value, bytes):
        return value, [(wire.CONTENT_TYPE, wire.BYTES)]
    return b"" if value is None else to_json(value), []


async def send_web(
    link: Link,
    threads: Executor,
    reply: str,
    response: Response,
    headers: Pairs,
    window: Optional[str],
) -> None:
    """Sends a web answer: status and headers with the first chunk, ``more`` on all but the last; no
    further ahead of its reader than ``window``, and a stream until nobody reads any more."""
    head = headers + response.head()
    chunks = [] if response.is_stream() else response.chunks()
    if len(chunks) == 1:
        return await link.bus.publish(reply, chunks[0], "", Repeated(head))
    flow = Flow(link, window)
    try:
        if chunks:
            await _send_chunks(link, reply, chunks, head, flow)
        else:
            await _send_stream(link, threads, reply, response, headers, flow)
    finally:
        flow.end()


async def _send_chunks(
    link: Link, reply: str, chunks: List[bytes], head: Pairs, flow: Flow
) -> None:
    for chunk in chunks[:-1]:
        if not await flow.may_send():
            return
        more = Repeated(head + [(wire.WEB_MORE, "1")])
        await link.bus.publish(reply, chunk, flow.subject, more)
        head = []
    if await flow.may_send():
        await link.bus.publish(reply, chunks[-1])


async def _send_stream(
    link: Link, threads: Executor, reply: str, response: Response, headers: Pairs, flow: Flow
) -> None:
    head = headers + response.head()
    try:
        async for piece in _pieces(response.body, threads, flow):
            for number, chunk in enumerate(chunks_of(to_bytes(piece))):
                # For the first one it was asked before the iterator was.
                if number and not await flow.may_send():
                    return
                more = Repeated(head + [(wire.WEB_MORE, "1")])
                await link.bus.publish(reply, chunk, flow.subject, more)
                head = []
            if link.bus.pending_bytes > PENDING_BYTES_MAX:
                await link.bus.flush()
        if not flow.gone.done():
            await link.bus.publish(reply, b"", "", Repeated(head) if head else None)
    except (Away, MaxPayloadError):
        raise
    except Exception as error:  # noqa: BLE001, whatever the service's iterator raises
        _log.exception("a stream failed")
        failed = Answer.error(CallError(wire.CODE_FAILED, f"the stream failed: {error}"))
        if head:
            head = headers + [(wire.WEB_STATUS, str(wire.CODE_FAILED))]
        await link.bus.publish(reply, b"", "", Repeated(head + failed.headers))
    finally:
        close = getattr(response.body, "aclose", None)
        if close:
            await close()


async def _pieces(body: Any, threads: Executor, flow: Flow) -> AsyncIterator[Any]:
    """The pieces of an iterator, until nobody reads them; a plain one is asked in a thread, since it
    may wait. A message may be sent before the iterator is asked for what is in it; where nobody reads
    any more, it is cancelled."""
    loop = asyncio.get_running_loop()
    copied = contextvars.copy_context()

    async def ask() -> Any:
        if hasattr(body, "__anext__"):
            return await body.__anext__()
        return await loop.run_in_executor(threads, lambda: copied.run(next, body, _END))

    while await flow.may_send():
        asking = loop.create_task(ask())
        try:
            await asyncio.wait([asking, flow.gone], return_when=asyncio.FIRST_COMPLETED)
        finally:
            asking.cancel()
        if flow.gone.done():
            # It comes to rest before it is closed.
            await asyncio.wait([asking])
            failure = None if asking.cancelled() else asking.exception()
            _log.debug("nobody reads a stream any more; it ended with %r", failure)
            return
        try:
            piece = asking.result()
        except StopAsyncIteration:
            return
        if piece is _END:
            return
        yield piece
