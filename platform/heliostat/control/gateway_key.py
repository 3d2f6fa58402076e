"""The key that opens a gateway's admin routes. It is read, sent, and never shown."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from heliostat.errors import ServingError
from heliostat.workspace import Workspace

KEY_VARIABLE = "HELIOSTAT_API_KEY"
KEY_FILE = "gateway/operator.key"
WHERE_IT_BELONGS = f"{KEY_VARIABLE}, or WORKSPACE/{KEY_FILE} (mode 600)"
OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True)
class GatewayKey:
    """A key and the place it was read from; only the place is fit for messages."""

    value: str = field(repr=False)
    source: str


def key_of_shell() -> GatewayKey | None:
    """The key in $HELIOSTAT_API_KEY, if there is one."""
    value = os.environ.get(KEY_VARIABLE, "").strip()
    return GatewayKey(value, KEY_VARIABLE) if value else None


def find_gateway_key(workspace: Workspace) -> GatewayKey | None:
    """The shell's key, else the one in the workspace's file, else None.

    Raises:
        ServingError: others can read the file, or it cannot be read.
    """
    if (key := key_of_shell()) is not None:
        return key
    if workspace.storage.remote:  # an object store has no mode that keeps others out
        return None
    path = Path(workspace.storage.uri(KEY_FILE))
    try:
        if path.stat().st_mode & OTHERS:
            raise ServingError(f"{path}: others can read this key; do 'chmod 600 {path}'")
        value = path.read_text().strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ServingError(f"{path}: the key cannot be read: {error}") from None
    return GatewayKey(value, str(path)) if value else None
