"""What a path holds, before anything is made of it: files, format, form, columns, rows, lengths, a sample.

The first rows of each file are read as the stage would read them. Knows neither Ray nor torch.
"""

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from heliostat.data.documents import Document, Dropped
from heliostat.data.reader_rows import Row
from heliostat.data.source_config import FileSource, FilesSource
from heliostat.data.source_counts import Count, Look, counted_rows, has_one_row
from heliostat.data.source_formats import SOURCE_TYPES, kind_of, left_out
from heliostat.data.source_messages import READ_KEYS
from heliostat.data.source_types import TypesSeen
from heliostat.data.sources import FileUnit, units_of
from heliostat.errors import ConfigError
from heliostat.recipe_file import RecipeFile, explain_validation_error

ROWS = 1000
"""How many rows are looked at, over all files."""
MAX_FILES = 200
MIN_ROWS_PER_FILE = 50
MAX_CHARACTERS = 16 * 2**20
DOCUMENTS_FOR_LANGUAGES = 200
DOCUMENTS_FOR_TOKENS = 300
CHARACTERS_FOR_LANGUAGE = 500


@dataclass(frozen=True)
class Lengths:
    """How long documents are: the least, 10, 50, 90 and 99 of 100, the most."""

    least: int
    tenth: int
    median: int
    ninetieth: int
    ninety_ninth: int
    most: int

    @classmethod
    def of(cls, lengths: Iterable[int]) -> Self | None:
        """The distribution of some lengths, or None of none."""
        there = sorted(lengths)
        if not there:
            return None
        return cls(
            *(there[min(len(there) - 1, int(share * len(there)))] for share in (0, 0.1, 0.5, 0.9, 0.99, 1))
        )


@dataclass
class BrokenRows:
    """Rows that cannot be used for one reason: how many, and the first of them."""

    number: int
    first_uid: str
    detail: str


@dataclass
class Inspection:
    """What was found. Lengths and broken rows are those of the rows looked at."""

    path: str
    kinds: dict[str, int]
    bytes: int
    left_out: list[str]
    form: str
    why: str
    columns: list[tuple[str, str, str]]
    """Name, type, and what it is read as."""
    rows: Count
    looked_at: int = 0
    files_looked_at: int = 0
    broken: dict[str, BrokenRows] = field(default_factory=dict)
    characters: Lengths | None = None
    tokens: Lengths | None = None
    languages: list[tuple[str, float]] = field(default_factory=list)
    sample: Document | None = None
    sample_runs: list[tuple[str, bool]] = field(default_factory=list)
    """The sample as the model sees it, cut where learning starts and stops: (text, is it learned)."""
    remarks: list[str] = field(default_factory=list)


def inspect_path(path: str, overrides: tuple[str, ...] = (), tokenizer: Any = None) -> Inspection:
    """Look at a path as a recipe's source would be looked at; `overrides` are its keys, such as `form=text`.

    Raises:
        ConfigError: there is nothing, or an override is wrong.
        DataError: a file is empty, damaged, of an unknown format, or lacks a column.
    """
    found, documents = inspect_source(source_of(path, overrides))
    found.languages = _languages(documents)
    if tokenizer is not None:
        _tokenize(found, documents[:DOCUMENTS_FOR_TOKENS], tokenizer)
    return found


def inspect_source(source: FileSource) -> tuple[Inspection, list[Document]]:
    """Look at a source, and the documents of its first rows; neither languages nor tokens are counted.

    Raises:
        ConfigError, DataError: as `inspect_path`.
    """
    units = units_of(source)
    looked = _Looked(units)
    first = units[0]
    columns = looked.types.columns(first.form)
    kinds = Counter(kind_of(unit.source) for unit in units)
    found = Inspection(
        path=source.path,
        kinds=dict(kinds.most_common()),
        bytes=_bytes_of(units),
        left_out=left_out(source),
        form=first.form.name,
        why=_why(source, first, columns),
        columns=columns,
        rows=looked.rows,
        looked_at=looked.number,
        files_looked_at=looked.files,
        broken=looked.broken,
        characters=Lengths.of(sum(map(len, document.contents)) for document in looked.documents),
        sample=looked.documents[0] if looked.documents else None,
    )
    if looked.message_keys:
        keys = ", ".join(sorted(looked.message_keys))
        found.remarks.append(f"not read of the messages: {keys}")
    return found, looked.documents


def source_of(path: str, overrides: tuple[str, ...]) -> FileSource:
    """The source that a recipe would have for this path with these keys.

    Raises:
        ConfigError: a key or a value is wrong.
    """
    recipe = RecipeFile(values={"path": path}, origins={(): path})
    for override in overrides:
        recipe.apply(override)
    kinds: dict[str, type[FileSource]] = {"files": FilesSource, **SOURCE_TYPES}
    kind = str(recipe.values.get("kind", "files"))
    if kind not in kinds:
        close = difflib.get_close_matches(kind, kinds, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(kinds)}"
        raise ConfigError(f"{recipe.origin(('kind',))}: unknown kind '{kind}'; {hint}")
    try:
        return kinds[kind].model_validate(recipe.values)
    except ValidationError as error:
        raise explain_validation_error(error, kinds[kind], recipe) from None


