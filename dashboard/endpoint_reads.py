"""What the pages of endpoints read, shared by all who look: a gateway is asked at most every two seconds."""

import streamlit as st

from heliostat.control.endpoint_state import EndpointState
from heliostat.control.endpoints import EndpointReader, Moment
from heliostat.control.readings import Reading
from heliostat.control.sites import Site

LIVE_SECONDS = 3.0


@st.cache_resource(show_spinner=False, max_entries=8)
def _reader(_site: Site, root: str) -> EndpointReader:
    return EndpointReader(_site)


@st.cache_data(ttl=2, show_spinner=False, max_entries=8)
def _endpoints(_site: Site, root: str) -> Reading[tuple[EndpointState, ...]]:
    return _reader(_site, root).read()


def endpoints(site: Site) -> Reading[tuple[EndpointState, ...]]:
    """Every endpoint of the site, those that serve first."""
    return _endpoints(site, site.workspace.storage.root)


def course(site: Site, name: str) -> tuple[Moment, ...]:
    """How an endpoint was doing since somebody began to look."""
    return _reader(site, site.workspace.storage.root).course(name)


def look_anew() -> None:
    """Forget what was read: something was changed just now."""
    _endpoints.clear()
