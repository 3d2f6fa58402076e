"""Texts as hashes of words and of runs of words, a whole batch at a time.

A word is a run of letters, digits and marks; in scripts written without spaces (Chinese, Japanese, Thai, Lao,
Khmer, Burmese, Tibetan) every character is a word of its own, so mixed text works. Two flavours:

- `nominating_words`: lower-cased, ASCII digits become 0, punctuation and symbols separate. Forgiving, because
  it only proposes pairs.
- `verifying_words`: the same, but digits stay, and "3.14", "10:30" or "2024-05-01" is one word. Case and
  punctuation are still ignored: typographic quotes, markup and headings in capitals change hardly a word's
  meaning, but would break every shingle around them, and copies on the web differ in just these.

Hashes have 64 bits and depend on the text alone, never on what else is in the batch. This knows nothing of
documents or duplicates.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

BLOCK_BYTES = 1 << 18
"""Texts are worked through in pieces of about this size, whose arrays fit the processor's cache."""
BLOCK_WORDS = 1 << 15
LONGEST_WORD_BYTES = 64
"""What is longer (base64, DNA) counts as several words: hashing stays linear, and a part may match."""

_SPACE = 0x20
_JOINS = b"+-./:,"  # between two digits these are part of the number
_SEPARATOR, _ALONE, _DIGIT = 1, 2, 3
# Scripts without spaces between words, by code point: Thai, Lao, Tibetan; Burmese; Khmer; from radicals over
# kana and bopomofo to ideographs, without Hangul; compatibility ideographs; half-width kana.
_UNSPACED = ((0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x2FDF), (0x3005, 0x3007),
             (0x3021, 0x312F), (0x3190, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F))  # fmt: skip


@dataclass(frozen=True)
class Words:
    """The words of n texts, one text behind the other."""

    hashes: U64
    """(words,)"""
    counts: I64
    """(n,) words of each text."""
    are_numbers: NDArray[np.bool_]
    """(words,) whether a word has a digit in it; empty for nominating words."""


@dataclass(frozen=True)
class Shingles:
    """The hashes of all runs of words of n texts; runs that repeat in a text are there as often."""

    hashes: U64
    counts: I64
    """(n,) shingles of each text: its words less the run's length plus 1, and 0 for a shorter text."""


def nominating_words(texts: Sequence[str]) -> Words:
    """Words for proposing pairs: without case, punctuation, or the values of digits."""
    return _words(texts, digits_stay=False)


def verifying_words(texts: Sequence[str]) -> Words:
    """Words for judging pairs: without case and punctuation, numbers whole."""
    return _words(texts, digits_stay=True)


def shingles(words: Words, size: int) -> Shingles:
    """All runs of `size` words, none across the border of two texts."""
    total = len(words.hashes) - size + 1
    counts = np.maximum(words.counts - (size - 1), 0)
    if total <= 0:
        return Shingles(np.empty(0, np.uint64), counts)
    weights = random_odd(size, seed=5)
    hashes = np.empty(total, np.uint64)
    for start in range(0, total, BLOCK_WORDS):
        stop = min(start + BLOCK_WORDS, total)
        run = words.hashes[start:stop] * weights[0]
        for place in range(1, size):
            run += words.hashes[start + place : stop + place] * weights[place]
        hashes[start:stop] = mix(run)
    inside = np.ones(total, np.bool_)
    ends = np.cumsum(words.counts)
    for step in range(1, size):
        crossing = ends - step
        inside[crossing[(crossing >= 0) & (crossing < total)]] = False
    return Shingles(hashes[inside], counts)


def mix(hashes: U64) -> U64:
    """Each hash stirred in place so that all its bits depend on all (the end of MurmurHash3, by Appleby)."""
    hashes ^= hashes >> np.uint64(33)
    hashes *= np.uint64(0xFF51AFD7ED558CCD)
    hashes ^= hashes >> np.uint64(33)
    hashes *= np.uint64(0xC4CEB9FE1A85EC53)
    hashes ^= hashes >> np.uint64(33)
    return hashes


