"""From a row of a file to what a document says: which form a file's rows have, and what each row holds.

The forms with messages are in `source_messages.py` and `source_preferences.py`, labels in `source_labels.py`.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from heliostat.data.source_config import (
    ALIASES,
    OPTIONAL_COLUMNS,
    REQUIRED_COLUMNS,
    JsonlSource,
    JsonSource,
    TableSource,
)
from heliostat.data.source_labels import annotator_columns, labels_of
from heliostat.data.source_messages import Content, Unusable, conversation_of
from heliostat.data.source_preferences import preference_of
from heliostat.errors import DataError
from heliostat.text.chat import Message, check_messages


@dataclass(frozen=True)
class RowForm:
    """Which form a file's rows have, which of its columns are read as what, and which are kept beside that.

    `columns` has the form's names as keys; `labels` may be several columns.
    """

    name: str
    columns: dict[str, str | tuple[str, ...]]
    keep: tuple[str, ...] = ()

    @property
    def all_columns(self) -> list[str]:
        """The names of all columns that are needed of a file."""
        names = list(self.keep)
        for column in self.columns.values():
            names += [column] if isinstance(column, str) else column
        return list(dict.fromkeys(names))

    def column(self, name: str) -> str:
        """The column that is read as `name`, which is not `labels`."""
        return str(self.columns[name])


def resolve_form(source: TableSource, found: Iterable[str], file: str) -> RowForm:
    """The form of a file that has the columns `found`.

    Each form is looked for under its own column names, then under those that published data sets give them.

    Raises:
        DataError: a column is missing; names the columns there are and the one that was probably meant.
    """
    there = sorted(set(found))
    _check_named_columns(source, there, file)
    names = [source.form] if source.form != "auto" else _forms_that_read(set(source.columns) - {"domain"})
    for aliases in ({}, ALIASES):
        for name in names:
            columns = _columns_of_form(name, source, there, aliases)
            if columns:
                columns |= _unseen_columns(name, source, columns)
                return RowForm(name, columns, source.keep_columns)
    if source.form != "auto":
        for column in REQUIRED_COLUMNS[source.form]:
            if column not in source.columns:
                _require(column, there, file, f"columns: {{{column}: %s}}")
        raise DataError(
            f"{file}: no column 'label' or 'labels'; found: {', '.join(there)}; "
            "say which it is with 'columns: {label: ...}'"
        )
    raise DataError(
        f"{file}: cannot tell the form from its columns ({', '.join(there)}); name one with 'form:' "
        f"({', '.join(REQUIRED_COLUMNS)}) and map its columns with 'columns:', for example {{text: "
        f"{there[0] if there else 'body'}}}"
    )


def _check_named_columns(source: TableSource, there: list[str], file: str) -> None:
    for name, mapped in source.columns.items():
        for column in [mapped] if isinstance(mapped, str) else mapped:
            _require(column, there, file, f"columns: {{{name}: %s}}")
    for column in source.keep_columns:
        # a key may be missing from the first rows of JSON, but not when it was probably misspelt
        if not isinstance(source, (JsonlSource, JsonSource)) or difflib.get_close_matches(column, there, n=1):
            _require(column, there, file, "keep_columns: [%s]")


def _forms_that_read(mapped: set[str]) -> list[str]:
    """The forms that have all the columns which a recipe maps."""
    return [
        name
        for name, required in REQUIRED_COLUMNS.items()
        if mapped <= {*required, *OPTIONAL_COLUMNS.get(name, ())}
    ]


def _columns_of_form(
    name: str, source: TableSource, there: list[str], aliases: Mapping[str, tuple[str, ...]]
) -> dict[str, str | tuple[str, ...]] | None:
    """Which column is read as what, or None when one is missing."""
    columns: dict[str, str | tuple[str, ...]] = {}
    for column in REQUIRED_COLUMNS[name]:
        found = source.columns.get(column) or _first((column, *aliases.get(column, ())), there)
        if not found:
            return None
        columns[column] = found
    for column in OPTIONAL_COLUMNS.get(name, ()):
        free = [each for each in there if each not in columns.values()]
        found = source.columns.get(column) or _first((column, *ALIASES.get(column, ())), free)
        if found:
            columns[column] = found
    if name == "labels" and not {"label", "labels"} & columns.keys():
        annotators = annotator_columns(there)
        if not annotators:
            return None
        columns["labels"] = annotators
    if "domain" in source.columns:
        columns["domain"] = source.columns["domain"]
    return columns


def _unseen_columns(
    name: str, source: TableSource, columns: dict[str, str | tuple[str, ...]]
) -> dict[str, str | tuple[str, ...]]:
    """The optional columns of JSON that its first rows lack, under their own names: later ones may have them.

    Not under other names: what they mean is told from the columns beside them.
    """
    if not isinstance(source, (JsonlSource, JsonSource)):
        return {}
    taken = {*columns, *RowForm(name, columns).all_columns}
    return {column: column for column in OPTIONAL_COLUMNS.get(name, ()) if column not in taken}


def _first(names: Iterable[str], there: list[str]) -> str | None:
    return next((name for name in names if name in there), None)


def _require(column: str, there: list[str], file: str, mapping: str) -> None:
    if column in there:
        return
    close = difflib.get_close_matches(column, there, n=1)
    guess = close[0] if close else (there[0] if there else "body")
    meant = f"; did you mean '{guess}'?" if close else ";"
    raise DataError(
        f"{file}: no column '{column}'; found: {', '.join(there)}{meant} say it with '{mapping % guess}'"
    )


def content_of(row: Mapping[str, Any], form: RowForm) -> Content:
    """What a row says, or the reason why it cannot be used."""
    for name in REQUIRED_COLUMNS[form.name]:
        if row.get(form.column(name)) is None:
            return Content(reason="missing_value")
    if form.name in ("text", "labels"):
        return _labelled_text(row, form)
    values = {name: row.get(column) for name, column in form.columns.items() if isinstance(column, str)}
    if form.name == "alpaca":
        return _from_alpaca(values)
    if form.name == "preference":
        return preference_of(values)
    turns = values["messages" if form.name == "messages" else "conversations"]
    return conversation_of(turns, values.get("system"), values.get("tools"))


def _labelled_text(row: Mapping[str, Any], form: RowForm) -> Content:
    text = row[form.column("text")]
    if not isinstance(text, str):
        return Content(reason="content_not_text")
    if form.name == "text":
        return Content(text)
    try:
        return Content(text, metadata=labels_of(row, form.columns))
    except Unusable as unusable:
        return Content(reason=unusable.reason)


def _from_alpaca(values: dict[str, Any]) -> Content:
    if isinstance(values["instruction"], list) and isinstance(values["output"], list):
        return conversation_of([*values["instruction"], *values["output"]], values.get("system"))
    parts = [values.get(name) or "" for name in ("system", "instruction", "input", "output")]
    if not all(isinstance(part, str) for part in parts):
        return Content(reason="content_not_text")
    system, instruction, further, output = parts
    question = f"{instruction}\n\n{further}" if further.strip() else instruction
    messages: list[Message] = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": output},
    ]
    if system.strip():
        messages.insert(0, {"role": "system", "content": system})
    return Content(messages=tuple(messages), reason=check_messages(messages))
