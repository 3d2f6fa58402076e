"""Texts of people and of machines, made fit to be shown."""

import re
from datetime import UTC, datetime, tzinfo

from dashboard.words import Translator

_MARKS = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&])")
_ADDRESS = re.compile(r"(?<=:)(?=//)|(?<=\bwww)(?=\.)|(?=@[\w.-]*\.[a-z])", re.IGNORECASE)
"""Where what looks like an address of the web or of mail can be parted: markdown makes links of them even
where their marks are escaped."""
_JOINER = "\u2060"
"""Has no width, and breaks no line."""


def plain(text: object) -> str:
    """`text` so that markdown shows it as it is: for names that people gave, inside a sentence."""
    return _MARKS.sub(r"\\\1", _ADDRESS.sub(_JOINER, " ".join(str(text).split())))


def ago(t: Translator, seconds: float) -> str:
    """A length of time in the largest unit that fits: 8 s, 3 min, 2 h, 5 d."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return t(f"parts.{unit}", n=int(seconds // size))
    return t("parts.seconds", n=max(0, int(seconds)))


def moment(at: datetime | None, zone: tzinfo, now: datetime | None = None) -> str:
    """A time by the reader's clock; without the day where it is today, without the year where it is this."""
    if at is None:
        return "–"
    local = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(zone)
    today = (now or datetime.now(UTC)).astimezone(zone)
    if local.date() == today.date():
        return f"{local:%H:%M:%S}"
    return f"{local:%m-%d %H:%M}" if local.year == today.year else f"{local:%Y-%m-%d %H:%M}"


def size(count: float | None) -> str:
    """Bytes in binary units: 1.5 GiB; a dash where it is not known, which is not zero."""
    if count is None:
        return "–"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def number(value: float | None, digits: int = 4) -> str:
    """A figure with so many that count, thousands apart; a dash where it is not known, which is not zero."""
    if value is None:
        return "–"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:,.{digits}g}" if abs(value) < 10**digits - 0.5 else f"{value:,.0f}"
