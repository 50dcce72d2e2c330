"""A piece of work with a beginning, a duration and its place in a trace; told on ``tel.span``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, Optional

from . import clock
from .context import Context
from .telemetry import Lines
from .wire.trace import SAMPLED, Trace


class Span:
    """A span that is open; end it with :meth:`end`. Made by :meth:`begin`."""

    def __init__(self, name: str, trace: Trace, parent: Optional[Trace]) -> None:
        self.name = name
        self.trace = trace
        self.parent = parent
        self.attributes: Dict[str, Any] = {}
        self.has_failed = False
        self._time_us = clock.now_us()
        self._started = clock.monotonic()

    @staticmethod
    def begin(name: str, above: Optional[Trace]) -> Span:
        """Begins a span under another, or at the root of a new trace."""
        trace_id = above.trace_id if above else clock.random_bits(128)
        flags = above.flags if above else SAMPLED
        return Span(name, Trace(trace_id, clock.random_bits(64), flags), above)

    def context(self, around: Context) -> Context:
        """The context of work in this span."""
        return replace(around, trace=self.trace)

    def end(self, lines: Lines, who: Dict[str, str]) -> None:
        """Tells it; ``who`` is service, version and instance."""
        line: Dict[str, Any] = {
            "trace_id": f"{self.trace.trace_id:032x}",
            "span_id": f"{self.trace.span_id:016x}",
            "name": self.name,
            **who,
            "time": self._time_us,
            "duration_us": clock.since_us(self._started),
            "status": "error" if self.has_failed else "ok",
        }
        if self.parent:
            line["parent_id"] = f"{self.parent.span_id:016x}"
        if self.attributes:
            line["attributes"] = self.attributes
        lines.push(line)
