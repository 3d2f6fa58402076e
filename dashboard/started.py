"""What the server was started with: environment variables, so that every script and test reads the same."""

import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from heliostat.control.accounts import Accounts
from heliostat.control.door import Door
from heliostat.control.proxy_login import ProxyLogin
from heliostat.control.roles import ROLES, Role
from heliostat.workspace import Workspace

WORKSPACE, ADDRESS = "HELIOSTAT_WORKSPACE", "HELIOSTAT_ADDRESS"
OPEN, PROXY, ROLE = "HELIOSTAT_DASHBOARD_OPEN", "HELIOSTAT_DASHBOARD_PROXY", "HELIOSTAT_DASHBOARD_ROLE"
TRUSTED_PROXIES = "HELIOSTAT_DASHBOARD_TRUSTED_PROXIES"
"""Addresses and networks, with commas between them."""
ADMISSION_HEADER = "x-heliostat-admission"
"""Set by the gate on every request that it lets through, after taking off what a client sent."""


@dataclass(frozen=True)
class Started:
    """Where the dashboard works, and how one gets in."""

    workspace: str | None
    address: str | None
    loopback: bool
    proxy: str | None
    local_role: Role
    trusted_proxies: tuple[str, ...] = ()
    """Who is believed to say by which scheme and from where a request came."""


def started() -> Started:
    """As the environment says now."""
    role = os.environ.get(ROLE, "admin")
    return Started(
        workspace=os.environ.get(WORKSPACE),
        address=os.environ.get(ADDRESS),
        loopback=os.environ.get(OPEN) != "1",
        proxy=os.environ.get(PROXY),
        local_role=next((known for known in ROLES if known == role), "viewer"),
        trusted_proxies=tuple(os.environ.get(TRUSTED_PROXIES, "").replace(",", " ").split()),
    )


def door() -> Door:
    """The one door of this process: the gate and the pages ask the same. It stays the same when the cluster's
    address becomes known later."""
    return _door(replace(started(), address=None), os.environ.get("HELIOSTAT_USERS"))


@lru_cache(maxsize=8)
def _door(how: Started, users: str | None) -> Door:
    accounts = Accounts.of(Workspace.resolve(how.workspace))
    proxy = ProxyLogin.load(Path(how.proxy)) if how.proxy else None
    return Door(accounts, how.loopback, proxy, how.local_role)
