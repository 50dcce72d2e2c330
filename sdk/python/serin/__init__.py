"""Serin for a service in Python: emit events, serve and call, and beats and traces come along.

::

    import serin

    app = serin.service()

    @app.web
    def hello(request):
        app.emit("greeting.sent", to=request.query.get("name", "world"))
        return f"Hello, {request.query.get('name', 'world')}!"

    app.run()

``emit`` never waits. Events travel in numbered batches, are kept until the bus has them on disk, wait on
our own disk while it is away, and arrive once. What is named here is the public face; ``serin.sync`` has
the same words for programs without asyncio.
"""

from __future__ import annotations

from typing import Any, Optional

from .calls import Reply
from .chains import Chain, Enhanced, Stage
from .context import Context
from .errors import AbsentError, CallError, ChainError, ConnectError, SerinError
from .handle import Serin, Service
from .options import Options
from .span import Span
from .typed import event
from .web import Response, WebRequest, html, redirect
from .wire.chain import Hop, Packet

__version__ = "0.1.0"

__all__ = [
    "AbsentError",
    "CallError",
    "Chain",
    "ChainError",
    "ConnectError",
    "Context",
    "Enhanced",
    "Hop",
    "Options",
    "Packet",
    "Reply",
    "Response",
    "Serin",
    "SerinError",
    "Service",
    "Span",
    "Stage",
    "WebRequest",
    "connect",
    "event",
    "html",
    "redirect",
    "service",
]


def connect(options: Optional[Options] = None) -> Serin:
    """Connects as the environment says, or as the options do. Returns at once."""
    return Serin(options)


def service(name: Optional[str] = None, **options: Any) -> Service:
    """A service, connected as the environment says when it is first needed.

    ``concurrency`` calls are handled at a time (64), ``waiting_max`` wait (256), others are refused at
    once; ``description`` is told by the micro protocol.
    """
    return Service(name, None, **options)
