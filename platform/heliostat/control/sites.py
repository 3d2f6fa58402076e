"""Where a person works: a workspace, what is known about it, and the cluster that its jobs go to."""

import os
from dataclasses import dataclass

from heliostat.control.store import Store
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
