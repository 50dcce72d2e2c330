"""A message that services enhance, stage by stage, and the record of how each step went.

Everything that could run away is bounded here. Merging is a function of values: whoever answers
first changes nothing. Start at :func:`merge`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Generic, List, Optional, TypeVar

#: Stages of a chain.
STAGES_MAX = 4
#: Enhancers of one stage.
ENHANCERS_MAX = 16
#: A packet's data as JSON, bytes.
DATA_BYTES_MAX = 256 << 10
#: Chains that may enclose each other.
DEPTH_MAX = 4

#: It answered in time.
OK = "ok"
#: It answered with an error.
FAILED = "failed"
#: The stage was over before it answered.
LATE = "late"
#: Nobody serves it.
ABSENT = "absent"


Data = TypeVar("Data")


@dataclass
class Packet(Generic[Data]):
    """What an enhancer is sent. ``Packet[Page]`` has the data as a dataclass of yours, ``Packet`` alone
    as a dictionary."""

    chain: str
    stage: int
    data: Data


@dataclass
class Hop:
    """How one enhancer did; times in microseconds."""

    #: The stage, from 1.
    stage: int
    #: ``<service>.<endpoint>``.
    enhancer: str
    #: ``ok``, ``failed``, ``late`` or ``absent``.
    status: str
    #: From sending to having the answer.
    total_us: int = 0
    #: Of these, waiting at the service before its handler ran.
    queue_us: int = 0
    #: Of these, in the handler.
    handler_us: int = 0
    #: Of these, on the way there and back.
    network_us: int = 0
    #: Fields it added, dotted where inside objects.
    added: List[str] = field(default_factory=list)
    #: Fields it added that were there already, and stayed as they were.
    conflicts: List[str] = field(default_factory=list)
    #: Why it added nothing, where it failed.
    error: Optional[str] = None
    #: The code of this error: the enhancer's own where it answered with one.
    code: Optional[int] = None

    def fail(self, status: str, code: int, error: str) -> None:
        """It added nothing, and why."""
        self.status, self.code, self.error = status, code, error

    def to_json(self) -> Dict[str, Any]:
        """As other languages write it: what is empty is left out."""
        optional = ("added", "conflicts", "error", "code")
        return {key: value for key, value in vars(self).items() if value or key not in optional}


def merge(data: Dict[str, Any], additions: Dict[str, Any], hop: Hop, path: str = "") -> None:
    """Adds what an enhancer answered, and tells the hop what was added and what was there.

    What is there stays: objects are merged field by field, and any other field that exists already
    with another value is a conflict. Called in the order in which the stage names its enhancers.
    """
    for key in sorted(additions):
        value = additions[key]
        name = f"{path}.{key}" if path else key
        if key not in data:
            data[key] = value
            hop.added.append(name)
        elif isinstance(data[key], dict) and isinstance(value, dict):
            merge(data[key], value, hop, name)
        elif not _is_same(data[key], value):
            hop.conflicts.append(name)


def _is_same(one: Any, other: Any) -> bool:
    """Equal as JSON: Python takes ``True`` for 1, and 1 for 1.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_is_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return bool(one == other)
