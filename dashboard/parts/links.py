"""Ways from page to page that keep what was chosen in the address."""

import html
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import streamlit as st

from dashboard.pages import there
from dashboard.session import current_translator

ALL = "–"


def has_page(name: str) -> bool:
    """Whether there is such a page."""
    return any(entry.name == name for entry in there())


def go(name: str, **query: str | list[str] | None) -> None:
    """Leave for another page; ends the script."""
    path = next(entry.path for entry in there() if entry.name == name)
    st.switch_page(path, query_params={key: value for key, value in query.items() if value})


def open_here(**query: str) -> None:
    """Stay on the page with another address; ends the script."""
    st.query_params.from_dict(query)
    st.rerun()


def back(key: str = "back") -> None:
    """To the page's list; ends the script when pressed."""
    if st.button(current_translator()("links.back"), key=key, icon=":material/arrow_back:", type="tertiary"):
        st.query_params.clear()
        st.rerun()


def kept(key: str, options: Iterable[str] = (), then: Callable[[], None] | None = None) -> dict[str, Any]:
    """What a widget needs whose value stands in the address under its key: pass it on to the widget. The
    address holds the value and not its name, so that a link opens the same in every language.

    Of `options` others are taken for none; `then` is called when the value was changed.
    """
    known = list(options)
    asked = st.query_params.get(key)
    if key not in st.session_state and asked is not None and (not known or asked in known):
        st.session_state[key] = asked

    def keep() -> None:
        value = st.session_state.get(key)
        if value in (None, "", ALL):
            st.query_params.pop(key, None)
        else:
            st.query_params[key] = str(value)
        if then is not None:
            then()

    return {"key": key, "on_change": keep}


def section(options: Iterable[str], prefix: str, key: str = "tab") -> str:
    """Which part of a detail to show: one of `options`, called `prefix.option`; kept in the address. Only
    that part is run, which tabs would not do."""
    t = current_translator()
    names = list(options)
    more = kept(key, names)
    chosen: Any = st.segmented_control(
        t("links.section"),
        names,
        default=None if key in st.session_state else names[0],
        required=True,
        format_func=lambda name: t(f"{prefix}.{name}"),
        label_visibility="collapsed",
        **more,
    )
    return str(chosen) if chosen in names else names[0]


def choice(
    label: str, options: Iterable[str], key: str, then: Callable[[], None] | None = None, **more: Any
) -> str | None:
    """One of some values, or all of them (None); kept in the address."""
    names = list(options)
    if st.session_state.get(key, ALL) not in (ALL, *names):
        del st.session_state[key]
    chosen = st.selectbox(label, [ALL, *names], **kept(key, names, then), **more)
    return None if chosen in (ALL, None) else str(chosen)


def pick(label: str, options: Sequence[str], key: str, **more: Any) -> str:
    """One of some values, the first unless told; kept in the address."""
    if st.session_state.get(key, options[0]) not in options:
        del st.session_state[key]
    chosen = st.selectbox(label, list(options), **kept(key, options), **more)
    return str(chosen if chosen in options else options[0])


def look_link(what: str, value: str, label: str) -> str:
    """HTML of a link that keeps a language or a theme for this browser and comes back."""
    return quiet_link(f"/look?{what}={value}", label)


def quiet_link(path: str, label: str) -> str:
    """HTML of a link in the colour around it: a browser's blue cannot be read on a dark page."""
    return f'<a href="{html.escape(path)}" style="color: inherit">{html.escape(label)}</a>'
