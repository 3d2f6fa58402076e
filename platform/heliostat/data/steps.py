"""The cleaning steps: pure functions from a document to a document, or to the reason why it is dropped.

To add one: a config class in `config.py` with a `kind`, added to the union `Step`; a function here; a line in
`apply_step`. Exact dedup is not here, because it looks at all documents: see `dedup.py`.
"""

from collections import Counter
from collections.abc import Callable

from heliostat.data.config import LengthStep, NormaliseStep, PiiStep, Step
from heliostat.data.documents import Document, Dropped, Outcome
from heliostat.text.normalise import normalise
from heliostat.text.pii import find_pii, redact

CountTokens = Callable[[Document], int]


def apply_steps(
    document: Document, steps: tuple[Step, ...], count_tokens: CountTokens, found: Counter[str]
) -> Outcome:
    """The document behind all steps, or as it was when one of them dropped it.

    Adds to `found`, by kind, how many pieces of personal data there were.
    """
    for step in steps:
        result = apply_step(document, step, count_tokens, found)
        if isinstance(result, str):
            return Dropped(document, step.kind, result)
        document = result
    return document


def apply_step(
    document: Document, step: Step, count_tokens: CountTokens, found: Counter[str]
) -> Document | str:
    """The document behind one step, or the reason's name."""
    if isinstance(step, NormaliseStep):
        return _normalise(document, step)
    if isinstance(step, LengthStep):
        return _check_length(document, step, count_tokens) or document
    if isinstance(step, PiiStep):
        return _treat_pii(document, step, found)
    raise AssertionError(f"{step.kind} is not a step over one document")


def _normalise(document: Document, step: NormaliseStep) -> Document | str:
    changed = document.with_contents([normalise(text, step.unicode_form) for text in document.contents])
    return changed.blank_reason() or changed


def _check_length(document: Document, step: LengthStep, count_tokens: CountTokens) -> str | None:
    characters = sum(len(text) for text in document.contents)
    reason = _outside(characters, step.min_characters, step.max_characters)
    if reason or not step.counts_tokens:
        return reason
    return _outside(count_tokens(document), step.min_tokens, step.max_tokens)


def _outside(length: int, least: int | None, most: int | None) -> str | None:
    if least is not None and length < least:
        return "too_short"
    return "too_long" if most is not None and length > most else None


def _treat_pii(document: Document, step: PiiStep, found: Counter[str]) -> Document | str:
    contents = document.contents
    spans = [find_pii(text, step.find) for text in contents]
    kinds = [span.kind for of_text in spans for span in of_text]
    found.update(kinds)
    if not kinds:
        return document
    if step.action == "drop":
        return f"contains_{kinds[0]}"
    return document.with_contents([redact(text, where) for text, where in zip(contents, spans, strict=True)])
