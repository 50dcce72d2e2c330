"""Many events in one message, densely: ``application/x-serin-events``.

::

    message = "SB" version:u8 flags:u8 text(service) text(version) text(instance) event*
    event   = present:u8 time_us:i64 id text(type) [trace] [text(service)] [text(arm)] text(data)
    id      = 16 bytes of a ULID, or text where ID_TEXT is set
    text    = varint length, then that many bytes of UTF-8
    trace   = 16 bytes trace id, 8 bytes span id, 1 byte flags

Start at :func:`head` and :func:`put_event`; :func:`read` is for tests and tools.
"""

from __future__ import annotations

import struct
from typing import Any, Dict, List, Optional, Tuple

from .trace import Trace

#: The content type of a message in this format.
CONTENT_TYPE = "application/x-serin-events"

_MAGIC = b"SB\x01"
_HAS_TRACE = 1
_HAS_ARM = 2
_ID_TEXT = 4
_HAS_SERVICE = 8
_EVENT_HEAD = struct.Struct("<Bq")
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class BatchError(ValueError):
    """A message in this format cannot be read."""


def head(service: str, version: str, instance: str) -> bytes:
    """What every message of one instance begins with."""
    return _MAGIC + b"\0" + b"".join(_text(text.encode()) for text in (service, version, instance))


def put_event(
    out: bytearray,
    ulid: int,
    kind: str,
    time_us: int,
    trace: Optional[Trace],
    arm: Optional[str],
    data: bytes,
) -> None:
    """Appends one event; ``data`` is the text of a JSON object."""
    present = (_HAS_TRACE if trace else 0) | (_HAS_ARM if arm else 0)
    out += _EVENT_HEAD.pack(present, time_us)
    out += ulid.to_bytes(16, "big")
    out += _text(kind.encode())
    if trace:
        out += trace.trace_id.to_bytes(16, "big")
        out += trace.span_id.to_bytes(8, "big")
        out.append(trace.flags)
    if arm:
        out += _text(arm.encode())
    out += _text(data)


def _text(text: bytes) -> bytes:
    length = len(text)
    if length < 0x80:
        return bytes((length,)) + text
    varint = bytearray()
    while length >= 0x80:
        varint.append(length & 0x7F | 0x80)
        length >>= 7
    varint.append(length)
    return bytes(varint) + text


def read(message: bytes) -> List[Dict[str, Any]]:
    """The events of a message; ``data`` stays the text of a JSON object."""
    if message[:3] != _MAGIC:
        raise BatchError('the batch does not start with "SB" and version 1')
    at = 4
    own: List[str] = []
    for _ in range(3):
        text, at = _take_text(message, at)
        own.append(text.decode())
    events = []
    while at < len(message):
        event, at = _take_event(message, at)
        event = {"service": own[0], "version": own[1], "instance": own[2], **event}
        events.append(event)
    return events


def _take_event(message: bytes, at: int) -> Tuple[Dict[str, Any], int]:
    event: Dict[str, Any] = {"trace": None, "arm": None}
    present, event["time_us"] = _EVENT_HEAD.unpack(_take(message, at, _EVENT_HEAD.size))
    at += _EVENT_HEAD.size
    if present & _ID_TEXT:
        text, at = _take_text(message, at)
        event["id"] = text.decode()
    else:
        event["id"] = _ulid_text(int.from_bytes(_take(message, at, 16), "big"))
        at += 16
    text, at = _take_text(message, at)
    event["type"] = text.decode()
    if present & _HAS_TRACE:
        raw = _take(message, at, 25)
        numbers = int.from_bytes(raw[:16], "big"), int.from_bytes(raw[16:24], "big"), raw[24]
        event["trace"] = Trace(*numbers).to_traceparent()
        at += 25
    if present & _HAS_SERVICE:
        text, at = _take_text(message, at)
        event["service"] = text.decode()
    if present & _HAS_ARM:
        text, at = _take_text(message, at)
        event["arm"] = text.decode()
    event["data"], at = _take_text(message, at)
    return event, at


def _take(message: bytes, at: int, length: int) -> bytes:
    if at + length > len(message):
        raise BatchError(f"the batch ends in the middle of an event, at byte {at}")
    return message[at : at + length]


def _take_text(message: bytes, at: int) -> Tuple[bytes, int]:
    length = shift = 0
    while True:
        byte = _take(message, at, 1)[0]
        at += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return _take(message, at, length), at + length
        shift += 7


def _ulid_text(value: int) -> str:
    return "".join(_CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))
