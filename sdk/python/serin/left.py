"""Folders of spilled events: whose they are, what runs left behind, and how much all of them hold.

A folder whose lock is free was left by a run that ended; whoever takes the lock sends it on.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import BinaryIO, Iterator, List

from .segment import Contents, read

try:
    import fcntl
except ImportError:  # Not a Unix: events wait in memory alone.
    fcntl = None  # type: ignore[assignment]

#: Whether this system has the file locks that a spill folder needs.
IS_AVAILABLE = fcntl is not None
_LOCK = "lock"
_log = logging.getLogger(__name__)


class Left:
    """A folder left by a run that ended, held by us from now on."""

    def __init__(self, folder: Path, lock: BinaryIO) -> None:
        producer, _, epoch = folder.name.rpartition(".")
        self.producer = producer
        self.epoch = int(epoch)
        self.folder = folder
        #: When the run began to spill.
        self.since_ns = os.fstat(lock.fileno()).st_mtime_ns
        self._lock = lock

    def segments(self) -> List[Path]:
        """Its segments, in order."""
        return sorted(self.folder.glob("*.seg"))

    def read(self, path: Path, after: int) -> Contents:
        """What a segment has with numbers after this one; raises ``OSError``."""
        return read(path.read_bytes(), after)

    def remove(self) -> None:
        """All of it is acknowledged, or counted as lost."""
        remove_folder(self.folder)

    def release(self) -> None:
        """Somebody else may take it from now on."""
        self._lock.close()


def left_under(parent: Path) -> List[Left]:
    """The folders whose runs have ended, oldest first."""
    left = []
    for folder in _entries(parent):
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
    return sorted(left, key=lambda run: (run.since_ns, run.producer))


def bytes_beside(parent: Path, own: Path) -> int:
    """Bytes in the segments of all folders under ``parent`` but one."""
    total = 0
    for folder in _entries(parent):
        if folder == own:
            continue
        for path in _entries(folder):
            if path.suffix == ".seg":
                try:
                    total += path.stat().st_size
                except OSError:
                    continue  # It was sent meanwhile.
    return total


def make_folder(folder: Path) -> BinaryIO:
    """Makes a folder that only its owner can enter, and takes its lock."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder / _LOCK, os.O_CREAT | os.O_WRONLY, 0o600)
    lock = os.fdopen(descriptor, "wb")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def remove_folder(folder: Path) -> None:
    """Removes a folder with all in it."""
    try:
        shutil.rmtree(folder)
    except OSError as error:
        _log.warning("cannot remove a spill folder: %s", error)


def _entries(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except OSError:
        return
