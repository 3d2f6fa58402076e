"""The rules of a policy file: reading and checking them, with the file and line of what is wrong.

    p, WHO, MODEL, ROUTE, FROM, WHEN, allow|deny
    g, TENANT, GROUP

WHO is a tenant, TENANT/KEY-NAME, or a group of tenants; MODEL and ROUTE are names (an adapter's is
ENDPOINT:ADAPTER); all four may be patterns with *. FROM is * or networks, WHEN is * or days and hours such as
`mon-fri 08:00-18:00`; several of either are separated by |. What no rule allows, and what any rule denies, is
refused.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import get_args

from heliostat.errors import ServingError
from heliostat.serving.access.addresses import Networks
from heliostat.serving.access.config import Route
from heliostat.serving.access.patterns import like

MAX_RULES = 2000
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FIELDS = ("WHO", "MODEL", "ROUTE", "FROM", "WHEN", "EFFECT")
_TIME = r"([01][0-9]|2[0-3]):([0-5][0-9])"
_HOURS = re.compile(f"{_TIME}-(?:{_TIME}|24:00)")
_NAME = re.compile(r"[!-~]{1,200}")


@dataclass(frozen=True)
class Rules:
    """What a file says: rules and the members of groups, each with its line's number as the last field."""

    rules: tuple[tuple[str, ...], ...]
    groups: tuple[tuple[str, ...], ...]


def read_rules(content: bytes, uri: str) -> Rules:
    """The rules in a file's content.

    Raises:
        ServingError: one line about the first line that cannot be read, or about a file without rules.
    """
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        place = content[: error.start].count(b"\n") + 1
        raise ServingError(f"{uri}:{place}: is not UTF-8; write the file anew") from None
    rules: list[tuple[str, ...]] = []
    groups: list[tuple[str, ...]] = []
    for number, line in enumerate(lines, start=1):
        kind, *fields = [field.strip() for field in line.partition("#")[0].split(",")]
        if kind or fields:
            try:
                (groups if kind == "g" else rules).append((*_checked(kind, fields), str(number)))
            except ValueError as error:
                raise ServingError(f"{uri}:{number}: {error}") from None
    if not rules:
        raise ServingError(
            f"{uri}: holds no rule, so nobody could do anything; write one, such as "
            "'p, *, *, *, *, *, allow', or remove the file"
        )
    if len(rules) > MAX_RULES:
        raise ServingError(f"{uri}: holds {len(rules)} rules; at most {MAX_RULES} are read, use patterns")
    return Rules(tuple(rules), tuple(groups))


def _checked(kind: str, fields: list[str]) -> list[str]:
    if kind == "g":
        if len(fields) != 2 or not all(map(_NAME.fullmatch, fields)):
            raise ValueError("a group is written 'g, TENANT, GROUP'")
        return fields
    if kind != "p":
        raise ValueError(f"begins with '{kind[:20]}'; a rule begins with p, a group with g")
    if len(fields) != len(_FIELDS):
        raise ValueError(f"has {len(fields)} fields; write 'p, {', '.join(_FIELDS)}'")
    who, model, route, networks, when, effect = fields
    for name, value in (("WHO", who), ("MODEL", model), ("ROUTE", route)):
        if not _NAME.fullmatch(value):
            raise ValueError(f"{name} is '{value[:50]}'; write a name or a pattern without blanks")
    routes: tuple[str, ...] = get_args(Route)
    if not any(like(each, route) for each in routes):
        raise ValueError(f"ROUTE '{route}' is none of {', '.join(routes)}")
    networks_of(networks)
    moments_of(when)
    if effect not in ("allow", "deny"):
        raise ValueError(f"EFFECT is '{effect[:20]}'; write allow or deny")
    return fields


@lru_cache(maxsize=2 * MAX_RULES)
def networks_of(text: str) -> Networks | None:
    """What FROM says; None is everywhere.

    Raises:
        ValueError: it cannot be read.
    """
    return None if text == "*" else Networks.parse(text.split("|"))


@lru_cache(maxsize=2 * MAX_RULES)
def moments_of(text: str) -> Callable[[datetime], bool]:
    """What WHEN says, as a question to a moment in the policy's time zone.

    Raises:
        ValueError: it cannot be read.
    """
    if text == "*":
        return lambda moment: True
    spans = [_span(part.strip()) for part in text.split("|")]
    return lambda moment: any(_holds(span, moment) for span in spans)


Span = tuple[frozenset[int], int, int]
"""Days on which it begins (0 is Monday), and minutes of the day at which it begins and ends."""


def _span(text: str) -> Span:
    days, hours = frozenset(range(7)), (0, 24 * 60)
    parts = text.split()
    if parts and not parts[0][0].isdigit():
        days = _days(parts.pop(0))
    if parts:
        hours = _hours(parts.pop(0))
    if parts or not text:
        raise ValueError(f"WHEN '{text[:50]}': write days, hours or both, such as mon-fri 08:00-18:00")
    return (days, *hours)


def _days(text: str) -> frozenset[int]:
    first, _, last = text.lower().partition("-")
    if first not in DAYS or (last or first) not in DAYS:
        raise ValueError(f"WHEN: '{text[:50]}' is no day; write mon, tue, wed, thu, fri, sat, sun or mon-fri")
    start, end = DAYS.index(first), DAYS.index(last or first)
    return frozenset((start + offset) % 7 for offset in range((end - start) % 7 + 1))


def _hours(text: str) -> tuple[int, int]:
    match = _HOURS.fullmatch(text)
    if match is None:
        raise ValueError(f"WHEN: '{text[:50]}' are no hours; write them as 08:00-18:00")
    start = int(match[1]) * 60 + int(match[2])
    end = int(match[3]) * 60 + int(match[4]) if match[3] else 24 * 60
    if start == end:
        raise ValueError(f"WHEN: '{text}' is no time at all; leave the hours out for the whole day")
    return start, end


def _holds(span: Span, moment: datetime) -> bool:
    """Hours that end before they begin run into the next day and belong to the day they began on."""
    days, start, end = span
    minute = moment.hour * 60 + moment.minute
    if start < end:
        return moment.weekday() in days and start <= minute < end
    yesterday = (moment - timedelta(days=1)).weekday()
    return (moment.weekday() in days and minute >= start) or (yesterday in days and minute < end)
