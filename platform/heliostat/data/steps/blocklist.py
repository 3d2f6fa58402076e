"""Blocklists: words that a document may not have, or not many of."""

import hashlib
from typing import Literal, Self

from pydantic import Field, model_validator

from heliostat.config import Config
from heliostat.data.documents import Document
from heliostat.data.phrases import PhraseSearch, phrase_keys, read_phrases
from heliostat.data.steps.interface import DocumentStep, Refusal


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
        listed += read_phrases(path, "blocklist")
    return phrase_keys(listed)


def make_blocklist(config: BlocklistStep) -> DocumentStep:
    """The step of a config. Raises what `blocked_words` raises."""
    search = PhraseSearch(blocked_words(config), config.whole_words)
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
