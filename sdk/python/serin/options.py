"""What a service says of itself when it connects. Start at :meth:`Options.from_env`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Optional
from urllib.parse import urlsplit

from . import clock
from .errors import ConnectError
from .wire import name

#: Memory for events that the bus has not acknowledged: some seconds of a busy service.
QUEUE_BYTES_MAX = 32 << 20
#: Disk for events while the bus is away.
SPILL_BYTES_MAX = 1 << 30
#: How long a service that ends waits for its last events to be acknowledged, in seconds.
DRAIN_DEADLINE_S = 3.0


#: Stands for a folder of the bus in the state folder of the user.
_OF_THE_BUS = Path()


def _variable(variable: str) -> Optional[str]:
    return os.environ.get(variable) or None


def _state_folder() -> Optional[Path]:
    """``$XDG_STATE_HOME/serin/spill``, else ``~/.local/state/serin/spill``; ``None`` without a home.
    Buses have a folder each in there, by their address."""
    state = _variable("XDG_STATE_HOME")
    home = _variable("HOME")
    if state is None and home is None:
        return None
    return Path(state or f"{home}/.local/state") / "serin/spill"


@dataclass
class Options:
    """How to connect. Only the bus and the service have to be said."""

    #: The bus, ``nats://user:password@host:port``.
    bus: str
    #: The service.
    service: str
    #: Its version.
    version: str = "dev"
    #: This process among the instances of the version; random unless said.
    instance: str = ""
    #: Bytes of events kept in memory until the bus has them.
    queue_bytes_max: int = QUEUE_BYTES_MAX
    #: Where events go while the bus is away; ``None`` keeps them in memory alone. What one run leaves
    #: there a later one sends to its bus, so a folder is for one bus, whatever its address.
    spill_dir: Optional[Path] = _OF_THE_BUS
    #: Bytes of events that all runs of the service keep there.
    spill_bytes_max: int = SPILL_BYTES_MAX
    #: How long the end of the process waits for acknowledgements, in seconds.
    drain_deadline_s: float = DRAIN_DEADLINE_S

    def __post_init__(self) -> None:
        if not self.instance:
            suffix = clock.secret_bits(24)
            self.instance = f"{self.service}-{self.version}-{suffix:06x}"
        self.check()
        if self.spill_dir is _OF_THE_BUS:
            state = _state_folder()
            self.spill_dir = state and state / self._host()

    @staticmethod
    def from_env(service: Optional[str] = None) -> Options:
        """Reads ``SERIN_BUS``, ``SERIN_SERVICE`` (unless given) and, where they are set,
        ``SERIN_VERSION``, ``SERIN_INSTANCE`` and ``SERIN_SPILL_DIR``."""
        folder = _variable("SERIN_SPILL_DIR")
        return Options(
            bus=_needed("SERIN_BUS"),
            service=_variable("SERIN_SERVICE") or service or _needed("SERIN_SERVICE"),
            version=_variable("SERIN_VERSION") or "dev",
            instance=_variable("SERIN_INSTANCE") or "",
            spill_dir=Path(folder) if folder else _OF_THE_BUS,
        )

    def check(self) -> None:
        """Raises :class:`ConnectError` for a name or an address that cannot be used."""
        try:
            name.check_short("service", self.service)
            name.check_short("version", self.version)
            name.check_instance(self.instance)
        except name.BadName as error:
            raise ConnectError(str(error)) from error
        self._host()

    @property
    def spill_parent(self) -> Optional[Path]:
        """The folder of this service's spills."""
        return self.spill_dir and self.spill_dir / self.service

    def _host(self) -> str:
        """The host and port of the bus, without credentials: ``<host>_<port>``."""
        text = self.bus if "://" in self.bus else f"nats://{self.bus}"
        try:
            address = urlsplit(text)
            host, port = address.hostname, address.port or 4222
        except ValueError:
            host, port = None, 0
        if not host:
            raise ConnectError(
                "the address of the bus must look like nats://user:password@host:port"
            )
        return f"{host}_{port}"


def _needed(variable: str) -> str:
    value = _variable(variable)
    if value is None:
        raise ConnectError(
            f"{variable} is not set; `serin run` and `serin deploy` set it for services they start"
        )
    return value
