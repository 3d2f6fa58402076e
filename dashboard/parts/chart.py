"""A chart with a name for those who cannot see it, and the same figures as a table behind a toggle."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from dashboard.parts.table import table
from dashboard.session import current_translator


def chart(
    option: Mapping[str, Any], *, key: str, alt: str, rows: Sequence[Mapping[str, Any]], height: int = 300
) -> None:
    """Draw an ECharts option. `alt` says what is to be seen in it, `rows` the table's (title -> value)."""
    st.echarts_chart(dict(option), key=key, alt=alt, height=height)
    if rows and st.toggle(current_translator()("chart.as_table"), key=f"{key}_as_table"):
        table(rows, key=f"{key}_table", alt=alt)
