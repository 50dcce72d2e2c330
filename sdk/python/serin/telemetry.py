"""Lines of JSON between whoever tells them and the sender: spans, logs, requests.

Bounded, lossy and counted: telemetry that the bus does not get in time is not kept.
"""

from __future__ import annotations

import logging
import threading
from typing import Any, Dict

from .dropped import Dropped
from .encode import to_json

#: What is kept between two sendings; also the largest message, below NATS's default of 1 MiB.
BYTES_MAX = 512 << 10
_LEVELS = ((logging.ERROR, "error"), (logging.WARNING, "warn"), (logging.INFO, "info"))
#: The fields every record has; what is beside them was given by ``extra=``.
_RECORD_FIELDS = frozenset(
    vars(logging.LogRecord("", 0, "", 0, "", (), None)).keys() | {"message", "asctime", "taskName"}
)


class Lines:
    """Lines that wait."""

    def __init__(self, what: str, dropped: Dropped) -> None:
        #: The telemetry's name in subjects: ``span``, ``log``, ``req``.
        self.what = what
        self._name = {"req": "request"}.get(what, what)
        self._dropped = dropped
        self._lock = threading.Lock()
        self._lines = bytearray()

    def push(self, value: Dict[str, Any]) -> None:
        """Appends a line, or counts it as dropped."""
        try:
            line = to_json(value) + b"\n"
        except (TypeError, ValueError):
            line = b""
        with self._lock:
            has_room = line and len(self._lines) + len(line) <= BYTES_MAX
            if has_room:
                self._lines += line
        if not has_room:
            self._dropped.count(f"{self._name}-full")

    def lose(self, taken: bytes) -> None:
        """Counts lines that the bus did not get in time."""
        if taken:
            self._dropped.count(f"{self._name}-lost", taken.count(b"\n"))

    def take(self) -> bytes:
        """All lines; empty where there are none."""
        if not self._lines:
            return b""
        with self._lock:
            lines, self._lines = self._lines, bytearray()
        return bytes(lines)


def log_line(record: logging.LogRecord, message: str, trace_id: str) -> Dict[str, Any]:
    """A record of ``logging`` as a line of ``tel.log``."""
    level = next((name for least, name in _LEVELS if record.levelno >= least), "debug")
    line: Dict[str, Any] = {
        "time": int(record.created * 1e6),
        "level": level,
        "message": message,
        "source": record.name,
    }
    if trace_id:
        line["trace_id"] = trace_id
    extra = vars(record).items()
    fields = {name: plain(value) for name, value in extra if name not in _RECORD_FIELDS}
    if fields:
        line["fields"] = fields
    return line


def plain(value: Any) -> Any:
    """A value that surely has JSON: itself where it is plain, else its text."""
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
