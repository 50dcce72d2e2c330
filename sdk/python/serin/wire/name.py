"""Names of services, versions, instances, endpoints and event types, and the rules they keep.

A name that passes here is safe as a NATS subject token, a file name and a table name.
"""

from __future__ import annotations

import re
from functools import lru_cache

#: Longest event type, in bytes.
TYPE_BYTES_MAX = 128
#: Event types under this prefix are Serin's own.
OWN_TYPE_PREFIX = "serin."
#: Names of tables that are not event types.
OWN_TABLES = frozenset(
    ["beats", "requests", "logs", "spans", "metrics", "decisions", "usage", "refused", "events"]
)

_SHORT = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_INSTANCE = re.compile(r"[A-Za-z0-9_-]{1,96}")
_TYPE = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")


class BadName(ValueError):
    """A name breaks the rules; the message says which name and what is wanted."""


def check_short(what: str, name: str) -> None:
    """Checks the name of a service, a version or an endpoint."""
    if not _SHORT.fullmatch(name):
        raise BadName(
            f"{what} name {name[:64]!r} must be 1 to 32 of a-z, 0-9 and '-', "
            "and start with a letter or digit"
        )


def check_instance(name: str) -> None:
    """Checks the name of an instance: 1 to 96 characters that fit one subject token."""
    if not _INSTANCE.fullmatch(name):
        raise BadName(f"instance name {name[:64]!r} must be 1 to 96 of a-z, A-Z, 0-9, '-' and '_'")


@lru_cache(maxsize=1024)
def is_type(name: str, emits_own: bool = False) -> bool:
    """Whether an event type may be emitted; Serin's own types where ``emits_own``."""
    if len(name) > TYPE_BYTES_MAX or not _TYPE.fullmatch(name):
        return False
    lower = name.lower()
    return emits_own or not (lower in OWN_TABLES or lower.startswith(OWN_TYPE_PREFIX))
