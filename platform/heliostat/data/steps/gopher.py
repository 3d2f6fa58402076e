"""The quality rules of Gopher's MassiveText (Rae et al. 2021, A.1.1), for more languages than English."""

import re
from collections.abc import Iterable
from typing import Literal, Self

from pydantic import Field, model_validator

from heliostat.config import Config
from heliostat.data.documents import Document
from heliostat.data.steps.interface import DocumentStep, Refusal
from heliostat.text.words import WordSpans, count_unspaced, lines, spaced_words, words

# English is Gopher's own list. The others are each language's most frequent words that carry no subject; for
# Chinese and Japanese they are characters, because there a character counts as a word.
STOP_WORDS: dict[str, tuple[str, ...]] = {
    language: tuple(listed.split())
    for language, listed in {
        "en": "the be to of and that have with",
        "zh": "的 了 是 在 和 有 不 这 這 为 為",
        "ja": "の に は を た が で と",
        "ko": "이 그 수 것 및 등 있는 있다 하는 한",
        "de": "der die und das in zu den nicht mit ist",
        "fr": "de la le les et des en un que est",
        "es": "de la que el en y los se un por",
        "it": "di e il la che un per non in è",
        "pt": "de a o que e do da em um não",
        "nl": "de het een van en in dat is te niet",
        "pl": "i w na z się nie to że do jest",
        "sv": "och i att det som en på är av för",
        "tr": "ve bir bu da de için ile çok olan daha",
        "ru": "и в не на что с по как это из",
        "uk": "і в не на що з та як це до",
        "ar": "في من على إلى أن التي عن مع هذا ما",
        "fa": "و در به از که این را با است برای",
        "hi": "के का में की है और से को पर यह",
        "id": "yang dan di dari dengan untuk pada ini itu dalam",
        "vi": "là và của có không được cho các một trong",
    }.items()
}

# A word without a letter, in a string of spaced words. Chinese numerals are letters.
_NUMBER = re.compile(r" \d+(?= )")
_BULLETS = ("•", "‣", "◦", "▪", "●", "·", "-", "*")


