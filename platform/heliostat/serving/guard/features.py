"""Texts as hashed character and word n-grams, all at once in numpy (Weinberger et al. 2009, feature hashing).

A model has a weight for each of the 65,536 slots. What a stretch of text weighs is the sum of the weights of
its n-grams over the square root of their number, so that sums over any stretch come from one running sum.
"""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SLOT_BITS = 16
LEAST_GRAMS = 60
"""Fewer n-grams count as so many: a word or two prove little."""
NUM_SLOTS = 1 << SLOT_BITS
_CHARACTER_GRAMS = (3, 4, 5)
# Odd numbers with well-mixed bits: Knuth's 2**64 over the golden ratio, and two of splitmix64's.
_SPREAD = 0x9E3779B97F4A7C15
_STEP = 0xBF58476D1CE4E5B9
_PAIR = 0x94D049BB133111EB
_BITS = (1 << 64) - 1


def grams(text: str) -> "list[tuple[NDArray[np.int64], slice | NDArray[np.int64]]]":
    """Of each kind of n-gram: the slots, and where each begins in the text, which is lowered and folded.

    In one kind no two n-grams begin at the same place.
    """
    import numpy as np

    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    found: list[tuple[NDArray[np.int64], slice | NDArray[np.int64]]] = []
    hashed = codes
    for length in range(2, max(_CHARACTER_GRAMS) + 1):
        if len(codes) < length:
            break
        hashed = hashed[:-1] * np.uint64(_STEP) + codes[length - 1 :]
        if length in _CHARACTER_GRAMS:
            found.append((_slots(hashed, length), slice(len(hashed))))
    words, starts = _words(codes)
    found.append((_slots(words, 11), starts))
    if len(words) > 1:
        found.append((_slots(words[:-1] * np.uint64(_PAIR) + words[1:], 12), starts[:-1]))
    return found


def distinct_slots(text: str) -> "NDArray[np.int64]":
    """The slots of a text's n-grams, each once."""
    import numpy as np

    return np.unique(np.concatenate([slots for slots, _ in grams(text)]))


def _words(codes: "NDArray[np.uint64]") -> "tuple[NDArray[np.uint64], NDArray[np.int64]]":
    """A number for each word, alike for like words, and where it begins."""
    import numpy as np

    inside = np.zeros(len(codes) + 2, np.int8)
    inside[1:-1] = _is_letter()[np.minimum(codes, 128)]
    edges = np.diff(inside)
    starts, ends = (edges == 1).nonzero()[0], (edges == -1).nonzero()[0]
    powers, inverses = _powers(len(codes))
    running = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(codes * powers, out=running[1:])
    return (running[ends] - running[starts]) * inverses[starts], starts


def _slots(hashed: "NDArray[np.uint64]", salt: int) -> "NDArray[np.int64]":
    import numpy as np

    mixed = hashed ^ np.uint64(salt * _PAIR & _BITS)
    mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(_SPREAD)
    return (mixed >> np.uint64(64 - SLOT_BITS)).astype(np.int64)


@cache
def _is_letter() -> "NDArray[np.int8]":
    """Whether a code is part of a word, by code up to 127, and for all above."""
    import numpy as np

    return np.array([*(chr(code).isalnum() for code in range(128)), True], np.int8)


_kept_powers: "list[tuple[NDArray[np.uint64], NDArray[np.uint64]]]" = []


def _powers(count: int) -> "tuple[NDArray[np.uint64], NDArray[np.uint64]]":
    """The powers of an odd number modulo 2**64, and what undoes each."""
    import numpy as np

    if not _kept_powers or len(_kept_powers[0][0]) < count:
        least = max(8192, 1 << count.bit_length())
        both = []
        for base in (_STEP, pow(_STEP, -1, 1 << 64)):
            powers = np.full(least, base, np.uint64)
            powers[0] = 1
            both.append(np.cumprod(powers, dtype=np.uint64))
        _kept_powers[:] = [(both[0], both[1])]
    powers, inverses = _kept_powers[0]
    return powers[:count], inverses[:count]
