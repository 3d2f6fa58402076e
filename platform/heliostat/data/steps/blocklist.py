"""Blocklists: words that a document may not have, or not many of; found in one pass (Aho, Corasick 1975)."""

import hashlib
from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, model_validator

from heliostat.config import Config
from heliostat.data.documents import Document
from heliostat.data.steps.interface import DocumentStep, Refusal
from heliostat.errors import ConfigError, StorageError
from heliostat.storage import split_uri
from heliostat.text.words import is_word_border

# Searched at a time, so that a very frequent word in a very long document does not fill the memory.
_BLOCK_CHARACTERS = 1 << 20


class BlocklistStep(Config):
    """Drop documents with blocked words; case does not matter, and any white space matches a phrase's space.

    Of matches that overlap only the first counts, and of those that start together the longest.
    """

    kind: Literal["blocklist"] = "blocklist"
    words: tuple[str, ...] = ()
    """Words or phrases."""
    files: tuple[str, ...] = ()
    """Paths or URIs of text files with a word or phrase a line, in UTF-8. Blank lines do not count."""
    max_matches: int | None = Field(default=None, ge=0)
    """How many a document may have; 0 when there is no `max_ratio`, either."""
    max_ratio: float | None = Field(default=None, ge=0, le=1)
    """Of characters in matches to all characters that are not white space."""
    whole_words: bool = True
    """Find no word within another. In scripts without spaces a word is always found."""

    @model_validator(mode="after")
    def _has_words(self) -> Self:
        if not self.words and not self.files:
            raise ValueError("no words to block; give words: [...] or files: [...]")
        if not all(word.strip() for word in self.words):
            raise ValueError("words: one is blank, and would be found everywhere; take it out")
        return self


def blocklist_fingerprint(config: BlocklistStep) -> str:
    """SHA-256 of all the words, those of the files included, in hex; the order does not matter.

    Raises:
        ConfigError: see `blocked_words`.
    """
    return hashlib.sha256("\n".join(sorted(blocked_words(config))).encode()).hexdigest()


def blocked_words(config: BlocklistStep) -> dict[str, str]:
    """The words of a config and of its files as they are looked for, each with how it was spelt.

    Raises:
        ConfigError: a file cannot be read, is not UTF-8, or has no words.
    """
    listed = list(config.words)
    for path in config.files:
        listed += _read_words(path)
    return {" ".join(word.casefold().split()): word for word in reversed(listed)}


def make_blocklist(config: BlocklistStep) -> DocumentStep:
    """The step of a config. Raises what `blocked_words` raises."""
    search = _Search(blocked_words(config), config.whole_words)
    max_matches = 0 if config.max_matches is None and config.max_ratio is None else config.max_matches

    def judge(document: Document) -> Document | Refusal:
        text = search.prepared(document.whole_text)
        count, characters, word = 0, 0, ""
        for start, end in search.matches(text):
            word = word or search.listed[text[start:end]]
            count += 1
            characters += end - start
        if not count:
            return document
        if max_matches is not None and count > max_matches:
            return Refusal("blocked_word", count, word)
        if config.max_ratio is not None:
            ratio = characters / len("".join(text.split()))
            if ratio > config.max_ratio:
                return Refusal("blocked_word", ratio, word)
        return document.with_metadata(config.kind, {"matches": count})

    return judge


class _Search:
    """All places of some words in a text."""

    def __init__(self, listed: dict[str, str], whole_words: bool) -> None:
        from ahocorasick_rs import AhoCorasick, Implementation

        # A DFA searches 2.5 times as fast as the default; its memory grows with the list, hence the limit.
        small = sum(map(len, listed)) <= 100_000
        implementation = Implementation.DFA if small else Implementation.ContiguousNFA
        self._automaton = AhoCorasick(list(listed), implementation=implementation)
        self.listed = listed
        self._whole_words = whole_words
        self._has_phrases = any(" " in word for word in listed)
        self._overlap = max(map(len, listed)) - 1

    def prepared(self, text: str) -> str:
        """The text as `matches` needs it; what UTF-8 cannot hold becomes a question mark."""
        text = text.casefold()
        if self._has_phrases:
            text = " ".join(text.split())
        return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")

    def matches(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the words stand in a prepared text, in order and without overlap."""
        done = 0
        for begin in range(0, len(text), _BLOCK_CHARACTERS):
            block = text[begin : begin + _BLOCK_CHARACTERS + self._overlap]
            found = self._automaton.find_matches_as_indexes(block, overlapping=True)
            # What starts in the next block is found there.
            spans = [(begin + start, begin + end) for _, start, end in found if start < _BLOCK_CHARACTERS]
            for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
                if start < done or (self._whole_words and not _stands_alone(text, start, end)):
                    continue
                done = end
                yield start, end


def _stands_alone(text: str, start: int, end: int) -> bool:
    return is_word_border(text, start) and is_word_border(text, end)


def _read_words(path: str) -> list[str]:
    storage, name = split_uri(path)
    try:
        content = storage.read_bytes(name).decode("utf-8-sig")
    except StorageError as error:
        raise ConfigError(f"blocklist: {error}; correct the path in files, or take it out") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"blocklist: {path}: byte {error.start} is not UTF-8; save the file as UTF-8"
        ) from None
    listed = [word for word in map(str.strip, content.splitlines()) if word]
    if not listed:
        raise ConfigError(f"blocklist: {path}: has no words; give one word or phrase a line") from None
    return listed
