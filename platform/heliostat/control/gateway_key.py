"""The key that opens a gateway's admin routes. It is read, sent, and never shown."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from heliostat.errors import ServingError
from heliostat.text.concealing import is_sendable
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
    """The key in $HELIOSTAT_API_KEY, if there is one.

    Raises:
        ServingError: what is there is no key.
    """
    return _key(os.environ.get(KEY_VARIABLE, "").strip(), KEY_VARIABLE)


def find_gateway_key(workspace: Workspace) -> GatewayKey | None:
    """The shell's key, else the one in the workspace's file, else None.

    Raises:
        ServingError: others can read the file, it cannot be read, or what is there is no key.
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
    except UnicodeDecodeError:
        raise ServingError(f"{path}: the key cannot be read: it is no text") from None
    except OSError as error:
        raise ServingError(f"{path}: the key cannot be read: {error}") from None
    return _key(value, str(path))


def _key(value: str, source: str) -> GatewayKey | None:
    if value and not is_sendable(value):
        raise ServingError(
            f"what {source} holds is no key: it has line breaks or characters that are not ASCII"
        )
    return GatewayKey(value, source) if value else None
