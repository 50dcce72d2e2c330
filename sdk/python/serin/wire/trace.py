"""W3C trace context and the canary arms, as they travel in headers.

Source: https://www.w3.org/TR/trace-context/, section 3.2.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Optional

#: Longest arm that is carried, in bytes; a longer one is cut at its oldest hop.
ARM_BYTES_MAX = 256
#: The flag "sampled".
SAMPLED = 1

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class Trace(NamedTuple):
    """The identity part of ``traceparent``."""

    trace_id: int
    span_id: int
    flags: int

    @staticmethod
    def parse(text: Optional[str]) -> Optional[Trace]:
        """Reads a ``traceparent``; ``None`` for anything that the standard has ignored."""
        found = _TRACEPARENT.fullmatch(text or "")
        if not found:
            return None
        version, trace_id, span_id, flags, more = found.groups()
        if version == "ff" or (version == "00" and more):
            return None
        trace = Trace(int(trace_id, 16), int(span_id, 16), int(flags, 16))
        return trace if trace.trace_id and trace.span_id else None

    def to_traceparent(self) -> str:
        """Writes a version-00 ``traceparent``."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags:02x}"


def cut_arm(arm: Optional[str]) -> Optional[str]:
    """An arm that fits: cut at its oldest hops; ``None`` where nothing is left."""
    rest = arm or ""
    while len(rest.encode()) > ARM_BYTES_MAX:
        _, comma, rest = rest.partition(",")
        if not comma:
            return None
    return rest or None


def add_arm(arm: Optional[str], service: str, version: str) -> Optional[str]:
    """The arm with one more hop, unless that very hop is in it."""
    hop = f"{service}={version}"
    if arm and hop in arm.split(","):
        return arm
    return cut_arm(f"{arm},{hop}" if arm else hop)
