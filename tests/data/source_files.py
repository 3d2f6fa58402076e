"""Small source files, and what reading them comes to."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from heliostat.data.config import CleanConfig
from heliostat.data.documents import Document, Dropped
from heliostat.data.sources import Unit, check_sources, plan_units
from heliostat.errors import HeliostatError

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def write_jsonl(file: Path, rows: list) -> Path:
    """Rows as JSON lines; strings are written as they are."""
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


def units(*sources) -> list[Unit]:
    return plan_units(CleanConfig.model_validate({"sources": list(sources)}))


def read(**source) -> list[Document | Dropped]:
    config = CleanConfig.model_validate({"sources": [source]})
    check_sources(config)
    return [outcome for unit in plan_units(config) for outcome in unit.read()]


def read_rows(folder: Path, rows: list, **source) -> list[Document | Dropped]:
    """What these rows become as a file of JSON lines."""
    return read(kind="jsonl", path=str(write_jsonl(folder / "a.jsonl", rows)), **source)


def refusal(**source) -> str:
    with pytest.raises(HeliostatError) as caught:
        check_sources(CleanConfig.model_validate({"sources": [source]}))
    message = str(caught.value)
    assert "\n" not in message
    return message


def contents(outcomes) -> list[list[str]]:
    return [outcome.contents for outcome in outcomes]


def reasons(outcomes) -> list[tuple[int, str] | None]:
    """The row and the reason of each that was dropped, None for the others."""
    return [(each.document.row, each.reason) if isinstance(each, Dropped) else None for each in outcomes]


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(content)
    return sink.getvalue().to_pybytes()


def texts(outcomes) -> list[str]:
    return [outcome.text for outcome in outcomes]
