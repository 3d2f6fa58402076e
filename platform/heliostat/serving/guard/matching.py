"""Where the things that rules name stand in a text. Knows neither actions nor streams.

A matcher says also how much of a text's end could be the beginning of a match, so that so much of an answer
is held back until more of it is known.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from heliostat.errors import ConfigError
from heliostat.serving.guard.folding import fold, lowered
from heliostat.serving.guard.lookalikes import digits_as_letters as read_digits
from heliostat.text.pii import make_finder
from heliostat.text.pii_kinds import Kind
from heliostat.text.words import is_word_border

_PATTERN_MEMORY_BYTES = 64 << 20
_LONGEST_WORD = 4000
# A phrase without its spaces is looked for when it is so long that no ordinary text holds it.
_LEAST_SQUEEZED = 14
_SEARCHED_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Spot:
    """Where something was found, text[start:end], and what it is; never the text itself."""

    start: int
    end: int
    what: str = ""


class Matcher(Protocol):
    """Something that is looked for."""

    longest: int
    """Characters of the longest match that is never shown in part."""

    def spots(self, text: str, begin: int = 0) -> Iterator[Spot]:
        """Where it stands, from text[begin] on; what stands in front is seen, and no match begins there."""

    def held(self, text: str) -> int:
        """How many characters of the text's end may be the beginning of a match."""


class Patterns:
    """Regular expressions of RE2."""

    def __init__(self, rule: str, patterns: Iterable[str], longest: int = 100) -> None:
        """Compile them.

        Raises:
            ConfigError: RE2 cannot compile one, or it matches nothing at all.
        """
        self.longest = longest
        self._patterns = [compile_pattern(rule, pattern) for pattern in patterns]

    def spots(self, text: str, begin: int = 0) -> Iterator[Spot]:
        """All matches of each pattern, none empty."""
        text = encodable(text)
        for pattern in self._patterns:
            for match in _finditer(pattern, text, begin):
                start, end = match.span()
                if end > start:
                    yield Spot(start, end)

    def held(self, text: str) -> int:
        """As much as the longest match."""
        return self.longest


def _finditer(pattern: Any, text: str, begin: int) -> Iterator[Any]:
    # Bytes are searched first: most texts have no match, and then no place in characters is needed.
    if pattern.search(text.encode()) is None:
        return iter(())
    found: Iterator[Any] = pattern.finditer(text, begin)
    return found


def compile_pattern(rule: str, pattern: str) -> Any:
    """A pattern as RE2 has it.

    Raises:
        ConfigError: it is no pattern of RE2, or matches the empty text.
    """
    import re2

    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = _PATTERN_MEMORY_BYTES
    try:
        compiled = re2.compile(encodable(pattern), options)
    except re2.error as error:
        reason = error.args[0].decode("utf-8", "replace") if error.args else "unknown"
        raise ConfigError(
            f"guard rule '{rule}': RE2 cannot compile '{pattern}': {reason}; "
            "RE2 has no look-around and no back-references (github.com/google/re2/wiki/Syntax)"
        ) from None
    if compiled.search("") is not None:
        raise ConfigError(
            f"guard rule '{rule}': '{pattern}' matches the empty text, so every text; "
            "write + in place of * where one character at least is meant"
        )
    return compiled


