"""Beats every second and pulses every 250 ms, in a thread, a loop and a connection of their own.

So a flood of events, a busy loop of the service or a bus that is slow to acknowledge cannot starve
them. What cannot be sent now is not sent later: the next beat says it better.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any, Callable, Dict, Tuple

from nats.errors import MaxPayloadError

from . import clock, usage
from .bus import Away, Bus
from .encode import to_json
from .wire.histogram import Histogram

BEAT_EVERY_S = 1.0
PULSE_EVERY_S = 0.25
_log = logging.getLogger(__name__)


class Requests:
    """Requests being handled, and those finished since the last beat."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._finished = Histogram()
        self._errors = 0
        self.in_flight = 0

    def start(self) -> None:
        """One begins."""
        with self._lock:
            self.in_flight += 1

    def finish(self, took_us: int, has_failed: bool) -> None:
        """One ended."""
        with self._lock:
            self.in_flight -= 1
            self._finished.record(took_us)
            self._errors += has_failed

    def take(self) -> Tuple[Histogram, int]:
        """How long requests took since the last call, and how many of them failed."""
        with self._lock:
            taken = self._finished, self._errors
            self._finished, self._errors = Histogram(), 0
        return taken


class Gauges:
    """Functions of the service that are sampled with each beat."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_name: Dict[str, Callable[[], float]] = {}

    def insert(self, name: str, sample: Callable[[], float]) -> None:
        """Has a value sampled."""
        with self._lock:
            self._by_name[name] = sample

    def sample(self) -> Dict[str, float]:
        """Samples all. One that raises is left out from now on, since beats must go on."""
        with self._lock:
            gauges = list(self._by_name.items())
        values = {}
        for name, sample in gauges:
            try:
                value = float(sample())
            except Exception:  # noqa: BLE001, the service's own function
                _log.exception("the gauge %r failed and is sampled no more", name)
                with self._lock:
                    self._by_name.pop(name, None)
                continue
            if abs(value) < float("inf"):
                values[name] = value
        return values


def next_due(due: float, every_s: float, now: float) -> float:
    """When the next is due: one that was late, since the interpreter was busy, does not make the
    next late as well; those that were missed are not made up for."""
    return due + every_s if due + every_s > now else now + every_s


class Beats:
    """Tells them; ``fill`` gives what a beat says beside number, time and usage."""

    def __init__(self, bus: Bus, beat: str, pulse: str, fill: Callable[[], Dict[str, Any]]) -> None:
        self._bus = bus
        self._beat = beat
        self._pulse = pulse
        self._fill = fill
        self._number = 0
        self._cpu = usage.CpuShare(usage.read().cpu_s, clock.monotonic())
        self._woken = asyncio.Event()
        self._is_beat_due = False
        self._is_stopping = False

    def wake(self) -> None:
        """A beat is due now: the state or the connection changed; called in the beats' loop."""
        self._is_beat_due = True
        self._woken.set()

    def stop(self) -> None:
        """A last beat, and the end; called in the beats' loop."""
        self._is_stopping = True
        self._woken.set()

    async def run(self) -> None:
        """Sends beats and pulses until it is stopped."""
        loop = asyncio.get_running_loop()
        beat_at = pulse_at = clock.monotonic()
        while not self._is_stopping:
            now = clock.monotonic()
            if self._is_beat_due or beat_at <= now:
                if await self._send(self._beat, is_beat=True):
                    beat_at = next_due(now if self._is_beat_due else beat_at, BEAT_EVERY_S, now)
                    self._is_beat_due = False
            if pulse_at <= now:
                await self._send(self._pulse, is_beat=False)
                pulse_at = next_due(pulse_at, PULSE_EVERY_S, now)
            # Without a connection the next look is the pulse's; the bus wakes us when it stands.
            next_at = min(beat_at, pulse_at) if self._bus.is_connected else pulse_at
            timer = loop.call_later(max(next_at - clock.monotonic(), 0.0), self._woken.set)
            await self._woken.wait()
            self._woken.clear()
            timer.cancel()
        await self._send(self._beat, is_beat=True)

    async def _send(self, subject: str, is_beat: bool) -> bool:
        """Sends if there is a connection; else the requests it would tell wait for the next."""
        if not self._bus.is_connected:
            return False
        try:
            await self._bus.publish(subject, self._next() if is_beat else b"")
        except (Away, MaxPayloadError) as error:
            _log.debug("a beat could not be sent: %r", error)
        return True

    def _next(self) -> bytes:
        self._number += 1
        used = usage.read()
        cpu = self._cpu.next(used.cpu_s, clock.monotonic())
        beat = self._fill()
        beat.update(number=self._number, cpu=cpu, memory_bytes=used.memory_bytes)
        return to_json(beat)
