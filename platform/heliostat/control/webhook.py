"""Alerts told to a chat: a line to a web address as each opens and as it closes, in Slack's form.

The address is as good as a password: whoever has it can write there. It is never printed or logged whole.
"""

import logging
import os
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx

from heliostat.control.alerts import Change
from heliostat.records import Record

VARIABLE = "HELIOSTAT_ALERT_WEBHOOK"
TIMEOUT_SECONDS = 3.0
"""Short, as the collector waits: one post that is not taken ends a turn."""
MOST_TRIES = 5
FIRST_WAIT_SECONDS = 10.0
"""After a post that was not taken; four times as long after each further one."""
MOST_WAITING = 200
_MAY_PASS = (408, 425, 429)


class Post(Record):
    """A line that is to be posted, and how often that was tried; `due` is in seconds since 1970."""

    text: str
    tries: int = 0
    due: float = 0.0


def posts_of(changes: Sequence[Change]) -> tuple[Post, ...]:
    """What is to be said of alerts that opened or closed."""
    return tuple(Post(text=_line(change)) for change in changes)


def post_due(waiting: Sequence[Post]) -> tuple[tuple[Post, ...], tuple[str, ...]]:
    """Post what is due, the oldest first; what is left to be posted, and what went wrong. Nothing is left
    where no address is set."""
    address = os.environ.get(VARIABLE, "").strip()
    if not address:
        return (), ()
    notes = []
    if len(waiting) > MOST_WAITING:
        notes.append(
            f"{len(waiting) - MOST_WAITING} messages for {shown(address)} were dropped: too many wait"
        )
    left = list(waiting[-MOST_WAITING:])
    began = time.monotonic()
    while left and left[0].due <= time.time() and time.monotonic() - began < TIMEOUT_SECONDS:
        refusal, may_pass = _post(address, left[0].text)
        if not refusal:
            left.pop(0)
            continue
        tries = left[0].tries + 1
        if not may_pass or tries >= MOST_TRIES:
            left.pop(0)
            notes.append(f"{shown(address)}: {refusal}; the message is given up after {tries} tries")
        else:
            wait = FIRST_WAIT_SECONDS * 4 ** (tries - 1)
            left[0] = left[0].model_copy(update={"tries": tries, "due": time.time() + wait})
            notes.append(f"{shown(address)}: {refusal}; tried again in {wait:.0f} s")
        break
    return tuple(left), tuple(notes)


def shown(address: str) -> str:
    """Enough of an address to know which it is."""
    try:
        parts = urlsplit(address)
        host = parts.hostname
    except ValueError:
        host = None
    return f"{VARIABLE} ({parts.scheme}://{host}/…)" if host else VARIABLE


def _post(address: str, text: str) -> tuple[str, bool]:
    """Why it was not taken ("" where it was), and whether that may pass."""
    try:
        keep_secret(address)
        with (
            httpx.Client(timeout=TIMEOUT_SECONDS) as client,
            client.stream("POST", address, json={"text": text}) as response,
        ):
            status = response.status_code
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        return "is no http:// or https:// address; set it to the address that the chat gave", False
    except (httpx.HTTPError, OSError, ValueError) as error:
        return f"did not take it ({type(error).__name__})", True
    if 200 <= status < 300:
        return "", False
    return f"answered HTTP {status}", status >= 500 or status in _MAY_PASS


def keep_secret(address: str) -> None:
    """httpx tells its log, at a level that people turn on, whom it asks; not so of this address.

    Raises:
        httpx.InvalidURL: it is none.
    """
    httpx_log = logging.getLogger("httpx")
    written = str(httpx.URL(address))  # as httpx writes it, such as with small letters for the host
    if not any(isinstance(each, _Secret) and each.address == written for each in httpx_log.filters):
        httpx_log.addFilter(_Secret(written))


class _Secret(logging.Filter):
    """Drops records that hold an address."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address

    def filter(self, record: logging.LogRecord) -> bool:
        return self.address not in record.getMessage()


def _line(change: Change) -> str:
    alert = change.alert
    said = f"{alert.rule} {change.event} ({alert.subject}): {alert.text}"
    if change.event == "opened":
        said += f"\nWhat may help: {alert.mend}"
    return said.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
