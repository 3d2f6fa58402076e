"""The list of work, shared by all who look: a thousand lines are read at most every two seconds."""

import streamlit as st

from heliostat.control.readings import Reading
from heliostat.control.sites import Site
from heliostat.control.work_list import Work, WorkFilter, read_work


@st.cache_resource(ttl=2, show_spinner=False, max_entries=32)  # cache_data would copy all lines each time
def _work(_site: Site, place: tuple[str, str], wanted: WorkFilter) -> Reading[tuple[Work, ...]]:
    return read_work(_site, wanted)


def work(site: Site, wanted: WorkFilter) -> Reading[tuple[Work, ...]]:
    """The lines that are wanted, and when they were read."""
    return _work(site, (site.workspace.storage.root, site.store.url), wanted)
