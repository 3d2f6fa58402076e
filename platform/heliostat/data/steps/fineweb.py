"""FineWeb's own quality rules (Penedo et al. 2024), which it applies behind those of Gopher and C4."""

from typing import Literal

from pydantic import Field

from heliostat.config import Config
from heliostat.data.documents import Document
from heliostat.data.steps.interface import DocumentStep, Refusal
from heliostat.data.steps.repetition import repeated_shares
from heliostat.text.words import TERMINAL_PUNCTUATION, count_unspaced, count_words, lines


class FineWebStep(Config):
    """Drop lists, menus and copies, by FineWeb's limits; a limit of null switches its rule off.

    Lines are those that are not blank. A character of a script without spaces fills two columns of a line: a
    Chinese line says about twice as much as an English one of as many characters. A value at its limit stays.
    """

    kind: Literal["fineweb"] = "fineweb"
    min_terminal_punctuation_ratio: float | None = Field(default=0.12, ge=0, le=1)
    """Of lines that end a sentence, to lines."""
    max_short_line_ratio: float | None = Field(default=0.67, ge=0, le=1)
    short_line_length: int = Field(default=30, ge=1)
    """Lines of up to so many columns are short."""
    max_duplicate_character_ratio: float | None = Field(default=0.01, ge=0, le=1)
    """Of characters in lines that repeat an earlier line, to the characters of all lines."""
    max_newline_to_word_ratio: float | None = Field(default=0.3, ge=0)


def make_fineweb(config: FineWebStep) -> DocumentStep:
    """The step of a config."""

    def judge(document: Document) -> Document | Refusal:
        text = document.whole_text
        listed = lines(text)
        if not listed:
            return Refusal("empty")
        return _judge_lines(listed, config) or _judge_newlines(text, config) or document

    return judge


def _judge_lines(listed: list[str], config: FineWebStep) -> Refusal | None:
    least = config.min_terminal_punctuation_ratio
    if least is not None:
        ends = sum(line.endswith(TERMINAL_PUNCTUATION) for line in listed) / len(listed)
        if ends < least:
            return Refusal("line_punct_ratio", ends)
    if config.max_short_line_ratio is not None:
        short = sum(_is_short(line, config.short_line_length) for line in listed) / len(listed)
        if short > config.max_short_line_ratio:
            return Refusal("short_line_ratio", short)
    if config.max_duplicate_character_ratio is not None:
        _, duplicate = repeated_shares(listed)
        if duplicate > config.max_duplicate_character_ratio:
            return Refusal("char_dup_ratio", duplicate)
    return None


def _is_short(line: str, columns: int) -> bool:
    if len(line) > columns or 2 * len(line) <= columns:
        return len(line) <= columns
    return len(line) + count_unspaced(line) <= columns


def _judge_newlines(text: str, config: FineWebStep) -> Refusal | None:
    if config.max_newline_to_word_ratio is None:
        return None
    newlines, count = text.count("\n"), count_words(text)
    if newlines <= config.max_newline_to_word_ratio * count:
        return None
    return Refusal("list_ratio", newlines / count if count else None)
