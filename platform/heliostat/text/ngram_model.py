"""Words as hashes, and a small language model over them. Needs nothing but numpy.

The unit is a word, one character of a script that is written without spaces, or a run of one punctuation
mark; case and the values of digits do not count. Known units have probabilities by interpolated modified
Kneser-Ney (Chen and Goodman 1999, "An empirical study of smoothing techniques"). An unknown one costs the
probability of "unknown" times that of its letters, by a second model of the same kind over characters:
rubbish is dear by its length and its look, a new word of the language is not.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from math import exp, inf, log
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

MAX_LETTERS = 20  # of a unit; a longer word is several, so that one endless word is not one dear unit
CHUNK = 2**14  # characters looked at together: arrays that stay in the cache, whatever a document's length
SPELLING_ORDER = 4
LETTER_NATS = log(0x110000)  # of a character that the reference does not have: it could be any
MAX_NATS = 690.0  # of a unit: exp of it is still a number
RESOLUTION = 2048  # steps of a nat in a table
STEP = np.uint64(0xD6E8FEB86659FD93)  # odd, so that multiplying by it loses nothing
HALF = np.uint64(32)

# Scripts written without spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, kana, Bopomofo and Han.
UNSPACED = ((0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3005, 0x3007), (0x3040, 0x312F),
            (0x31A0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF))  # fmt: skip
UNSPACED_PLANES = (0x20000, 0x40000)  # the rarer Han

# What a character belongs to: characters that follow each other in one group make one unit.
NO_UNIT, LETTER, FIRST_SYMBOL, FIRST_ALONE = 0, 1, 2, 2**31


def mix(values: Array) -> Array:
    """Spread integers over 64 bits, one to one (the finaliser of splitmix64, Steele et al. 2014)."""
    values = values.astype(np.uint64)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = values ^ (values >> np.uint64(31))
    return mixed


BOUNDARY, UNKNOWN = mix(np.array([[2**40], [2**41]]))
POWERS = mix(np.arange(2**42, 2**42 + MAX_LETTERS)) | np.uint64(1)


@cache
def _character_tables() -> tuple[Array, Array, bytes]:
    """By code point below 2**16: group, and hash of what it is folded to; by byte: the group of ASCII."""
    groups = np.arange(FIRST_SYMBOL, FIRST_SYMBOL + 2**16, dtype=np.uint32)
    folded = np.arange(2**16)
    for code in range(2**16):
        character = chr(code)
        category = unicodedata.category(character)
        if category[0] in "LMN":
            groups[code] = LETTER
            lower = character.lower()
            folded[code] = ord("0") if category == "Nd" else ord(lower) if len(lower) == 1 else code
        elif category == "Cf" or character.isspace():
            groups[code] = NO_UNIT
    for first, last in UNSPACED:
        part = groups[first : last + 1]
        part[part == LETTER] = FIRST_ALONE + np.arange(first, last + 1)[part == LETTER]
    hashes = mix(folded + 1)
    hashes[groups == NO_UNIT] = 0
    return groups, hashes, groups[:256].astype(np.uint8).tobytes()


@dataclass(frozen=True)
class Units:
    """The units of a text, in order.

    `keys` are their hashes (uint64). `starts` is where each begins in the text; `letters` (uint64) is the
    hash of each character of the text, 0 for white space; `groups` is `LETTER` for a word, `FIRST_ALONE` or
    more for a character of a script without spaces, and something between for punctuation.
    """

    keys: Array
    starts: Array
    letters: Array
    groups: Array

    def spelt(self, chosen: Array) -> Array:
        """The letters of the units that are chosen (bool), with a `BOUNDARY` around each unit."""
        lengths = np.diff(self.starts, append=len(self.letters))[chosen] + 1
        ends = np.cumsum(lengths)
        places = np.repeat(self.starts[chosen] - ends + lengths, lengths) + np.arange(ends[-1])
        sequence: Array = self.letters.take(places, mode="clip")
        sequence[ends - 1] = BOUNDARY
        return np.concatenate((BOUNDARY, sequence[sequence != 0]))  # without white space behind a unit


def split_units(text: str) -> Units:
    """The units of a text; white space and invisible formatting characters belong to none."""
    groups, letters = _look_up(text)
    begins = np.empty(len(groups), bool)
    begins[:1] = True
    np.not_equal(groups[1:], groups[:-1], out=begins[1:])
    if not text.isascii():
        begins |= groups >= FIRST_ALONE
    begins &= groups != NO_UNIT
    starts = begins.nonzero()[0]
    if not len(starts):
        return Units(letters[:0], starts, letters, groups[:0])
    lengths = np.empty_like(starts)
    np.subtract(starts[1:], starts[:-1], out=lengths[:-1])
    lengths[-1] = len(letters) - starts[-1]
    places = np.arange(starts[0], len(letters)) - starts.repeat(lengths)
    if lengths.max() > MAX_LETTERS:
        places %= MAX_LETTERS
        starts = ((places == 0) & (groups[starts[0] :] != NO_UNIT)).nonzero()[0] + starts[0]
    hashes = letters[starts[0] :] * POWERS.take(places)
    keys = mix(np.add.reduceat(hashes, starts - starts[0]))
    return Units(keys, starts, letters, groups[starts])


def _look_up(text: str) -> tuple[Array, Array]:
    groups, hashes, ascii_groups = _character_tables()
    if text.isascii():
        encoded = text.encode()
        group = np.frombuffer(encoded.translate(ascii_groups), np.uint8)
        return group, hashes.take(np.frombuffer(encoded, np.uint8))
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    above = (codes >= 2**16).nonzero()[0]
    if not len(above):
        return groups[codes], hashes[codes]
    rare = codes[above]
    codes = np.where(codes < 2**16, codes, 0)
    group, letter = groups[codes], hashes[codes]
    alone = (rare >= UNSPACED_PLANES[0]) & (rare < UNSPACED_PLANES[1])
    group[above] = rare + np.where(alone, FIRST_ALONE, FIRST_SYMBOL)
    letter[above] = mix(rare + np.uint64(1))
    return group, letter


def ngram_keys(units: Array, order: int) -> list[Array]:
    """For n of 1 to `order`: the hash of the n units that begin at each place, len(units) - n + 1 of them."""
    keys = [units]
    for n in range(1, order):
        keys.append(keys[-1][:-1] * STEP ^ units[n:])
    return keys


class NgramTable:
    """n-grams with their probability and the weight with which they back off, both as nats below 0.

    A row is 64 bits: half of the key, then 16 bits for each figure in steps of 1/2048 nat. A key lies in one
    of two rows (cuckoo hashing, Pagh and Rodler 2004), so a look-up is two reads for any number of n-grams.
    That a key which is not there seems to be has a chance of 2e-10.
    """

    def __init__(self, rows: Array) -> None:
        self.rows = rows
        self._shift = np.uint64(64 - (len(rows).bit_length() - 1))

    @classmethod
    def build(cls, keys: Array, nats: Array, backoffs: Array) -> "NgramTable":
        """Of figures that are 0 or less; a quarter to a half of its rows are taken."""
        steps = [np.clip(np.rint(-figure * RESOLUTION), 0, 2**16 - 1) for figure in (nats, backoffs)]
        values = _mark(keys) << HALF | (steps[0] * 2**16 + steps[1]).astype(np.uint64)
        size = 2 ** (2 * len(keys)).bit_length()
        while not (table := cls(np.zeros(size, np.uint64)))._fill(keys, values):
            size *= 2
        return table

    def find(self, keys: Array) -> Array:
        """The row of each key, or 0."""
        marks = _mark(keys)
        first: Array = self.rows[keys >> self._shift]
        second: Array = self.rows[keys * STEP >> self._shift]
        first *= (first >> HALF) == marks
        second *= (second >> HALF) == marks
        first |= second
        return first

    def _fill(self, keys: Array, values: Array) -> bool:
        """Everyone takes a row at once; who finds another there in the end goes on to its second row."""
        homes = np.stack((keys >> self._shift, keys * STEP >> self._shift)).astype(np.int64)
        owner = np.full(len(self.rows), -1)
        side = np.zeros(len(keys), np.int8)
        waiting = np.arange(len(keys))
        for _ in range(200):
            places = homes[side[waiting], waiting]
            evicted = owner[places]
            owner[places] = waiting
            beaten = waiting[owner[places] != waiting]
            waiting = np.unique(np.concatenate((evicted[evicted >= 0], beaten)))
            if not len(waiting):
                taken = (owner >= 0).nonzero()[0]
                self.rows[taken] = values[owner[taken]]
                return True
            side[waiting] ^= 1
        return False


def _mark(keys: Array) -> Array:
    marks: Array = np.maximum(keys & np.uint64(2**32 - 1), np.uint64(1))  # 0 marks an empty row
    return marks


def unit_nats(table: NgramTable, order: int, units: Array, seen: Array | None = None) -> tuple[Array, Array]:
    """What each unit costs behind the ones before it, in nats, and whether the table does not know it.

    `seen` says how many units before each place may be looked at; None means all of them.
    """
    rows = table.find(units)
    unknown = rows == 0
    if unknown.any():
        units = np.where(unknown, UNKNOWN, units)
        rows[unknown] = table.find(UNKNOWN)[0]
    total, backoff = _figures(rows)
    longer = ngram_keys(units, order)[1:]
    rows = table.find(np.concatenate(longer))
    if seen is not None:
        rows *= np.concatenate([seen[n:] >= n for n in range(1, order)])
    exact, weights = _figures(rows)
    start = 0
    for n, keys in enumerate(longer, start=1):
        part = slice(start, start := start + len(keys))
        backoff = backoff[: len(keys)]
        if seen is not None:
            backoff = backoff * (seen[n:] >= n)
        total[n:] = np.where(rows[part] != 0, exact[part], total[n:] + backoff)
        backoff = weights[part]
    return total / RESOLUTION, unknown


def _figures(rows: Array) -> tuple[Array, Array]:
    figures = rows.view(np.uint16).reshape(-1, 4)  # of a row the lowest 16 bits first
    return figures[:, 1].astype(np.int32), figures[:, 0].astype(np.int32)


def units_seen(units: Array) -> Array:
    """How many units before each place belong to its sequence, the boundary that opens it included."""
    places = np.arange(len(units))
    places[1:] -= np.maximum.accumulate(np.where(units == BOUNDARY, places, 0))[:-1]
    return places


@dataclass(frozen=True)
class _Level:
    """The different n-grams of one length: their keys in order, a place where each ends, how often it came.

    `suffixes` and `contexts` are the rows, one level below, of each without its first and its last unit.
    """

    keys: Array
    places: Array
    counts: Array
    suffixes: Array
    contexts: Array


def _count(units: Array, seen: Array, order: int) -> list[_Level]:
    levels: list[_Level] = []
    below: Array = units
    for n, hashes in enumerate(ngram_keys(units, order), start=1):
        ends = (seen >= max(n - 1, 1)).nonzero()[0]
        keys, first, counts = np.unique(hashes[ends - n + 1], return_index=True, return_counts=True)
        places = ends[first]
        if n > 1:
            suffixes, contexts = (levels[-1].keys.searchsorted(below[places - n + skip]) for skip in (2, 1))
        else:
            if UNKNOWN not in keys:  # it has to have a probability
                at = keys.searchsorted(UNKNOWN)
                keys, places, counts = (
                    np.insert(each, at, value) for each, value in ((keys, UNKNOWN), (places, 0), (counts, 0))
                )
            suffixes = contexts = np.zeros(len(keys), np.int64)
        levels.append(_Level(keys, places, counts, suffixes, contexts))
        below = hashes
    return levels


def estimate(units: Array, order: int) -> NgramTable:
    """Interpolated modified Kneser-Ney over sequences that all begin and end with `BOUNDARY`.

    The first unit is not predicted, and nothing is counted across a boundary. A unit that never came costs
    what `UNKNOWN` costs: if that did not come either, an equal part of what the single units leave.
    """
    seen = units_seen(units)
    levels = _count(units, seen, order)
    probability: Array = np.full(1, 1 / len(levels[0].keys))
    probabilities: list[Array] = []
    weights: list[Array] = []
    for n, (level, above) in enumerate(zip(levels, [*levels[1:], None], strict=True), start=1):
        counts = level.counts
        if above:  # behind how many different units it came; what a boundary opens has nothing before it
            variety = np.bincount(above.suffixes, minlength=len(counts))
            counts = np.where(seen[level.places] == n - 1, counts, variety)
        totals = np.bincount(level.contexts, counts, len(probability))
        share = (counts - _discounts(counts)[np.minimum(counts, 3)]) / totals[level.contexts]
        left = 1 - np.bincount(level.contexts, share, len(probability))
        weights.append(left)
        probability = share + left[level.contexts] * probability[level.suffixes]
        probabilities.append(probability)
    weights.append(np.ones(len(probability)))  # the longest are no contexts
    keys = np.concatenate([level.keys for level in levels])
    return NgramTable.build(keys, np.log(np.concatenate(probabilities)), np.log(np.concatenate(weights[1:])))


def _discounts(counts: Array) -> Array:
    """What is taken from n-grams that came 0, 1, 2 and more times; fixed where there are too few to tell."""
    n1, n2, n3, n4 = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].astype(float)
    fallback = np.array([0, 0.5, 1.0, 1.5])
    if not min(n1, n2, n3):
        return fallback
    y = n1 / (n1 + 2 * n2)
    discounts = np.array([0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    return discounts if (discounts[1:] > 0).all() else fallback


@dataclass(frozen=True)
class Likelihood:
    """What a text costs."""

    nats: float
    num_units: int
    num_unknown: int

    @property
    def perplexity(self) -> float:
        """exp of the mean cost of a unit, at most e**690; 1 for a text without units."""
        return exp(min(self.nats / max(self.num_units, 1), MAX_NATS))


@dataclass(frozen=True)
class NgramModel:
    """Word n-grams, and letter n-grams for the words that are not among them."""

    order: int
    words: NgramTable
    letters: NgramTable

    @classmethod
    def fit(cls, texts: Iterable[str], order: int, max_characters: int) -> "NgramModel":
        """Learn from the first `max_characters` of some texts; 2 MB/s.

        A word that came once stands for all those that did not come: it counts as unknown, and teaches how
        unknown words are spelt.

        Raises:
            ValueError: there is no word in the texts.
        """
        parts = list(split_pieces(texts, max_characters))
        if not parts:
            raise ValueError("no words to learn from")
        units = np.concatenate([part.keys for part in parts])
        keys, places, counts = np.unique(units, return_inverse=True, return_counts=True)
        taught = (counts == 1)[places] if counts.min() == 1 else np.ones(len(units), bool)
        keys = np.where(counts == 1, UNKNOWN, keys)
        start, words, letters = 0, [BOUNDARY], [BOUNDARY]
        for part in parts:
            here = slice(start, start := start + len(part.keys))
            words += [keys[places[here]], BOUNDARY]
            if taught[here].any():
                letters.append(part.spelt(taught[here])[1:])
        tables = (estimate(np.concatenate(words), order), estimate(np.concatenate(letters), SPELLING_ORDER))
        return cls(order, *tables)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> "NgramModel":
        """The model that gave these `arrays`."""
        return cls(int(arrays["order"]), NgramTable(arrays["words"]), NgramTable(arrays["letters"]))

    def arrays(self) -> dict[str, Array]:
        """All of the model: two tables and a number."""
        return {"order": np.array(self.order), "words": self.words.rows, "letters": self.letters.rows}

    def measure(self, text: str) -> Likelihood:
        """What a text costs; memory does not grow with its length, and time in proportion."""
        nats, num_units, num_unknown = 0.0, 0, 0
        for part in split_pieces([text]):
            cost, unknown = unit_nats(self.words, self.order, np.concatenate((BOUNDARY, part.keys)))
            nats += float(cost[1:].sum())
            num_units += len(part.keys)
            if unknown[1:].any():
                letters = part.spelt(unknown[1:])
                cost, strange = unit_nats(self.letters, SPELLING_ORDER, letters, units_seen(letters))
                nats += float(cost[1:].sum() + LETTER_NATS * strange[1:].sum())
                num_unknown += int(unknown[1:].sum())
        return Likelihood(nats, num_units, num_unknown)


def split_pieces(texts: Iterable[str], max_characters: float = inf) -> Iterator[Units]:
    """The units of pieces of texts; a word across the border of two pieces counts as two."""
    for text in texts:
        read = int(min(len(text), max_characters))
        for start in range(0, read, CHUNK):
            units = split_units(text[start : min(start + CHUNK, read)])
            if len(units.keys):
                yield units
        max_characters -= len(text)
        if max_characters <= 0:
            return
