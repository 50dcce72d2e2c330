"""What can go wrong where a caller has to know it. Nothing in ``emit`` raises: drops are counted."""

from __future__ import annotations

from typing import Any, List, Optional

from .wire.chain import Hop


class SerinError(Exception):
    """Everything this package raises on its own account."""


class ConnectError(SerinError):
    """The service cannot connect as configured. A bus that is away is no reason: events wait."""


class CallError(SerinError):
    """A call failed; a handler raises it to answer with a code and a message of its own.

    Codes are HTTP's: 400 bad request, 408 time over, 413 a bound was passed, 500 the handler failed,
    503 nobody takes the call.
    """

    def __init__(
        self, code: int, message: str, body: Any = None, may_have_run: bool = True
    ) -> None:
        super().__init__(f"{code} {message}")
        #: As HTTP has it.
        self.code = code
        #: One line for a person.
        self.message = message
        #: Whatever more the endpoint says, as JSON.
        self.body = body
        #: Whether the service may have done what it was asked for.
        self.may_have_run = may_have_run


class AbsentError(CallError):
    """Nobody serves what was called."""


class ChainError(CallError):
    """A chain failed: a required enhancer did, or a bound was passed."""

    def __init__(self, code: int, message: str, hops: Optional[List[Hop]] = None) -> None:
        super().__init__(code, message)
        #: The hops so far, the one that failed among them.
        self.hops = hops or []
