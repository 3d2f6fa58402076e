"""C4's rules for web pages (Raffel et al. 2020, section 2.2): lines that are no sentences go, and some pages.

The limits are those of the published data set: 5 words in a line, 3 sentences in a page. The paper's first
version said 3 and 5.
"""

import re
from collections import Counter
from typing import Literal

from pydantic import Field

from heliostat.config import Config
from heliostat.data.documents import Document
from heliostat.data.steps.interface import DocumentStep, Refusal
from heliostat.text.words import TERMINAL_PUNCTUATION, count_unspaced, has_words

_CITATION = re.compile(r"\[(?:\d+|edit|citation needed)\]")
_POLICIES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
_ELLIPSES = ("...", "…")
# A full stop ends a sentence at the end of a line, or when no small letter comes next; a Chinese one always.
# The look-behind lets a run of marks be tried once only, so that a line of nothing else takes linear time.
_SENTENCE_END = re.compile(r"(?<![.!?])[.!?]++[\"'”’»)\]]*+(?=\s++[^a-z]|\s*+$)|(?<![。！？｡])[。！？｡]++")


class C4Step(Config):
    """Cut the lines of a page that are no sentences; drop pages with too little left, or with code in them.

    Blank lines between paragraphs stay. Of a conversation no line is cut, because that would change what
    somebody said; the rules for pages hold for it, too. Chinese marks end a sentence as Latin ones do, and a
    Chinese character counts as a word.
    """

    kind: Literal["c4"] = "c4"
    require_terminal_punctuation: bool = True
    """Cut lines that do not end with a mark that ends a sentence, or end with an ellipsis."""
    min_words_per_line: int | None = Field(default=5, ge=1)
    """Cut shorter lines."""
    max_word_length: int | None = Field(default=1000, ge=1)
    """Cut lines with a longer word."""
    cut_javascript_lines: bool = True
    """Cut lines that name JavaScript."""
    cut_policy_lines: bool = True
    """Cut lines about cookies, privacy policies and terms of use."""
    cut_citations: bool = True
    """Cut marks like `[1]`, `[edit]` and `[citation needed]` out of lines."""
    refuse_lorem_ipsum: bool = True
    refuse_curly_brackets: bool = True
    min_sentences: int | None = Field(default=3, ge=1)
    """In what is left."""


def make_c4(config: C4Step) -> DocumentStep:
    """The step of a config."""

    def judge(document: Document) -> Document | Refusal:
        text = document.whole_text
        lowered = text.lower()
        if config.refuse_lorem_ipsum and "lorem ipsum" in lowered:
            return Refusal("lorem_ipsum")
        if config.refuse_curly_brackets and "{" in text:
            return Refusal("curly_bracket")
        cut: Counter[str] = Counter()
        if not document.messages:
            text = _keep_sentences(text, lowered, config, cut)
        if config.min_sentences is not None:
            sentences = count_sentences(text, enough=config.min_sentences)
            if sentences < config.min_sentences:
                return Refusal("too_few_sentences", sentences)
        if document.messages or text == document.text:
            return document
        changed = document.with_contents([text])
        reason = changed.blank_reason()
        if reason:
            return Refusal(reason)
        return changed.with_metadata("c4", {"cut_lines": dict(cut)}) if cut else changed

    return judge


def count_sentences(text: str, enough: int) -> int:
    """The number of sentences, counted only up to `enough`; a line that says something is at least one."""
    count = 0
    for line in text.splitlines():
        if line and not line.isspace():
            count += max(1, len(_SENTENCE_END.findall(line)))
            if count >= enough:
                return enough
    return count


def _keep_sentences(text: str, lowered: str, config: C4Step, cut: Counter[str]) -> str:
    """The text without the lines that a rule cuts; `cut` counts them by the rule's name."""
    if config.cut_citations and "[" in text:
        text = _CITATION.sub("", text)
    names_javascript = config.cut_javascript_lines and "javascript" in lowered
    policies = [phrase for phrase in _POLICIES if phrase in lowered] if config.cut_policy_lines else []
    kept: list[str] = []
    for line in text.splitlines():
        said = line.strip()
        if not said:
            if kept and kept[-1]:
                kept.append("")
            continue
        reason = _form_reason(said, config)
        if reason is None and names_javascript and "javascript" in said.lower():
            reason = "javascript"
        if reason is None and policies and any(phrase in said.lower() for phrase in policies):
            reason = "policy"
        if reason is None:
            kept.append(line)
        else:
            cut[reason] += 1
    return "\n".join(kept).rstrip() if cut else text


def _form_reason(line: str, config: C4Step) -> str | None:
    """Why a line is no sentence, by its form alone."""
    if config.require_terminal_punctuation and (
        not line.endswith(TERMINAL_PUNCTUATION) or line.endswith(_ELLIPSES)
    ):
        return "no_terminal_punc"
    if config.min_words_per_line is not None and _has_fewer_words(line, config.min_words_per_line):
        return "too_few_words"
    limit = config.max_word_length
    if limit is not None and len(line) > limit:
        runs = (run for run in line.split() if len(run) > limit)
        if any(len(run) - count_unspaced(run) > limit for run in runs):
            return "too_long_word"
    return None


def _has_fewer_words(line: str, least: int) -> bool:
    """As published, by white space; in scripts without spaces by characters."""
    if len(line.split(None, least)) >= least:
        return False
    return line.isascii() or not has_words(line, least)
