"""A piece of work with a beginning, a duration and its place in a trace; told on ``tel.span``.

Calls, chains, served requests and the spans of a service's own begin and end at :class:`Spans`, so that
they form one trace and the same rule says which are told.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, Optional

from . import clock, dropped
from .context import Context
from .dropped import Dropped
from .sample import Offer, Sampler
from .telemetry import Lines
from .wire.trace import SAMPLED, Trace


class Span:
    """A span that is open; begun and ended by :class:`Spans`."""

    def __init__(self, name: str, trace: Trace, parent: Optional[Trace]) -> None:
        self.name = name
        self.trace = trace
        self.parent = parent
        self.attributes: Dict[str, Any] = {}
        self.has_failed = False
        self._time_us = clock.now_us()
        self._started = clock.monotonic()

    def began(self, time_us: int, at: float) -> None:
        """Says that it began earlier, by both clocks."""
        self._time_us, self._started = time_us, at

    def context(self, around: Context) -> Context:
        """The context of work in this span."""
        return replace(around, trace=self.trace)

    def fail(self, error: BaseException) -> None:
        """Notes why it failed."""
        self.has_failed = True
        self.attributes["error"] = str(error)

    def duration_us(self) -> int:
        """How long it took by now."""
        return clock.since_us(self._started)

    def line(self, who: Dict[str, str], duration_us: int) -> Dict[str, Any]:
        """As it travels; ``who`` is service, version and instance."""
        line: Dict[str, Any] = {
            "trace_id": f"{self.trace.trace_id:032x}",
            "span_id": f"{self.trace.span_id:016x}",
            "name": self.name,
            **who,
            "time": self._time_us,
            "duration_us": duration_us,
            "status": "error" if self.has_failed else "ok",
        }
        if self.parent:
            line["parent_id"] = f"{self.parent.span_id:016x}"
        if self.attributes:
            line["attributes"] = self.attributes
        return line


class Spans:
    """Begins spans, and tells those that are kept."""

    def __init__(self, who: Dict[str, str], counts: Dropped) -> None:
        #: Those that ended and wait for the sender.
        self.lines = Lines("span", counts)
        self._who = who
        self._dropped = counts
        self._sampler = Sampler(clock.monotonic())

    def begin(self, name: str, above: Optional[Trace]) -> Span:
        """Begins a span under another, or at the root of a new trace."""
        if above:
            return Span(name, above._replace(span_id=clock.random_bits(64)), above)
        trace_id = clock.random_bits(128)
        flags = SAMPLED if self._sampler.takes(trace_id) else 0
        return Span(name, Trace(trace_id, clock.random_bits(64), flags), None)

    def end(self, span: Span) -> None:
        """Ends a span; it is told if the sampler keeps it and there is room."""
        duration_us = span.duration_us()
        offer = Offer(span.trace, span.name, duration_us, span.has_failed)
        if self._sampler.keeps(offer, clock.monotonic()):
            self.lines.push(span.line(self._who, duration_us))
        else:
            self._dropped.count(dropped.SPAN_SAMPLED)
