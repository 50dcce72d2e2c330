"""The subjects on the bus, made in one place."""

from __future__ import annotations

import re
from typing import Optional

#: Where changed routes are told.
ROUTES = "ctl.routes"
#: Where the routes of this moment are asked for.
ROUTES_GET = "ctl.routes.get"
_INBOXES = "_INBOX"
_WORD = re.compile(r"[A-Za-z0-9_-]+")


def inbox(user: Optional[str]) -> str:
    """What the subjects begin with to which answers to a user of the bus come: ``_INBOX.<user>``, which
    no other service may read. A name that is no word of a subject has none of its own."""
    return f"{_INBOXES}.{user}" if user and _WORD.fullmatch(user) else _INBOXES


def batch(service: str) -> str:
    """``ev.<service>._batch``: many events in one message."""
    return f"ev.{service}._batch"


def telemetry(what: str, service: str, version: str, instance: str) -> str:
    """``tel.<what>.<service>.<version>.<instance>`` for beat, pulse, span, log and req."""
    return f"tel.{what}.{service}.{version}.{instance}"


def call(service: str, version: str, endpoint: str) -> str:
    """A call to one version; the queue group is the version."""
    return f"svc.{service}.{version}.{endpoint}"


def call_instance(service: str, version: str, endpoint: str, instance: str) -> str:
    """A call to one instance."""
    return f"svc.{service}.{version}.{endpoint}.{instance}"


def call_any(service: str, endpoint: str) -> str:
    """A call of a client that knows no versions."""
    return f"svc.{service}.{endpoint}"
