"""What jobs took with them, kept in the workspace by content: a retry runs the same code.

Kept by who hands a job in where the workspace is seen there, else by the job itself.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import heliostat
from heliostat.control.packages import Package, pack_folder
from heliostat.errors import ConfigError, StorageError
from heliostat.records import submitted_job
from heliostat.storage import Storage

FOLDER = "jobs/packages"


def keep_packages(storage: Storage, packages: tuple[Package, ...]) -> None:
    """Keep what a job takes with it in the workspace, until it is its turn and for retries.

    Raises:
        StorageError: the workspace takes no more.
    """
    for package in packages:
        path = f"{FOLDER}/{package.name}"
        if not storage.exists(path):
            storage.write_bytes(path, package.content)


def keep_own_packages(storage: Storage) -> None:
    """In a submitted job: keep what it came with, where that is not kept yet. Packed again from what the node
    unpacked; what does not come to the same name, such as another client's package, is left. A disk that
    takes it not does not end the work.
    """
    uris = package_uris(submitted_job())
    with suppress(StorageError):
        if all(storage.exists(_place(uri)) for uri in uris):
            return
        source = Path(heliostat.__file__).resolve().parent
        own = (pack_folder("jobs", Path.cwd()), pack_folder(source.name, source.parent))
        keep_packages(storage, tuple(package for package in own if package.uri in uris))


def read_packages(storage: Storage, request: dict[str, Any]) -> tuple[Package, ...]:
    """What a job takes with it, as it is kept.

    Raises:
        ConfigError: it is gone.
    """
    found = []
    for uri in package_uris(request):
        if not storage.exists(_place(uri)):
            raise ConfigError(f"{storage.uri(_place(uri))}: what the job takes with it is gone")
        found.append(Package(uri.rpartition("/")[2], storage.read_bytes(_place(uri))))
    return tuple(found)


def are_kept(storage: Storage, request: dict[str, Any]) -> bool:
    """Whether a job can be handed in again."""
    return all(storage.exists(_place(uri)) for uri in package_uris(request))


def package_uris(request: dict[str, Any]) -> tuple[str, ...]:
    """The packages that a request to Ray names."""
    runtime_env = request.get("runtime_env") or {}
    named = [runtime_env.get("working_dir"), *(runtime_env.get("py_modules") or ())]
    return tuple(str(uri) for uri in named if uri)


def _place(uri: str) -> str:
    return f"{FOLDER}/{uri.rpartition('/')[2]}"
