"""Records in a segment's file: how a batch is written, and how a file is read past damage.

A record carries its checksum, so that a torn end and flipped bits are known. What is behind the damage
is found again: a record is only taken for one if its number follows and its sum is right.

::

    record = length:u32 number:u64 sealed_us:i64 events:u32 checksum:u64 payload   (little-endian)
"""

from __future__ import annotations

import re
import struct
from typing import Iterator, List, NamedTuple, Optional, Tuple

from .queue import Batch

_HEAD = struct.Struct("<IQqIQ")
HEAD_BYTES = _HEAD.size
#: The most by which a number is believed to follow another: a gigabyte of records, each with one event,
#: has fewer.
_STEP_MAX = 1 << 24
#: The upper half of a number is zero, and its lower half is not: heads are looked for at such places.
_UPPER_HALF = re.compile(rb"\x00{4,}")
_UPPER_HALF_AT = 8


class Contents(NamedTuple):
    """What stands in a segment, in order."""

    whole: List[Batch]
    #: Outlines of those that are damaged; with one event where their count cannot be read.
    damaged: List[Batch]


def encode(batch: Batch) -> bytes:
    """The record of a batch."""
    sum_ = checksum(batch.payload, batch.number)
    head = _HEAD.pack(len(batch.payload), batch.number, batch.sealed_us, batch.events, sum_)
    return head + batch.payload


def read(all_bytes: bytes, after: int) -> Contents:
    """Everything in a segment whose numbers come after this one."""
    found = Contents([], [])
    at, last = 0, after
    while at < len(all_bytes):
        place, batch = at, _whole_at(all_bytes, at, last)
        if batch is None:
            place, batch = _find(all_bytes, at + 1, last)
            until = batch.number if batch else None
            found.damaged.extend(_lost_between(all_bytes, at, last, place, until))
        if batch is None:
            break
        found.whole.append(batch)
        at, last = place + HEAD_BYTES + len(batch.payload), batch.number
    return found


def _find(all_bytes: bytes, start: int, last: int) -> Tuple[int, Optional[Batch]]:
    """The next place with a whole record, or the end."""
    for at in _places(all_bytes, start):
        batch = _whole_at(all_bytes, at, last)
        if batch:
            return at, batch
    return len(all_bytes), None


def _places(all_bytes: bytes, start: int) -> Iterator[int]:
    for zeros in _UPPER_HALF.finditer(all_bytes, start + _UPPER_HALF_AT):
        for upper_half in range(zeros.start(), min(zeros.start() + 4, zeros.end() - 3)):
            yield upper_half - _UPPER_HALF_AT


def _head_at(all_bytes: bytes, at: int, last: int) -> Optional[Tuple[Batch, int, int]]:
    """The outline, length and sum of a head that can be believed: its number follows the last one's."""
    if at + HEAD_BYTES > len(all_bytes):
        return None
    length, number, sealed_us, events, sum_ = _HEAD.unpack_from(all_bytes, at)
    follows = number > last and (last == 0 or number - last <= _STEP_MAX)
    if not follows or events > length:
        return None
    return Batch(number, max(events, 1), sealed_us, b""), length, sum_


def _whole_at(all_bytes: bytes, at: int, last: int) -> Optional[Batch]:
    head = _head_at(all_bytes, at, last)
    if head is None:
        return None
    outline, length, sum_ = head
    start = at + HEAD_BYTES
    if start + length > len(all_bytes):
        return None
    payload = all_bytes[start : start + length]
    return outline.with_payload(payload) if checksum(payload, outline.number) == sum_ else None


def _lost_between(
    all_bytes: bytes, at: int, last: int, place: int, until: Optional[int]
) -> List[Batch]:
    """What was at a damaged place: the numbers that are missing there, or where it was the end, the one
    whose head can still be read, else the next."""
    head = _head_at(all_bytes, at, last)
    outline = head[0] if head and (until is None or head[0].number < until) else None
    if last > 0:
        first = last + 1
    elif outline:
        first = outline.number
    elif until is not None:
        first = until - 1
    else:
        return []
    if until is None:
        until = (outline.number if outline else first) + 1
    records_max = 1 + (place - at) // HEAD_BYTES
    numbers = range(max(first, 1), until)[:records_max]
    return [
        outline if outline and outline.number == number else Batch(number, 1, 0, b"")
        for number in numbers
    ]


def checksum(payload: bytes, number: int) -> int:
    """FNV-1a over eight bytes at a time: it must find a torn write, not an attacker."""
    prime, mask = 0x0000_0100_0000_01B3, 0xFFFF_FFFF_FFFF_FFFF
    value = 0xCBF2_9CE4_8422_2325 ^ number
    words = len(payload) // 8
    for word in struct.unpack_from(f"<{words}Q", payload):
        value = (value ^ word) * prime & mask
        value = (value << 29 | value >> 35) & mask
    for byte in payload[words * 8 :]:
        value = (value ^ byte) * prime & mask
    return value ^ len(payload)
