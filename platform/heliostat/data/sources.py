"""What a config's sources come to on this machine: files with their forms, modules, and one fingerprint.

`check_sources` is light enough for `heliostat validate`: it opens each file once and reads its first rows.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import xxhash

from heliostat.data.config import CleanConfig, FileSource, PythonDocsSource, TableSource
from heliostat.data.documents import READ_STEP, Document, Dropped, Outcome
from heliostat.data.files import FileAt, find_files, opened
from heliostat.data.forms import RowForm, content_of, resolve_form
from heliostat.data.python_docs import documents_of, packages_of, plan_modules
from heliostat.data.python_modules import ModuleAt, installation_fingerprint
from heliostat.data.readers import Broken, columns_of, kind_of, rows_of
from heliostat.storage import is_remote
from heliostat.workspace import key_of

_TEXT_FORM = RowForm("text", {"text": "text"})
# A work item holds files until it has this much, so that a million small files are not a million tasks.
BYTES_PER_ITEM = 32 * 2**20
MODULES_PER_ITEM = 50


@dataclass(frozen=True)
class FileUnit:
    """One file to read: `label` goes in front of its uids, `domain` is what its documents are about."""

    source: FileSource
    file: FileAt
    form: RowForm
    label: str
    domain: str

    @property
    def weight(self) -> float:
        """The part of a work item that this fills."""
        return self.file.bytes / BYTES_PER_ITEM

    def read(self) -> Iterator[Outcome]:
        """Its documents, and its unreadable rows with their reasons.

        Raises:
            DataError: the file as a whole cannot be read.
        """
        for number, row in rows_of(self.source, self.file, list(self.form.columns.values())):
            uid = f"{self.label}:{number}"
            if isinstance(row, Broken):
                raw = Document(uid, self.label, number, self.domain, _printable(row.raw))
                yield Dropped(raw, READ_STEP, row.reason, row.detail)
                continue
            text, messages, reason = content_of(row, self.form)
            domain = row.get(self.form.columns["domain"]) if "domain" in self.form.columns else self.domain
            document = Document(uid, self.label, number, str(domain or self.domain), text, messages)
            reason = reason or _not_unicode(document) or document.blank_reason()
            if reason:
                raw = Document(uid, self.label, number, _printable(document.domain), _as_json(row))
                yield Dropped(raw, READ_STEP, reason)
            else:
                yield document


@dataclass(frozen=True)
class ModuleUnit:
    """One module to take docstrings from, at most `limit` of them."""

    source: PythonDocsSource
    module: ModuleAt
    limit: int | None
    label: str

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


def check_sources(config: CleanConfig) -> None:
    """See that every source is there, of its format, not empty, and has the columns it needs.

    Raises:
        ConfigError: a path matches nothing, or a package is not installed.
        DataError: a file is empty, of another format, or lacks a column.
    """
    for source in config.sources:
        if isinstance(source, PythonDocsSource):
            installation_fingerprint(packages_of(source))
        else:
            _file_units(source, {})


def fingerprint_sources(config: CleanConfig) -> str:
    """A hash over what the sources hold now: file contents (on object stores: sizes and times), versions.

    Raises:
        ConfigError, DataError: as `check_sources`, which this includes.
    """
    parts = []
    for source in config.sources:
        if isinstance(source, PythonDocsSource):
            parts.append(installation_fingerprint(packages_of(source)))
        else:
            parts += [_file_fingerprint(unit.file) for unit in _file_units(source, {})]
    return key_of(*parts)


def plan_units(config: CleanConfig) -> list[Unit]:
    """All there is to read, in the order of the sources.

    Raises:
        ConfigError, DataError: as `check_sources`.
    """
    units: list[Unit] = []
    labels: dict[str, int] = {}
    for source in config.sources:
        if isinstance(source, PythonDocsSource):
            label = _unique("python_docs", labels)
            units += [ModuleUnit(source, module, limit, label) for module, limit in plan_modules(source)]
        else:
            units += _file_units(source, labels)
    return units


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


def _file_units(source: FileSource, labels: dict[str, int]) -> list[FileUnit]:
    units = []
    for file in find_files(source, kind_of(source)):
        columns = columns_of(source, file)
        form = resolve_form(source, columns, file.path) if isinstance(source, TableSource) else _TEXT_FORM
        domain = source.domain or file.name.partition("/")[0].partition(".")[0] or file.name
        units.append(FileUnit(source, file, form, _unique(file.name, labels), domain))
    return units


def _unique(label: str, labels: dict[str, int]) -> str:
    """The label; from its second use on with a number, so that uids stay unique."""
    labels[label] = labels.get(label, 0) + 1
    return label if labels[label] == 1 else f"{label}~{labels[label]}"


def _file_fingerprint(file: FileAt) -> str:
    if is_remote(file.path):
        return f"{file.name} {file.bytes} {file.modified}"
    digest = xxhash.xxh3_128()
    with opened(file) as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return f"{file.name} {digest.hexdigest()}"


def _not_unicode(document: Document) -> str | None:
    """Bytes that were not UTF-8, and halves of surrogate pairs, cannot be stored as text."""
    try:
        for text in (*document.contents, document.domain):
            text.encode("utf-8")
    except UnicodeEncodeError:
        return "not_unicode"
    return None


def _as_json(row: dict[str, Any]) -> str:
    try:
        return _printable(json.dumps(row, ensure_ascii=False, default=str))
    except RecursionError:
        return "(nested too deeply to be shown)"


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
