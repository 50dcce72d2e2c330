"""Serves endpoints over the bus: admits, runs handlers, answers, and drains.

For one event loop. Plain handlers run in threads, async ones in the loop; both run in the context of
their call. Start at :class:`Server`.
"""

from __future__ import annotations

import asyncio
import datetime
import inspect
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from nats.aio.msg import Msg
from nats.errors import MaxPayloadError

from . import clock, micro
from .admit import Admission
from .bus import Away, Repeated, header_pairs
from .context import Context
from .core import Core
from .encode import to_json
from .endpoint import Endpoint
from .errors import CallError
from .link import Link
from .reply import Answer, send_web
from .span import Span
from .threads import in_thread
from .web import Response, Router, WebRequest, of_error
from .wire import call as wire
from .wire import subject
from .wire.trace import Trace, add_arm, cut_arm

_log = logging.getLogger(__name__)


@dataclass
class _Taken:
    """A call between being taken and being answered."""

    endpoint: Endpoint
    message: Msg
    headers: Dict[str, str]
    at: float
    time_us: int
    deadline: Optional[float]
    started: Optional[float] = None
    has_failed: bool = False
    #: Of a web request, the pattern that its path matched.
    pattern: str = ""
    #: Whether its handler runs in a thread, which cannot be stopped.
    is_in_thread: bool = False

    def remaining_s(self) -> Optional[float]:
        return None if self.deadline is None else self.deadline - clock.monotonic()


