"""The source files that documents were read from, with their hashes: where a dataset's lineage begins.

Only for the certificate: what decides whether a dataset is made again is `fingerprint_sources`.
"""

import hashlib
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from heliostat.data.files import explain_reading
from heliostat.data.sources import FileUnit, Unit
from heliostat.errors import DataError
from heliostat.storage import is_remote

MOST_LISTED = 10_000
"""Files that a certificate names one by one, some 2 MB of it; of more it names folders."""
_THREADS = 4


def origins_of(units: Iterable[Unit]) -> list[dict[str, Any]]:
    """The files of these units, each once, in order: `path`, `bytes`, `sha256`.

    Local files are read for it, at some 800 MB/s and thread. One on an object store would have to be fetched:
    it has the `modified` of its listing, and no `sha256`. A Python module has its `module`; a built-in one,
    which is no file, the version of Python. Of more than MOST_LISTED files there is one entry a folder, with
    the number of its `files` and the hash over their lines `path, NUL, sha256`.

    Raises:
        DataError: a file cannot be read.
    """
    places: dict[str, Unit] = {}
    for unit in units:
        places.setdefault(_path_of(unit), unit)
    with ThreadPoolExecutor(_THREADS) as threads:
        found = list(threads.map(_origin, places, places.values()))
    return found if len(found) <= MOST_LISTED else _by_folder(found)


def _path_of(unit: Unit) -> str:
    if isinstance(unit, FileUnit):
        return unit.file.path
    return unit.module.path or f"python:{unit.module.name}"


def _origin(path: str, unit: Unit) -> dict[str, Any]:
    if isinstance(unit, FileUnit):
        if is_remote(path):
            return {"path": path, "bytes": unit.file.bytes, "modified": unit.file.modified}
        return {"path": path, **_hashed(path)}
    named = {"path": path, "module": unit.module.name}
    if not unit.module.path:
        return {**named, "bytes": 0, "version": sys.version.split()[0]}
    return {**named, **_hashed(path)}


def _hashed(path: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            return {"bytes": stream.tell(), "sha256": digest}
    except OSError as error:
        raise DataError(f"{path}: {explain_reading(error)}") from error


def _by_folder(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    folders: dict[str, list[dict[str, Any]]] = {}
    for each in found:
        folders.setdefault(each["path"].rpartition("/")[0] or each["path"], []).append(each)
    return [
        {
            "path": folder,
            "files": len(files),
            "bytes": sum(each["bytes"] for each in files),
            "sha256": hashlib.sha256("".join(map(_line, files)).encode()).hexdigest(),
        }
        for folder, files in folders.items()
    ]


def _line(origin: dict[str, Any]) -> str:
    told = origin.get("sha256") or origin.get("modified") or origin.get("version")
    return f"{origin['path']}\0{told}\n"
