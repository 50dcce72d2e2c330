"""Which versions of a service are called, and how much each: told on ``ctl.routes``.

A key (a user, a session) always falls on the same slot, and the versions take the slots in the
order of the list. Start at :meth:`Route.version` and :func:`slot_of`.
"""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional, Tuple

#: Weights are parts of this many slots.
SLOTS = 10_000


class Route(NamedTuple):
    """The route of one service."""

    #: ``(version, weight)``, the one under trial first.
    versions: Tuple[Tuple[str, int], ...]
    #: Endpoints that may be called twice for one call.
    idempotent: FrozenSet[str] = frozenset()

    def version(self, slot: int) -> Optional[str]:
        """The version that a slot falls on; ``None`` where there is none."""
        end = 0
        for version, weight in self.versions:
            end += weight
            if slot < end:
                return version
        return self.versions[-1][0] if self.versions else None

    def has_trial(self) -> bool:
        """Whether more than one version takes calls."""
        return sum(1 for _, weight in self.versions if weight > 0) > 1


class Routes(NamedTuple):
    """The routes of all services."""

    revision: int
    services: Dict[str, Route]

    @staticmethod
    def from_json(read: Dict[str, Any]) -> Routes:
        """Reads what is told; raises ``KeyError`` or ``TypeError`` for another shape."""
        services = {}
        for service, route in read["services"].items():
            versions: List[Tuple[str, int]] = []
            for one in route["versions"]:
                versions.append((str(one["version"]), int(one["weight"])))
            services[service] = Route(tuple(versions), frozenset(route.get("idempotent", ())))
        return Routes(int(read["revision"]), services)


def slot_of(service: str, key: str) -> int:
    """The slot of a key at a service: FNV-1a over ``<service>/<key>``, mixed as MurmurHash3 ends."""
    mask = 0xFFFF_FFFF
    value = 0x811C_9DC5
    for byte in f"{service}/{key}".encode():
        value = (value ^ byte) * 0x0100_0193 & mask
    value = (value ^ value >> 16) * 0x85EB_CA6B & mask
    value = (value ^ value >> 13) * 0xC2B2_AE35 & mask
    return (value ^ value >> 16) % SLOTS
