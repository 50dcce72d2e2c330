"""A connection that the server resets while something is pending is closed, and said to be."""

from __future__ import annotations

import asyncio
import unittest
from typing import Any, List

from nats.aio.client import Client

from serin.bus import _Client


class Reset:
    """A transport whose other end is gone."""

    def writelines(self, _: List[bytes]) -> None:
        pass

    async def drain(self) -> None:
        raise ConnectionResetError("Connection lost")

    def close(self) -> None:
        pass

    async def wait_closed(self) -> None:
        pass


class ResetTest(unittest.IsolatedAsyncioTestCase):
    async def test_whoever_waits_for_the_end_hears_of_it(self) -> None:
        told: List[str] = []

        async def closed() -> None:
            told.append("closed")

        client: Any = _Client()
        client._transport = Reset()
        client._current_server = object()
        client._flush_queue = asyncio.Queue()
        client._closed_cb = closed
        client._status = Client.CONNECTED
        client._pending, client._pending_data_size = [b"PING\r\n"], 6
        await client._close(Client.CLOSED)
        self.assertEqual(told, ["closed"])
        self.assertTrue(client.is_closed)


if __name__ == "__main__":
    unittest.main()
