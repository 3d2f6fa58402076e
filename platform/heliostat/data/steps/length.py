"""Length limits in characters, words and tokens."""

from collections.abc import Callable
from typing import Literal, Self

from pydantic import Field, model_validator

from heliostat.config import Config
from heliostat.data.documents import Document
from heliostat.data.steps.interface import DocumentStep, Refusal
from heliostat.text.words import count_words

CountTokens = Callable[[Document], int]


class LengthStep(Config):
    """Keep documents whose length lies between the limits, both included.

    Characters and words are those of the text or of all messages; in Chinese each character is a word. Tokens
    are those the model will see: a conversation's chat template and the token that ends a plain text count.
    """

    kind: Literal["length"] = "length"
    min_characters: int | None = Field(default=None, ge=0)
    max_characters: int | None = Field(default=None, ge=1)
    min_words: int | None = Field(default=None, ge=0)
    max_words: int | None = Field(default=None, ge=1)
    min_tokens: int | None = Field(default=None, ge=0)
    max_tokens: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        limits = {
            "characters": (self.min_characters, self.max_characters),
            "words": (self.min_words, self.max_words),
            "tokens": (self.min_tokens, self.max_tokens),
        }
        if all(pair == (None, None) for pair in limits.values()):
            raise ValueError("no limit given; give at least one, for example min_words=50")
        for unit, (least, most) in limits.items():
            if least is not None and most is not None and least > most:
                raise ValueError(f"min_{unit}={least} is above max_{unit}={most}; no document could be both")
        return self

    @property
    def counts_tokens(self) -> bool:
        """Whether this needs a tokenizer."""
        return self.min_tokens is not None or self.max_tokens is not None


def make_length(config: LengthStep, count_tokens: CountTokens) -> DocumentStep:
    """The step of a config. Tokens, the dearest, are counted last, and only when a limit asks for them."""

    def judge(document: Document) -> Document | Refusal:
        characters = sum(map(len, document.contents))
        refusal = _outside(characters, config.min_characters, config.max_characters, "characters")
        if refusal is None and (config.min_words, config.max_words) != (None, None):
            count = sum(map(count_words, document.contents))
            refusal = _outside(count, config.min_words, config.max_words, "words")
        if refusal is None and config.counts_tokens:
            refusal = _outside(count_tokens(document), config.min_tokens, config.max_tokens, "tokens")
        return refusal or document

    return judge


def _outside(length: int, least: int | None, most: int | None, unit: str) -> Refusal | None:
    if least is not None and length < least:
        return Refusal("too_short", length, unit)
    return Refusal("too_long", length, unit) if most is not None and length > most else None