class Words:
    """Words and phrases, all in one pass (Aho, Corasick 1975); the text is folded and lowered."""

    def __init__(
        self, rule: str, listed: Iterable[str], whole_words: bool = True, digits_as_letters: bool = True
    ) -> None:
        """Build the automaton.

        Raises:
            ConfigError: nothing is left of a word when it is folded, or it is too long.
        """
        from ahocorasick_rs import AhoCorasick, Implementation

        keys = {_word_key(rule, word): whole_words for word in listed}
        squeezed = {key.replace(" ", "") for key in keys if key.count(" ") >= 2}
        keys |= dict.fromkeys({key for key in squeezed if len(key) >= _LEAST_SQUEEZED} - set(keys), False)
        self._keys = list(keys)
        self._alone = list(keys.values())
        small = sum(map(len, keys)) <= 100_000
        self._automaton = AhoCorasick(
            self._keys, implementation=Implementation.DFA if small else Implementation.ContiguousNFA
        )
        self._digits = digits_as_letters
        self.longest = max(map(len, keys))
        self._beginnings = frozenset(key[:length] for key in keys for length in range(1, len(key) + 1))

    def spots(self, text: str, begin: int = 0) -> Iterator[Spot]:
        """All places of all words, also of those within others."""
        yield from self._find(text, text, begin)
        if self._digits:
            letters = read_digits(text)
            if letters != text:
                yield from self._find(letters, text, begin)

    def held(self, text: str) -> int:
        """The longest end of the text with which a word begins."""
        held = self._held(text[-self.longest :])
        if self._digits:
            held = max(held, self._held(read_digits(text[-self.longest :])))
        return held

    def _held(self, tail: str) -> int:
        return next((len(tail) - at for at in range(len(tail)) if tail[at:] in self._beginnings), 0)

    def _find(self, searched: str, text: str, begin: int) -> Iterator[Spot]:
        for first in range(0, len(text), _SEARCHED_AT_ONCE):
            block = encodable(searched[first : first + _SEARCHED_AT_ONCE + self.longest])
            for number, start, end in self._automaton.find_matches_as_indexes(block, overlapping=True):
                # What starts in the next block is found there.
                if begin <= first + start and start < _SEARCHED_AT_ONCE:
                    spot = Spot(first + start, first + end, self._keys[number])
                    if not self._alone[number] or _stands_alone(text, spot):
                        yield spot


def _word_key(rule: str, word: str) -> str:
    key = lowered(fold(word)).strip()
    if not key or len(key) > _LONGEST_WORD:
        why = "has nothing that can be seen" if not key else f"has more than {_LONGEST_WORD} characters"
        raise ConfigError(f"guard rule '{rule}': the word '{word[:40]}' {why}; correct it or take it out")
    return key


def _stands_alone(text: str, spot: Spot) -> bool:
    return is_word_border(text, spot.start) and is_word_border(text, spot.end)


class PersonalData:
    """Personal data and secrets, by the rules of `heliostat.text.pii`."""

    longest = 4000

    def __init__(self, rule: str, kinds: tuple[Kind, ...], regions: tuple[str, ...]) -> None:
        """Make the finder.

        Raises:
            ConfigError: a region is unknown.
        """
        import re2

        try:
            self._find = make_finder(kinds, regions)
        except ValueError as error:
            raise ConfigError(f"guard rule '{rule}': {error}") from None
        # What is not yet at its end: a word; a number with its groups, in front of it at most two letters.
        # Longer ones than these bounds may be shown in part.
        self._unfinished = re2.compile(
            r"(?:[^\s]{1,400}|(?:[A-Za-z]{2} ?)?[(+]{0,2}[0-9](?:[0-9A-Z().\-/+]| ){0,48})\z"
        )

    def spots(self, text: str, begin: int = 0) -> Iterator[Spot]:
        """All of it, none overlapping; `what` is its kind."""
        for span in self._find(text):
            if span.start >= begin:
                yield Spot(span.start, span.end, span.kind)

    def held(self, text: str) -> int:
        """What is not at its end."""
        tail = encodable(text[-450:])
        match = self._unfinished.search(tail)
        held = len(tail) - match.start() if match else 0
        begun = text.rfind("-----BEGIN ", max(0, len(text) - self.longest))
        if begun >= 0 and "-----END" not in text[begun:]:  # a private key goes over many lines
            held = max(held, len(text) - begun)
        return held


def encodable(text: str) -> str:
    """The text, as long, with a question mark for each surrogate that stands alone."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
