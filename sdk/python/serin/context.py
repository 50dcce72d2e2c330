"""What caused the work under way: trace, canary arms, deadline, caller; carried by ``contextvars``.

A handler runs inside the context of its call, so that every ``emit``, ``call`` and log line in it takes
it up by itself, also in threads that the SDK starts for it.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Iterator, Optional

from . import clock
from .wire.trace import Trace, cut_arm


@dataclass(frozen=True)
class Context:
    """What caused the work under way. Begin with :meth:`from_headers` or :meth:`current`."""

    #: The trace, with the innermost span.
    trace: Optional[Trace] = None
    #: The versions under trial that served the cause, ``cart=v8,pay=v2``.
    arm: Optional[str] = None
    #: When the caller stops waiting, by the SDK's monotonic clock.
    deadline: Optional[float] = None
    #: The service that called.
    caller: Optional[str] = None
    #: How many calls enclose this work.
    depth: int = 0
    #: How many chains enclose this work.
    chain_depth: int = 0

    @staticmethod
    def from_headers(traceparent: Optional[str], arm: Optional[str] = None) -> Context:
        """Reads the headers ``traceparent`` and ``serin-arm``; what is not valid is left out."""
        return Context(trace=Trace.parse(traceparent), arm=cut_arm(arm))

    @staticmethod
    def current() -> Context:
        """The context of the work under way."""
        return _current.get()

    @contextmanager
    def scope(self) -> Iterator[Context]:
        """Runs what is in the ``with`` block in this context."""
        token = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(token)

    def traceparent(self) -> Optional[str]:
        """The header ``traceparent`` to send along."""
        return self.trace.to_traceparent() if self.trace else None

    def trace_id(self) -> str:
        """The trace as 32 hex digits; empty where there is none."""
        return f"{self.trace.trace_id:032x}" if self.trace else ""

    def remaining_s(self) -> Optional[float]:
        """How long the caller still waits, in seconds; ``None`` where nobody said."""
        return None if self.deadline is None else self.deadline - clock.monotonic()


_current: ContextVar[Context] = ContextVar("serin", default=Context())  # noqa: B039, it is frozen
