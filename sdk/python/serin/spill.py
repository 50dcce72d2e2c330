"""Batches on disk while the bus is away: written in order, read in order, gone when acknowledged.

A run of a producer has a folder of its own, ``<spill>/<service>@<bus>/<producer>.<epoch>/``, held by a
file lock, with segments of some megabytes in it. A folder whose lock is free was left by a run that
ended; ``replay`` sends it on under its old numbers, whichever language wrote it. Nothing is synced: a
spill survives its process, not a power cut.

::

    record = length:u32 number:u64 sealed_us:i64 events:u32 checksum:u64 payload   (little-endian)
"""

from __future__ import annotations

import logging
import os
import shutil
import struct
from collections import deque
from pathlib import Path
from typing import BinaryIO, Deque, Iterator, List, NamedTuple, Optional, Tuple

from .queue import Batch

try:
    import fcntl
except ImportError:  # Not a Unix: events wait in memory alone.
    fcntl = None  # type: ignore[assignment]

#: Whether this system has the file locks that a spill folder needs.
IS_AVAILABLE = fcntl is not None
#: A segment is closed at this size; a whole one is removed at once when it is acknowledged.
SEGMENT_BYTES = 8 << 20
_HEAD = struct.Struct("<IQqIQ")
_LOCK = "lock"
_log = logging.getLogger(__name__)


class _Record(NamedTuple):
    segment: int
    offset: int
    length: int
    batch: Batch
    """Without its payload."""


class _Segment:
    def __init__(self, index: int, path: Path) -> None:
        self.index = index
        self.path = path
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        self.file: BinaryIO = os.fdopen(descriptor, "r+b", buffering=0)
        self.bytes = 0


class Spill:
    """The folder of one run; nothing is made on disk before the first record."""

    def __init__(self, parent: Path, producer: str, epoch: int, bytes_max: int) -> None:
        self._folder = parent / f"{producer}.{epoch}"
        self._bytes_max = bytes_max
        self._bytes = 0
        self._lock: Optional[BinaryIO] = None
        self._segments: Deque[_Segment] = deque()
        #: Whether the last segment takes more.
        self._is_open = False
        self._next_segment = 1
        #: All records that are not acknowledged, oldest first, and how many of them were read.
        self._records: Deque[_Record] = deque()
        self._read = 0

    def is_all_read(self) -> bool:
        """Whether nothing waits to be read."""
        return self._read == len(self._records)

    def has_room(self, batch: Batch) -> bool:
        """Whether there is room for a batch."""
        return self._bytes + _HEAD.size + len(batch.payload) <= self._bytes_max

    def append(self, batch: Batch, is_read: bool) -> None:
        """Appends a batch. One that is in the sender's hands already is not read again from here."""
        record = encode(batch)
        segment = self._last_segment(len(record))
        try:
            _write_at(segment.file, record, segment.bytes)
        except OSError:
            # A torn record would hide what follows it from a later run.
            self._is_open = False
            raise
        offset = segment.bytes + _HEAD.size
        outline = batch.with_payload(b"")
        self._records.append(_Record(segment.index, offset, len(batch.payload), outline))
        segment.bytes += len(record)
        self._bytes += len(record)
        self._read += is_read

    def _last_segment(self, more: int) -> _Segment:
        if self._lock is None:
            self._lock = _make_folder(self._folder)
        if self._segments and self._segments[-1].bytes + more > SEGMENT_BYTES:
            self._is_open = False
        if not self._is_open or not self._segments:
            path = self._folder / f"{self._next_segment:08}.seg"
            self._segments.append(_Segment(self._next_segment, path))
            self._next_segment += 1
            self._is_open = True
        return self._segments[-1]

    def next(self) -> Optional[Tuple[Batch, bool]]:
        """The next batch that was not read, and whether the disk gave it back whole."""
        if self.is_all_read():
            return None
        record = self._records[self._read]
        self._read += 1
        payload = b""
        for segment in self._segments:
            if segment.index == record.segment:
                payload = _read_at(segment.file, record.length, record.offset)
        return record.batch.with_payload(payload), len(payload) == record.length

    def acknowledge(self, number: int) -> None:
        """Forgets everything up to this number, and removes segments that are empty then."""
        while self._records and self._records[0].batch.number <= number:
            self._records.popleft()
            self._read = max(0, self._read - 1)
        oldest = self._records[0].segment if self._records else None
        while self._segments and (oldest is None or self._segments[0].index < oldest):
            segment = self._segments.popleft()
            self._bytes -= segment.bytes
            segment.file.close()
            try:
                segment.path.unlink()
            except OSError as error:
                _log.warning("cannot remove a spilled segment: %s", error)

    def close(self) -> None:
        """Removes the folder when nothing is left in it; else it waits for the next run."""
        for segment in self._segments:
            segment.file.close()
        if self._lock is not None:
            if not self._records:
                _remove_folder(self._folder)
            self._lock.close()
            self._lock = None


class Left:
    """A folder left by a run that ended, held by us from now on."""

    def __init__(self, folder: Path, lock: BinaryIO) -> None:
        producer, _, epoch = folder.name.rpartition(".")
        self.producer = producer
        self.epoch = int(epoch)
        self._folder = folder
        self._lock = lock

    def batches(self) -> Iterator[Batch]:
        """Its batches in order, one segment in memory at a time."""
        for path in sorted(self._folder.glob("*.seg")):
            try:
                yield from decode(path.read_bytes())
            except OSError as error:
                _log.error("cannot read left events: %s", error)

    def remove(self) -> None:
        """All of it is acknowledged."""
        _remove_folder(self._folder)
        self._lock.close()


def left_under(parent: Path) -> List[Left]:
    """The folders whose runs have ended, oldest name first."""
    left = []
    try:
        folders = sorted(parent.iterdir())
    except OSError:
        return []
    for folder in folders:
        producer, _, epoch = folder.name.rpartition(".")
        if not producer or not epoch.isdigit():
            continue
        try:
            lock = open(folder / _LOCK, "rb")
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        left.append(Left(folder, lock))
    return left


def encode(batch: Batch) -> bytes:
    """The record of a batch."""
    sum_ = checksum(batch.payload, batch.number)
    head = _HEAD.pack(len(batch.payload), batch.number, batch.sealed_us, batch.events, sum_)
    return head + batch.payload


def decode(all_bytes: bytes) -> Iterator[Batch]:
    """The batches of a segment, up to a torn end."""
    at = 0
    while at + _HEAD.size <= len(all_bytes):
        length, number, sealed_us, events, sum_ = _HEAD.unpack_from(all_bytes, at)
        at += _HEAD.size
        payload = all_bytes[at : at + length]
        if len(payload) < length or number == 0 or checksum(payload, number) != sum_:
            return
        at += length
        yield Batch(number, events, sealed_us, payload)


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


def _write_at(file: BinaryIO, record: bytes, offset: int) -> None:
    view = memoryview(record)
    while view:
        written = os.pwrite(file.fileno(), view, offset)
        view, offset = view[written:], offset + written


def _read_at(file: BinaryIO, length: int, offset: int) -> bytes:
    try:
        return os.pread(file.fileno(), length, offset)
    except OSError:
        return b""


def _make_folder(folder: Path) -> BinaryIO:
    """Makes a folder that only its owner can enter, and takes its lock."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder / _LOCK, os.O_CREAT | os.O_WRONLY, 0o600)
    lock = os.fdopen(descriptor, "wb")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def _remove_folder(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        _log.warning("cannot remove a spill folder: %s", error)
