"""Home: how things stand, and where to begin."""

import streamlit as st
from dashboard.session import current

t = current().t
st.title(t("app.page.home"))
st.text(t("app.help.home"))
