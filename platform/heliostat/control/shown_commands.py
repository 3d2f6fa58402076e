"""The options that make a command, pasted into a plain shell, act on the same workspace and cluster."""

import shlex

from heliostat.control.sites import Site
from heliostat.text.concealing import without_secrets
from heliostat.workspace import DEFAULT_WORKSPACE, Workspace


def workspace_words(workspace: Workspace) -> list[str]:
    """The option that names a workspace, unless it is where a shell without any setting would work.

    This process' own $HELIOSTAT_WORKSPACE does not count: `heliostat dashboard` sets it for itself alone.
    """
    usual = Workspace.resolve(DEFAULT_WORKSPACE).storage.root
    root = workspace.storage.root
    return [] if root == usual else ["--workspace", without_secrets(root)]


def address_words(site: Site) -> list[str]:
    """The option that names a site's cluster, where it has one."""
    return ["--address", without_secrets(site.address)] if site.address else []


def command_on(site: Site, *words: str, cluster: bool = False) -> str:
    """A command line that acts on a site's workspace; with `cluster`, on its cluster too."""
    address = address_words(site) if cluster else []
    return shlex.join([*words, *address, *workspace_words(site.workspace)])
