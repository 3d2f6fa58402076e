"""From a row of a file to a document: alpaca, sharegpt, OpenAI messages and plain text."""

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from heliostat.data.config import OPTIONAL_COLUMNS, REQUIRED_COLUMNS, TableSource
from heliostat.errors import DataError
from heliostat.text.chat import Message, check_messages

_SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}


@dataclass(frozen=True)
class RowForm:
    """Which form a file's rows have, and which of its columns are read as what."""

    name: str
    columns: dict[str, str]


def resolve_form(source: TableSource, found: Iterable[str], file: str) -> RowForm:
    """The form of a file that has the columns `found`.

    Raises:
        DataError: a column is missing; names the columns there are and the one that was probably meant.
    """
    there = sorted(set(found))
    if "domain" in source.columns:
        _require(source.columns["domain"], "domain", there, file)
    names = list(REQUIRED_COLUMNS) if source.form == "auto" else [source.form]
    for name in names:
        if all(source.columns.get(column, column) in there for column in REQUIRED_COLUMNS[name]):
            wanted = (*REQUIRED_COLUMNS[name], *OPTIONAL_COLUMNS.get(name, ()), "domain")
            columns = {column: source.columns.get(column, column) for column in wanted}
            if "domain" not in source.columns:
                del columns["domain"]
            return RowForm(name, columns)
    if source.form != "auto":
        for column in REQUIRED_COLUMNS[source.form]:
            _require(source.columns.get(column, column), column, there, file)
    for column, mapped in source.columns.items():
        _require(mapped, column, there, file)
    raise DataError(
        f"{file}: cannot tell the form from its columns ({', '.join(there)}); name one with 'form:' "
        "(messages, sharegpt, alpaca, text) and map its columns with 'columns:', for example {text: "
        f"{there[0] if there else 'body'}}}"
    )


def _require(mapped: str, column: str, there: list[str], file: str) -> None:
    if mapped in there:
        return
    close = difflib.get_close_matches(mapped, there, n=1)
    guess = close[0] if close else (there[0] if there else "body")
    meant = f"; did you mean '{guess}'?" if close else ";"
    raise DataError(
        f"{file}: no column '{mapped}'; found: {', '.join(there)}{meant} "
        f"map it with 'columns: {{{column}: {guess}}}'"
    )


def content_of(row: Mapping[str, Any], form: RowForm) -> tuple[str, tuple[Message, ...], str | None]:
    """A row's plain text or its messages, and the reason why it cannot be used or None."""
    values = {name: row.get(column) for name, column in form.columns.items()}
    if any(values[name] is None for name in REQUIRED_COLUMNS[form.name]):
        return "", (), "missing_value"
    if form.name == "text":
        text = values["text"]
        return (text, (), None) if isinstance(text, str) else ("", (), "content_not_text")
    if form.name == "alpaca":
        return _from_alpaca(values)
    return _from_turns(values["messages" if form.name == "messages" else "conversations"], form.name)


def _from_alpaca(values: dict[str, Any]) -> tuple[str, tuple[Message, ...], str | None]:
    parts = [values[name] or "" for name in ("system", "instruction", "input", "output")]
    if not all(isinstance(part, str) for part in parts):
        return "", (), "content_not_text"
    system, instruction, further, output = parts
    question = f"{instruction}\n\n{further}" if further.strip() else instruction
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": output}]
    if system.strip():
        messages.insert(0, {"role": "system", "content": system})
    return "", tuple(messages), check_messages(messages)


def _from_turns(turns: Any, form: str) -> tuple[str, tuple[Message, ...], str | None]:
    """Messages from a list of turns; a CSV file or a text column holds the list as JSON."""
    if isinstance(turns, str):
        try:
            turns = json.loads(turns)
        except (ValueError, RecursionError):
            return "", (), "broken_json"
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return "", (), "not_a_list_of_messages"
    if form == "sharegpt":
        turns = [
            {"role": _SHAREGPT_ROLES.get(str(turn.get("from"))), "content": turn.get("value")}
            for turn in turns
        ]
    reason = check_messages(turns)
    if reason:
        return "", (), reason
    return "", tuple({"role": turn["role"], "content": turn["content"]} for turn in turns), None
