"""Which format a file has: told from its ending, else from its content; and whether it is what a source says.

Here a file is looked at for the first time, before any work: its first bytes, its first rows, its columns.
"""

import csv
import re
from collections import Counter
from functools import lru_cache
from itertools import islice

import orjson

from heliostat.data.files import PACKINGS, FileAt, find_files, opened
from heliostat.data.reader_parquet import parquet_facts
from heliostat.data.reader_rows import text_of
from heliostat.data.readers import DELIMITERS, rows_of
from heliostat.data.source_config import (
    CsvSource,
    FileSource,
    FilesSource,
    HtmlSource,
    JsonlSource,
    JsonSource,
    ParquetSource,
    TableSource,
    TextSource,
    WarcSource,
)
from heliostat.data.source_scan import is_settled
from heliostat.errors import ConfigError, DataError

HEAD_BYTES = 65536
HEAD_ROWS = 50
SUFFIXES = {
    "jsonl": (".jsonl", ".ndjson"),
    "json": (".json",),
    "parquet": (".parquet",),
    "csv": (".csv", ".tsv"),
    "text": (".txt", ".md", ".rst", ".text"),
    "html": (".html", ".htm", ".xhtml"),
    "warc": (".warc", ".wet"),
}
"""By kind; all but Parquet may also be packed: `.jsonl.gz`."""
TABLES = ("jsonl", "json", "parquet", "csv")
SOURCE_TYPES: dict[str, type[FileSource]] = {
    "jsonl": JsonlSource,
    "json": JsonSource,
    "parquet": ParquetSource,
    "csv": CsvSource,
    "text": TextSource,
    "html": HtmlSource,
    "warc": WarcSource,
}
"""The source of files of one kind."""
# What lies beside the data in published data sets, and is none; the whole name, as `citations` may be data.
_COMPANIONS = re.compile(
    r"readme([._-](cn|en|zh)([_-]\w+)?)?|licen[cs]e|citation|changelog|contributing|code_of_conduct|notice"
)
_DESCRIPTIONS = re.compile(r"dataset_(dict|infos?)|state")
"""What `datasets` writes beside its tables, as JSON."""
_SIGNATURES = {
    b"PAR1": "Parquet",
    b"WARC/": "a web archive",
    b"\x1f\x8b": "gzip (give it the ending .gz)",
    b"\x28\xb5\x2f\xfd": "zstd (give it the ending .zst)",
    b"PK\x03\x04": "a zip archive",
    b"%PDF": "PDF",
    b"SQLite format 3": "an SQLite database",
    b"ARROW1": "an Arrow file (write it as Parquet)",
}
_SIGNED_KINDS = {b"PAR1": "parquet", b"WARC/": "warc"}
_HTML = re.compile(r"(<!--.*?-->\s*)*<(!doctype html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
_COLUMN_NAME = re.compile(r"[^\W\d][\w .-]{0,40}")
_CSV_LINES = 3
_WAY_OUT = "give a file, a folder or a glob such as data/**/*"


def kind_of(source: FileSource) -> str:
    """The source's tag."""
    return str(type(source).model_fields["kind"].default)


def files_of(source: FileSource) -> list[tuple[FileSource, FileAt]]:
    """The files of a source, sorted by path, each with a source of its own format.

    Of a folder the files with the endings of the source's kind count; under `kind: files` those with any
    known ending, but for what stands beside data without being any (README, LICENSE, ...). What a path or a
    glob names counts whatever it is called.

    Raises:
        ConfigError: there is no file, or tables lie beside other documents.
        DataError: the format of a file is unknown.
    """
    listing = find_files(source.path)
    found = listing.files
    if not isinstance(source, FilesSource):
        if listing.by == "folder":
            found = [file for file in found if ending_kind(file) == kind_of(source)]
        if not found:
            ending = SUFFIXES[kind_of(source)][0]
            raise ConfigError(f"{source.path}: holds no file with the ending {ending}; {_WAY_OUT}")
        return [(source, file) for file in found]
    if listing.by == "folder":
        found = [file for file in found if ending_kind(file) and not _is_companion(file)]
    if not found:
        endings = " ".join(ending for endings in SUFFIXES.values() for ending in endings)
        raise ConfigError(f"{source.path}: holds no file with a known ending ({endings}); {_WAY_OUT}")
    kinds = [_kind_of_file(file) for file in found]
    _check_mixture(source, kinds)
    return [(_concrete(source, file, kind), file) for file, kind in zip(found, kinds, strict=True)]


def left_out(source: FileSource) -> list[str]:
    """The names of files in a folder or a glob that are not read; errors as `files_of`."""
    taken = {file.path for _, file in files_of(source)}
    return [file.name for file in find_files(source.path).files if file.path not in taken]


def ending_kind(file: FileAt) -> str | None:
    """The kind that a file's name says it is, packed or not."""
    name, packed = _unpacked_name(file)
    kinds = (kind for kind, endings in SUFFIXES.items() if name.endswith(endings))
    kind = next(kinds, None)
    return None if packed and kind == "parquet" else kind


def _unpacked_name(file: FileAt) -> tuple[str, bool]:
    """A file's name in lower case, without the ending of what packed it, and whether it had one."""
    name = file.name.rpartition("/")[2].lower()
    packed = name.endswith(tuple(PACKINGS))
    return name.rpartition(".")[0] if packed else name, packed


def _is_companion(file: FileAt) -> bool:
    """Whether a file stands beside data without being any: never one that holds rows."""
    kind, stem = ending_kind(file), _unpacked_name(file)[0].rpartition(".")[0]
    if kind in ("text", "html"):
        return _COMPANIONS.fullmatch(stem) is not None
    if kind != "json" or not (_COMPANIONS.fullmatch(stem) or _DESCRIPTIONS.fullmatch(stem)):
        return False
    head = text_of(head_of(file)).lstrip("\ufeff \t\r\n")
    return head[:1] != "[" and kind_of_text(head, kind) == "json"


def _kind_of_file(file: FileAt) -> str:
    kind = ending_kind(file)
    if kind and kind != "json":
        return kind
    head = head_of(file)
    for signature, name in _SIGNATURES.items():
        if head.startswith(signature):
            if signature in _SIGNED_KINDS:
                return _SIGNED_KINDS[signature]
            raise DataError(f"{file.path}: is {name}, which is not read; convert the file")
    if b"\0" in head:
        raise DataError(f"{file.path}: is binary or UTF-16; say its 'kind', or convert it to UTF-8")
    return kind_of_text(text_of(head), kind or "text")


def kind_of_text(head: str, otherwise: str) -> str:
    """What the beginning of a text file is: JSON lines, JSON, HTML, csv, or else `otherwise`."""
    start = head.lstrip("\ufeff \t\r\n")
    lines = start.split("\n")
    if start[:1] == "[":
        return "json"
    if start[:1] == "{" and not "".join(lines[1:]).strip():
        return "json" if otherwise == "json" else "jsonl"
    if start[:1] == "{":
        return "jsonl" if _is_json(lines[0]) else "json"
    if _HTML.match(start):
        return "html"
    return "csv" if _is_csv(lines[:_CSV_LINES]) else otherwise


def _is_json(line: str) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _is_csv(lines: list[str]) -> bool:
    """Whether there is a header of names, and rows of as many fields below it."""
    if len(lines) < _CSV_LINES:
        return False
    for delimiter in DELIMITERS:
        header, *rows = csv.reader(lines, delimiter=delimiter)
        if len(header) > 1 and all(map(_COLUMN_NAME.fullmatch, header)):
            return all(len(row) == len(header) for row in rows)
    return False


def _check_mixture(source: FilesSource, kinds: list[str]) -> None:
    """A README beside tables would be trained on; one line that asks is better than a guess."""
    counts = Counter(kinds)
    tables = {kind: count for kind, count in counts.items() if kind in TABLES}
    if tables and len(tables) < len(counts):
        there = ", ".join(f"{kind} ({count})" for kind, count in sorted(counts.items()))
        raise ConfigError(
            f"{source.path}: tables and documents lie together: {there}; say which with 'kind:', or name "
            f"files with a glob such as *.{next(iter(tables))}"
        )


def _concrete(source: FilesSource, file: FileAt, kind: str) -> FileSource:
    """The source with the format known."""
    if kind in TABLES:
        shared = source.model_dump(exclude={"kind"})
        return SOURCE_TYPES[kind].model_validate(shared)
    if source.form not in ("auto", "text") or source.columns or source.keep_columns:
        raise DataError(f"{file.path}: is {kind} and has no columns; leave out form, columns, keep_columns")
    return SOURCE_TYPES[kind](path=source.path, domain=source.domain)


def columns_of(source: FileSource, file: FileAt) -> tuple[str, ...]:
    """Open a file, see that it is what the source says, and return its columns, sorted (() when it has none).

    Raises:
        DataError: it is empty, or of another format.
    """
    look = _remembered_look if is_settled(file) else _look
    return look(type(source), source.model_dump_json(), file)


def _look(kind: type[FileSource], values: str, file: FileAt) -> tuple[str, ...]:
    source = kind.model_validate_json(values)
    if file.bytes == 0:
        raise DataError(f"{file.path}: the file is empty")
    if isinstance(source, ParquetSource):
        return tuple(sorted(parquet_facts(file).types))
    head = head_of(file)
    _check_signature(head, file, kind_of(source))
    if not head.strip():
        raise DataError(f"{file.path}: the file holds nothing but white space")
    if not isinstance(source, TableSource):
        return ()
    rows = [row for _, row in islice(rows_of(source, file), HEAD_ROWS)]
    columns = {name for row in rows if isinstance(row, dict) for name in row}
    if not columns:
        raise DataError(f"{file.path}: {_what_it_is_not(source, head, bool(rows))}")
    return tuple(sorted(columns))


_remembered_look = lru_cache(maxsize=100_000)(_look)


def head_of(file: FileAt) -> bytes:
    """The first bytes of a file, unpacked.

    Raises:
        DataError: it cannot be read.
    """
    with opened(file) as stream:
        return stream.read(HEAD_BYTES)


def _check_signature(head: bytes, file: FileAt, kind: str) -> None:
    for signature, name in _SIGNATURES.items():
        if head.startswith(signature) and _SIGNED_KINDS.get(signature) != kind:
            raise DataError(f"{file.path}: is {name}, not {kind}; use another 'kind' or convert the file")
    if kind == "warc" and not head.startswith(b"WARC/"):
        raise DataError(f"{file.path}: is no web archive: it does not begin with 'WARC/'")
    if b"\0" in head and kind not in ("html", "warc"):
        raise DataError(f"{file.path}: is binary or UTF-16, not {kind} in UTF-8; convert the file")


def _what_it_is_not(source: TableSource, head: bytes, has_rows: bool) -> str:
    if isinstance(source, CsvSource):
        return "a header line and no rows"
    if isinstance(source, JsonSource):
        return "none of its first rows is an object" if has_rows else "an empty array"
    if head.lstrip()[:1] == b"[":
        return "a JSON array, not JSON lines; use 'kind: json'"
    return f"not JSON lines: none of its first {HEAD_ROWS} lines is a JSON object" if has_rows else "no rows"
