"""Python values as JSON text, the same for events, calls and logs.

What has no JSON of its own gets the obvious one: dataclasses are objects, times are
RFC 3339, sets are arrays; NaN and infinities are null, as the other SDKs write them.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import math
import os
import uuid
from typing import Any


def to_json(value: Any) -> bytes:
    """The JSON text of a value; raises ``TypeError`` or ``ValueError`` where it has none."""
    try:
        text = _STRICT.encode(value)
    except ValueError:
        # Circular values come here as well, and end in RecursionError below.
        try:
            text = _STRICT.encode(_without_nan(value))
        except RecursionError:
            raise ValueError("the value contains itself or is nested too deeply") from None
    except RecursionError:
        raise ValueError("the value is nested too deeply") from None
    return text.encode("utf-8", "replace")


def _default(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, datetime.datetime):
        return _rfc3339(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, (uuid.UUID, os.PathLike)):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    raise TypeError(f"a value of type {type(value).__name__} has no JSON")


def _rfc3339(value: datetime.datetime) -> str:
    """A time without a zone is taken as UTC."""
    if value.tzinfo is None:
        value = value.replace(tzinfo=datetime.timezone.utc)
    return value.astimezone(datetime.timezone.utc).isoformat().replace("+00:00", "Z")


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    if isinstance(value, (str, int, bool)) or value is None:
        return value
    return _without_nan(_default(value))


_STRICT = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_default
)
