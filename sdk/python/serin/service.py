"""A service: endpoints and web handlers by decorators, and running them until told to end.

::

    app = serin.service()

    @app.endpoint
    async def add(item: Item) -> dict: ...

    app.run()
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from typing import Any, Callable, Dict, List, Optional, TypeVar, overload

from . import clock
from .core import DRAINING, READY, STARTING, Core, wait_for
from .endpoint import Endpoint
from .options import Options
from .periodic import Periodic
from .serve import Server
from .web import Router
from .wire import call as wire
from .wire import name as names

#: Calls handled at a time, and waiting ones, unless said otherwise: a caller's patience is seconds.
CONCURRENCY = 64
WAITING_MAX = 256
_F = TypeVar("_F", bound=Callable[..., Any])
_log = logging.getLogger(__name__)


class Endpoints:
    """What a service serves; mixed into the async and the synchronous service."""

    def __init__(
        self,
        name: Optional[str],
        core: Optional[Core],
        concurrency: int = CONCURRENCY,
        waiting_max: int = WAITING_MAX,
        description: str = "",
    ) -> None:
        self._name = name
        self._core = core
        self._concurrency = concurrency
        self._waiting_max = waiting_max
        self._description = description
        self._endpoints: Dict[str, Endpoint] = {}
        self._router = Router()
        self._server: Optional[Server] = None
        self._periodic: List[Periodic] = []
        self._ended: Optional[asyncio.Event] = None
        self._running: List[asyncio.Task[None]] = []

    @property
    def core(self) -> Core:
        """The connection, made as the environment says at the first need of it."""
        if self._core is None:
            self._core = Core(Options.from_env(self._name))
            self._core.set_state(STARTING)
        return self._core

    @overload
    def endpoint(self, name: _F) -> _F: ...

    @overload
    def endpoint(
        self, name: Optional[str] = None, *, idempotent: bool = False
    ) -> Callable[[_F], _F]: ...

    def endpoint(self, name: Any = None, *, idempotent: bool = False) -> Any:
        """Serves a function, plain or async: ``@app.endpoint``, ``@app.endpoint("add")``.

        Its name is the function's, with ``-`` for ``_``. The handler gets the body of the call as the
        annotation of its first parameter says, and answers with what it returns; it raises
        :class:`serin.CallError` to answer with a code of its own.
        """
        if callable(name):
            return self.endpoint()(name)

        def add(handler: _F) -> _F:
            short = name or handler.__name__.replace("_", "-")
            names.check_short("endpoint", short)
            if short in self._endpoints:
                raise ValueError(f"two handlers serve the endpoint {short!r}; name one of them")
            self._endpoints[short] = Endpoint(short, handler, idempotent)
            return handler

        return add

    @overload
    def web(self, pattern: _F) -> _F: ...

    @overload
    def web(self, pattern: Optional[str] = None) -> Callable[[_F], _F]: ...

    def web(self, pattern: Any = None) -> Any:
        """Serves web requests: ``@app.web`` all of them, ``@app.web("GET /items/{id}")`` some.

        The handler gets a :class:`serin.WebRequest` and answers text, bytes, a value that becomes
        JSON, a :class:`serin.Response`, or an iterator of chunks, plain or async.
        """
        if callable(pattern):
            return self.web()(pattern)

        def add(handler: _F) -> _F:
            self._router.add(pattern, handler)
            if wire.WEB_ENDPOINT not in self._endpoints:
                self._endpoints[wire.WEB_ENDPOINT] = Endpoint(wire.WEB_ENDPOINT, handler)
            return handler

        return add

    def every(self, seconds: float) -> Callable[[_F], _F]:
        """Runs a function, plain or async, again and again while the service serves:
        ``@app.every(60)``, for the first time after one period.

        A run that takes long makes the next one late; what one raises is logged.
        """

        def add(task: _F) -> _F:
            self._periodic.append(Periodic(seconds, task))
            return task

        return add

    def gauge(self, name: str, sample: Callable[[], float]) -> None:
        """Has a value sampled with each beat. The function must be quick."""
        self.core.gauges.insert(name, sample)

    async def _start(self) -> None:
        core = self.core
        core.set_state(STARTING)
        link = await core.link()
        self._server = Server(
            core,
            link,
            list(self._endpoints.values()),
            self._router,
            self._concurrency,
            self._waiting_max,
            self._description,
        )
        await self._server.start()
        core.set_state(READY)
        # Made in the loop that serves: before Python 3.10 an event belongs to one.
        ended = self._ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._running = [loop.create_task(one.run(ended)) for one in self._periodic]

    async def _stop_calls(self, deadline_s: float) -> bool:
        """Drains calls and ends tasks; whether all were done in time."""
        self.core.set_state(DRAINING)
        until = clock.monotonic() + deadline_s
        if self._ended:
            self._ended.set()
        are_done = await self._server.drain(deadline_s) if self._server else True
        if self._running:
            left_s = max(0.0, until - clock.monotonic())
            _, late = await asyncio.wait(self._running, timeout=left_s)
            for task in late:
                task.cancel()
            are_done = are_done and not late
        return are_done

    async def _stop(self, deadline_s: float) -> bool:
        """Drains calls, then events; whether all were done in time."""
        core = self.core
        are_done = await self._stop_calls(deadline_s)
        core.begin_drain(deadline_s)
        await core.close_link()
        return await wait_for(core.when_finished, None) and are_done

    def run(self, drain_deadline: float = 10.0) -> None:
        """Serves until SIGTERM or SIGINT, then drains within the deadline and ends the process.

        The exit code is 143 after SIGTERM and 130 after SIGINT, as shells have it.
        """
        code, are_done = asyncio.run(self._run(drain_deadline))
        self.core.drain(0)
        if not are_done:
            _log.warning("ended with work undone, since the time to drain was over")
            sys.stdout.flush()
            sys.stderr.flush()
            # A plain handler that hangs would keep the interpreter from ending.
            os._exit(code)
        raise SystemExit(code)

    async def _run(self, drain_deadline: float) -> Any:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[int] = loop.create_future()

        def end(number: int) -> None:
            if not ended.done():
                ended.set_result(128 + number)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end, number)
        starting = loop.create_task(self._start())
        either: "list[asyncio.Future[Any]]" = [starting, ended]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
        else:
            starting.cancel()
        code = await ended
        return code, await self._stop(drain_deadline)
