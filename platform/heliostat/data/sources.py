"""What a config's sources come to on this machine: units to read, and one fingerprint.

`check_sources` is light enough for `heliostat validate`: it opens each file once and reads its first rows.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from heliostat.data.documents import READ_STEP, Document, Dropped, Outcome
from heliostat.data.files import FileAt
from heliostat.data.forms import RowForm, content_of, resolve_form
from heliostat.data.python_docs import documents_of, packages_of, plan_modules
from heliostat.data.python_modules import ModuleAt, installation_fingerprint
from heliostat.data.reader_parquet import parquet_parts
from heliostat.data.reader_rows import Broken, Row
from heliostat.data.readers import rows_of
from heliostat.data.source_config import (
    REQUIRED_COLUMNS,
    FileSource,
    HtmlSource,
    JsonlSource,
    ParquetSource,
    PythonDocsSource,
    TableSource,
    TextSource,
    WarcSource,
)
from heliostat.data.source_formats import columns_of, files_of, left_out
from heliostat.data.source_messages import Content
from heliostat.data.source_scan import NEWLINE, Part, Scan, scan
from heliostat.data.web import PAGE_COLUMNS
from heliostat.errors import DataError
from heliostat.storage import is_remote
from heliostat.workspace import key_of

if TYPE_CHECKING:
    from heliostat.data.config import CleanConfig

_TEXT_FORM = RowForm("text", {"text": "text"})
_PAGE_FORM = RowForm("text", {"text": "text"}, PAGE_COLUMNS)
# A work item holds units until it has this much, so that a million small files are not a million tasks; and a
# file that has more is cut, so that one large file is not one task.
BYTES_PER_ITEM = 16 * 2**20
MODULES_PER_ITEM = 50
# The first look at a file on an object store is a request or two, and waiting.
_REQUESTS_AT_A_TIME = 16


@dataclass(frozen=True)
class FileUnit:
    """A file to read, or a part of one.

    `label` goes in front of its uids, `domain` is what its documents are about, `priority` the place of its
    source in the recipe.
    """

    source: FileSource
    file: FileAt
    form: RowForm
    label: str
    domain: str
    part: Part | None = None
    priority: int = 0

    @property
    def weight(self) -> float:
        """The part of a work item that this fills."""
        return (self.part.bytes if self.part else self.file.bytes) / BYTES_PER_ITEM

    def read(self) -> Iterator[Outcome]:
        """Its documents, and its unreadable rows with their reasons; one at a time.

        Raises:
            DataError: the file as a whole cannot be read, or is not the one that was planned.
        """
        rows = rows_of(self.source, self.file, self.form.all_columns, self.part)
        if self.form.name != "text" or self.form.keep or "domain" in self.form.columns:
            yield from (self.outcome_of(number, row) for number, row in rows)
            return
        column, label, domain = self.form.column("text"), self.label, self.domain
        for number, row in rows:  # the short way for what there is most of: text and nothing else
            text = row.get(column) if isinstance(row, dict) else None
            if type(text) is str and text and not text.isspace() and _is_unicode(text):
                yield Document(f"{label}:{number}", label, number, domain, text)
            else:
                yield self.outcome_of(number, row)

    def outcome_of(self, number: int, row: Row) -> Outcome:
        """What becomes of one of its rows."""
        uid = f"{self.label}:{number}"
        if isinstance(row, Broken):
            raw = Document(uid, self.label, number, self.domain, _printable(row.raw))
            return Dropped(raw, READ_STEP, row.reason, row.detail)
        try:
            content, kept = content_of(row, self.form), _kept(row, self.form.keep)
        except RecursionError:
            content, kept = Content(reason="nested_too_deeply"), {}
        domain = row.get(self.form.column("domain")) if "domain" in self.form.columns else None
        document = Document(
            uid=uid,
            source=self.label,
            row=number,
            domain=str(domain or self.domain),
            text=content.text,
            messages=content.messages,
            rejected=content.rejected,
            answers_from=content.answers_from,
            tools=content.tools,
            metadata=kept | content.metadata,
        )
        reason = content.reason or _storing_reason(document) or document.blank_reason()
        if reason:
            raw = Document(uid, self.label, number, _printable(document.domain), _as_json(row))
            return Dropped(raw, READ_STEP, reason)
        return document


@dataclass(frozen=True)
class ModuleUnit:
    """One module to take docstrings from, at most `limit` of them."""

    source: PythonDocsSource
    module: ModuleAt
    limit: int | None
    label: str
    priority: int = 0

    @property
    def weight(self) -> float:
        """The part of a work item that this fills."""
        return 1 / MODULES_PER_ITEM

    def read(self) -> Iterator[Outcome]:
        """The module's documents."""
        for number, document in enumerate(documents_of(self.module, self.source, self.label)):
            if self.limit is not None and number >= self.limit:
                return
            yield document