def load_tokenizer_of(reference: str, workspace: str | None) -> Any:
    """The tokenizer of a model's folder, or of a reference that `heliostat models import` takes.

    Raises:
        ModelError: there is none.
    """
    from heliostat.models.importing import import_model
    from heliostat.models.loading import load_tokenizer
    from heliostat.storage import artifact_folder
    from heliostat.workspace import Workspace

    folder = Path(reference).expanduser()
    if not folder.is_dir():
        folder = artifact_folder(import_model(reference, Workspace.resolve(workspace)))
    return load_tokenizer(folder)


class _Looked:
    """The first rows of a source's files, read as the stage reads them."""

    def __init__(self, units: list[FileUnit]) -> None:
        self.types = TypesSeen(units[0])
        self.documents: list[Document] = []
        self.broken: dict[str, BrokenRows] = {}
        self.message_keys: set[str] = set()
        self.number = self.files = self._characters = 0
        self.rows = Count(0)
        first, others = units[:MAX_FILES], units[MAX_FILES:]
        all_bytes, share = _bytes_of(units), max(MIN_ROWS_PER_FILE, ROWS // len(units))
        for unit in first:
            self.rows += counted_rows(unit, self._looking(unit, share), all_bytes, len(first))
        if all(map(has_one_row, others)):
            self.rows += Count(len(others))
        else:
            estimate = self.rows.number * _bytes_of(others) / max(1, _bytes_of(first))
            self.rows += Count(round(estimate), is_exact=False)

    def _looking(self, unit: FileUnit, share: int) -> Look:
        """A function that looks at the first of a file's rows, while there is not enough yet."""

        def look(rows: Iterator[tuple[int, Row]]) -> int:
            if self.number >= ROWS or self._characters >= MAX_CHARACTERS:
                return 0
            self.files += 1
            before = self.number
            for number, row in islice(rows, min(share, ROWS - self.number)):
                self._take(unit, number, row)
            return self.number - before

        return look

    def _take(self, unit: FileUnit, number: int, row: Row) -> None:
        self.number += 1
        if isinstance(row, dict):
            self.types.add(row)
            self.message_keys |= _unread_keys(row, unit)
        outcome = unit.outcome_of(number, row)
        if isinstance(outcome, Dropped):
            said = self.broken.setdefault(outcome.reason, BrokenRows(0, outcome.document.uid, outcome.detail))
            said.number += 1
        else:
            self.documents.append(outcome)
            self._characters += sum(map(len, outcome.contents))


def _bytes_of(units: list[FileUnit]) -> int:
    return sum(unit.file.bytes for unit in units)


def _unread_keys(row: dict[str, Any], unit: FileUnit) -> set[str]:
    """Keys of messages that say something and are not read."""
    unread: set[str] = set()
    for column in unit.form.columns.values():
        turns = row.get(column) if isinstance(column, str) else None
        if isinstance(turns, list) and unit.form.name in ("messages", "sharegpt", "preference"):
            for turn in turns:
                if isinstance(turn, dict) and ("role" in turn or "from" in turn):
                    unread |= {key for key, value in turn.items() if value is not None} - READ_KEYS
    return unread


def _why(source: FileSource, unit: FileUnit, there: list[tuple[str, str, str]]) -> str:
    """How the form was told, in a few words; `there` are the columns that were seen."""
    kind = kind_of(unit.source)
    if kind in ("text", "html", "warc"):
        pieces = "several in a file" if getattr(unit.source, "separator", None) else "one a file"
        return {"text": f"plain text, {pieces}", "html": "the main text of each page"}.get(
            kind, "the main text of each archived page"
        )
    renamed = [
        f"'{column if isinstance(column, str) else ', '.join(column)}' is read as {name}"
        for name, column in unit.form.columns.items()
        if name != column
    ]
    seen = {name for name, _, _ in there}
    columns = " and ".join(f"'{name}'" for name in unit.form.columns if name != "domain" and name in seen)
    told = "as asked" if getattr(source, "form", "auto") != "auto" else "told from the columns"
    return f"{told}; {'; '.join(renamed)}" if renamed else f"{told} {columns}"


def _languages(documents: list[Document]) -> list[tuple[str, float]]:
    """The shares of the languages of the first documents, the largest first."""
    from heliostat.data.steps.language import identify

    first = documents[:DOCUMENTS_FOR_LANGUAGES]
    counts = Counter(identify(document.whole_text, CHARACTERS_FOR_LANGUAGE)[0] for document in first)
    return [(language, count / len(first)) for language, count in counts.most_common()]


def _tokenize(found: Inspection, documents: list[Document], tokenizer: Any) -> None:
    from heliostat.data.encoding import Encoded, Encoder, runs_of

    encoded = Encoder(tokenizer).encode(documents)
    found.tokens = Lengths.of(len(each.input_ids) for each in encoded if isinstance(each, Encoded))
    refused = [each for each in encoded if isinstance(each, Dropped)]
    if refused:
        found.remarks.append(f"{len(refused)} of {len(encoded)} refused: {refused[0].detail}")
    for document, each in zip(documents, encoded, strict=True):
        if isinstance(each, Encoded):
            found.sample, found.sample_runs = document, runs_of(each, tokenizer)
            return