class Server:
    """See the module."""

    def __init__(
        self,
        core: Core,
        link: Link,
        endpoints: List[Endpoint],
        router: Router,
        concurrency: int,
        waiting_max: int,
        description: str,
    ) -> None:
        self._core = core
        self._link = link
        self._endpoints = endpoints
        self._router = router
        self._admission = Admission(concurrency, waiting_max)
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="serin-handler")
        self._description = description
        self._started = datetime.datetime.now(datetime.timezone.utc).isoformat()
        self._subscriptions: List[Any] = []
        self._running: "set[asyncio.Task[Any]]" = set()
        self._is_draining = False

    async def start(self) -> None:
        """Takes calls from now on; returns once the bus knows it."""
        bus, options = self._link.bus, self._core.options
        for endpoint in self._endpoints:
            take = self._taker(endpoint)
            to_all = subject.call(options.service, options.version, endpoint.name)
            self._subscriptions.append(await bus.subscribe(to_all, take, options.version))
            alone = subject.call_instance(
                options.service, options.version, endpoint.name, options.instance
            )
            self._subscriptions.append(await bus.subscribe(alone, take))
        for verb in micro.VERBS:
            for asked in micro.subjects(verb, options):
                self._subscriptions.append(await bus.subscribe(asked, self._teller(verb)))
        while True:
            await bus.connected()
            try:
                return await bus.flush()
            except Away:
                continue

    async def drain(self, deadline_s: float) -> bool:
        """Refuses new calls, and waits for those under way; whether all ended in time."""
        self._is_draining = True
        until = clock.monotonic() + deadline_s
        subscriptions, self._subscriptions = self._subscriptions, []
        ending = [self._link.bus.unsubscribe(one) for one in subscriptions]
        await asyncio.gather(*ending)
        if self._running:
            await asyncio.wait(self._running, timeout=max(0.0, until - clock.monotonic()))
        is_done = not self._running
        for task in list(self._running):
            task.cancel()
        self._threads.shutdown(wait=False)
        return is_done

    def _teller(self, verb: str) -> Any:
        async def tell(message: Msg) -> None:
            told = micro.answer(
                verb, self._core.options, self._started, self._description, self._endpoints
            )
            if message.reply:
                await self._publish(message.reply, to_json(told), None)

        return tell

    def _taker(self, endpoint: Endpoint) -> Any:
        async def take(message: Msg) -> None:
            headers = dict(message.headers or {})
            at = clock.monotonic()
            timeout = headers.get(wire.TIMEOUT_MS, "")
            deadline = at + int(timeout) / 1000 if timeout.isdigit() else None
            taken = _Taken(endpoint, message, headers, at, clock.now_us(), deadline)
            task = asyncio.get_running_loop().create_task(self._handle(taken))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

        return take

    async def _handle(self, taken: _Taken) -> None:
        """From taking a call to answering it."""
        if self._is_draining:
            # Not a request of ours: the caller asks another instance.
            await self._answer(taken, Answer.unrun(wire.CODE_BUSY, "the instance drains"), None)
            return
        self._core.requests.start()
        try:
            if not self._admission.has_room():
                await self._refuse(taken, wire.CODE_BUSY, "too many calls are being handled")
                return
            try:
                await asyncio.wait_for(self._admission.enter(), taken.remaining_s())
            except asyncio.TimeoutError:
                why = "the time was over before the handler ran"
                await self._refuse(taken, wire.CODE_TIMEOUT, why)
                return
            await self._run(taken)
        finally:
            self._core.requests.finish(clock.since_us(taken.at), taken.has_failed)

    async def _refuse(self, taken: _Taken, code: int, why: str) -> None:
        """Answers without running the handler."""
        span = self._begin(taken)
        context = span.context(self._context(taken, cut_arm(taken.headers.get(wire.ARM))))
        answer = await self._answer(taken, Answer.unrun(code, why), None)
        self._tell(taken, answer, context, span)

    async def _run(self, taken: _Taken) -> None:
        """Runs the handler in the context of the call, no longer than the caller waits."""
        span = self._begin(taken)
        context = span.context(self._context(taken, self._arm(taken)))
        taken.started = clock.monotonic()
        work = asyncio.get_running_loop().create_task(self._work(taken, context))
        self._running.add(work)
        work.add_done_callback(self._ends)
        done, _ = await asyncio.wait([work], timeout=taken.remaining_s())
        if not done:
            # A plain handler cannot be stopped: its place is given back when it ends.
            if not taken.is_in_thread:
                work.cancel()
            answer = Answer.error(
                CallError(wire.CODE_TIMEOUT, "the time was over before the handler ended")
            )
        elif work.cancelled():
            answer = Answer.error(CallError(wire.CODE_FAILED, "the handler was cancelled"))
        else:
            answer = work.result()
        answer = await self._answer(taken, answer, context)
        self._tell(taken, answer, context, span)

    def _ends(self, work: "asyncio.Task[Any]") -> None:
        self._running.discard(work)
        self._admission.leave()

    def _begin(self, taken: _Taken) -> Span:
        above = Trace.parse(taken.headers.get(wire.TRACEPARENT))
        span = self._core.spans.begin(taken.endpoint.name, above)
        span.began(taken.time_us, taken.at)
        return span

    def _arm(self, taken: _Taken) -> Optional[str]:
        """The arms of the call, with ours where our service is under trial."""
        options = self._core.options
        arm = cut_arm(taken.headers.get(wire.ARM))
        route = self._link.route(options.service)
        if route and route.has_trial():
            arm = add_arm(arm, options.service, options.version)
        return arm

    def _context(self, taken: _Taken, arm: Optional[str]) -> Context:
        headers = taken.headers
        return Context(
            arm=arm,
            deadline=taken.deadline,
            caller=headers.get(wire.CALLER),
            depth=_count(headers.get(wire.DEPTH)),
            chain_depth=_count(headers.get(wire.CHAIN_DEPTH)),
        )

    async def _work(self, taken: _Taken, context: Context) -> Answer:
        is_web = taken.endpoint.name == wire.WEB_ENDPOINT
        try:
            with context.scope():
                if is_web:
                    return await self._web(taken)
                arguments = taken.endpoint.arguments(taken.message.data, taken.headers)
                returned = await self._call(taken, taken.endpoint.handler, arguments)
                return Answer.value(returned)
        except CallError as error:
            return Answer.web(of_error(error)) if is_web else Answer.error(error)
        except Exception as error:  # noqa: BLE001, whatever a handler raises
            _log.exception("the handler of %s failed", taken.endpoint.name)
            failed = CallError(wire.CODE_FAILED, f"{type(error).__name__}: {error}")
            # What failed inside is not for whoever browses.
            shown = CallError(wire.CODE_FAILED, "the service failed")
            return Answer.web(of_error(shown)) if is_web else Answer.error(failed)

    async def _web(self, taken: _Taken) -> Answer:
        request = WebRequest.read(header_pairs(taken.message), taken.message.data)
        handler = self._router.find(request)
        taken.pattern = request.pattern
        has_parameter = bool(inspect.signature(handler).parameters)
        returned = await self._call(taken, handler, (request,) if has_parameter else ())
        return Answer.web(Response.of(returned))

    async def _call(self, taken: _Taken, handler: Any, arguments: Tuple[Any, ...]) -> Any:
        if asyncio.iscoroutinefunction(handler):
            return await handler(*arguments)
        taken.is_in_thread = True
        result = await in_thread(self._threads, handler, *arguments)
        return await result if inspect.isawaitable(result) else result

    async def _answer(self, taken: _Taken, answer: Answer, context: Optional[Context]) -> Answer:
        """What was answered in the end."""
        started = taken.started
        options = self._core.options
        headers = [(wire.INSTANCE, options.instance), (wire.VERSION, options.version)]
        if started is not None:
            headers.append((wire.QUEUE_US, str(int((started - taken.at) * 1e6))))
            headers.append((wire.HANDLER_US, str(clock.since_us(started))))
        if taken.pattern:
            headers.append((wire.WEB_PATTERN, taken.pattern))
        if taken.message.reply:
            try:
                if answer.response is None:
                    payload = answer.body
                    await self._publish(taken.message.reply, payload, headers + answer.headers)
                else:
                    with (context or Context()).scope():
                        await send_web(
                            self._link,
                            self._threads,
                            taken.message.reply,
                            answer.response,
                            headers,
                            taken.headers.get(wire.WEB_WINDOW),
                        )
            except MaxPayloadError:
                too_large = CallError(
                    wire.CODE_TOO_LARGE,
                    f"the reply has {len(answer.body)} bytes, more than the bus takes",
                )
                answer = Answer.error(too_large)
                await self._publish(taken.message.reply, answer.body, headers + answer.headers)
            except Away:
                _log.debug("an answer is lost with its connection")
        return answer

    async def _publish(self, reply: str, payload: bytes, headers: Any) -> None:
        await self._link.bus.publish(reply, payload, "", Repeated(headers) if headers else None)

    def _tell(self, taken: _Taken, answer: Answer, context: Context, span: Span) -> None:
        """Counts the call, and tells its row and its span."""
        took_us = clock.since_us(taken.at)
        is_web = taken.endpoint.name == wire.WEB_ENDPOINT
        has_failed = answer.status >= wire.CODE_FAILED if is_web else wire.has_failed(answer.status)
        taken.has_failed = span.has_failed = has_failed
        handler_us = 0 if taken.started is None else clock.since_us(taken.started)
        queue_us = max(0, took_us - handler_us)
        taken.endpoint.count(took_us, answer.message if answer.status >= 400 else None)
        # The row of a web request is told by the gateway alone.
        if not is_web:
            line: Dict[str, Any] = {
                "time": taken.time_us,
                "endpoint": taken.endpoint.name,
                "status": answer.status,
                "duration_us": took_us,
                "queue_us": queue_us,
                "bytes": len(answer.body),
                "trace_id": context.trace_id(),
            }
            if context.caller:
                line["caller"] = context.caller
            if context.arm:
                line["arm"] = context.arm
            self._core.requests_told.push(line)
        span.attributes.update(
            kind="server", status=answer.status, queue_us=queue_us, handler_us=handler_us
        )
        if context.caller:
            span.attributes["caller"] = context.caller
        if answer.message:
            span.attributes["error"] = answer.message
        self._core.spans.end(span)


def _count(text: Optional[str]) -> int:
    return int(text) if text and text.isdigit() else 0
