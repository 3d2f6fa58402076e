"""Splitting text into words and lines, for statistics: fast and the same on every machine.

Nothing here knows a language. Whoever needs words as a linguist sees them needs a tokenizer.
"""

import unicodedata
from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# What a character is to a word. A letter or digit of a script without spaces is a word on its own.
_SEPARATOR, _LETTER, _UNSPACED, _MARK = range(4)
_BESIDE_BORDERS = (_SEPARATOR, _UNSPACED)
_UNSPACED_BLOCKS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x312F),  # ideographic marks, kana, Bopomofo
    (0x31A0, 0x31FF),
    (0x3400, 0x4DBF),  # Chinese characters
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9D),  # half-width kana
    (0x20000, 0x323AF),
)
# Accents and vowel signs of scripts with spaces, and the zero-width joiners: a word goes on over them.
_BLOCK_WITH_MARKS = (0x0300, 0x0DFF)
_JOINERS = (0x200C, 0x200D)
_LAST_LETTER = 0x323AF

_SPACES_BETWEEN_WORDS = bytes(code if chr(code).isalnum() and code < 128 else 32 for code in range(256))
# What makes most English pages not quite ASCII. None of it belongs to a word.
_TYPOGRAPHY = "\u2019\u2018\u201c\u201d\u2013\u2014\u2026\u2022\u00a0"

TERMINAL_PUNCTUATION = (
    *".!?\"'",
    *"\u2026\u201d\u2019\u00bb",
    *"。！？｡．」』",
    *"؟۔।॥။។։።",
)
"""What a sentence ends with: Latin, typographic, Chinese and Japanese, and other scripts' marks."""


def words(text: str) -> list[str]:
    """The words of a text in order: runs of letters and digits, without white space, punctuation and symbols.

    In scripts without spaces (Chinese, Japanese, Thai, Lao, Burmese, Khmer) each character counts as a word.
    `don't`, `snake_case` and `3.14` are two words each. Linear in time.
    """
    return spaced_words(text).split()


def spaced_words(text: str) -> str:
    """The words of `words` as one string, with spaces in front of each and behind the last."""
    if not text.isascii():
        for character in _TYPOGRAPHY:
            text = text.replace(character, " ")
        if not text.isascii():
            return f" {_spaced_characters(text)} "
    return f" {text.encode('ascii').translate(_SPACES_BETWEEN_WORDS).decode('ascii')} "


def _spaced_characters(text: str) -> str:
    """The text with spaces for what belongs to no word, and around each character that is a word."""
    import numpy as np

    codes, kinds = _codes_and_kinds(text)
    inside = kinds != _SEPARATOR
    if (kinds == _MARK).any():
        # A mark belongs to the letter that it follows, over other marks at most.
        places = np.arange(len(kinds))
        last_letter = np.maximum.accumulate(np.where(kinds == _LETTER, places, -1))
        last_other = np.maximum.accumulate(np.where((kinds == _SEPARATOR) | (kinds == _UNSPACED), places, -1))
        inside &= (kinds != _MARK) | (last_letter > last_other)
    codes = np.where(inside, codes, ord(" "))
    unspaced = kinds == _UNSPACED
    if unspaced.any():
        apart = unspaced.copy()
        apart[1:] |= unspaced[:-1]
        places = apart.cumsum()
        places += np.arange(len(codes))
        spread = np.full(int(places[-1]) + 1, ord(" "), "<u4")
        spread[places] = codes
        codes = spread
    return codes.tobytes().decode("utf-32-le")


def _codes_and_kinds(text: str) -> "tuple[NDArray[np.uint32], NDArray[np.uint8]]":
    """Each character's code point, and what it is to a word."""
    import numpy as np

    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    return codes, np.frombuffer(_kinds(), np.uint8)[codes]