Unit = FileUnit | ModuleUnit


def check_sources(config: "CleanConfig") -> None:
    """See that every source is there, of its format, not empty, and has the columns it needs.

    Raises:
        ConfigError: a path matches nothing, or a package is not installed.
        DataError: a file is empty, of another format, or lacks a column.
    """
    for source in config.sources:
        if isinstance(source, PythonDocsSource):
            installation_fingerprint(packages_of(source))
        else:
            look_at(source)


def files_left_out(config: "CleanConfig") -> list[str]:
    """The names of files that lie in the sources' folders and are not read, such as a README."""
    return [
        name
        for source in config.sources
        if not isinstance(source, PythonDocsSource)
        for name in left_out(source)
    ]


def fingerprint_sources(config: "CleanConfig") -> str:
    """A hash over what the sources hold now: file contents (on object stores: sizes and times), versions.

    Local files are read for it, once: `plan_units` uses what was seen.

    Raises:
        ConfigError, DataError: as `check_sources`, which this includes.
    """
    parts = []
    for source in config.sources:
        if isinstance(source, PythonDocsSource):
            parts.append(installation_fingerprint(packages_of(source)))
        else:
            parts += [_file_fingerprint(source, file) for source, file, _ in look_at(source)]
    return key_of(*parts)


def plan_units(config: "CleanConfig") -> list[Unit]:
    """All there is to read, in the order of the sources.

    Local jsonl files and texts with a separator are cut at rows into units of BYTES_PER_ITEM, Parquet files
    at row groups wherever they lie. Anything else is one unit a file: packed files, csv, JSON, pages,
    archives, and jsonl on an object store, whose rows could only be counted by fetching it.

    Raises:
        ConfigError, DataError: as `check_sources`.
    """
    units: list[Unit] = []
    labels: set[str] = set()
    for priority, source in enumerate(config.sources):
        if isinstance(source, PythonDocsSource):
            label = _unique("python_docs", labels)
            units += [
                ModuleUnit(source, module, limit, label, priority) for module, limit in plan_modules(source)
            ]
            continue
        for unit in units_of(source):
            unit = replace(unit, label=_unique(unit.label, labels), priority=priority)
            units += [replace(unit, part=part) for part in _parts(unit.source, unit.file)]
    return units


def units_of(source: FileSource) -> list[FileUnit]:
    """The files of a source, each as one unit with its name as label.

    Raises:
        ConfigError, DataError: as `check_sources`.
    """
    return [
        FileUnit(concrete, file, form, file.name, source.domain or _domain_of(file))
        for concrete, file, form in look_at(source)
    ]


def _domain_of(file: FileAt) -> str:
    """The name of the file or folder that a source names."""
    return file.name.partition("/")[0].partition(".")[0] or file.name


def group_units(units: list[Unit]) -> list[tuple[Unit, ...]]:
    """The units in order, cut into work items of about equal weight."""
    items: list[tuple[Unit, ...]] = []
    current: list[Unit] = []
    weight = 0.0
    for unit in units:
        if current and weight + unit.weight > 1:
            items.append(tuple(current))
            current, weight = [], 0.0
        current.append(unit)
        weight += unit.weight
    return [*items, tuple(current)] if current else items


