"""Fields of an answer older or newer than this code: the absent and the odd are None or empty, no error."""

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

_NOTHING: Mapping[str, Any] = {}


def mapping(value: object, *path: str) -> Mapping[str, Any]:
    """What is at `path` inside `value` when it is a mapping; else an empty one."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else _NOTHING


def mappings(value: object) -> Iterator[Mapping[str, Any]]:
    """The mappings in a list; none when it is no list."""
    if isinstance(value, list | tuple):
        yield from (each for each in value if isinstance(each, Mapping))


def number(value: object) -> float | None:
    """A finite number, also one that is written as text; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def whole(value: object) -> int | None:
    """A whole number; else None."""
    found = number(value)
    return None if found is None else int(found)


def text(value: object) -> str:
    """Text on one line; empty when there is none."""
    return " ".join(str(value).split()) if isinstance(value, str | int | float) else ""


def amounts(value: object) -> dict[str, float]:
    """Amounts by name, such as the resources of a node; what is no number is left out."""
    return {str(name): found for name, each in mapping(value).items() if (found := number(each)) is not None}


def moment(value: object, unit_seconds: float = 1.0) -> datetime | None:
    """A time counted in `unit_seconds` since 1970, in UTC; None for 0 and for what is no time."""
    found = number(value)
    if not found:
        return None
    try:
        return datetime.fromtimestamp(found * unit_seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
