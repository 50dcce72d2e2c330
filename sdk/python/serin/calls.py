"""Calls of other services: the version by the routes, one retry, and where the time went.

What is sent along (remaining time, trace, arms, depth of chains) comes from the context of the work
under way. A call is told by whoever takes it, and by us where nobody did.
``docs/decisions/005-calls.md`` has the rules. Start at :func:`call`.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

from nats.aio.msg import Msg
from nats.errors import MaxPayloadError

from . import clock
from .context import Context
from .core import Core
from .encode import to_json
from .errors import AbsentError, CallError
from .link import Link, LinkError, Lost, NoResponders, NotSent
from .wire import call as wire
from .wire import name, subject
from .wire.route import SLOTS, Route, slot_of

#: How long a call waits in all unless said otherwise, in seconds.
TIMEOUT_S = 5.0
#: The pause between tries while services listen again.
SETTLE_EVERY_S = 0.05


@dataclass
class Reply:
    """What a call brought back."""

    #: The body, read as JSON; bytes where it is said to be something else.
    data: Any
    headers: Mapping[str, str]
    #: Who answered, where it says so.
    version: Optional[str]
    instance: Optional[str]
    #: From sending to having the answer, and of these: before the handler, in it, on the way.
    total_us: int
    queue_us: int
    handler_us: int
    network_us: int


@dataclass
class Call:
    """What is asked of whom."""

    service: str
    endpoint: str
    data: Any = None
    #: Calls with the same key go to the same version while its weight allows it.
    key: Optional[str] = None
    timeout_s: float = TIMEOUT_S
    #: Running it twice does no harm: a lost answer is asked for once more.
    idempotent: bool = False

    @property
    def target(self) -> str:
        """``<service>.<endpoint>``."""
        return f"{self.service}.{self.endpoint}"


async def call(core: Core, asked: Call, hop: Optional[Mapping[str, Any]] = None) -> Reply:
    """Makes a call and tells its span, with the ``hop`` of a chain that it is; raises
    :class:`CallError`."""
    around = Context.current()
    span = core.spans.begin(asked.target, around.trace)
    span.attributes.update(hop or {}, kind="client")
    try:
        body = _body(asked, around)
        reply = await _attempts(core, asked, body, span.context(around), span.attributes)
    except BaseException as error:
        span.fail(error)
        raise
    finally:
        core.spans.end(span)
    return reply


def _body(asked: Call, around: Context) -> bytes:
    """The request as it travels, where it may be made."""
    try:
        name.check_short("service", asked.service)
        name.check_short("endpoint", asked.endpoint)
        body = asked.data if isinstance(asked.data, bytes) else to_json(asked.data)
    except (name.BadName, TypeError, ValueError) as error:
        why = f"cannot call {asked.target}: {error}"
        raise CallError(wire.CODE_FAILED, why, may_have_run=False) from error
    if around.depth >= wire.DEPTH_MAX:
        circle = (
            f"{around.depth} calls enclose each other before {asked.target}, the most allowed; "
            "do services call each other in a circle?"
        )
        raise CallError(wire.CODE_TOO_LARGE, circle, may_have_run=False)
    return body


async def _attempts(
    core: Core, asked: Call, body: bytes, context: Context, attributes: Dict[str, Any]
) -> Reply:
    began = clock.monotonic()
    deadline = began + asked.timeout_s
    if context.deadline is not None:
        deadline = min(deadline, context.deadline)
    link = await core.link()
    await link.routes_known()
    slot = slot_of(asked.service, asked.key) if asked.key else clock.random_slot(SLOTS)
    avoid: Optional[str] = None
    is_last = False
    lost: Optional[Lost] = None
    for attempt in itertools.count(1):
        if attempt > 1:
            attributes["attempts"] = attempt
        to, version, is_idempotent = _aim(link, asked, slot, avoid)
        sent_at = clock.monotonic()
        left_s = max(deadline - sent_at, 0.0)
        may_repeat = is_idempotent and not is_last
        headers = _headers(core, asked, context, left_s)
        within_s = left_s / 2 if may_repeat else left_s
        try:
            message = await link.request(to, body, headers, within_s, may_repeat)
            if is_last or wire.NOT_RUN not in (message.headers or {}):
                return _reply(message, sent_at, asked.target, attributes, lost is not None)
        except (LinkError, MaxPayloadError) as error:
            is_absent = isinstance(error, NoResponders)
            if is_absent and link.is_settling and left_s > SETTLE_EVERY_S:
                await asyncio.sleep(SETTLE_EVERY_S)
                continue
            may_retry = may_repeat if isinstance(error, Lost) else is_absent
            if is_last or not may_retry:
                # The try before may have run, whatever became of this one.
                took_us = clock.since_us(began)
                failed = _explained(lost or error, asked, len(body), took_us // 1000)
                line = _line(asked, version, context, failed.code, took_us)
                _tell(core, link, error, line)
                raise failed from None
            if isinstance(error, Lost):
                lost = error
            if is_absent:
                avoid = version
                await link.ask_routes(deadline - clock.monotonic())
        is_last = True
    raise AssertionError("counting has no end")


def _aim(
    link: Link, asked: Call, slot: int, avoid: Optional[str]
) -> Tuple[str, Optional[str], bool]:
    """Where to send, its version, and whether it may be asked for twice: by the slot, past a version
    that nobody serves any more though the routes still say so."""
    route = link.route(asked.service) or Route(())
    version = route.version(slot)
    if avoid is not None and version == avoid:
        others = [(weight, one) for one, weight in route.versions if one != avoid and weight]
        version = max(others)[1] if others else version
    to = (
        subject.call(asked.service, version, asked.endpoint)
        if version
        else subject.call_any(asked.service, asked.endpoint)
    )
    return to, version, asked.idempotent or asked.endpoint in route.idempotent


def _explained(error: Exception, asked: Call, size: int, waited_ms: int) -> CallError:
    """What went wrong, in words for whoever called."""
    if isinstance(error, NoResponders):
        return AbsentError(
            wire.CODE_BUSY,
            f"nobody serves {asked.target}; is the service deployed, and has it an endpoint of "
            "this name?",
            may_have_run=False,
        )
    if isinstance(error, Lost):
        why = "lost the connection" if error.is_broken else "did not answer"
        text = f"{asked.target} {why} within {waited_ms} ms; it may have run"
        return CallError(wire.CODE_TIMEOUT, text)
    if isinstance(error, NotSent):
        text = f"the bus was away for {waited_ms} ms; {asked.target} was not called"
        return CallError(wire.CODE_BUSY, text, may_have_run=False)
    text = f"the request to {asked.target} has {size} bytes, more than the bus takes"
    return CallError(wire.CODE_TOO_LARGE, text, may_have_run=False)


def _line(
    asked: Call, version: Optional[str], context: Context, status: int, took_us: int
) -> Dict[str, Any]:
    """What is told of a call that nobody took."""
    callee = {"service": asked.service}
    if version:
        callee["version"] = version
    line = {
        "time": clock.now_us() - took_us,
        "endpoint": asked.endpoint,
        "status": status,
        "duration_us": took_us,
        "trace_id": context.trace_id(),
        "callee": callee,
    }
    if context.arm:
        line["arm"] = context.arm
    return line


def _tell(core: Core, link: Link, error: Exception, line: Dict[str, Any]) -> None:
    """Tells a call that nobody took. Where there was no answer, one that still comes shows that its
    service tells it."""
    tell = functools.partial(core.requests_told.push, line)
    if isinstance(error, Lost):
        if error.token:
            link.tell_unless_answered(error.token, tell)
    elif isinstance(error, (NoResponders, NotSent)):
        tell()


def _headers(core: Core, asked: Call, context: Context, left_s: float) -> Dict[str, str]:
    headers = {
        wire.TIMEOUT_MS: str(max(1, int(left_s * 1000))),
        wire.CALLER: core.options.service,
        wire.DEPTH: str(context.depth + 1),
    }
    if context.trace:
        headers[wire.TRACEPARENT] = context.trace.to_traceparent()
    if context.arm:
        headers[wire.ARM] = context.arm
    if context.chain_depth:
        headers[wire.CHAIN_DEPTH] = str(context.chain_depth)
    if isinstance(asked.data, bytes):
        headers[wire.CONTENT_TYPE] = wire.BYTES
    return headers


def _reply(
    message: Msg, sent_at: float, target: str, attributes: Dict[str, Any], was_lost: bool
) -> Reply:
    """The answer to a call, of which a try before this one ``was_lost`` or not."""
    headers = message.headers or {}
    total_us = clock.since_us(sent_at)
    queue_us, handler_us = _number(headers, wire.QUEUE_US), _number(headers, wire.HANDLER_US)
    network_us = max(0, total_us - queue_us - handler_us)
    attributes.update(queue_us=queue_us, handler_us=handler_us, network_us=network_us)
    code = headers.get(wire.ERROR_CODE)
    is_error = code is not None or wire.ERROR in headers
    try:
        data = body(message.data, headers)
    except ValueError as error:
        if not is_error:
            raise CallError(
                wire.CODE_FAILED, f"cannot read what {target} answered: {error}"
            ) from error
        data = message.data
    if is_error:
        number = int(code) if code and code.isdigit() else wire.CODE_FAILED
        text = headers.get(wire.ERROR, "it gave no reason")
        raise CallError(number, text, data, was_lost or wire.NOT_RUN not in headers)
    version, instance = headers.get(wire.VERSION), headers.get(wire.INSTANCE)
    for key, value in (("peer_version", version), ("peer_instance", instance)):
        if value:
            attributes[key] = value
    return Reply(data, headers, version, instance, total_us, queue_us, handler_us, network_us)


def body(raw: bytes, headers: Mapping[str, str]) -> Any:
    """A body as JSON, or as it is where it is said to be something else; nothing is ``None``."""
    kind = headers.get(wire.CONTENT_TYPE)
    if kind and "json" not in kind:
        return raw
    return json.loads(raw) if raw else None


def _number(headers: Mapping[str, str], name_: str) -> int:
    text = headers.get(name_, "0")
    return int(text) if text.isdigit() else 0
