"""For the tests of a service: its handlers run without a bus, and what they emit is seen.

::

    with serin.testing.recording(app) as events:
        assert hello(serin.WebRequest.of("GET /?name=Ada")) == "Hello, Ada!"
    assert events == [("greeting.sent", {"to": "Ada"})]
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Tuple

from .beats import Gauges, Requests
from .dropped import Dropped
from .encode import to_json
from .service import Endpoints
from .span import Spans
from .telemetry import Lines

Events = List[Tuple[str, Dict[str, Any]]]


class _Recorder:
    """Stands in for a connection: takes what never waits, keeps the events."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self.who = {"service": "test", "version": "dev", "instance": "test-dev-1"}
        self.dropped = Dropped()
        self.spans = Spans(self.who, self.dropped)
        self.logs = Lines("log", self.dropped)
        self.requests = Requests()
        self.gauges = Gauges()

    def emit(self, kind: str, data: Any) -> None:
        """Keeps the event as it would travel; what has no JSON raises, as it would be dropped."""
        self._events.append((kind, json.loads(to_json(data))))

    def set_state(self, state: str) -> None:
        """Nobody is told."""

    def counts(self) -> Dict[str, Any]:
        """What was emitted."""
        return {"emitted": len(self._events), "acknowledged": 0, "dropped": {}}


@contextmanager
def recording(app: Endpoints) -> Iterator[Events]:
    """Within the block the service has no bus, and what it emits is in the list, as ``(type, data)``."""
    events: Events = []
    before, app._core = app._core, _Recorder(events)  # type: ignore[assignment]
    try:
        yield events
    finally:
        app._core = before
