"""Finding personal data and secrets in a text, and putting something else in their place.

How each kind is found is in the modules `pii_*`; all of them look at one outline of the text, so that a text
without digits, `@` and the like costs next to nothing. False positives count as much as what is missed: what
has check digits is checked, and what has none must be written as people write it.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from heliostat.text.pii_accounts import find_cards, find_ibans
from heliostat.text.pii_addresses import find_emails, find_ips
from heliostat.text.pii_kinds import REGIONS, Kind
from heliostat.text.pii_national_ids import find_national_ids
from heliostat.text.pii_outline import Outline, Place
from heliostat.text.pii_phones import make_phone_finder
from heliostat.text.pii_secrets import find_secrets

_ALPHANUMERIC = re.compile(r"\w")
_NOT_BLANK = re.compile(r"\S")
# Of these the last four characters stay in a mask, as receipts and bank statements show them.
_TAIL_SHOWN = frozenset({"phone", "credit_card", "iban"})
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Span:
    """Where personal data of a kind stands: text[start:end]."""

    kind: Kind
    start: int
    end: int


FindSpans = Callable[[str], list[Span]]
"""All spans in a text, in order, none overlapping."""


def find_pii(
    text: str, kinds: Iterable[Kind] = ("email", "ip"), regions: tuple[str, ...] = REGIONS
) -> list[Span]:
    """All spans of the given kinds, in order, none overlapping."""
    return make_finder(tuple(kinds), tuple(regions))(text)


@lru_cache(maxsize=32)
def make_finder(kinds: tuple[Kind, ...], regions: tuple[str, ...] = REGIONS) -> FindSpans:
    """A function that finds these kinds; regions (ISO 3166) say whose phone numbers and national ids.

    Of two spans that overlap one is left, over all that both cover, of the kind of the first; of two that
    start together, of the longer; and of two alike, of the kind with better proof.

    Raises:
        ValueError: a region is unknown.
    """
    finders: list[tuple[Kind, Callable[[Outline], Iterable[Place]]]] = []
    if "secret" in kinds:
        finders.append(("secret", find_secrets))
    if "email" in kinds:
        finders.append(("email", find_emails))
    if "iban" in kinds:
        finders.append(("iban", find_ibans))
    if "credit_card" in kinds:
        finders.append(("credit_card", find_cards))
    if "national_id" in kinds:
        finders.append(("national_id", lambda outline: find_national_ids(outline, regions)))
    if "ip" in kinds:
        finders.append(("ip", find_ips))
    if "phone" in kinds:
        finders.append(("phone", make_phone_finder(regions)))

    def find(text: str) -> list[Span]:
        outline = Outline(text)
        spans = [Span(kind, *place) for kind, look in finders for place in look(outline)]
        return _without_overlaps(spans) if len(spans) > 1 else spans

    return find


def redact(text: str, spans: list[Span]) -> str:
    """The text with the kind in capitals and brackets, such as `[EMAIL]`, in place of each span."""
    return _replace(text, spans, lambda span: f"[{span.kind.upper()}]")


def mask(text: str, spans: list[Span]) -> str:
    """The text, as long as before, with `*` for the characters of each span.

    Marks and spaces stay, and of phone, card and account numbers the last four letters and digits. Of a
    secret only white space stays.
    """
    return _replace(text, spans, lambda span: _masked(text[span.start : span.end], span.kind))


def _masked(value: str, kind: Kind) -> str:
    if kind == "secret":
        return _NOT_BLANK.sub("*", value)
    hidden = len(_ALPHANUMERIC.findall(value)) - (_SHOWN if kind in _TAIL_SHOWN else 0)
    return _ALPHANUMERIC.sub("*", value, count=hidden)


def _replace(text: str, spans: list[Span], put: Callable[[Span], str]) -> str:
    ends = [0, *(span.end for span in spans)]
    starts = [*(span.start for span in spans), len(text)]
    between = [text[end:start] for end, start in zip(ends, starts, strict=True)]
    return "".join(chain(*zip(between, [*map(put, spans), ""], strict=True)))


def _without_overlaps(spans: list[Span]) -> list[Span]:
    found: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        last = found[-1] if found else None
        if last is None or span.start >= last.end:
            found.append(span)
        elif span.end > last.end:
            found[-1] = Span(last.kind, last.start, span.end)
    return found
