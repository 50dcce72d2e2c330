"""One endpoint: its handler, plain or async, and what the handler wants to be given.

The first parameter's annotation decides: a dataclass is made from the JSON body, ``bytes`` is the body
as it is, anything else is the body's JSON; a handler without parameters gets nothing.
"""

from __future__ import annotations

import inspect
import typing
from typing import Any, Callable, Mapping, Optional

from .calls import body
from .errors import CallError
from .typed import Mismatch, read
from .wire import call as wire

Handler = Callable[..., Any]
_MISSING = object()


class Endpoint:
    """See the module."""

    def __init__(self, name: str, handler: Handler, idempotent: bool = False) -> None:
        self.name = name
        self.handler = handler
        self.idempotent = idempotent
        self.is_async = inspect.iscoroutinefunction(handler)
        #: As the micro protocol counts.
        self.requests = 0
        self.errors = 0
        self.last_error = ""
        self.processing_us = 0
        self._wanted: Any = _MISSING

    def arguments(self, raw: bytes, headers: Mapping[str, str]) -> typing.Tuple[Any, ...]:
        """What the handler is called with; raises :class:`CallError` 400."""
        if self._wanted is _MISSING:
            self._wanted = _first_parameter(self.handler)
        if self._wanted is None:
            return ()
        if self._wanted is bytes:
            return (raw,)
        try:
            return (read(self._wanted, body(raw, headers)),)
        except Mismatch as error:
            raise CallError(wire.CODE_BAD_REQUEST, str(error)) from error
        except ValueError as error:
            raise CallError(wire.CODE_BAD_REQUEST, f"the body is not JSON: {error}") from error

    def count(self, took_us: int, error: Optional[str]) -> None:
        """A call ended."""
        self.requests += 1
        self.processing_us += took_us
        if error:
            self.errors += 1
            self.last_error = error


def _first_parameter(handler: Handler) -> Any:
    """The type of the first parameter; ``None`` where there is none."""
    parameters = list(inspect.signature(handler).parameters.values())
    if not parameters:
        return None
    try:
        hints = typing.get_type_hints(handler)
    except (NameError, TypeError):
        hints = {}
    return hints.get(parameters[0].name, Any)
