"""Finding secrets: keys and tokens by their published forms, and what is assigned to a password or a key.

Conservative: an example key, a placeholder, a name and a word are left alone. The forms are those that the
providers document and that gitleaks and detect-secrets look for.
"""

import base64
import binascii
import json
import math
import re
from collections import Counter
from collections.abc import Iterator

from heliostat.text.pii_outline import Outline, Place

# Where a run of twenty or more characters of a key is; a key fills such a run.
_KEY_CHARACTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
_KEY_SIGHT = bytes(ord("x") if code in _KEY_CHARACTERS else ord(".") for code in range(256))
_LONG = b"x" * 20
_KEYS = tuple(
    (start, re.compile(form))
    for start, form in (
        ("AKIA", "AKIA[A-Z2-7]{16}"),  # AWS access keys: lasting, temporary
        ("ASIA", "ASIA[A-Z2-7]{16}"),
        ("gh", "gh[pousr]_[A-Za-z0-9]{36}"),  # GitHub
        ("github_pat_", "github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
        ("glpat-", "glpat-[A-Za-z0-9_-]{20}"),  # GitLab
        ("xox", "xox[abeoprs]-[0-9]+-[A-Za-z0-9-]{20,200}"),  # Slack
        ("AIza", "AIza[A-Za-z0-9_-]{35}"),  # Google
        ("sk_live_", "sk_live_[A-Za-z0-9]{24,99}"),  # Stripe, as the next
        ("rk_live_", "rk_live_[A-Za-z0-9]{24,99}"),
        ("sk-", "sk-(?:proj-|svcacct-|ant-[a-z0-9]+-)?[A-Za-z0-9_-]{32,200}"),  # OpenAI, Anthropic
        ("hf_", "hf_[A-Za-z]{34}"),  # Hugging Face
        ("npm_", "npm_[A-Za-z0-9]{36}"),
        ("pypi-AgE", "pypi-AgE[A-Za-z0-9_-]{50,250}"),
    )
)
_KEY_STARTS = tuple(start for start, _ in _KEYS)
_REST_OF_JWT = re.compile(r"\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}")
_LONGEST_JWT_HEADER = 2_000

_PRIVATE_KEY = re.compile(r"-----BEGIN ([A-Z0-9 ]{0,30}PRIVATE KEY)-----")
_LONGEST_PRIVATE_KEY = 20_000
_LEAST_PRIVATE_KEY = 60

# Behind the word in small letters: how the name may go on, what assigns, and the value.
_ASSIGNS = r"""["'`]?[ \t]{0,3}(?:=>|:=|==?|[:：])[ \t]{0,3}["'`“]?"""
_VALUE = r"""([^\s"'`“”,;<>(){}\[\]\\]{8,200})(?![A-Za-z0-9(\[{<])"""
# A password is chosen by people and short; a key or a token is made by a machine.
_PASSWORD_LENGTH, _KEY_LENGTH = 8, 16
_ASSIGNED = tuple(
    (word, re.compile(rf"(?:{rest}){_ASSIGNS}{_VALUE}", re.IGNORECASE), least)
    for word, rest, least in (
        (b"passw", "or?d|d", _PASSWORD_LENGTH),
        (b"pwd", "", _PASSWORD_LENGTH),
        (b"secret", "|[_-]?(?:access)?[_-]?key", _KEY_LENGTH),
        (b"token", "", _KEY_LENGTH),
        (b"key", "", _KEY_LENGTH),
    )
)
# A key alone may be a key of a dictionary.
_KEYS_OF = (b"api", b"api_", b"api-", b"access", b"access_", b"access-", b"auth_", b"auth-")
_CHINESE_PASSWORD = re.compile(rf"(?:密码|口令)[是为]?{_ASSIGNS}{_VALUE}")
_CREDENTIALS_IN_URL = re.compile(r"://[^\s/:@\"'<>]{1,64}:([^\s/:@\"'<>]{8,128})@")
_PLACEHOLDER = re.compile(
    r"example|placeholder|changeme|your|dummy|sample|test|fake|redacted|x{4}|\*{3}|\.{3}|^https?:|^[/~.$%]|"
    r"0123456|1234567|abcdef",
    re.IGNORECASE,
)
# my_password2, config.secret_v1: parts of letters, each with a few digits at most.
_NAME = re.compile(r"[A-Za-z]*[0-9]{0,3}(?:[._:/-][A-Za-z]*[0-9]{0,3})*")
# Shannon entropy of the characters of a value.
_LEAST_BITS = {_PASSWORD_LENGTH: 2.75, _KEY_LENGTH: 3.2}


def find_secrets(outline: Outline) -> Iterator[Place]:
    """Keys, tokens, private keys, and values (no more) that are a password in a URL or assigned to a name."""
    text = outline.text
    sight = outline.ascii.translate(_KEY_SIGHT)
    if _LONG in sight:
        yield from _find_keys(text, sight)
    if "-----BEGIN " in text:
        yield from _find_private_keys(text)
    if b"0" in outline.shape:
        yield from _find_assigned(outline)


def _find_keys(text: str, sight: bytes) -> Iterator[Place]:
    end = 0
    while (start := sight.find(_LONG, end)) >= 0:
        end = sight.find(b".", start)
        end = len(sight) if end < 0 else end
        if text.startswith(_KEY_STARTS, start):
            if any(form.fullmatch(text, start, end) for _, form in _KEYS) and _is_no_example(text[start:end]):
                yield start, end
        elif text.startswith("eyJ", start) and end - start <= _LONGEST_JWT_HEADER:
            rest = _REST_OF_JWT.match(text, end)
            if rest and _is_jwt_header(text[start:end]):
                yield start, rest.end()


def _find_assigned(outline: Outline) -> Iterator[Place]:
    text, lowered = outline.text, outline.ascii.lower()
    for word, form, least in _ASSIGNED:
        at = lowered.find(word)
        while at >= 0:
            match = form.match(text, at + len(word))
            named = match and (word != b"key" or lowered[max(0, at - 7) : at].endswith(_KEYS_OF))
            if match and named and _is_made_up(match[1], least):
                yield match.span(1)
            at = lowered.find(word, at + len(word))
    if not text.isascii() and ("密码" in text or "口令" in text):
        for match in _CHINESE_PASSWORD.finditer(text):
            if _is_made_up(match[1], _PASSWORD_LENGTH):
                yield match.span(1)
    if "@" in text and "://" in text:
        for match in _CREDENTIALS_IN_URL.finditer(text):
            if _is_made_up(match[1], _PASSWORD_LENGTH):
                yield match.span(1)


def _find_private_keys(text: str) -> Iterator[Place]:
    done = 0
    while match := _PRIVATE_KEY.search(text, done):
        last_line = f"-----END {match[1]}-----"
        done = match.end()
        at = text.find("-----", done, done + _LONGEST_PRIVATE_KEY)
        if at - done >= _LEAST_PRIVATE_KEY and text.startswith(last_line, at):
            done = at + len(last_line)
            yield match.start(), done


def _is_no_example(key: str) -> bool:
    return not _PLACEHOLDER.search(key) and _bits(key) >= _LEAST_BITS[_KEY_LENGTH]


def _is_jwt_header(part: str) -> bool:
    try:
        header = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return False
    return isinstance(header, dict) and "alg" in header


def _is_made_up(value: str, least: int) -> bool:
    """Whether a value is one that nobody would write as a name, a word or an example."""
    value = value.rstrip(".:!?。，！？")
    return (
        len(value) >= least
        and any("0" <= character <= "9" for character in value)
        and any(character.isalpha() for character in value)
        and not _NAME.fullmatch(value)
        and not _PLACEHOLDER.search(value)
        and _bits(value) >= _LEAST_BITS[least]
    )


def _bits(value: str) -> float:
    counts = Counter(value).values()
    return -sum(count / len(value) * math.log2(count / len(value)) for count in counts)
