"""What a service's handles share for one instance: queue, threads, telemetry, links.

Two threads of our own do everything that may wait: the sender's, whose loop also serves blocking calls,
and the beats'. The end of the process drains. Start at :class:`Core`.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import weakref
from typing import Any, Callable, Coroutine, Dict, List, Optional, TypeVar

from . import clock, dropped
from .beats import Beats, Gauges, Requests
from .bus import Bus
from .context import Context
from .dropped import Dropped
from .encode import to_json
from .left import IS_AVAILABLE, left_under
from .link import Link
from .options import Options
from .queue import Queue
from .replay import Replay
from .send import Sender
from .span import Spans
from .spill import Spill
from .telemetry import Lines
from .wire import batch, subject

STARTING, READY, DRAINING = "starting", "ready", "draining"
#: The end waits this much longer than its deadline for the last beat.
LAST_BEAT_WITHIN_S = 2.0
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Core:
    """See the module. Begins at once: events wait in the queue until the bus is reached."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.who = {
            "service": options.service,
            "version": options.version,
            "instance": options.instance,
        }
        self.producer = f"{options.service}-{clock.secret_bits(128):032x}"
        self.dropped = Dropped()
        self.spans = Spans(self.who, self.dropped)
        self.logs = Lines("log", self.dropped)
        self.requests_told = Lines("req", self.dropped)
        self.requests = Requests()
        self.gauges = Gauges()
        self._state = READY
        self._started_us = clock.now_us()
        head = batch.head(options.service, options.version, options.instance)
        self.queue = Queue(head, clock.now_us, options.queue_bytes_max, self._has_news)
        self._lock = threading.Lock()
        self._sender: Optional[Sender] = None
        self._beats: Optional[Beats] = None
        self._loops: Dict[str, asyncio.AbstractEventLoop] = {}
        self._links: Dict[asyncio.AbstractEventLoop, Link] = {}
        self._drain_s: Optional[float] = None
        self._is_done = False
        self._finished = threading.Event()
        self._is_running = threading.Event()
        self._when_finished: List[Callable[[bool], None]] = []
        self._threads = [
            threading.Thread(target=run, args=(work,), name=name, daemon=True)
            for name, run, work in (
                ("serin-send", self._run, self._send),
                ("serin-beat", self._run, self._beat),
            )
        ]
        for thread in self._threads:
            thread.start()
        atexit.register(_end, weakref.ref(self))
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.queue.forget_parent)

    # What a service says.

    def emit(self, kind: str, data: Any) -> None:
        """Queues an event, or counts why not. Never waits, never raises."""
        try:
            text = to_json(data)
            reason = "" if text[:1] == b"{" else dropped.NOT_AN_OBJECT
        except Exception:  # noqa: BLE001, the caller's own objects may raise anything
            reason = dropped.NOT_JSON
        if not reason:
            context = Context.current()
            reason = self.queue.push(kind, text, context.trace, context.arm)
        if reason and self.dropped.count(reason):
            _log.warning(
                "dropped an event of type %.64r: %s; further ones are counted", kind, reason
            )

    @property
    def state(self) -> str:
        """``starting``, ``ready`` or ``draining``."""
        return self._state

    def set_state(self, state: str) -> None:
        """Says with a beat, at once, whether the instance takes work."""
        self._state = state
        self._tell("serin-beat", self._wake_beats)

    def counts(self) -> Dict[str, Any]:
        """What became of the events so far."""
        acknowledged = self.queue.acknowledged
        return {
            "emitted": self.queue.emitted,
            "acknowledged": acknowledged,
            "dropped": self.dropped.by_reason(),
        }

    # Links: one connection for the calls of each event loop.

    async def link(self) -> Link:
        """The link of the running loop."""
        loop = asyncio.get_running_loop()
        with self._lock:
            for old in [one for one in self._links if one.is_closed()]:
                del self._links[old]
            link = self._links.get(loop)
            is_new = link is None
            if link is None:
                link = self._links[loop] = Link(self.options.bus, self.options.instance)
        if is_new:
            await link.start()
        return link

    async def close_link(self) -> None:
        """Ends the link of the running loop."""
        with self._lock:
            link = self._links.pop(asyncio.get_running_loop(), None)
        if link:
            await link.close()

    def wait_for(self, work: Coroutine[Any, Any, _T], timeout_s: Optional[float] = None) -> _T:
        """Runs a coroutine in a loop of our own and waits for it: the synchronous face."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            work.close()
            raise RuntimeError(
                "this waits, and would stop the event loop: use the same name of `serin` with "
                "`await`, not of `serin.sync`, or a handler that is a plain `def`"
            )
        loop = self._own_loop()
        return asyncio.run_coroutine_threadsafe(work, loop).result(timeout_s)

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        """The sender's loop, or that of a service which was started in this process."""
        with self._lock:
            for loop in self._links:
                if loop.is_running():
                    return loop
        self._is_running.wait()
        return self._loops["serin-send"]

    # The end.

    def begin_drain(self, deadline_s: float) -> None:
        """Takes no more events, and ends once all are acknowledged or the time is over."""
        with self._lock:
            is_first = self._drain_s is None
            self._drain_s = deadline_s if is_first else self._drain_s
        self.queue.close()
        with self._lock:
            links = list(self._links.values())
        for link in links:
            link.tell_now()
        if is_first:
            self.set_state(DRAINING)
            self._tell("serin-send", self._stop_sender)

    def when_finished(self, tell: Callable[[bool], None]) -> None:
        """Calls, from any thread, with whether everything was acknowledged at the end."""
        with self._lock:
            is_over = self._finished.is_set()
            if not is_over:
                self._when_finished.append(tell)
        if is_over:
            tell(self._is_done)

    def drain(self, deadline_s: float) -> bool:
        """Drains and waits; whether everything was acknowledged."""
        self.begin_drain(deadline_s)
        self._finished.wait(deadline_s + LAST_BEAT_WITHIN_S)
        self._threads[1].join(LAST_BEAT_WITHIN_S)
        return self._is_done

    # The threads.

    def _run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        name = threading.current_thread().name
        loop = asyncio.new_event_loop()
        self._loops[name] = loop
        try:
            loop.run_until_complete(work())
        except Exception:  # noqa: BLE001, the last resort of a thread
            _log.exception("the thread %s ended", name)
        finally:
            if name == "serin-send":
                self._finish()
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()

    async def _send(self) -> None:
        options = self.options
        bus = Bus(options.bus, options.instance, self._wake_sender)
        spill, left = None, []
        parent = options.spill_parent
        if parent and IS_AVAILABLE:
            left = left_under(parent)
            spill = Spill(parent, self.producer, 0, options.spill_bytes_max)
        told = (self.spans.lines, self.logs, self.requests_told)
        lines = {self.subject(one.what): one for one in told}
        events = subject.batch(options.service)
        sender = Sender(self.queue, self.dropped, bus, spill, events, self.producer, lines)
        self._sender = sender
        bus.start()
        self._is_running.set()
        replaying = None
        if left:
            link = Link(options.bus, options.instance)
            await link.start()
            replaying = asyncio.get_running_loop().create_task(
                Replay(link, events, sender.emptied).run(left)
            )
        self._stop_sender()
        self._is_done = await sender.run()
        if replaying:
            replaying.cancel()
            await asyncio.wait([replaying])
            await link.close()
        await self.close_link()
        await bus.close()

    async def _beat(self) -> None:
        options = self.options
        bus = Bus(options.bus, options.instance, self._wake_beats)
        beats = Beats(bus, self.subject("beat"), self.subject("pulse"), self._fill_beat)
        self._beats = beats
        bus.start()
        self.when_finished(lambda _: self._tell("serin-beat", beats.stop))
        await beats.run()
        await bus.close()

    def _fill_beat(self) -> Dict[str, Any]:
        requests, errors = self.requests.take()
        mark = self.queue.mark()
        beat: Dict[str, Any] = {
            **self.who,
            "number": 0,
            "time_us": clock.now_us(),
            "started_us": self._started_us,
            "state": self._state,
            "in_flight": self.requests.in_flight,
            "queued_events": self.queue.pending,
            "requests": requests.to_json(),
            "errors": errors,
            "gauges": self.gauges.sample(),
            "dropped": self.dropped.by_reason(),
            "sealed": {
                "producer": self.producer,
                "epoch": 0,
                "number": mark.number,
                "time_us": mark.time_us,
            },
        }
        return {key: value for key, value in beat.items() if value or key not in _LEFT_OUT}

    def subject(self, what: str) -> str:
        """The subject of this instance's telemetry."""
        return subject.telemetry(what, **self.who)

    def _finish(self) -> None:
        self._is_running.set()
        with self._lock:
            self._finished.set()
            waiting, self._when_finished = self._when_finished, []
        self.queue.abandon()
        for tell in waiting:
            tell(self._is_done)

    def _has_news(self) -> None:
        self._tell("serin-send", self._wake_sender)

    # To be called in the thread of whom they are for, which may not have come so far yet.

    def _wake_sender(self) -> None:
        if self._sender:
            self._sender.wake()

    def _stop_sender(self) -> None:
        if self._sender and self._drain_s is not None:
            self._sender.stop(self._drain_s)

    def _wake_beats(self) -> None:
        if self._beats:
            self._beats.wake()

    def _tell(self, thread: str, what: Callable[[], Any]) -> None:
        """Has something done in a loop of ours, if that still runs."""
        loop = self._loops.get(thread)
        if loop:
            try:
                loop.call_soon_threadsafe(what)
            except RuntimeError:
                _log.debug("%s has ended", thread)


#: What a beat leaves out where it is empty.
_LEFT_OUT = ("gauges", "dropped")


def _end(reference: "weakref.ref[Core]") -> None:
    """At the end of the process: what was emitted is acknowledged, or rests on disk."""
    core = reference()
    if core is not None:
        core.drain(core.options.drain_deadline_s)


async def wait_for(
    register: Callable[[Callable[[bool], None]], None], timeout: Optional[float]
) -> bool:
    """Waits in asyncio for what tells by a function, from any thread; ``False`` when time is over."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[bool] = loop.create_future()

    def take(value: bool) -> None:
        if not told.done():
            told.set_result(value)

    def tell(value: bool) -> None:
        loop.call_soon_threadsafe(take, value)

    register(tell)
    try:
        return await asyncio.wait_for(told, timeout)
    except asyncio.TimeoutError:
        return False
