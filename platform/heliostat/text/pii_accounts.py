"""Finding payment cards and bank accounts, by their check digits.

Published sources: ISO/IEC 7812 (issuer numbers and Luhn's check digit), ISO 13616 and the SWIFT IBAN registry
(country lengths, check digits by ISO 7064 MOD 97-10).
"""

import re
from collections.abc import Iterator

from heliostat.text.pii_context import names_something_else
from heliostat.text.pii_outline import Outline, Place

# A longer number without groups is an integer of 64 bits far more often; but UnionPay's are written so.
_MOST_BARE_DIGITS = 16
_UNIONPAY = "62"
# First digits, from and to, and the lengths that are issued today. Visa's 13 digits are not any more: most
# such numbers are barcodes.
_ISSUERS = (
    ("2200", "2204", (16, 17, 18, 19)),  # Mir
    ("2221", "2720", (16,)),  # Mastercard
    ("300", "305", (14,)),  # Diners Club, as the next two
    ("36", "36", (14,)),
    ("38", "39", (14,)),
    ("34", "34", (15,)),  # American Express
    ("37", "37", (15,)),
    ("3528", "3589", (16, 17, 18, 19)),  # JCB
    ("4", "4", (16, 19)),  # Visa
    ("51", "55", (16,)),  # Mastercard
    ("6011", "6011", (16, 17, 18, 19)),  # Discover
    (_UNIONPAY, _UNIONPAY, (16, 17, 18, 19)),  # UnionPay
    ("644", "659", (16, 17, 18, 19)),  # Discover
    ("6759", "6763", (16, 18, 19)),  # Maestro
)
_LEAST_CARD_DIGITS = 14
_CARD_SHAPES = (
    b"0" * _LEAST_CARD_DIGITS,
    b"0000 0000 0000 0000",
    b"0000-0000-0000-0000",
    b"0000 000000 0000",
    b"0000-000000-0000",
    b"000000 0000000000000",
)
# The lookbehinds stand behind the first digit, so that the engine skips to digits first.
_CARD = re.compile(
    r"[2-6](?<![0-9A-Za-z_./+-][2-6])(?:"
    r"[0-9]{13,18}"
    r"|[0-9]{3}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{4}"
    r"|[0-9]{3}([ -])[0-9]{6}\2[0-9]{4,5}"
    r"|[0-9]{5} [0-9]{13}"
    r")(?![0-9A-Za-z_]|[.-][0-9])"
)
_LAST_GROUP = re.compile(r"[ -][0-9]{1,3}(?![0-9A-Za-z_/]|[.-][0-9])")
_GROUP_IN_FRONT = re.compile(r"(?<![0-9])[0-9]{4} $")
_GROUP_BEHIND = re.compile(r" [0-9]{4}(?![0-9])")

_COUNTRIES_BY_IBAN_LENGTH = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
_IBAN_LENGTHS = {
    country: length
    for length, countries in _COUNTRIES_BY_IBAN_LENGTH.items()
    for country in countries.split()
}
_IBAN_START = re.compile(rb"AA00(?=(?: ?[0A]){11})")
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}(?:[A-Z0-9]{11,29}|(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,4})?)")


def find_cards(outline: Outline) -> Iterator[Place]:
    """Payment card numbers, bare or in their printed groups: issuer, length and check digit are right."""
    if outline.longest < _LEAST_CARD_DIGITS or not outline.has(*_CARD_SHAPES):
        return
    text = outline.text
    for match in _CARD.finditer(text):
        start, end = match.span()
        if match[1] == " " and (
            _GROUP_IN_FRONT.search(text, max(0, start - 6), start) or _GROUP_BEHIND.match(text, end)
        ):
            continue  # a table of numbers
        longer = _LAST_GROUP.match(text, end) if match[1] else None
        if longer and longer.group()[0] == match[1] and _is_card(text[start : longer.end()]):
            end = longer.end()
        elif not _is_card(match.group()):
            continue
        if not names_something_else(text, start):
            yield start, end


def find_ibans(outline: Outline) -> Iterator[Place]:
    """International bank account numbers in capitals, together or in groups of four, check digits right."""
    if not outline.runs or not outline.has(b"AA00"):
        return
    text = outline.text
    for start_of in _IBAN_START.finditer(outline.shape):
        start = start_of.start()
        if text[start - 1 : start].isalnum() and text[start - 1].isascii():
            continue
        length = _IBAN_LENGTHS.get(text[start : start + 2])
        match = _IBAN.match(text, start)
        if not length or not match:
            continue
        end = start + (length + (length - 1) // 4 if match.group()[4] == " " else length)
        number = text[start:end].replace(" ", "")
        behind = text[end : end + 1]
        goes_on = behind.isascii() and behind.isalnum()
        if end <= match.end() and len(number) == length and not goes_on and _iban_adds_up(number):
            yield start, end


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others by Luhn's rule (ISO/IEC 7812-1, annex B)."""
    doubled = (2 * int(digit) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(each // 10 + each % 10 for each in doubled)) % 10 == 0


def _is_card(candidate: str) -> bool:
    digits = candidate.replace(" ", "").replace("-", "")
    if len(digits) > _MOST_BARE_DIGITS and digits == candidate and not digits.startswith(_UNIONPAY):
        return False
    for first, last, lengths in _ISSUERS:
        if first <= digits[: len(first)] <= last and len(digits) in lengths:
            return passes_luhn(digits)
    return False


def _iban_adds_up(number: str) -> bool:
    turned = number[4:] + number[:4]
    return int("".join(str(int(character, 36)) for character in turned)) % 97 == 1
