"""The synchronous face: the same words, waiting. ``from serin import sync as serin``.

Everything that waits runs in a loop of our own, in a thread of our own. Not for use inside an event loop:
there it says so.
"""

from __future__ import annotations

import functools
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Coroutine, Optional, Type, TypeVar

from .core import Core
from .handle import Connection, Emits, Waits
from .options import Options
from .service import Endpoints

if TYPE_CHECKING:
    from typing_extensions import Concatenate, ParamSpec

    _P = ParamSpec("_P")
_T = TypeVar("_T")


def _blocking(
    method: Callable[Concatenate[Any, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate[Any, _P], _T]:
    """The same word, which waits: it runs in a loop of ours."""

    def run(self: Any, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        core: Core = self.core
        return core.wait_for(method(self, *args, **kwargs))

    functools.update_wrapper(run, method)
    return run


class Blocks(Emits):
    """What waits, blocking."""

    call = _blocking(Waits.call)
    call_reply = _blocking(Waits.call_reply)
    chain = _blocking(Waits.chain)

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


class Serin(Connection, Blocks):
    """The connection of a service to Serin."""

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
