"""What a service does again and again beside its calls, for as long as it serves. Start at
:meth:`Periodic.run`."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Callable

from . import clock
from .threads import in_thread

Task = Callable[[], Any]
_log = logging.getLogger(__name__)


class Periodic:
    """A function, plain or async, and how often it runs."""

    def __init__(self, seconds: float, task: Task) -> None:
        if seconds <= 0:
            raise ValueError(f"a task cannot run every {seconds} s; it must be more than 0")
        self.seconds = seconds
        self.task = task

    async def run(self, ended: asyncio.Event) -> None:
        """Runs it until the service ends. A run that takes long makes the next one late, and none runs
        beside it; what one raises is logged, and the next comes all the same."""
        # The loop joins its own threads when it ends: there one that hangs would keep the process.
        thread = ThreadPoolExecutor(1, thread_name_prefix="serin-task")
        due = clock.monotonic() + self.seconds
        try:
            while not await _is_set(ended, due - clock.monotonic()):
                try:
                    await self._once(thread)
                except Exception:  # noqa: BLE001, whatever a task raises
                    _log.exception("the task %s failed", getattr(self.task, "__name__", self.task))
                due = max(due + self.seconds, clock.monotonic())
        finally:
            thread.shutdown(wait=False)

    async def _once(self, thread: Executor) -> None:
        if asyncio.iscoroutinefunction(self.task):
            await self.task()
        else:
            await in_thread(thread, self.task)


async def _is_set(event: asyncio.Event, within_s: float) -> bool:
    if event.is_set():
        # Where no time is left, the waiting below does not look.
        return True
    try:
        await asyncio.wait_for(event.wait(), within_s)
    except asyncio.TimeoutError:
        return False
    return True
