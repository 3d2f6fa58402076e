"""How many rows a file has: counted where that is cheap, else estimated from the first ones."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from heliostat.data.files import FileAt, metered
from heliostat.data.reader_parquet import parquet_facts
from heliostat.data.reader_rows import NumberedRow
from heliostat.data.readers import rows_in, rows_of
from heliostat.data.source_config import HtmlSource, JsonlSource, ParquetSource, TextSource, WarcSource
from heliostat.data.source_scan import NEWLINE, scan
from heliostat.data.sources import FileUnit
from heliostat.storage import is_remote

SCANNED_BYTES = 2**30
"""Local files of lines up to this size together are counted; that takes half a second."""
FURTHER_BYTES = 16 * 2**20
"""So much of other files is read on for an estimate; of archives nothing, as extracting takes its time."""


@dataclass(frozen=True)
class Count:
    """A number of rows, and whether it was counted or estimated."""

    number: int
    is_exact: bool = True

    def __add__(self, other: "Count") -> "Count":
        return Count(self.number + other.number, self.is_exact and other.is_exact)


Look = Callable[[Iterator[NumberedRow]], int]
"""Takes the first of a file's rows, and says how many it took; 0 when it wants none."""


def has_one_row(unit: FileUnit) -> bool:
    """Whether the file is one document."""
    source = unit.source
    return isinstance(source, HtmlSource) or (isinstance(source, TextSource) and not source.separator)


def counted_rows(unit: FileUnit, look: Look, all_bytes: int, num_files: int) -> Count:
    """How many rows a file has; `look` sees the first. The limits above are shared among `num_files`.

    Raises:
        DataError: the file cannot be read.
    """
    source, file = unit.source, unit.file
    if isinstance(source, ParquetSource):
        look(rows_of(source, file))
        return Count(parquet_facts(file).rows)
    if has_one_row(unit):
        look(rows_of(source, file))
        return Count(1)
    can_be_scanned = _has_marks(unit) and all_bytes <= SCANNED_BYTES
    with metered(file) as (stream, used):
        rows = rows_in(source, file, stream)
        number = look(rows)
        if not isinstance(source, WarcSource) and not can_be_scanned:
            number += _further(rows, used, FURTHER_BYTES // num_files)
        ended = next(rows, None) is None
        number, consumed = number + (not ended), used()
    if ended:
        return Count(number)
    if isinstance(source, (JsonlSource, TextSource)) and can_be_scanned:
        return _scanned(source, file)
    return Count(round(number * file.bytes / max(1, consumed)), is_exact=False)


def _further(rows: Iterator[NumberedRow], used: Callable[[], int], limit: int) -> int:
    """Read on for a better estimate; returns how many rows."""
    number = 0
    while used() < limit and next(rows, None) is not None:
        number += 1
    return number


def _has_marks(unit: FileUnit) -> bool:
    """Whether rows can be counted without reading them."""
    has_marks = isinstance(unit.source, (JsonlSource, TextSource))
    return has_marks and not unit.file.is_packed and not is_remote(unit.file.path)


def _scanned(source: JsonlSource | TextSource, file: FileAt) -> Count:
    """Lines or pieces; blank lines count, so of jsonl this is exact where there are none."""
    if isinstance(source, TextSource):
        return Count(scan(file, str(source.separator).encode()).marks + 1)
    lines = scan(file, NEWLINE).marks
    with metered(file) as (stream, _):
        stream.seek(-1, 2)
        return Count(lines + (stream.read(1) != NEWLINE))
