"""Typed events and typed bodies: dataclasses out of JSON, with errors that name the place.

Start at :func:`event` and :func:`read`.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, Callable, Dict, Optional, Type, TypeVar, Union

_T = TypeVar("_T")
_KIND = "__serin_type__"
_NONE = type(None)


def event(kind: str) -> Callable[[Type[_T]], Type[_T]]:
    """Marks a dataclass as an event of a type: ``@serin.event("order.paid")``."""

    def mark(cls: Type[_T]) -> Type[_T]:
        if not dataclasses.is_dataclass(cls):
            raise TypeError(
                f"{cls.__name__} must be a dataclass: put @dataclass below @serin.event"
            )
        setattr(cls, _KIND, kind)
        return cls

    return mark


def kind_of(value: Any) -> str:
    """The event type of a typed event; empty where it is none."""
    return getattr(type(value), _KIND, "")


class Mismatch(ValueError):
    """A body is not of the type that is wanted; the message says where."""


def read(wanted: Any, value: Any, at: str = "the body") -> Any:
    """A JSON value as a type: dataclasses, lists, dictionaries, unions and plain values."""
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted is Any or isinstance(wanted, TypeVar):
        return value
    if origin is Union or type(wanted).__name__ == "UnionType":
        return _read_union(inner, value, at)
    if dataclasses.is_dataclass(origin or wanted):
        return _read_dataclass(origin or wanted, inner, value, at)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = origin or wanted
    if not isinstance(plain, type):
        return value
    is_number_in_disguise = isinstance(value, bool) and plain in (int, float)
    accepted = (list,) if plain in (list, tuple, set, frozenset) else (plain,)
    if not isinstance(value, accepted) or is_number_in_disguise:
        raise Mismatch(f"{at} must be {plain.__name__}, it is {type(value).__name__}")
    if isinstance(value, list):
        item = inner[0] if inner else Any
        return plain(read(item, one, f"{at}[{index}]") for index, one in enumerate(value))
    if isinstance(value, dict) and len(inner) == 2:
        return {key: read(inner[1], one, f"{at}.{key}") for key, one in value.items()}
    return value


def _read_union(options: Any, value: Any, at: str) -> Any:
    if value is None and _NONE in options:
        return None
    problem: Optional[Mismatch] = None
    for option in options:
        if option is _NONE:
            continue
        try:
            return read(option, value, at)
        except Mismatch as error:
            problem = problem or error
    raise problem or Mismatch(f"{at} must be null")


def _read_dataclass(wanted: Any, arguments: Any, value: Any, at: str) -> Any:
    if not isinstance(value, dict):
        raise Mismatch(f"{at} must be an object, it is {type(value).__name__}")
    hints = typing.get_type_hints(wanted)
    # What stands for a type in a generic one, such as the data of a `Packet[Page]`.
    types = dict(zip(getattr(wanted, "__parameters__", ()), arguments))
    given: Dict[str, Any] = {}
    for one in dataclasses.fields(wanted):
        if one.name in value:
            kind = types.get(hints[one.name], hints[one.name])
            given[one.name] = read(kind, value[one.name], f"{at}.{one.name}")
        elif one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING:
            raise Mismatch(f'{at} has no field "{one.name}"')
    return wanted(**given)
