"""What a scenario expects, against what came; the rules are in tests/conformance/README.md."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict


def mismatch(expected: Any, found: Any, at: str = "it") -> str:
    """Why it does not match; empty where it does."""
    if isinstance(expected, dict):
        if len(expected) == 1 and next(iter(expected)).startswith("$"):
            rule, value = next(iter(expected.items()))
            return (
                "" if _RULES[rule](value, found) else f"{at}: expected {expected}, found {found!r}"
            )
        if not isinstance(found, dict):
            return f"{at}: expected an object, found {found!r}"
        for key, value in expected.items():
            problem = mismatch(value, found.get(key), f"{at}.{key}")
            if problem:
                return problem
        return ""
    if isinstance(expected, list):
        if not isinstance(found, list) or len(found) != len(expected):
            return f"{at}: expected {expected}, found {found!r}"
        for index, (one, other) in enumerate(zip(expected, found)):
            problem = mismatch(one, other, f"{at}[{index}]")
            if problem:
                return problem
        return ""
    is_same = expected == found and isinstance(expected, bool) == isinstance(found, bool)
    return "" if is_same else f"{at}: expected {expected!r}, found {found!r}"


def _between(value: Any, found: Any) -> bool:
    return found is not None and value[0] <= float(found) <= value[1]


def _unordered(value: Any, found: Any) -> bool:
    return isinstance(found, list) and sorted(map(repr, value)) == sorted(map(repr, found))


_RULES: Dict[str, Callable[[Any, Any], bool]] = {
    "$absent": lambda _, found: found is None,
    "$any": lambda _, found: found is not None,
    "$regex": lambda value, found: isinstance(found, str) and bool(re.fullmatch(value, found)),
    "$contains": lambda value, found: isinstance(found, str) and value in found,
    "$lacks": lambda value, found: isinstance(found, str) and value not in found,
    "$all": lambda value, found: all(not mismatch(one, found) for one in value),
    "$integer": lambda _, found: re.fullmatch(r"\d+", str(found)) is not None,
    "$between": _between,
    "$exactly": lambda value, found: value == found,
    "$unordered": _unordered,
}
