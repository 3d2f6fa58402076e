"""Numbers as JSON takes them: None for what is none, six digits for what is seen."""

import math
from collections.abc import Iterable
from typing import Any


def plain(value: Any, digits: int = 6) -> float | int | None:
    """A number for an option: None for NaN, infinity and None; whole numbers exact."""
    if value is None:
        return None
    number = float(value)
    if not math.isfinite(number):
        return None
    if number.is_integer() and abs(number) < 1e15:
        return int(number)
    return float(f"{number:.{digits}g}")


def plain_all(values: Iterable[Any], digits: int = 6) -> list[float | int | None]:
    """Each of them, as `plain`."""
    return [plain(value, digits) for value in values]


def place(value: Any) -> float | int | None:
    """A place on an axis: a millisecond of this century needs 13 digits."""
    return plain(value, 15)


def positive(values: list[float | int | None]) -> list[float | int | None]:
    """What a logarithmic axis can show; the rest is a gap."""
    return [value if value is not None and value > 0 else None for value in values]