def random_odd(count: int, seed: int) -> U64:
    """`count` odd 64-bit numbers that never change (SplitMix64, by Steele, Lea and Flood, from `seed` on)."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    return mix(steps) | np.uint64(1)


_FIRST_CHUNK, _NEXT_CHUNK = random_odd(2, seed=8)
_MASKS = np.array([(1 << 8 * kept) - 1 for kept in range(9)], np.uint64)
_WORD_BORDER = re.compile(rb"[ \n]|(?=[\xe4-\xe9])")  # these begin the characters U+4000 to U+9FFF
_EVERY_BYTE = 0x0101010101010101
_NOWHERE = np.empty(0, np.int64)
_LEAD = np.arange(256, dtype=np.int32)
_LENGTH_OF_LEAD = 2 + (_LEAD >= 0xE0) + (_LEAD >= 0xF0)
# Where the places of a first byte begin in `_kinds`: 16 of three bytes, then 32 of two, then 8 of four.
_PLACE_OF_LEAD = np.select(
    [_LEAD >= 0xF0, _LEAD >= 0xE0], [(_LEAD & 0x07) + 48, _LEAD & 0x0F], (_LEAD & 0x1F) + 16
) << np.int32(12)


def _table(digits_stay: bool) -> bytes:
    """For `bytes.translate`: letters lowered, digits 0 unless they stay, the rest of ASCII a space."""
    table = bytearray(range(256))
    for code in range(128):
        byte = bytes([code])
        if byte.isdigit():
            table[code] = code if digits_stay else 0x30
        elif not (digits_stay and byte in _JOINS):
            table[code] = byte.lower()[0] if byte.isalpha() else _SPACE
    return bytes(table)


_NOMINATING_TABLE, _VERIFYING_TABLE = _table(digits_stay=False), _table(digits_stay=True)


def _words(texts: Sequence[str], digits_stay: bool) -> Words:
    encoded = [(text if text.isascii() else text.lower()).encode("utf-8", "surrogatepass") for text in texts]
    joined = b" ".join(encoded)
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    ends = np.cumsum(lengths + 1) - 1
    words_before_end = np.zeros(len(texts), np.int64)
    hashes: list[U64] = [np.empty(0, np.uint64)]
    numbers: list[NDArray[np.bool_]] = [np.empty(0, np.bool_)]
    start = total = done = 0
    while start < len(joined):
        stop = _block_end(joined, start)
        starts, of_block, are_numbers = _words_of_block(joined[start:stop], digits_stay)
        upto = int(np.searchsorted(ends, stop, side="right"))
        words_before_end[done:upto] = total + np.searchsorted(starts, ends[done:upto] - start)
        hashes.append(of_block)
        numbers.append(are_numbers)
        start, total, done = stop, total + len(starts), upto
    counts = np.diff(words_before_end, prepend=0)
    return Words(np.concatenate(hashes), counts, np.concatenate(numbers))


def _block_end(joined: bytes, start: int) -> int:
    """Some `BLOCK_BYTES` from `start`, where no word is cut: behind a space, or before an ideograph."""
    stop = start + BLOCK_BYTES
    if stop >= len(joined):
        return len(joined)
    space = joined.rfind(b" ", start, stop)
    if space >= 0:
        return space + 1
    later = _WORD_BORDER.search(joined, stop)
    return later.end() if later else len(joined)


def _words_of_block(block: bytes, digits_stay: bool) -> tuple[I64, U64, NDArray[np.bool_]]:
    """Where the words of a block start, their hashes, and whether there is a digit in them."""
    table = _VERIFYING_TABLE if digits_stay else _NOMINATING_TABLE
    size = len(block)
    text = np.zeros(
        size + LONGEST_WORD_BYTES + 8, np.uint8
    )  # behind the end zeros, so that chunks can be read
    text[:size] = np.frombuffer(block.translate(table), np.uint8)
    if digits_stay:
        _separate_at_lone_joins(text, size)
    inside = np.zeros(size + 2, np.bool_)
    alone, digits = (_NOWHERE, _NOWHERE) if block.isascii() else _classify(text, size)
    np.not_equal(text[:size], _SPACE, out=inside[1:-1])
    if len(alone):
        breaks = np.zeros(size + 1, np.bool_)
        breaks[alone] = True
        starts = np.flatnonzero(inside[1:] & (breaks | ~inside[:-1]))
        ends = np.flatnonzero(inside[:-1] & (breaks | ~inside[1:]))
    else:
        edges = np.flatnonzero(inside[1:] != inside[:-1])
        starts, ends = edges[::2], edges[1::2]
    if len(starts) and int((ends - starts).max()) > LONGEST_WORD_BYTES:
        starts, ends = _cut_long_words(starts, ends)
    hashes, are_numbers = _hash_words(text, starts, ends - starts, digits_stay)
    if digits_stay and len(digits):
        are_numbers[np.searchsorted(starts, digits, side="right") - 1] = True
    return starts, hashes, are_numbers


def _separate_at_lone_joins(text: NDArray[np.uint8], size: int) -> None:
    """Make every `+-./:,` a space that does not stand between two digits."""
    digit = (text[:size] - np.uint8(0x30)) < 10
    join = (text[:size] >= 0x2B) & (text[:size] <= 0x3A) & ~digit
    join[1:-1] &= ~(digit[:-2] & digit[2:])
    np.putmask(text[:size], join, _SPACE)


def _classify(text: NDArray[np.uint8], size: int) -> tuple[I64, I64]:
    """Blank the separators outside ASCII; where words begin and end without a space, and where digits are."""
    lead = np.flatnonzero(text[:size] >= 0xC2)
    first, second, third = text[lead], text[1:][lead], text[2:][lead]
    place = (second & np.uint8(0x3F)).astype(np.int32) << 6 | (third & np.uint8(0x3F))
    kinds = _kinds()[_PLACE_OF_LEAD[first] + place]
    length = _LENGTH_OF_LEAD[first]
    separator = kinds == _SEPARATOR
    at, bytes_there = lead[separator], length[separator]
    for step in range(4):
        text[at[bytes_there > step] + step] = _SPACE
    alone = kinds == _ALONE
    return np.concatenate([lead[alone], (lead + length)[alone]]), lead[kinds == _DIGIT]


@lru_cache(maxsize=1)
def _kinds() -> NDArray[np.uint8]:
    """What a character is, for the first three bytes of its UTF-8.

    4,096 places for each first byte: of three bytes, of two and of four, in which fewer differ. Punctuation,
    symbols, spaces and controls separate, as they do in ASCII; so do the 4,096 characters with the emoji.
    """
    kinds = np.zeros(0x10000, np.uint8)
    for code in range(0x80, 0x10000):
        category = unicodedata.category(chr(code))
        if category[0] in "PSZ" or category == "Cc":
            kinds[code] = _SEPARATOR
        elif category == "Nd":
            kinds[code] = _DIGIT
    for low, high in _UNSPACED:
        part = kinds[low : high + 1]
        part[part == 0] = _ALONE
    beyond = np.zeros(0x200, np.uint8)
    beyond[0x1F] = _SEPARATOR
    beyond[0x20:0x40] = _ALONE
    return np.concatenate([kinds, np.repeat(kinds[:0x800], 64), np.repeat(beyond, 64)])


def _cut_long_words(starts: I64, ends: I64) -> tuple[I64, I64]:
    pieces = -((starts - ends) // LONGEST_WORD_BYTES)
    first = np.cumsum(pieces) - pieces
    place = np.arange(pieces.sum()) - np.repeat(first, pieces)
    begin = np.repeat(starts, pieces) + place * LONGEST_WORD_BYTES
    return begin, np.minimum(begin + LONGEST_WORD_BYTES, np.repeat(ends, pieces))


def _hash_words(
    text: NDArray[np.uint8], starts: I64, lengths: I64, digits_stay: bool
) -> tuple[U64, NDArray[np.bool_]]:
    """Eight bytes of every word at once; the few words that are longer go round again."""
    chunks: U64 = np.ndarray((len(text) - 7,), "<u8", text, strides=(1,))
    chunk = chunks[starts] & _MASKS[np.minimum(lengths, 8)]
    are_numbers = _has_digit(chunk) if digits_stay else np.empty(0, np.bool_)
    hashes = mix(chunk * _FIRST_CHUNK)
    which = np.flatnonzero(lengths > 8)
    done = 8
    while len(which):
        chunk = chunks[starts[which] + done] & _MASKS[np.minimum(lengths[which] - done, 8)]
        if digits_stay:
            are_numbers[which] |= _has_digit(chunk)
        hashes[which] = mix(hashes[which] * _NEXT_CHUNK + chunk)
        done += 8
        which = which[lengths[which] > done]
    return hashes, are_numbers


def _has_digit(chunk: U64) -> NDArray[np.bool_]:
    """Whether any of the eight bytes is "0" to "9": the exact test for a byte below ten, all at once."""
    below = chunk ^ np.uint64(0x30 * _EVERY_BYTE)
    found: NDArray[np.bool_] = (
        (below - np.uint64(10 * _EVERY_BYTE)) & ~below & np.uint64(0x80 * _EVERY_BYTE)
    ) != 0
    return found
