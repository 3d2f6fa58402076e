"""Finding and opening source files, local or through pyarrow.fs.

pyarrow is imported inside the functions: `heliostat validate` must answer at once.
"""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from heliostat.data.config import FileSource
from heliostat.errors import ConfigError, DataError
from heliostat.storage import explain_os_errors, is_remote

SUFFIXES = {
    "jsonl": (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson"),
    "parquet": (".parquet",),
    "csv": (".csv", ".tsv", ".csv.gz"),
    "text": (".txt", ".md", ".rst", ".text"),
}


@dataclass(frozen=True)
class FileAt:
    """A file to read: its absolute path or URI, its name in uids, and what the file system says of it."""

    path: str
    name: str
    bytes: int
    modified: str


@dataclass(frozen=True)
class _Place:
    """A path or URI taken apart: `prefix + path + query` is what was given; `path` is for the file system."""

    filesystem: Any
    path: str
    prefix: str = ""
    query: str = ""


def find_files(source: FileSource, kind: str) -> list[FileAt]:
    """The files a source names, sorted by path.

    Raises:
        ConfigError: there is none.
    """
    place = _place(source.path)
    wildcard = re.search(r"[*?\[]", place.path)
    base = place.path[: wildcard.start()].rpartition("/")[0] if wildcard else place.path.rstrip("/")
    files = _files_below(place, base, source.path)
    if wildcard:
        pattern = re.compile(_pattern(place.path))
        files = [found for found in files if pattern.fullmatch(found.path)]
    elif [found.path for found in files] != [base]:
        files = [found for found in files if _belongs(found.path[len(base) + 1 :], SUFFIXES[kind])]
    if not files:
        wanted = "matches no file" if wildcard else f"holds no file with the ending {SUFFIXES[kind][0]}"
        raise ConfigError(f"{source.path}: {wanted}; give a file, a folder or a glob such as data/**/*")
    cut = len(base.rpartition("/")[0]) + 1
    return [
        FileAt(place.prefix + found.path + place.query, found.path[cut:], found.size, str(found.mtime_ns))
        for found in sorted(files, key=lambda found: found.path)
    ]


def _files_below(place: _Place, base: str, given: str) -> list[Any]:
    """What the file system says of all files in a folder, or of the one file that `base` is."""
    import pyarrow.fs as pafs

    with explain_os_errors(given):
        info = place.filesystem.get_file_info(base or "/")
        if info.type == pafs.FileType.NotFound:
            raise ConfigError(f"{given}: no such file or folder; sources are read from {os.getcwd()}")
        if info.type == pafs.FileType.File:
            return [info]
        infos = place.filesystem.get_file_info(pafs.FileSelector(base or "/", recursive=True))
    return [found for found in infos if found.type == pafs.FileType.File]


def _belongs(relative: str, suffixes: tuple[str, ...]) -> bool:
    hidden = any(part.startswith((".", "_")) for part in relative.split("/"))
    return not hidden and relative.lower().endswith(suffixes)


def _pattern(glob: str) -> str:
    """A glob as a regular expression: `**/` is any folders, `*` and `?` do not cross a `/`."""
    pieces = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]+\])", glob)
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(
        known.get(piece) or (piece if re.fullmatch(r"\[[^]]+\]", piece) else re.escape(piece))
        for piece in pieces
    )


def _place(given: str) -> _Place:
    import pyarrow.fs as pafs

    if not is_remote(given):
        path = os.path.abspath(os.path.expanduser(given.removeprefix("file://")))
        return _Place(pafs.LocalFileSystem(), path)
    uri, mark, options = given.partition("?")
    plain = uri[: uri.index("*")].rpartition("/")[0] if "*" in uri else uri  # '*' is no part of a URI
    try:
        filesystem, path = pafs.FileSystem.from_uri(plain + mark + options)
    except (ValueError, TypeError, OSError) as error:
        raise ConfigError(f"{given}: not a place pyarrow.fs knows: {first_line(error)}") from None
    return _Place(filesystem, path + uri[len(plain) :], plain[: len(plain) - len(path)], mark + options)


def locate(file: FileAt) -> tuple[Any, str]:
    """The pyarrow file system a file lies on, and its path there."""
    place = _place(file.path)
    return place.filesystem, place.path


@contextmanager
def opened(file: FileAt) -> Iterator[io.BufferedReader]:
    """The file's bytes, unpacked when its name ends with .gz or .zst.

    Raises:
        DataError: it vanished, or is cut off or packed in another way.
    """
    filesystem, path = locate(file)
    try:
        with filesystem.open_input_stream(path) as stream, io.BufferedReader(stream) as reader:
            yield reader
    except (OSError, EOFError) as error:
        raise DataError(f"{file.path}: cannot be read: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
