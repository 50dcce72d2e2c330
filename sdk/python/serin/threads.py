"""Plain functions of a service, run in threads beside its loop. Start at :func:`in_thread`."""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import Executor
from typing import Any, Callable


async def in_thread(threads: Executor, function: Callable[..., Any], *arguments: Any) -> Any:
    """What it returns or raises, run in the context of whoever asks."""
    copied = contextvars.copy_context()

    def run() -> Any:
        try:
            return copied.run(function, *arguments)
        except StopIteration as error:
            # No future takes it: who awaits one would wait for ever.
            raise RuntimeError("function raised StopIteration") from error

    return await asyncio.get_running_loop().run_in_executor(threads, run)
