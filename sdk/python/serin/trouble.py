"""What the bus has against us, told once.

A bus that reads its configuration anew turns away who is just saying who it is, and takes it a moment
later: that is not told. Pure.
"""

from __future__ import annotations

from typing import Optional

#: Who is turned away for longer is not so because the configuration is being read.
READS_WITHIN_S = 1.0
_TURNED_AWAY = ("authorization", "authentication")


class Trouble:
    """See the module."""

    def __init__(self) -> None:
        self._said: Optional[str] = None
        #: Since when the bus turns us away.
        self._since: Optional[float] = None

    def is_news(self, said: str, now: float) -> bool:
        """Whether what the bus says is to be told."""
        if any(word in said.lower() for word in _TURNED_AWAY):
            if self._since is None:
                self._since = now
            if now - self._since < READS_WITHIN_S:
                return False
        is_new = said != self._said
        self._said = said
        return is_new

    def end(self) -> None:
        """The bus takes us."""
        self._said = self._since = None
