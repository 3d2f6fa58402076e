"""What a page says where things are away, old, empty or wrong."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import streamlit as st

from dashboard.parts.text import ago, moment, plain
from dashboard.session import current_translator, time_zone
from heliostat.control.readings import Ok, Reading, Unavailable, latest
from heliostat.errors import HeliostatError

T = TypeVar("T")
STALE_SECONDS = 10.0
"""Three polls of the collector and some; older than that, the age is said in colour."""


def health_banner(reading: Reading[Any]) -> None:
    """Nothing where the cluster answers; else since when it does not, or was not asked, and that saved data
    is shown."""
    t = current_translator()
    if isinstance(reading, Ok):
        if reading.age_seconds > STALE_SECONDS:
            st.warning(t("parts.nobody_asks", ago=ago(t, reading.age_seconds)), icon=":material/history:")
        return
    since = moment(reading.since, time_zone()) if reading.since else ""
    first = t("parts.away_since", since=since) if since else t("parts.away")
    second = t("parts.saved") if reading.last else t("parts.nothing_saved")
    st.warning(f"{first} {second}", icon=":material/cloud_off:")
    st.caption(plain(reading.reason))


def unavailable(reading: Unavailable[Any]) -> None:
    """A panel's own line where what it shows is away: why, and since when."""
    t = current_translator()
    since = moment(reading.since, time_zone()) if reading.since else ""
    head = t("parts.unavailable_since", since=since) if since else t("parts.unavailable")
    st.info(f"{head}: {plain(reading.reason)}", icon=":material/cloud_off:")


def age(reading: Reading[Any]) -> None:
    """How old what is shown is; in colour where it is too old to act on."""
    known = latest(reading)
    if known is None:
        return
    t = current_translator()
    text = t("parts.as_of", ago=ago(t, known.age_seconds))
    st.caption(f":orange[{text}]" if known.age_seconds > STALE_SECONDS else text)


def shown(reading: Reading[T]) -> T | None:
    """The newest value there is, after saying what is wrong with it; None where there never was one."""
    if isinstance(reading, Unavailable):
        unavailable(reading)
    known = latest(reading)
    if known is None:
        return None
    age(reading)
    return known.value


def noted(reading: Reading[T], above: Reading[Any] | None = None) -> T | None:
    """As `shown`, for what is asked all the time: its age is said only where it is too old to act on. What
    `above` says as well, a reason or an age, stands there already."""
    if isinstance(reading, Unavailable) and reading.reason != getattr(above, "reason", None):
        unavailable(reading)
    known, other = latest(reading), latest(above) if above is not None else None
    if known is None:
        return None
    apart = abs(known.at.timestamp() - other.at.timestamp()) if other else STALE_SECONDS
    if known.age_seconds > STALE_SECONDS and apart >= STALE_SECONDS:
        age(reading)
    return known.value


def empty(why: str, action: str = "", do: Callable[[], None] | None = None, key: str = "empty") -> None:
    """Nothing to show: why, and the one thing to do about it. `do` may change the page."""
    with st.container(border=True, horizontal_alignment="center", gap="small"):
        st.markdown(f":gray[{why}]", text_alignment="center")
        if action and do is not None and st.button(action, key=key, type="primary"):
            do()


@contextmanager
def acting(done: str = "") -> Iterator[None]:
    """Run a control function: what it refuses is one line on the page, and `done` a toast when it is through.

    The page goes on below either way; what depends on the outcome belongs inside the block.
    """
    try:
        yield
    except HeliostatError as error:
        st.error(plain(error), icon=":material/block:")
        return
    if done:
        st.toast(plain(done), icon=":material/check:")
