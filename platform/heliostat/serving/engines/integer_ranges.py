"""The decimal numbers between two bounds as grammar expressions."""

from collections.abc import Iterator

MOST_DIGITS = 15
LARGEST = 10**MOST_DIGITS - 1


def integers(low: int | None, high: int | None) -> Iterator[str]:
    """Expressions that together match the integers from `low` to `high`, both included.

    A bound that is None, or beyond 15 digits, stands for 15 digits. No expression: there is no such number.
    """
    least = max(-LARGEST, -LARGEST if low is None else low)
    most = min(LARGEST, LARGEST if high is None else high)
    if least < 0:
        for digits in _naturals(max(1, -most), -least):
            yield f'"-" {digits}'
    yield from _naturals(max(0, least), most)


def _naturals(low: int, high: int) -> Iterator[str]:
    """As above, of 0 <= low."""
    while low <= high:
        length = len(str(low))
        end = min(high, 10**length - 1)
        yield from _same_length(str(low), str(end))
        low = end + 1


def _same_length(low: str, high: str) -> Iterator[str]:
    """Numbers of as many digits as both bounds: those with the first digit, with the last, and between."""
    count = len(low)
    if low == "0" * count and high == "9" * count:
        yield f"[0-9]{{{count}}}"
    elif count == 1:
        yield f"[{low}-{high}]"
    elif low[0] == high[0]:
        for rest in _same_length(low[1:], high[1:]):
            yield f'"{low[0]}" {rest}'
    else:
        first, last = int(low[0]), int(high[0])
        if low[1:] != "0" * (count - 1):
            for rest in _same_length(low[1:], "9" * (count - 1)):
                yield f'"{first}" {rest}'
            first += 1
        whole_last = high[1:] == "9" * (count - 1)
        if first <= last - (not whole_last):
            yield f"[{first}-{last - (not whole_last)}] [0-9]{{{count - 1}}}"
        if not whole_last:
            for rest in _same_length("0" * (count - 1), high[1:]):
                yield f'"{last}" {rest}'
