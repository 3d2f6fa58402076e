"""Tables: rows known by ids, a CSV of all of them, and a choice that is never a position."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import streamlit as st

from dashboard.session import current_translator

Row = Mapping[str, Any]


def table(
    rows: Sequence[Row],
    *,
    key: str,
    ids: Sequence[str] | None = None,
    columns: Mapping[str, Any] | None = None,
    choose: Literal["", "one", "many"] = "",
    alt: str = "",
) -> list[str]:
    """Draw `rows` (column's title -> value) with a CSV button below; returns the ids of the chosen ones.

    `ids` are the rows' ids, in their order; `columns` Streamlit's column configs by title. A browser answers
    with positions: they are looked up among the ids that were sent to it, which are kept, so that a table
    that has changed in the meantime cannot turn a choice into another row's.
    """
    chosen: list[str] = []
    options: dict[str, Any] = {"key": key, "hide_index": True, "column_config": dict(columns or {})}
    if choose and ids is not None:
        chosen = _chosen(key, ids)
        options |= {"on_select": "rerun", "selection_mode": f"{'single' if choose == 'one' else 'multi'}-row"}
    with st.container(key=f"{key}_box"):
        st.dataframe(_columns(rows), alt=alt or None, **options)
        t = current_translator()
        st.download_button(
            t("parts.csv"),
            lambda: as_csv(rows),
            f"{key}.csv",
            "text/csv",
            key=f"{key}_csv",
            icon=":material/download:",
            type="tertiary",
            on_click="ignore",
        )
    return chosen


def as_csv(rows: Sequence[Row]) -> bytes:
    """All rows with a line of titles, in UTF-8 with a mark that spreadsheets look for.

    A cell that a spreadsheet would take for a formula gets an apostrophe: names come from people.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    if rows:
        writer.writerow(list(rows[0]))
    for row in rows:
        writer.writerow([_inert(value) for value in row.values()])
    return text.getvalue().encode("utf-8-sig")


def _chosen(key: str, ids: Sequence[str]) -> list[str]:
    """The ids of the chosen rows, and the choice moved along with them where the rows have moved."""
    kept = f"{key}_sent"
    sent = st.session_state.get(kept, list(ids))
    state = st.session_state.get(key)
    positions = state["selection"]["rows"] if state else []
    places = {one: place for place, one in enumerate(ids)}
    chosen = [sent[position] for position in positions if position < len(sent) and sent[position] in places]
    if state and sent != list(ids):
        rows = [places[one] for one in chosen]
        st.session_state[key] = {"selection": {"rows": rows, "columns": [], "cells": []}}
    st.session_state[kept] = list(ids)
    return chosen


def _columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    titles = list(rows[0]) if rows else []
    return {title: [row[title] for row in rows] for title in titles}


def _inert(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
