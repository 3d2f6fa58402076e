"""Names of models and semantic versions, `v1.2.3-alpha.20231001`: parsed, ordered, counted on. Pure.

The rules are those of https://semver.org (2.0.0) without build metadata; the `v` in front may be left out
when a version is typed.
"""

import re
from dataclasses import dataclass
from datetime import date
from functools import total_ordering
from typing import Literal, get_args

from heliostat.errors import ConfigError

Alias = Literal["candidate", "staging", "production"]
ALIASES: tuple[Alias, ...] = get_args(Alias)
Bump = Literal["major", "minor", "patch", "prerelease"]
PRERELEASE_LABEL = "alpha"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_NUMBER = r"(0|[1-9]\d*)"
_VERSION = re.compile(rf"v?{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-([0-9A-Za-z.-]+))?")
_IDENTIFIER = re.compile(r"0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*")
_REFERENCE = re.compile(r"([^@/\\:]+)@([^@/\\:]*)")


@total_ordering
@dataclass(frozen=True)
class Version:
    """A semantic version; a pre-release comes before its release: v1.0.0-alpha.20231001 < v1.0.0."""

    major: int
    minor: int
    patch: int
    prerelease: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Version":
        """The version written as `v1.2.3` or `v1.2.3-alpha.20231001`.

        Raises:
            ConfigError: it is written otherwise.
        """
        found = _VERSION.fullmatch(text)
        identifiers = tuple(found[4].split(".")) if found and found[4] else ()
        if not found or not all(_IDENTIFIER.fullmatch(each) for each in identifiers):
            raise ConfigError(f"{text!r} is no version; write v1.2.3 or v1.2.3-alpha.20231001")
        return cls(int(found[1]), int(found[2]), int(found[3]), identifiers)

    def __str__(self) -> str:
        tail = f"-{'.'.join(self.prerelease)}" if self.prerelease else ""
        return f"v{self.major}.{self.minor}.{self.patch}{tail}"

    def __lt__(self, other: "Version") -> bool:
        return self._precedence < other._precedence

    @property
    def core(self) -> tuple[int, int, int]:
        """Major, minor, patch."""
        return self.major, self.minor, self.patch

    @property
    def _precedence(self) -> tuple[tuple[int, int, int], bool, tuple[tuple[bool, int, str], ...]]:
        """Numbers by value and before words; of two that begin alike the longer one later; releases last."""
        identifiers = tuple(
            (False, int(each), "") if each.isdigit() else (True, 0, each) for each in self.prerelease
        )
        return self.core, not self.prerelease, identifiers


def next_version(latest: Version | None, bump: Bump, today: date, label: str = PRERELEASE_LABEL) -> Version:
    """The version that follows `latest`, the highest there is; None: the first of all.

    From a pre-release, `patch` (or `minor`, `major` where it is one of such) leads to its release. A
    pre-release is named by its label and day; a second one of the same day gets a number behind it.
    """
    if bump == "prerelease":
        return _next_prerelease(latest, today, label)
    if latest is None:
        return {"major": Version(1, 0, 0), "minor": Version(0, 1, 0), "patch": Version(0, 0, 1)}[bump]
    waiting = bool(latest.prerelease)
    if bump == "major":
        stays = waiting and latest.minor == latest.patch == 0
        return Version(latest.major + (not stays), 0, 0)
    if bump == "minor":
        stays = waiting and latest.patch == 0
        return Version(latest.major, latest.minor + (not stays), 0)
    return Version(latest.major, latest.minor, latest.patch + (not waiting))


def _next_prerelease(latest: Version | None, today: date, label: str) -> Version:
    named = (label, f"{today:%Y%m%d}")
    if latest is None:
        return Version(0, 1, 0, named)
    if latest.prerelease:
        *_, last = latest.prerelease
        count = int(last) + 1 if latest.prerelease[:2] == named and last.isdigit() else 1
        numbered = Version(*latest.core, (*named, str(count if latest.prerelease[2:] else 1)))
        for wanted in (Version(*latest.core, named), numbered):
            if wanted > latest:
                return wanted
    return Version(latest.major, latest.minor, latest.patch + 1, named)


@dataclass(frozen=True)
class Reference:
    """`NAME@production` or `NAME@v1.2.3`: a model's name, and which of its versions."""

    name: str
    which: Alias | Version

    def __str__(self) -> str:
        return f"{self.name}@{self.which}"


def looks_like_reference(text: str) -> bool:
    """Whether `import_model` and the like should take `text` for NAME@...: no path and no package."""
    return bool(_REFERENCE.fullmatch(text))


def parse_reference(text: str) -> Reference:
    """What `NAME@ALIAS` or `NAME@VERSION` says.

    Raises:
        ConfigError: it says neither.
    """
    found = _REFERENCE.fullmatch(text)
    if not found:
        raise ConfigError(f"{text!r} names no version; write NAME@production or NAME@v1.2.3")
    name, which = check_name(found[1]), found[2]
    if which in ALIASES:
        return Reference(name, next(alias for alias in ALIASES if alias == which))
    if not re.match(r"v?\d", which):
        known = ", ".join(ALIASES)
        raise ConfigError(f"{text}: {which!r} is no alias ({known}) and no version such as v1.2.3")
    return Reference(name, Version.parse(which))


def check_name(name: str) -> str:
    """The name, if models may be called so.

    Raises:
        ConfigError: they may not.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no name for a model; take small letters, digits, '.', '_' and '-', 100 at most"
        )
    return name
