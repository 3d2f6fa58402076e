"""Finding national identity numbers of persons, by country.

Published sources: GB 11643-1999 with ISO 7064 MOD 11-2 (China); SSA POMS RM 10201.030 and the end of area
numbers in 2011 (United States); HMRC NIM39110 (United Kingdom); Orden INT/2058/2008 (Spain, modulo 23);
BZSt's check of the Identifikationsnummer with ISO 7064 MOD 11,10 (Germany); INSEE's NIR, modulo 97 (France).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date

from heliostat.text.pii_context import names_social_security, names_something_else
from heliostat.text.pii_outline import Outline, Place


@dataclass(frozen=True)
class _Rule:
    """Numbers of one kind: outlines that one of must be there, the form with its borders, and the check."""

    shapes: tuple[bytes, ...]
    form: re.Pattern[str]
    is_right: Callable[[str], bool]
    least_digits: int


def _form(first: str, rest: str) -> re.Pattern[str]:
    """The lookbehind stands behind the first character, so that the engine skips to such characters first."""
    return re.compile(rf"{first}(?<![0-9A-Za-z_.+/-]{first}){rest}(?![0-9A-Za-z_]|[.-][0-9A-Za-z])")


_NUMBER_IN_FRONT = re.compile(r"[0-9] $")

_CHINESE_PROVINCES = re.compile(r"1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3]")
_CHINESE_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def _is_chinese(number: str) -> bool:
    total = sum(weight * int(digit) for weight, digit in zip(_CHINESE_WEIGHTS, number, strict=False))
    return (
        bool(_CHINESE_PROVINCES.match(number))
        and "10X98765432"[total % 11] == number[17].upper()
        and _is_date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    )


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return 1880 <= year < 2100


def _is_american(number: str) -> bool:
    area, group, serial = number[:3], number[4:6], number[7:]
    if area in ("000", "666") or area[0] == "9" or group == "00" or serial == "0000":
        return False
    # Printed in advertisements, and withdrawn.
    return number.replace(" ", "-") not in ("078-05-1120", "219-09-9999")


def _is_british(number: str) -> bool:
    return number[:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")


def _is_spanish(number: str) -> bool:
    digits = number[:-1].replace("-", "").replace("X", "0").replace("Y", "1").replace("Z", "2")
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(digits) % 23] == number[-1]


def _is_german(number: str) -> bool:
    digits = number.replace(" ", "")
    # Of the first ten digits one stands there twice or three times, the others at most once.
    times = sorted(Counter(digits[:10]).values())
    if times[-1] not in (2, 3) or times[-2] != 1:
        return False
    product = 10
    for digit in digits[:10]:
        product = 2 * ((int(digit) + product) % 10 or 10) % 11
    return (11 - product) % 10 == int(digits[10])


def _is_french(number: str) -> bool:
    digits = number.replace(" ", "")
    return 97 - int(digits[:13]) % 97 == int(digits[13:])


_RULES = {
    "CN": _Rule((b"0" * 17,), _form("[1-9]", r"[0-9]{5}(?:18|19|20)[0-9]{9}[0-9Xx]"), _is_chinese, 17),
    "US": _Rule(
        (b"000-00-0000", b"000 00 0000"), _form("[0-8]", r"[0-9]{2}([ -])[0-9]{2}\1[0-9]{4}"), _is_american, 9
    ),
    "GB": _Rule(
        (b"AA000000A", b"AA 00 00 00 A"),
        _form("[A-CEGHJ-PR-TW-Z]", r"[A-CEGHJ-NPR-TW-Z]( ?)[0-9]{2}\1[0-9]{2}\1[0-9]{2}\1[A-D]"),
        _is_british,
        6,
    ),
    "ES": _Rule(
        (b"00000000A", b"00000000-A", b"A0000000A", b"A0000000-A", b"A-0000000-A"),
        _form("[0-9XYZ]", r"(?:(?<=[XYZ])-)?[0-9]{7}-?[A-HJ-NP-TV-Z]"),
        _is_spanish,
        7,
    ),
    "DE": _Rule(
        (b"0" * 11, b"00 000 000 000"),
        _form("[1-9]", r"(?:[0-9]{10}|[0-9] [0-9]{3} [0-9]{3} [0-9]{3}(?! [0-9]))"),
        _is_german,
        11,
    ),
    "FR": _Rule(
        (b"0" * 15, b"0 00 00 00 000 000 00"),
        _form(
            "[12]",
            r"( ?)[0-9]{2}\1(?:0[1-9]|1[0-2])\1[0-9]{2}\1[0-9]{3}\1[0-9]{3} ?[0-9]{2}",
        ),
        _is_french,
        15,
    ),
}


def find_national_ids(outline: Outline, regions: tuple[str, ...]) -> Iterator[Place]:
    """Identity numbers of these countries (ISO 3166), each with all its check digits and excluded ranges."""
    if not outline.runs:
        return
    longest = outline.longest
    for region in regions:
        rule = _RULES.get(region)
        if not rule or longest < rule.least_digits or not outline.has(*rule.shapes):
            continue
        for match in rule.form.finditer(outline.text):
            if rule.is_right(match.group()) and _is_meant(outline.text, match, region):
                yield match.span()


def _is_meant(text: str, match: re.Match[str], region: str) -> bool:
    """Whether what stands around allows it: numbers with spaces between are a table far more often."""
    start = match.start()
    if " " in match.group():
        if region == "US":
            return names_social_security(text, start)
        if _NUMBER_IN_FRONT.search(text, max(0, start - 2), start):
            return False
    return not names_something_else(text, start)
