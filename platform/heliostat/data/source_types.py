"""The columns of a source's rows and what they hold, in words."""

from typing import Any

from heliostat.data.forms import RowForm
from heliostat.data.reader_parquet import parquet_facts
from heliostat.data.source_config import ParquetSource
from heliostat.data.sources import FileUnit

_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
MAX_TYPES = 3


class TypesSeen:
    """Collects the types of columns from rows; of a Parquet file its metadata say them."""

    def __init__(self, unit: FileUnit) -> None:
        known = parquet_facts(unit.file).types if isinstance(unit.source, ParquetSource) else {}
        self._known = known
        self._seen: dict[str, dict[str, None]] = {name: {} for name in known}

    def add(self, row: dict[str, Any]) -> None:
        """Take a row."""
        for name, value in row.items():
            self._seen.setdefault(name, {})[type_of(value)] = None

    def columns(self, form: RowForm) -> list[tuple[str, str, str]]:
        """Each column's name, type, and what a form reads it as ("" when it is not read)."""
        return [
            (name, self._known.get(name) or " or ".join(list(types)[:MAX_TYPES]), _read_as(name, form))
            for name, types in self._seen.items()
        ]


def type_of(value: Any) -> str:
    """What a value is, in words; of a list also what its first entry is, of an object its keys."""
    if isinstance(value, list):
        return f"list of {type_of(value[0])}" if value else "empty list"
    if isinstance(value, dict):
        return f"{{{', '.join(sorted(value))}}}"
    return _NAMES.get(type(value), type(value).__name__)


def _read_as(name: str, form: RowForm) -> str:
    for role, column in form.columns.items():
        if name == column or (not isinstance(column, str) and name in column):
            return role
    return "kept" if name in form.keep else ""
