"""Where a person works: a workspace, what is known about it, and the cluster that its jobs go to."""

import os
from dataclasses import dataclass

from heliostat.control.store import Store, named_database
from heliostat.control.submissions import is_this_machine
from heliostat.errors import ConfigError
from heliostat.workspace import Workspace

ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
"""Ray's own name for the address of a head node's dashboard, where jobs are handed in."""


@dataclass(frozen=True)
class Site:
    """A workspace, its store, and the address of a cluster's dashboard (`http://head:8265`), if any."""

    workspace: Workspace
    store: Store
    address: str | None = None

    @classmethod
    def open(cls, workspace: str | None = None, address: str | None = None) -> "Site":
        """The site of a workspace; the address is the given one, else $RAY_API_SERVER_ADDRESS.

        Raises:
            StoreError: the workspace lies on an object store, and no database is named.
        """
        place = Workspace.resolve(workspace)
        return cls(place, Store.of(place), address or os.environ.get(ADDRESS_VARIABLE) or None)


def address_of(given: str | None) -> str:
    """The address of the cluster's dashboard: the given one, else $RAY_API_SERVER_ADDRESS.

    Raises:
        ConfigError: there is neither.
    """
    address = given or os.environ.get(ADDRESS_VARIABLE)
    if not address:
        raise ConfigError(
            f"which cluster? give --address, or set {ADDRESS_VARIABLE}, to the head node's dashboard, "
            "for example http://127.0.0.1:8265"
        )
    return address


def recorded_site(workspace: str | None, address: str) -> Site | None:
    """The site that keeps record of jobs for this cluster; None where nothing here can.

    A laptop that hands in jobs for a workspace which only the cluster sees has no store for them: whoever
    watches that workspace finds them on the cluster.
    """
    place = Workspace.resolve(workspace)
    if named_database() is not None:
        return Site(place, Store.of(place), address)
    named = bool(workspace or os.environ.get("HELIOSTAT_WORKSPACE"))
    if place.storage.remote or not _holds_record(place.storage.root, is_this_machine(address), named):
        return None
    return Site(place, Store.of(place), address)


def _holds_record(root: str, here: bool, named: bool) -> bool:
    """Whether a workspace keeps record of jobs for a cluster, `here` or elsewhere; a new one may, here.

    What answers here may be a port that is forwarded from elsewhere: a path whose folder is not here is left.
    """
    if os.path.isdir(root):
        return here or named
    return here and os.path.isdir(os.path.dirname(root))
