"""The handle a service holds, in asyncio: :class:`Serin`, and :class:`Service` for one that serves.

The words that never wait are in :class:`Emits`, which the synchronous face shares.
"""

from __future__ import annotations

import _thread
import logging
import signal
import sys
import threading
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Type

from . import calls, chains, clock
from .context import Context
from .core import Core, wait_for
from .options import Options
from .service import Endpoints
from .span import Span
from .telemetry import log_line
from .typed import kind_of


class Emits:
    """What never waits: emit, gauges, spans, counts."""

    @property
    def core(self) -> Core:
        """The connection."""
        raise NotImplementedError

    def emit(self, kind: str, data: Any = None, /, **fields: Any) -> None:
        """Emits an event: ``emit("order.paid", {"amount": 3})`` or ``emit("order.paid", amount=3)``.

        Never waits and never raises, from any thread; what cannot be taken is counted and told with
        the beats. ``data`` is a dictionary, a dataclass, or whatever becomes a JSON object.
        """
        if fields:
            data = {**data, **fields} if isinstance(data, Mapping) else fields
        self.core.emit(kind, {} if data is None else data)

    def emit_event(self, event: Any) -> None:
        """Emits a typed event, see :func:`serin.event`."""
        self.core.emit(kind_of(event), event)

    def gauge(self, name: str, sample: Callable[[], float]) -> None:
        """Has a value sampled with each beat. The function must be quick."""
        self.core.gauges.insert(name, sample)

    def set_state(self, state: str) -> None:
        """Says at once whether the instance takes work: ``starting``, ``ready`` or ``draining``."""
        self.core.set_state(state)

    def counts(self) -> Dict[str, Any]:
        """Events emitted, acknowledged, and dropped by reason."""
        return self.core.counts()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Counts the work in the ``with`` block as a request; an exception counts as its failure."""
        core, started = self.core, clock.monotonic()
        core.requests.start()
        has_failed = True
        try:
            yield
            has_failed = False
        finally:
            core.requests.finish(clock.since_us(started), has_failed)

    @contextmanager
    def span(self, name: str, **attributes: Any) -> Iterator[Span]:
        """A piece of work in the trace under way; what is emitted in it belongs to it."""
        around = Context.current()
        span = self.core.spans.begin(name, around.trace)
        span.attributes.update(attributes)
        try:
            with span.context(around).scope():
                yield span
        except BaseException as error:
            span.fail(error)
            raise
        finally:
            self.core.spans.end(span)

    def log_handler(self, level: int = logging.NOTSET) -> logging.Handler:
        """A handler for ``logging`` that tells lines on ``tel.log``, each with its trace."""
        return _LogHandler(self.core, level)

    def drain_on_sigterm(self, deadline: float = 3.0) -> None:
        """From now on SIGTERM drains within the deadline and ends the process with code 143.

        To be called in the main thread; :meth:`Service.run` does it by itself.
        """

        is_begun = False
        drained = threading.Event()

        def drain(main: int) -> None:
            try:
                self.core.drain(deadline)
            finally:
                drained.set()
                # Ends the main thread's waiting, whatever it waits for.
                signal.pthread_kill(main, signal.SIGTERM)

        def end(_number: int, _frame: Any) -> None:
            # The main thread may hold any lock now, of ours and of `threading`: none is taken here.
            nonlocal is_begun
            if drained.is_set():
                sys.exit(128 + signal.SIGTERM)
            if not is_begun:
                is_begun = True
                _thread.start_new_thread(drain, (_thread.get_ident(),))

        signal.signal(signal.SIGTERM, end)


class Connection(Emits):
    """What a handle is made of."""

    def __init__(self, options: Optional[Options] = None) -> None:
        self._core = Core(options or Options.from_env())

    @property
    def core(self) -> Core:
        return self._core


class Waits(Emits):
    """What waits, in asyncio; the synchronous face takes its words from here."""

    async def call(
        self,
        service: str,
        endpoint: str,
        data: Any = None,
        *,
        key: Optional[str] = None,
        timeout: float = calls.TIMEOUT_S,
        idempotent: bool = False,
    ) -> Any:
        """Calls an endpoint and returns what it answered; raises :class:`serin.CallError`."""
        asked = calls.Call(service, endpoint, data, key, timeout, idempotent)
        return (await calls.call(self.core, asked)).data

    async def call_reply(
        self,
        service: str,
        endpoint: str,
        data: Any = None,
        *,
        key: Optional[str] = None,
        timeout: float = calls.TIMEOUT_S,
        idempotent: bool = False,
    ) -> calls.Reply:
        """The same with headers, who answered, and where the time went."""
        asked = calls.Call(service, endpoint, data, key, timeout, idempotent)
        return await calls.call(self.core, asked)

    async def chain(
        self,
        chain: chains.Chain,
        data: Mapping[str, Any],
        *,
        key: Optional[str] = None,
        timeout: float = chains.TIMEOUT_S,
    ) -> chains.Enhanced:
        """Has services enhance the data, stage by stage; raises :class:`serin.ChainError`."""
        return await chains.run(self.core, chain, data, key, timeout)

    async def flush(self, timeout: Optional[float] = None) -> bool:
        """Waits until everything emitted before is on the bus's disk; whether it is."""
        return await wait_for(self.core.queue.when_acknowledged, timeout)

    async def drain(self, deadline: float = 3.0) -> bool:
        """Takes no more events, and waits until all are acknowledged; whether they were. What is left
        rests in the spill folder for the next run."""
        self.core.begin_drain(deadline)
        await self.core.close_link()
        return await wait_for(self.core.when_finished, None)


class Serin(Connection, Waits):
    """The connection of a service to Serin. Made by :func:`serin.connect`; returns at once, events
    wait in the queue until the bus is reached."""

    def service(self, **options: Any) -> Service:
        """The service that is served over this connection."""
        return Service(None, self._core, **options)

    async def __aenter__(self) -> Serin:
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        await self.drain(self._core.options.drain_deadline_s)


class Service(Endpoints, Waits):
    """A service that serves, see :func:`serin.service`."""

    async def start(self) -> None:
        """Serves in the running loop from now on; returns once the bus knows it."""
        await self._start()

    async def stop(self, deadline: float = 10.0) -> bool:
        """Drains calls, then events; whether all were done in time."""
        return await self._stop(deadline)


class _LogHandler(logging.Handler):
    def __init__(self, core: Core, level: int) -> None:
        super().__init__(level)
        self._core = core

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = log_line(record, self.format(record), Context.current().trace_id())
            self._core.logs.push(line)
        except Exception:  # noqa: BLE001, logging must not fail the program
            self.handleError(record)
