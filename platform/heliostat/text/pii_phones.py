"""Finding phone numbers: cheap forms nominate, Google's numbering plans (phonenumbers) decide.

Long numbers are everywhere and nearly all of them fit the plan of some country, so a number is looked at when
it is written as people write phone numbers: with a plus; with an area code in brackets; with a trunk 0 and
separators; as 3-3-4 in North America; as a mobile number among Chinese; or behind a word such as "tel".
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from heliostat.text.pii_context import names_a_phone, names_something_else
from heliostat.text.pii_outline import Outline, Place

_LEAST_DIGITS = 7
_MOST_DIGITS = 15  # ITU-T E.164
# National numbers of fewer digits are too often something else: 8 digits are a date or an ISSN.
_LEAST_NATIONAL_DIGITS = 9

# Each starts with a class of one character and a lookbehind, so that the engine skips to such characters.
_NOT_BEHIND = r"(?<![0-9A-Za-z_.+\-/#$€£¥%*^]"
_ENDS = r"(?![0-9A-Za-z_%]|[.\-/,][0-9])"
_INTERNATIONAL = re.compile(
    rf"\+{_NOT_BEHIND}\+)\(?[1-9](?:[ .\-/()]{{0,3}}[0-9]){{{_LEAST_DIGITS - 1},{_MOST_DIGITS + 1}}}"
    r"(?![0-9A-Za-z_]|[.,][0-9])"
)
_NORTH_AMERICAN = re.compile(
    rf"[2-91(]{_NOT_BEHIND}[2-91(])"
    r"(?:(?<=1)[ .-][2-9][0-9]{2}([ .-])[2-9][0-9]{2}\1[0-9]{4}"
    r"|(?<=[2-9])[0-9]{2}([.-])[2-9][0-9]{2}\2[0-9]{4}"
    rf"|(?<=\()[2-9][0-9]{{2}}\)[ -]?[2-9][0-9]{{2}}[ .-][0-9]{{4}}){_ENDS}"
)
# In France pairs follow the 0; elsewhere an area code has two digits behind it, or a longer group follows.
_TRUNK_ZERO = re.compile(
    rf"[0(]{_NOT_BEHIND}[0(])(?<![0-9] [0(])(?:(?<=0)[1-9]([ .-])[0-9]{{2}}(?:\1[0-9]{{2}}){{3}}"
    r"|(?:(?<=0)(?:[0-9](?=[ .-][0-9]{3})|[0-9]{2,5})(?:[ .-]| ?/ ?)|(?<=\()0[0-9]{1,4}\) ?)"
    rf"[0-9]{{2,8}}(?:[ .-][0-9]{{2,8}}){{0,4}}){_ENDS}(?! [0-9A-Fa-f]?[0-9])"
)
_CHINESE_MOBILE = re.compile(rf"1{_NOT_BEHIND}1)[3-9][0-9]([ -]?)[0-9]{{4}}\1[0-9]{{4}}{_ENDS}(?! [0-9])")
_DECIMAL = re.compile(r"\+[0-9]+[.][0-9]+$")
# A date; the number of an article and its year; a US social security number.
_NO_PHONE = re.compile(
    r"0[0-9]([./ -])[0-9]{1,2}\1(?:19|20)?[0-9]{2}$|0[0-9]{4,5} (?:19|20)[0-9]{2}$"
    r"|[0-9]{3}-[0-9]{2}-[0-9]{4}$"
)
_CHINESE = re.compile("[\u4e00-\u9fff]")
_NEIGHBOURHOOD = 32
_GROUPS_END = re.compile(r"[0-9](?![0-9])")

FindPhones = Callable[[Outline], Iterator[Place]]


def make_phone_finder(regions: tuple[str, ...]) -> FindPhones:
    """A function that finds phone numbers as written in these regions (ISO 3166), and any with a plus.

    Raises:
        ValueError: phonenumbers has no plan for a region.
    """
    import phonenumbers  # 0.07 s

    unknown = sorted(set(regions) - set(phonenumbers.SUPPORTED_REGIONS))
    if unknown:
        raise ValueError(
            f"no numbering plan is known for region '{unknown[0]}'; use ISO 3166 codes such as US"
        )
    return _PhoneFinder(phonenumbers, [_Plan.of(phonenumbers, region) for region in regions]).find


@dataclass(frozen=True)
class _Plan:
    """What numbers of a country look like from outside: a first look, fifty times as fast as parsing."""

    region: str
    country_code: str
    trunk_prefix: str
    national_numbers: re.Pattern[str]

    @classmethod
    def of(cls, phonenumbers: Any, region: str) -> Self:
        """The plan of a region."""
        code = str(phonenumbers.country_code_for_region(region))
        general = phonenumbers.PhoneMetadata.metadata_for_region(region).general_desc
        trunk = phonenumbers.ndd_prefix_for_region(region, True) or ""
        return cls(region, code, trunk, re.compile(general.national_number_pattern))

    def may_hold(self, number: str) -> bool:
        """Whether it could be such a number; what starts as an international call always could."""
        digits = "".join(filter(str.isdigit, number))
        return digits.startswith("00") or any(
            digits.startswith(prefix) and self.national_numbers.fullmatch(digits, len(prefix))
            for prefix in ("", self.trunk_prefix, self.country_code)
        )


class _PhoneFinder:
    def __init__(self, phonenumbers: Any, plans: list[_Plan]) -> None:
        self._library = phonenumbers
        self._plans = plans
        forms = (
            # One country code, one plan: any of its regions says whether the number is valid.
            (_NORTH_AMERICAN, [plan for plan in plans if plan.country_code == "1"][:1]),
            (_TRUNK_ZERO, [plan for plan in plans if plan.trunk_prefix == "0"]),
            (_CHINESE_MOBILE, [plan for plan in plans if plan.region == "CN"]),
        )
        self._forms = [(form, of) for form, of in forms if of]

    def find(self, outline: Outline) -> Iterator[Place]:
        text = outline.text
        for start, end, digits in outline.runs:
            if digits < _LEAST_DIGITS:
                continue
            # A plus and a bracket may stand in front of a run; behind it two characters say where it ends.
            window = max(0, start - 2), min(len(text), end + 2)
            found = list(self._international(text, window))
            if digits >= _LEAST_NATIONAL_DIGITS:
                found += self._national(text, window)
            if not found and digits <= _MOST_DIGITS and names_a_phone(text, start):
                found += self._announced(text, start, end)
            yield from found

    def _international(self, text: str, window: Place) -> Iterator[Place]:
        for match in _INTERNATIONAL.finditer(text, *window):
            if _DECIMAL.match(match.group()):
                continue
            # The last groups may be something else, such as a year: the longest number that is valid.
            start, end = match.span()
            for last in reversed([group.end() for group in _GROUPS_END.finditer(text, start, end)]):
                number = text[start:last]
                if _LEAST_DIGITS <= _count_digits(number) <= _MOST_DIGITS and self._is_valid(number):
                    yield start, last
                    break

    def _national(self, text: str, window: Place) -> Iterator[Place]:
        for form, plans in self._forms:
            for match in form.finditer(text, *window):
                number = match.group()
                if (
                    _LEAST_NATIONAL_DIGITS <= _count_digits(number) <= _MOST_DIGITS
                    and not _NO_PHONE.match(number)
                    and (
                        form is not _CHINESE_MOBILE
                        or not number.isdigit()
                        or _is_near_chinese(text, match.span())
                    )
                    and any(self._is_valid(number, plan) for plan in plans)
                    and not names_something_else(text, match.start())
                ):
                    yield match.span()

    def _announced(self, text: str, start: int, end: int) -> Iterator[Place]:
        """The whole run, when a word in front of it says that it is a phone number."""
        number = text[start:end].rstrip(" ().-/")
        last = start + len(number)
        goes_on = text[last : last + 1]
        if (goes_on.isascii() and goes_on.isalnum()) or names_something_else(text, start):
            return
        if any(self._is_valid(number, plan) for plan in self._plans):
            yield start, last

    def _is_valid(self, number: str, plan: _Plan | None = None) -> bool:
        """Whether the library finds a number valid in a plan, or, without one, by the code it starts with."""
        if plan and not plan.may_hold(number):
            return False
        try:
            parsed = self._library.parse(number, plan.region if plan else None)
        except self._library.NumberParseException:
            return False
        return bool(self._library.is_valid_number(parsed))


def _is_near_chinese(text: str, place: Place) -> bool:
    """Whether Chinese is written around: one number of eleven digits in seventeen looks like a mobile's."""
    start, end = place
    return bool(_CHINESE.search(text, max(0, start - _NEIGHBOURHOOD), end + _NEIGHBOURHOOD))


def _count_digits(number: str) -> int:
    return sum(map(str.isdigit, number))
