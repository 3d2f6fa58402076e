"""Cutting a document into overlapping chunks. Pure; knows no tokenizer, and estimates tokens from letters."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from heliostat.serving.retrieval.config import RetrievalConfig
from heliostat.text.words import TERMINAL_PUNCTUATION

_PIECE = re.compile(r"[A-Za-z]+|\d{1,3}|[^\W\d_A-Za-z]|[^\w\s]|_")
_LETTERS_A_TOKEN = 6
_SPACELESS_ENDS = "。！？｡．"  # behind these a sentence begins without a space
_CLOSING = "\"'”’»」』)）］]"
_END = re.compile(
    rf"[{re.escape(''.join(TERMINAL_PUNCTUATION))}]+[{re.escape(_CLOSING)}]*(?=\s)"
    rf"|[{_SPACELESS_ENDS}]+[{re.escape(_CLOSING)}]*|\n\s*\n"
)


class Span(NamedTuple):
    """A chunk's place: characters `start` to `end` (exclusive) of the document."""

    start: int
    end: int


class _Unit(NamedTuple):
    start: int
    end: int
    tokens: int


def estimate_tokens(text: str) -> int:
    """How many tokens a text has, roughly: six letters of an English word, three digits, or one character of
    another script each. Subword tokenizers of a language they know need fewer."""
    return sum(_tokens_of(piece) for piece in _PIECE.findall(text))


def chunk_text(text: str, config: RetrievalConfig) -> list[Span]:
    """Spans that cover the text, each of at most `chunk_tokens`, beginning with the end of the one before.

    Sentences longer than a chunk are cut between words, and words longer than one anywhere.
    """
    limit = config.chunk_tokens
    units = list(_sentences(text, limit) if config.chunking == "sentences" else _words(text, 0, len(text)))
    spans: list[Span] = []
    first = 0
    while first < len(units):
        last, tokens = first, units[first].tokens
        while last + 1 < len(units) and tokens + units[last + 1].tokens <= limit:
            last += 1
            tokens += units[last].tokens
        spans.append(_trimmed(text, units[first].start, units[last].end))
        if last + 1 == len(units):
            break
        first = _overlap_start(units, first, last, config.chunk_overlap_tokens, limit)
    return [span for span in spans if span.start < span.end]


def _overlap_start(units: list[_Unit], first: int, last: int, overlap: int, limit: int) -> int:
    """The unit with which the next chunk begins: as many of the last ones as fit, with what follows."""
    start, tokens = last + 1, 0
    while start - 1 > first:
        tokens += units[start - 1].tokens
        if tokens > overlap or tokens + units[last + 1].tokens > limit:
            break
        start -= 1
    return start


def _sentences(text: str, limit: int) -> Iterator[_Unit]:
    start = 0
    ends = [match.end() for match in _END.finditer(text)]
    for end in [*ends, len(text)]:
        tokens = estimate_tokens(text[start:end])
        if 0 < tokens <= limit:
            yield _Unit(start, end, tokens)
        elif tokens:
            yield from _words(text, start, end)
        start = end


def _words(text: str, start: int, end: int) -> Iterator[_Unit]:
    """Words with what separates them from the next, as units; one of many tokens as several."""
    for match in re.compile(r"\S+\s*").finditer(text, start, end):
        tokens = estimate_tokens(match.group())
        if tokens <= 1:
            yield _Unit(match.start(), match.end(), tokens)
            continue
        for piece in _PIECE.finditer(text, match.start(), match.end()):
            for at in range(piece.start(), piece.end(), _LETTERS_A_TOKEN):
                yield _Unit(at, min(at + _LETTERS_A_TOKEN, piece.end()), 1)


def _trimmed(text: str, start: int, end: int) -> Span:
    chunk = text[start:end]
    left = len(chunk) - len(chunk.lstrip())
    return Span(start + left, max(start + left, start + len(chunk.rstrip())))


def _tokens_of(piece: str) -> int:
    return -(-len(piece) // _LETTERS_A_TOKEN)