@cache
def _kinds() -> bytes:
    """What each code point is to a word; 40 ms at first use."""
    import numpy as np

    kinds = np.full(0x110000, _SEPARATOR, np.uint8)
    letters = [character.isalnum() for character in map(chr, range(_LAST_LETTER + 1))]
    kinds[: len(letters)] = np.where(letters, _LETTER, _SEPARATOR)
    for first, last in _UNSPACED_BLOCKS:
        block = kinds[first : last + 1]
        block[block == _LETTER] = _UNSPACED
    first, last = _BLOCK_WITH_MARKS
    marks = [code for code in range(first, last + 1) if unicodedata.category(chr(code))[0] == "M"]
    kinds[[*marks, *_JOINERS]] = _MARK
    return kinds.tobytes()


class WordSpans:
    """Where the words of a `spaced_words` string lie in its UTF-8 bytes, without a Python object for each."""

    def __init__(self, spaced: str) -> None:
        import numpy as np

        self.content = spaced.encode("utf-8")
        self._bytes = np.frombuffer(self.content, np.uint8)
        inside = self._bytes != ord(" ")
        edges = (inside[1:] != inside[:-1]).nonzero()[0]
        edges += 1
        self.starts: NDArray[np.int64] = edges[::2]
        """Of each word's first byte."""
        self.ends: NDArray[np.int64] = edges[1::2]
        """Behind each word's last byte."""
        self._is_ascii = spaced.isascii()

    def __len__(self) -> int:
        return len(self.starts)

    def lengths(self) -> "NDArray[np.int64]":
        """Each word's number of characters."""
        if self._is_ascii:
            return self.ends - self.starts
        import numpy as np

        # All bytes of a character but its first are 10xxxxxx.
        begun: NDArray[np.int64] = ((self._bytes & 0xC0) != 0x80).cumsum()
        return begun[self.ends - 1] - begun[self.starts - 1]

    def numbers(self) -> "NDArray[np.int64]":
        """A number from 1 for each word; equal words have equal numbers, and there are no gaps.

        Words of up to 8 bytes are compared as integers, so that only the longer ones go through a dictionary.
        """
        import numpy as np

        sizes = self.ends - self.starts
        eight = np.ndarray((len(self.content),), "<u8", self.content + bytes(7), 0, (1,))
        # Shifting throws out what stands behind a short word. No word has a zero byte, so all keys differ.
        keys = eight[self.starts] << ((8 - np.minimum(sizes, 8)) * 8).view(np.uint64)
        longer: defaultdict[bytes, int] = defaultdict()
        longer.default_factory = longer.__len__
        long = (sizes > 8).nonzero()[0]
        # A short word's highest byte is not zero, so a small number is no short word's key.
        keys[long] = [
            longer[self.content[start:end]]
            for start, end in zip(self.starts[long].tolist(), self.ends[long].tolist(), strict=True)
        ]
        order = keys.argsort()
        keys = keys[order]
        is_new = np.ones(len(keys), bool)
        np.not_equal(keys[1:], keys[:-1], out=is_new[1:])
        numbers = np.empty(len(keys), np.int64)
        numbers[order] = is_new.cumsum()
        return numbers


def count_words(text: str) -> int:
    """The length of `words`, several times faster."""
    return len(WordSpans(spaced_words(text)))


def has_words(text: str, least: int) -> bool:
    """Whether a text has so many words; looks at no more of it than that takes."""
    kinds, count, within = _kinds(), 0, False
    for character in text:
        kind = kinds[ord(character)]
        if kind == _UNSPACED or (kind == _LETTER and not within):
            count += 1
            if count >= least:
                return True
        within = kind == _LETTER or (within and kind == _MARK)
    return least <= 0


def count_unspaced(text: str) -> int:
    """How many of a text's words are single characters of a script without spaces."""
    if text.isascii():
        return 0
    import numpy as np

    return int(np.count_nonzero(_codes_and_kinds(text)[1] == _UNSPACED))


def is_word_border(text: str, position: int) -> bool:
    """Whether no word goes on over a position. A script without spaces has a border at each character."""
    if position in (0, len(text)):
        return True
    kinds = _kinds()
    return kinds[ord(text[position - 1])] in _BESIDE_BORDERS or kinds[ord(text[position])] in _BESIDE_BORDERS


def lines(text: str) -> list[str]:
    """The lines that say something, without the white space around them."""
    return [line for line in map(str.strip, text.splitlines()) if line]