def look_at(source: FileSource) -> list[tuple[FileSource, FileAt, RowForm]]:
    """A source's files, each with a source of its own format and the form of its rows.

    Raises:
        ConfigError, DataError: as `check_sources`; or files of a source have different forms.
    """
    found = files_of(source)
    if found and is_remote(found[0][1].path):
        with ThreadPoolExecutor(_REQUESTS_AT_A_TIME) as threads:
            forms = list(threads.map(lambda pair: _form_of(*pair), found))
    else:
        forms = [_form_of(*pair) for pair in found]
    for (_, file), form in zip(found, forms, strict=True):
        _check_same_form(file, form, found[0][1], forms[0])
    return [(concrete, file, form) for (concrete, file), form in zip(found, forms, strict=True)]


def _form_of(source: FileSource, file: FileAt) -> RowForm:
    columns = columns_of(source, file)
    if isinstance(source, TableSource):
        return resolve_form(source, columns, file.path)
    return _PAGE_FORM if isinstance(source, (HtmlSource, WarcSource)) else _TEXT_FORM


def _check_same_form(file: FileAt, form: RowForm, first: FileAt, expected: RowForm) -> None:
    """Shards of one source that are read in different ways are rather a mistake than a wish."""
    if form.name != expected.name:
        raise DataError(
            f"{file.path}: its rows have the form '{form.name}', those of {first.name} '{expected.name}'; "
            "name one with 'form:', or make two sources of them"
        )
    for column in REQUIRED_COLUMNS[form.name]:
        if form.columns[column] != expected.columns[column]:
            raise DataError(
                f"{file.path}: has no column '{expected.columns[column]}' to be read as '{column}', which "
                f"{first.name} has; rename its column '{form.columns[column]}', or make two sources of them"
            )


def _parts(source: FileSource, file: FileAt) -> list[Part | None]:
    """The pieces a file is read in; None is all of it."""
    if isinstance(source, ParquetSource):
        parts = tuple(parquet_parts(file, BYTES_PER_ITEM))
    elif file.bytes > BYTES_PER_ITEM and not is_remote(file.path) and _mark(source, file):
        parts = _scan(source, file).parts
    else:
        parts = ()
    return list(parts) if len(parts) > 1 else [None]


def _scan(source: FileSource, file: FileAt) -> Scan:
    mark = _mark(source, file)
    return scan(file, mark, BYTES_PER_ITEM) if mark else scan(file)


def _mark(source: FileSource, file: FileAt) -> bytes:
    """What stands between a file's rows in its bytes, or nothing where it cannot be cut."""
    if isinstance(source, JsonlSource) and not file.is_packed:
        return NEWLINE
    if isinstance(source, TextSource) and source.separator and not file.is_packed:
        return source.separator.encode()
    return b""


def _file_fingerprint(source: FileSource, file: FileAt) -> str:
    if is_remote(file.path):
        return f"{file.name} {file.bytes} {file.modified}"
    return f"{file.name} {_scan(source, file).digest}"


def _unique(label: str, labels: set[str]) -> str:
    """The label; from its second use on with a number, so that uids stay unique."""
    number, unique = 1, label
    while unique in labels:
        number += 1
        unique = f"{label}~{number}"
    labels.add(unique)
    return unique


def _kept(row: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The columns to keep that have a value; dates and the like as text, as JSON has no such thing.

    Raises:
        RecursionError: a value is nested too deeply.
    """
    if not names:
        return {}
    kept = {name: row[name] for name in names if row.get(name) is not None}
    if all(isinstance(value, (str, int, float)) for value in kept.values()):
        return kept
    return dict(json.loads(json.dumps(kept, default=str)))


def _storing_reason(document: Document) -> str | None:
    """Why a document cannot be stored: what was not UTF-8, halves of surrogate pairs, endless nesting."""
    if not all(map(_is_unicode, (*document.contents, document.domain))):
        return "not_unicode"
    if not (document.metadata or document.tools or any(len(message) > 2 for message in document.messages)):
        return None
    beside = [document.metadata, document.tools, document.messages, document.rejected]
    try:
        orjson.dumps(beside)
    except orjson.JSONEncodeError:  # it has limits that storing has not
        try:
            return None if _is_unicode(json.dumps(beside, ensure_ascii=False)) else "not_unicode"
        except RecursionError:
            return "nested_too_deeply"
    return None


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _as_json(row: dict[str, Any]) -> str:
    try:
        return _printable(json.dumps(row, ensure_ascii=False, default=str))
    except RecursionError:
        return "(nested too deeply to be shown)"


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
