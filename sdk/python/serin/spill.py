"""Batches on disk while the bus is away: written in order, read in order, gone when acknowledged.

A run of a producer has a folder of its own, ``<spill>/<service>/<producer>.<epoch>/``, held by a file
lock, with segments of some megabytes in it. A folder whose lock is free was left by a run that ended;
``replay`` sends it on under its old numbers, whichever language wrote it. All folders of a service share
one bound. Nothing is synced: a spill survives its process, not a power cut.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from pathlib import Path
from typing import BinaryIO, Deque, NamedTuple, Optional, Tuple

from .left import bytes_beside, make_folder, remove_folder
from .queue import Batch
from .segment import HEAD_BYTES, encode

#: A segment is closed at this size; a whole one is removed at once when it is acknowledged.
SEGMENT_BYTES = 8 << 20
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
        self._parent = parent
        self.folder = parent / f"{producer}.{epoch}"
        self._bytes_max = bytes_max
        self._bytes = 0
        #: What other runs of the service have on disk, when it was last looked at.
        self._bytes_beside = 0
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
        """Whether there is room for a batch beside what all runs of the service have on disk."""
        own = self._bytes + HEAD_BYTES + len(batch.payload)
        # Looked at again where it decides: what others left may have been sent meanwhile.
        if not self._segments or own + self._bytes_beside > self._bytes_max:
            self._bytes_beside = bytes_beside(self._parent, self.folder)
        return own + self._bytes_beside <= self._bytes_max

    def append(self, batch: Batch, is_read: bool) -> None:
        """Appends a batch. One that is in the sender's hands already is not read again from here."""
        record = encode(batch)
        segment = self._last_segment(len(record))
        try:
            _write_at(segment.file, record, segment.bytes)
        except OSError:
            # What is torn is cut off, and the next try writes there. A file that cannot be cut is left,
            # so that its end is torn and nothing is behind that.
            self._is_open = _cut(segment.file, segment.bytes)
            raise
        offset = segment.bytes + HEAD_BYTES
        outline = batch.with_payload(b"")
        self._records.append(_Record(segment.index, offset, len(batch.payload), outline))
        segment.bytes += len(record)
        self._bytes += len(record)
        self._read += is_read

    def _last_segment(self, more: int) -> _Segment:
        if self._lock is None:
            self._lock = make_folder(self.folder)
        if self._segments and self._segments[-1].bytes + more > SEGMENT_BYTES:
            self._is_open = False
        if not self._is_open or not self._segments:
            path = self.folder / f"{self._next_segment:08}.seg"
            self._segments.append(_Segment(self._next_segment, path))
            self._bytes_beside = bytes_beside(self._parent, self.folder)
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
                remove_folder(self.folder)
            self._lock.close()
            self._lock = None


def _write_at(file: BinaryIO, record: bytes, offset: int) -> None:
    view = memoryview(record)
    while view:
        written = os.pwrite(file.fileno(), view, offset)
        view, offset = view[written:], offset + written


def _cut(file: BinaryIO, length: int) -> bool:
    try:
        os.ftruncate(file.fileno(), length)
    except OSError:
        return False
    return True


def _read_at(file: BinaryIO, length: int, offset: int) -> bytes:
    try:
        return os.pread(file.fileno(), length, offset)
    except OSError:
        return b""
