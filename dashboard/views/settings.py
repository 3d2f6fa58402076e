"""Settings: connection, language and theme, accounts, versions."""

import platform

import streamlit as st
from dashboard.session import current

import heliostat

session = current()
t = session.t
st.title(t("settings.title"))
st.header(t("settings.about"))
st.text(
    t(
        "settings.version",
        version=heliostat.__version__,
        python=platform.python_version(),
        streamlit=st.__version__,
    )
)
