"""A real nats-server for tests, on a free port, in a folder of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional

import nats
from nats.js.api import DiscardPolicy, StorageType, StreamConfig

from serin import Options
from serin.wire import batch

#: How long a test waits for what must come.
PATIENCE_S = 30.0
PASSWORD = "secret"


def nats_server() -> str:
    """The program, as the test's environment names it."""
    found = os.environ.get("SERIN_NATS_SERVER") or shutil.which("nats-server")
    if not found:
        raise RuntimeError("no nats-server: set SERIN_NATS_SERVER to its path")
    return found


class Fixture:
    """A folder, a server in it, and a raw client."""

    def __init__(
        self,
        mappings: Optional[Dict[str, str]] = None,
        users: Optional[Dict[str, Dict[str, List[str]]]] = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="serin-test-"))
        self.spill = self.folder / "spill"
        self._mappings = mappings or {}
        #: Who has rights of its own; all others may do everything.
        self._users = users or {}
        self._port = 0
        self._process: Optional[subprocess.Popen[bytes]] = None
        self.client = nats.NATS()

    async def start(self) -> None:
        """Starts the server, at the port it had before, and connects."""
        config = self.folder / "nats.conf"
        mappings = "\n".join(f'"{a}": "{b}"' for a, b in self._mappings.items())
        config.write_text(
            f'listen: "127.0.0.1:{self._port or -1}"\n'
            f'jetstream {{ store_dir: "{self.folder}/data", sync_interval: always }}\n'
            f"mappings {{\n{mappings}\n}}\n" + self._authorization()
        )
        ports = self.folder / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir()
        log = open(self.folder / "log", "ab")
        self._process = subprocess.Popen(
            [nats_server(), "-c", str(config), "--ports_file_dir", str(ports)],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        said = None
        while said is None:
            assert self._process.poll() is None, (self.folder / "log").read_text()
            await asyncio.sleep(0.005)
            said = _read_ports(ports)
        self._port = int(said["nats"][0].rpartition(":")[2])
        self.client = nats.NATS()
        await self.client.connect(self.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05)
        js = self.client.jetstream(timeout=PATIENCE_S)
        await js.add_stream(
            StreamConfig(
                name="EVENTS",
                subjects=["ev.>"],
                storage=StorageType.FILE,
                discard=DiscardPolicy.NEW,
            )
        )

    def _authorization(self) -> str:
        users = [
            {"user": name, "password": PASSWORD, "permissions": rights}
            for name, rights in self._users.items()
        ]
        if not users:
            return ""
        users.append({"user": "anybody", "password": PASSWORD})
        return f"no_auth_user: anybody\nauthorization: {json.dumps({'users': users})}\n"

    def url_of(self, user: str) -> str:
        """Where a user connects."""
        credentials = f"{user}:{PASSWORD}@" if user in self._users else ""
        return f"nats://{credentials}127.0.0.1:{self._port}"

    async def set_stream(self, settings: Dict[str, Any]) -> None:
        """Changes settings of the stream, by JetStream's names."""
        config = (await self._api("INFO", b""))["config"]
        answer = await self._api("UPDATE", json.dumps({**config, **settings}).encode())
        assert "error" not in answer, answer

    async def _api(self, verb: str, body: bytes) -> Any:
        subject = f"$JS.API.STREAM.{verb}.EVENTS"
        return json.loads((await self.client.request(subject, body, timeout=PATIENCE_S)).data)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self._port}"

    def options(self, **more: Any) -> Options:
        """Options for a service `cart`."""
        given = {
            "bus": self.url,
            "service": "cart",
            "version": "v3",
            "instance": "cart-v3-1",
            "spill_dir": self.spill,
        }
        return Options(**{**given, **more})

    def send(self, number: int) -> None:
        """Sends the server a signal."""
        assert self._process
        os.kill(self._process.pid, number)

    async def stop(self, number: int = signal.SIGKILL) -> None:
        """Ends the server; its folder stays."""
        await self.client.close()
        if self._process:
            self._process.send_signal(number)
            await asyncio.get_running_loop().run_in_executor(None, self._process.wait)
            self._process = None

    def segments(self) -> List[Path]:
        """Files in which events wait; looks again where a folder went meanwhile."""
        while True:
            try:
                return list(self.spill.rglob("*.seg"))
            except FileNotFoundError:
                continue

    async def close(self) -> None:
        """Ends the server and removes the folder."""
        await self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def events(self) -> List[Dict[str, Any]]:
        """Every event in the stream, in the stream's order, with its message's number."""
        js = self.client.jetstream(timeout=PATIENCE_S)
        state = (await js.stream_info("EVENTS")).state
        found = []
        for sequence in range(state.first_seq or 1, state.last_seq + 1):
            message = await js.get_msg("EVENTS", sequence)
            headers = message.headers or {}
            assert headers["content-type"] == batch.CONTENT_TYPE
            for event in batch.read(message.data or b""):
                event["data"] = json.loads(event["data"])
                found.append({**event, "message_id": headers["Nats-Msg-Id"]})
        return found


def _read_ports(folder: Path) -> Optional[Dict[str, Any]]:
    """What the server says of its ports; ``None`` until all of it is written."""
    try:
        return next((json.loads(path.read_text()) for path in folder.glob("*.ports")), None)
    except ValueError:
        return None


async def until(is_so: Any) -> None:
    """Waits until something is so."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        value = is_so()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return
        assert asyncio.get_running_loop().time() < deadline, "it did not become so in time"
        await asyncio.sleep(0.01)
