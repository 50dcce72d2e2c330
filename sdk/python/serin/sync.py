"""The synchronous face: the same words, waiting. ``from serin import sync as serin``.

Everything that waits runs in a loop of our own, in a thread of our own. Not for use inside an event loop:
there it says so.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Mapping, Optional, Type

from . import calls, chains
from .core import Core
from .handle import Emits
from .options import Options
from .service import Endpoints


class Blocks(Emits):
    """What waits, blocking."""

    def call(
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
        return self.call_reply(
            service, endpoint, data, key=key, timeout=timeout, idempotent=idempotent
        ).data

    def call_reply(
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
        return self.core.wait_for(calls.call(self.core, asked))

    def chain(
        self, chain: chains.Chain, data: Mapping[str, Any], *, key: Optional[str] = None
    ) -> chains.Enhanced:
        """Has services enhance the data, stage by stage; raises :class:`serin.ChainError`."""
        return self.core.wait_for(chains.run(self.core, chain, data, key))

    def flush(self, timeout: Optional[float] = None) -> bool:
        """Waits until everything emitted before is on the bus's disk; whether it is."""
        told = threading.Event()
        answers = []

        def tell(value: bool) -> None:
            answers.append(value)
            told.set()

        self.core.queue.when_acknowledged(tell)
        return told.wait(timeout) and answers[0]

    def drain(self, deadline: float = 3.0) -> bool:
        """Takes no more events, and waits until all are acknowledged; whether they were."""
        return self.core.drain(deadline)


class Serin(Blocks):
    """The connection of a service to Serin."""

    def __init__(self, options: Optional[Options] = None) -> None:
        self._core = Core(options or Options.from_env())

    @property
    def core(self) -> Core:
        return self._core

    def service(self, **options: Any) -> Service:
        """The service that is served over this connection."""
        return Service(None, self._core, **options)

    def __enter__(self) -> Serin:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.drain(self._core.options.drain_deadline_s)


class Service(Endpoints, Blocks):
    """A service that serves; :meth:`run` blocks, :meth:`start` serves beside the program."""

    def start(self) -> None:
        """Serves in a thread of ours from now on; returns once the bus knows it."""
        self.core.wait_for(self._start())

    def stop(self, deadline: float = 10.0) -> bool:
        """Drains calls, then events; whether all were done in time."""
        are_done = self.core.wait_for(self._stop_calls(deadline))
        return self.core.drain(deadline) and are_done


def connect(options: Optional[Options] = None) -> Serin:
    """Connects as the environment says, or as the options do."""
    return Serin(options)


def service(name: Optional[str] = None, **options: Any) -> Service:
    """A service, connected as the environment says when it is first needed."""
    return Service(name, None, **options)