class GopherQualityStep(Config):
    """Keep documents that look like prose, by Gopher's rules; a limit of null switches its rule off.

    Words are those of `text.words`, so a Chinese character counts as one. The mean word length is taken over
    the words of scripts with spaces, and not at all where they are fewer than half of the words. Stop words
    are those of the language that a language step found, and the rule rests when there is no list for it; of
    a document whose language nobody looked for, enough of any one language do. A value at its limit stays.
    """

    kind: Literal["gopher_quality"] = "gopher_quality"
    min_words: int | None = Field(default=50, ge=1)
    max_words: int | None = Field(default=100_000, ge=1)
    min_mean_word_length: float | None = Field(default=3, ge=0)
    max_mean_word_length: float | None = Field(default=10, gt=0)
    max_symbol_to_word_ratio: float | None = Field(default=0.1, ge=0)
    """Of `#`, and of ellipses, to words."""
    max_bullet_line_ratio: float | None = Field(default=0.9, ge=0, le=1)
    max_ellipsis_line_ratio: float | None = Field(default=0.3, ge=0, le=1)
    min_alphabetic_word_ratio: float | None = Field(default=0.8, ge=0, le=1)
    min_stop_words: int | None = Field(default=2, ge=1)
    """How many different ones."""
    stop_words: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Lists by language code, beside the built-in ones or in their place."""

    @model_validator(mode="after")
    def _limits_make_sense(self) -> Self:
        pairs = (
            ("words", self.min_words, self.max_words),
            ("mean_word_length", self.min_mean_word_length, self.max_mean_word_length),
        )
        for name, least, most in pairs:
            if least is not None and most is not None and least > most:
                raise ValueError(
                    f"min_{name}={least:g} is above max_{name}={most:g}; no document could be both"
                )
        for language, listed in self.stop_words.items():
            for word in listed:
                if words(word) != [word]:
                    raise ValueError(
                        f"stop_words.{language}: '{word}' never is one word; give single words without "
                        "punctuation, and single characters for Chinese, Japanese and Thai"
                    )
        return self


def make_gopher_quality(config: GopherQualityStep) -> DocumentStep:
    """The step of a config."""
    stop_words = {
        language: tuple(f" {word.casefold()} " for word in dict.fromkeys(listed))
        for language, listed in (STOP_WORDS | config.stop_words).items()
    }

    def lists_for(document: Document) -> Iterable[tuple[str, ...]]:
        noted = document.metadata.get("language")
        language = noted.get("language") if isinstance(noted, dict) else noted
        if language is None:
            return stop_words.values()
        return [stop_words[language]] if language in stop_words else []

    def judge(document: Document) -> Document | Refusal:
        text = document.whole_text
        spaced = spaced_words(text)
        spans = WordSpans(spaced)
        return (
            _judge_lengths(text, spans, config)
            or _judge_symbols(text, len(spans), config)
            or _judge_lines(text, config)
            or _judge_letters(spaced, len(spans), config.min_alphabetic_word_ratio)
            or _judge_stop_words(spaced, lists_for(document), config.min_stop_words)
            or document
        )

    return judge


def _judge_lengths(text: str, spans: WordSpans, config: GopherQualityStep) -> Refusal | None:
    count = len(spans)
    if config.min_words is not None and count < config.min_words:
        return Refusal("gopher_short_doc", count)
    if config.max_words is not None and count > config.max_words:
        return Refusal("gopher_long_doc", count)
    unspaced = count_unspaced(text)
    spaced = count - unspaced
    if not spaced or spaced < unspaced:
        return None
    mean = (int(spans.lengths().sum()) - unspaced) / spaced
    if config.min_mean_word_length is not None and mean < config.min_mean_word_length:
        return Refusal("gopher_below_avg_threshold", mean)
    if config.max_mean_word_length is not None and mean > config.max_mean_word_length:
        return Refusal("gopher_above_avg_threshold", mean)
    return None


def _judge_symbols(text: str, count: int, config: GopherQualityStep) -> Refusal | None:
    limit = config.max_symbol_to_word_ratio
    if limit is None or not count:
        return None
    hashes = text.count("#") / count
    if hashes > limit:
        return Refusal("gopher_too_many_hashes", hashes)
    # A Chinese ellipsis is two characters long and still one.
    ellipses = (text.count("...") + text.count("…") - text.count("……")) / count
    return Refusal("gopher_too_many_ellipsis", ellipses) if ellipses > limit else None


def _judge_lines(text: str, config: GopherQualityStep) -> Refusal | None:
    listed = lines(text)
    if not listed:
        return None
    if config.max_bullet_line_ratio is not None:
        bullets = sum(line.startswith(_BULLETS) for line in listed) / len(listed)
        if bullets > config.max_bullet_line_ratio:
            return Refusal("gopher_too_many_bullets", bullets)
    if config.max_ellipsis_line_ratio is not None and ("..." in text or "…" in text):
        trailing = sum(line.endswith(("...", "…")) for line in listed) / len(listed)
        if trailing > config.max_ellipsis_line_ratio:
            return Refusal("gopher_too_many_end_ellipsis", trailing)
    return None


def _judge_letters(spaced: str, count: int, least: float | None) -> Refusal | None:
    if least is None or not count:
        return None
    ratio = 1 - len(_NUMBER.findall(spaced)) / count
    return Refusal("gopher_below_alpha_threshold", ratio) if ratio < least else None


def _judge_stop_words(spaced: str, lists: Iterable[tuple[str, ...]], least: int | None) -> Refusal | None:
    """Refuses when there are lists, and of none of them enough words."""
    if least is None:
        return None
    folded, most = spaced.casefold(), None
    for listed in lists:
        found = 0
        for word in listed:
            found += word in folded
            if found >= least:
                return None
        most = max(most or 0, found)
    return None if most is None else Refusal("gopher_enough_stop_words", most)
