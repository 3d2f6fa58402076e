"""Finding and opening source files, local or through pyarrow.fs.

pyarrow is imported inside the functions: `heliostat validate` must answer at once.
"""

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from heliostat.errors import ConfigError, DataError
from heliostat.storage import is_remote

# Of pyarrow's codecs, by the ending they are told from.
PACKINGS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
# A read of an object store is a request: large ones, or the latency of each is what one waits for.
LOCAL_BUFFER_BYTES = 2**20
REMOTE_BUFFER_BYTES = 8 * 2**20
_SET = r"\[[!^]?[^/][^]/]*\]"  # a `]` that comes first is one of its characters


@dataclass(frozen=True)
class FileAt:
    """A file to read: its absolute path or URI, its name in uids, and what the file system says of it."""

    path: str
    name: str
    bytes: int
    modified: str

    @property
    def is_packed(self) -> bool:
        """Whether its name says that it has to be unpacked."""
        return self.path.partition("?")[0].endswith(tuple(PACKINGS))


@dataclass(frozen=True)
class _Place:
    """A path or URI taken apart: `prefix + path + query` is what was given; `path` is for the file system."""

    filesystem: Any
    path: str
    prefix: str = ""
    query: str = ""


@dataclass(frozen=True)
class Listing:
    """The files a path, a folder (with its subfolders) or a glob names, sorted by path."""

    files: list[FileAt]
    by: Literal["path", "folder", "glob"]


def find_files(given: str) -> Listing:
    """All files of that name.

    A path that is there is no glob, whatever characters are in it. In a folder, what begins with `.` or `_`
    (also a subfolder) is left out.

    Raises:
        ConfigError: there is nothing of that name.
    """
    place = _place(given)
    wildcard = None if _is_there(place) else re.search(r"[*?\[]", place.path)
    base = place.path[: wildcard.start()].rpartition("/")[0] if wildcard else place.path.rstrip("/")
    files = _files_below(place, base, given)
    by: Literal["path", "folder", "glob"] = "path"
    if wildcard:
        by, pattern = "glob", re.compile(_pattern(place.path))
        files = [found for found in files if pattern.fullmatch(found.path)]
        if not files:
            raise ConfigError(f"{given}: matches no file; give a file, a folder or a glob such as data/**/*")
    elif [found.path for found in files] != [base]:
        by = "folder"
        files = [found for found in files if not _is_hidden(found.path[len(base) + 1 :])]
    cut = len(base.rpartition("/")[0]) + 1
    located = [
        FileAt(place.prefix + found.path + place.query, found.path[cut:], found.size, str(found.mtime_ns))
        for found in sorted(files, key=lambda found: found.path)
    ]
    return Listing(located, by)


def _is_there(place: _Place) -> bool:
    """Whether a local path exists; on an object store `*` is a wildcard."""
    return not place.prefix and os.path.exists(place.path)


def _files_below(place: _Place, base: str, given: str) -> list[Any]:
    """What the file system says of all files in a folder, or of the one file that `base` is."""
    import pyarrow.fs as pafs

    try:
        info = place.filesystem.get_file_info(base or "/")
        if info.type == pafs.FileType.NotFound:
            raise ConfigError(f"{given}: no such file or folder; sources are read from {os.getcwd()}")
        if info.type == pafs.FileType.File:
            return [info]
        infos = place.filesystem.get_file_info(pafs.FileSelector(base or "/", recursive=True))
    except OSError as error:
        raise DataError(f"{given}: {explain_reading(error)}") from error
    return [found for found in infos if found.type == pafs.FileType.File]


def _is_hidden(relative: str) -> bool:
    return any(part.startswith((".", "_")) for part in relative.split("/"))


def _pattern(glob: str) -> str:
    """A glob as a regular expression: `**/` is any folders; `*`, `?` and `[...]` do not cross a `/`."""
    pieces = re.split(r"(\*\*/|\*\*|\*|\?|" + _SET + ")", glob)
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(
        known.get(piece) or (_set_pattern(piece) if re.fullmatch(_SET, piece) else re.escape(piece))
        for piece in pieces
    )


def _set_pattern(given: str) -> str:
    """A set of characters as a shell reads it: `!` in front negates it, and only `-` means something else."""
    characters = given[1:-1]
    negated = len(characters) > 1 and characters[0] in "!^"
    listed = characters[1:] if negated else characters
    escaped = "".join(each if each == "-" else re.escape(each) for each in listed)
    return f"(?!/)[{'^' if negated else ''}{escaped}]"


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


@contextmanager
def opened(file: FileAt) -> Iterator[io.BufferedReader]:
    """The file's bytes, unpacked when its name ends with .gz, .zst or .bz2.

    Raises:
        DataError: as `metered`.
    """
    with metered(file) as (reader, _):
        yield reader


@contextmanager
def metered(file: FileAt) -> Iterator[tuple[io.BufferedReader, Callable[[], int]]]:
    """As `opened`, with a function that says how many of the file's bytes were used so far.

    Raises:
        DataError: it vanished, changed, may not be read, or is cut off or packed in another way.
    """
    try:
        with raw_file(file) as raw:
            if not file.is_packed:
                yield raw, raw.tell
                return
            import pyarrow as pa

            packing = PACKINGS[os.path.splitext(file.path.partition("?")[0])[1]]
            with (
                pa.CompressedInputStream(pa.PythonFile(raw, "r"), packing) as unpacked,
                io.BufferedReader(unpacked, LOCAL_BUFFER_BYTES) as reader,
            ):
                yield reader, raw.tell
    except (OSError, EOFError) as error:
        raise DataError(f"{file.path}: {explain_reading(error)}") from error


@contextmanager
def raw_file(file: FileAt) -> Iterator[io.BufferedReader]:
    """The file's bytes as they are stored; seekable.

    Raises:
        OSError: it cannot be read.
        DataError: as `located`.
    """
    filesystem, path = located(file)
    if is_remote(file.path):
        with filesystem.open_input_file(path) as stream:
            yield io.BufferedReader(stream, REMOTE_BUFFER_BYTES)
    else:
        local: Any = io.FileIO(path)
        with io.BufferedReader(local, LOCAL_BUFFER_BYTES) as reader:
            yield reader


def located(file: FileAt) -> tuple[Any, str]:
    """The pyarrow file system a file lies on, and its path there.

    Raises:
        OSError: its folder cannot be read.
        DataError: the file is not the one any more that was planned.
    """
    place = _place(file.path)
    info = place.filesystem.get_file_info(place.path)
    if info.size is not None and (info.size, str(info.mtime_ns)) != (file.bytes, file.modified):
        raise DataError(
            f"{file.path}: changed while it was in use (it had {file.bytes} bytes and now has {info.size}); "
            "run again"
        )
    return place.filesystem, place.path


def explain_reading(error: BaseException) -> str:
    """Why a file cannot be read, and what to do, in one line."""
    if isinstance(error, FileNotFoundError):
        return "is gone since it was listed; on a cluster, local paths must be the same on every node"
    if isinstance(error, PermissionError):
        return "not readable by this user; change its mode, or run as a user who may read it"
    return f"cannot be read: {first_line(error)}"


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
