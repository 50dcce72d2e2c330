"""How many calls an instance takes at a time, and how many wait; all others are refused at once."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Deque


class Admission:
    """A bounded number of places, and a bounded line before them. For one event loop."""

    def __init__(self, places: int, waiting_max: int) -> None:
        self.free = places
        self._waiting_max = waiting_max
        self._line: Deque[asyncio.Future[None]] = deque()

    def has_room(self) -> bool:
        """Whether one more is taken, at once or after a wait."""
        return self.free > 0 or len(self._line) < self._waiting_max

    async def enter(self) -> None:
        """Takes a place, first come first served; leave it with :meth:`leave`."""
        if self.free > 0:
            self.free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            else:
                self._line.remove(turn)
            raise

    def leave(self) -> None:
        """Gives the place to the next in line."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1
