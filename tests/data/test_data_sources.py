"""Sources: every format, whole and in parts; broken rows with their numbers, and broken files."""

import bz2
import gzip
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.source_files import CHAT, contents, read, read_rows, reasons, refusal, units, write_jsonl

from heliostat.data import readers, source_scan, sources
from heliostat.data.config import CleanConfig
from heliostat.data.documents import Document, Dropped
from heliostat.data.files import find_files
from heliostat.data.sources import check_sources, fingerprint_sources, group_units, plan_units
from heliostat.errors import ConfigError, DataError


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(content)
    return sink.getvalue().to_pybytes()


def texts(outcomes) -> list[str]:
    return [outcome.text for outcome in outcomes]


# The formats.


def test_parquet_rows_are_read(tmp_path):
    table = pa.table({"text": ["one", None, "三"], "other": [1, 2, 3]})
    pq.write_table(table, tmp_path / "a.parquet")
    first, second, third = read(kind="parquet", path=str(tmp_path / "a.parquet"))
    assert (first.text, third.text, third.row) == ("one", "三", 3)
    assert (second.reason, second.document.row) == ("missing_value", 2)


def test_messages_in_parquet_structs_are_read(tmp_path):
    pq.write_table(pa.table({"messages": [CHAT]}), tmp_path / "a.parquet")
    assert contents(read(kind="parquet", path=str(tmp_path))) == [["Hi", "Hello"]]


def test_tool_calls_in_parquet_structs_keep_only_their_own_arguments(tmp_path):
    """Parquet gives each struct of a column the keys of all: arguments nobody gave come back as nulls."""
    rows = []
    for arguments in ({"city": "北京"}, {"zip": 10115}):
        call = {"type": "function", "function": {"name": "weather", "arguments": arguments}}
        rows.append([CHAT[0], {"role": "assistant", "content": "", "tool_calls": [call]}])
    pq.write_table(pa.table({"messages": rows}), tmp_path / "a.parquet")
    found = [each.messages[1]["tool_calls"][0]["function"]["arguments"] for each in read(path=str(tmp_path))]
    assert found == [{"city": "北京"}, {"zip": 10115}]


def test_parquet_text_that_is_not_utf8_drops_its_row_only(tmp_path):
    raw = pa.array([b"good", b"caf\xe9", b"also"], pa.binary())
    pq.write_table(
        pa.table({"text": pa.Array.from_buffers(pa.string(), 3, raw.buffers())}), tmp_path / "a.parquet"
    )
    outcomes = read(path=str(tmp_path / "a.parquet"))
    assert reasons(outcomes) == [None, (2, "not_unicode"), None]
    assert "column 'text'" in outcomes[1].detail


def test_csv_rows_are_read_with_their_numbers(tmp_path):
    (tmp_path / "a.csv").write_text('text,n\n"two\nlines",1\nshort\n,3\n' + "x" * 200_000 + ",4\n")
    outcomes = read(kind="csv", path=str(tmp_path / "a.csv"))
    assert outcomes[0].text == "two\nlines"
    assert [(each.document.row, each.reason, each.detail) for each in outcomes[1:3]] == [
        (2, "wrong_number_of_fields", "1 fields, the header has 2"),
        (3, "empty", ""),
    ]
    assert len(outcomes[3].text) == 200_000


@pytest.mark.parametrize(
    ("name", "header", "row", "expected"),
    [
        ("a.tsv", "text\tn", "a,b\t1", "a,b"),
        ("a.csv", "text;n", "a,b;1", "a,b"),
        ("a.csv", "text|n", "甲,乙|1", "甲,乙"),
        ("a.csv", "text", '"a,b"', "a,b"),
    ],
)
def test_the_delimiter_is_told_from_the_ending_or_the_header(tmp_path, name, header, row, expected):
    (tmp_path / name).write_text(f"{header}\n{row}\n", encoding="utf-8")
    assert contents(read(kind="csv", path=str(tmp_path))) == [[expected]]


def test_a_delimiter_is_taken_as_given(tmp_path):
    (tmp_path / "a.csv").write_text("text#n\na,b#1\n")
    assert contents(read(kind="csv", path=str(tmp_path), delimiter="#")) == [["a,b"]]


def test_a_quote_that_is_never_closed_is_named(tmp_path):
    (tmp_path / "a.csv").write_text('text,n\nfine,1\n"open,2\nswallowed,3\n')
    first, second = read(path=str(tmp_path / "a.csv"))
    assert first.text == "fine"
    assert second.reason == "unclosed_quote"
    assert second.detail == "opened in line 3 and never closed; the rows behind it are part of it"
    assert "swallowed" in second.document.text


def test_a_stray_quote_in_the_last_row_is_no_open_quote(tmp_path):
    (tmp_path / "a.csv").write_text('text,n\n5" pipe,1\nlast 6" pipe,2')
    assert texts(read(path=str(tmp_path / "a.csv"))) == ['5" pipe', 'last 6" pipe']


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ([{"text": "one"}, {"text": "二"}], [("one", 1), ("二", 2)]),
        ({"version": 1, "data": [{"text": "one"}, {"text": "二"}]}, [("one", 1), ("二", 2)]),
        ({"rows": [{"text": "one"}], "empty": [], "tags": ["x"]}, [("one", 1)]),
        ({"text": "one"}, [("one", 1)]),
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_json_documents_are_read(tmp_path, content, rows, indent):
    (tmp_path / "a.json").write_text(
        json.dumps(content, indent=indent, ensure_ascii=False), encoding="utf-8-sig"
    )
    for source in ({"kind": "json"}, {}):
        found = read(path=str(tmp_path / "a.json"), **source)
        assert [(each.text, each.row) for each in found] == rows


def test_a_conversation_alone_in_a_json_file_is_one_row(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"id": 1, "messages": CHAT}))
    assert contents(read(path=str(tmp_path / "a.json"))) == [["Hi", "Hello"]]


def test_the_list_in_a_json_object_can_be_named(tmp_path):
    splits = {"train": [{"text": "a"}], "test": [{"text": "b"}]}
    (tmp_path / "a.json").write_text(json.dumps(splits))
    path = str(tmp_path / "a.json")
    assert texts(read(kind="json", path=path, key="test")) == ["b"]
    with pytest.raises(
        DataError, match="holds lists of objects under 'train' and 'test'; say which with 'key: train'"
    ):
        read(kind="json", path=path)
    assert "no list of objects under 'dev'; its keys: train, test" in refusal(
        kind="json", path=path, key="dev"
    )


def test_json_is_read_the_same_wherever_a_piece_of_it_ends(tmp_path, monkeypatch):
    rows = [{"text": 'é你\U0001f600\\"\n' * 3, "n": [1.5e-7, True, None, {}], "m": -12345}, {"text": "b"}, 7]
    (tmp_path / "a.json").write_text(json.dumps({"a": "x", "data": rows}, indent=1))
    expected = [(1, rows[0]["text"], None), (2, "b", None), (3, "7", "not_an_object")]
    for size in range(1, 60):
        monkeypatch.setattr("heliostat.data.reader_json._PIECE_BYTES", size)
        found = read(kind="json", path=str(tmp_path / "a.json"))
        assert [
            (each.row, each.text, None)
            if isinstance(each, Document)
            else (each.document.row, each.document.text, each.reason)
            for each in found
        ] == expected, size


def test_a_text_file_is_one_document_or_several(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\n\ntwo\n\n\n\n\n\nthree", encoding="utf-8")
    assert contents(read(kind="text", path=str(tmp_path / "a.txt"))) == [["one\n\n\ntwo\n\n\n\n\n\nthree"]]
    pieces = read(kind="text", path=str(tmp_path / "a.txt"), separator="\n\n\n")
    assert [piece.text for piece in pieces if isinstance(piece, Document)] == ["one", "two", "three"]
    assert reasons(pieces) == [None, None, (3, "empty"), None]


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".zst", zstd), (".bz2", bz2.compress)])
def test_packed_files_are_unpacked(tmp_path, ending, pack):
    content = b'{"text": "packed"}\n'
    (tmp_path / f"a.jsonl{ending}").write_bytes(pack(content) + pack(content))  # as concatenated files are
    assert [(each.uid, each.text) for each in read(path=str(tmp_path))] == [
        (f"{tmp_path.name}/a.jsonl{ending}:1", "packed"),
        (f"{tmp_path.name}/a.jsonl{ending}:2", "packed"),
    ]


def test_a_byte_order_mark_and_blank_lines_are_no_rows(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "one"}\n\n \n{"text": "four"}')
    assert [(each.text, each.row) for each in read(kind="jsonl", path=str(tmp_path))] == [
        ("one", 1),
        ("four", 4),
    ]
    (tmp_path / "b.csv").write_bytes("text\n你好\n".encode("utf-8-sig"))
    assert texts(read(path=str(tmp_path / "b.csv"))) == ["你好"]
    (tmp_path / "c.txt").write_bytes("你好".encode("utf-8-sig"))
    assert texts(read(path=str(tmp_path / "c.txt"))) == ["你好"]


# The format is told from the ending, else from the content.


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.json", b'{"text": "a"}\n{"text": "b"}\n', ["a", "b"]),
        ("a.json", b'[\n{"text": "a"}]', ["a"]),
        ("a", b'{"text": "a"}\n{"text": "b"}\n', ["a", "b"]),
        ("a", b'{"text": "a"}', ["a"]),
        ("a.data", b'{\n "text": "a"}', ["a"]),
        ("a.dat", b'[{"text": "a"}]', ["a"]),
        ("a", b"text,id\na,1\nb,2\n", ["a", "b"]),
        (
            "a",
            b"Dear Anna, thank you.\nYes, we can, today.\nBye, Tom\n",
            ["Dear Anna, thank you.\nYes, we can, today.\nBye, Tom\n"],
        ),
        ("a", b"<!DOCTYPE html><html><body><p>A page of words.</p></body></html>", ["A page of words."]),
        ("A.JSONL", b'{"text": "a"}\n', ["a"]),
    ],
)
def test_a_bare_path_is_read_as_what_it_is(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    [unit] = units(str(tmp_path / name))
    assert texts(unit.read()) == expected


def test_a_parquet_file_without_an_ending_is_known_by_its_first_bytes(tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "part-0")
    assert texts(read(path=str(tmp_path / "part-0"))) == ["a"]


def test_what_stands_beside_data_is_no_data(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", [{"text": "a"}])
    for name in (
        "README.md",
        "LICENSE.txt",
        "dataset_infos.json",
        ".hidden.jsonl",
        "_SUCCESS",
        "picture.png",
    ):
        (tmp_path / name).write_text("no data")
    assert texts(read(path=str(tmp_path))) == ["a"]


def test_tables_beside_documents_are_refused_with_a_question(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    (tmp_path / "notes.md").write_text("my notes")
    said = refusal(path=str(tmp_path))
    assert (
        "tables and documents lie together: jsonl (1), text (1); say which with 'kind:', or name files with"
        in said
    )
    assert texts(read(kind="text", path=str(tmp_path))) == ["my notes"]


def test_columns_are_not_asked_of_files_that_have_none(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    said = refusal(path=str(tmp_path / "a.txt"), columns={"text": "body"})
    assert "is text and has no columns; leave out form, columns, keep_columns" in said


# Broken rows: dropped by name, with file and row.


def test_broken_rows_are_dropped_with_a_reason_and_their_number(tmp_path):
    rows = [{"messages": CHAT}, '{"messages": [', "[1, 2]", {"messages": None}, {"other": 1}, '{"messages": ']
    outcomes = read(kind="jsonl", path=str(write_jsonl(tmp_path / "bad.jsonl", rows)))
    assert reasons(outcomes) == [
        None,
        (2, "broken_json"),
        (3, "not_an_object"),
        (4, "missing_value"),
        (5, "missing_value"),
        (6, "broken_json"),
    ]
    assert outcomes[1].document.text == '{"messages": ['
    assert "column" in outcomes[1].detail
    assert outcomes[4].document.text == '{"other": 1}'
    assert {each.step for each in outcomes[1:]} == {"read"}
    assert {each.document.source for each in outcomes[1:]} == {"bad.jsonl"}


def test_a_half_written_last_line_is_one_broken_row(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "whole"}\n{"text": "ha')
    assert reasons(read(path=str(tmp_path / "a.jsonl"))) == [None, (2, "broken_json")]


def test_bytes_that_are_not_utf8_drop_their_row_only(tmp_path):
    lines = [
        b'{"text": "caf\xe9"}',
        b'{"text": "good"}',
        b'{"text": 5}',
        b'{"text": "\\ud800"}',
        b'{"text": "\x01"}',
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    outcomes = read(kind="jsonl", path=str(tmp_path))
    assert reasons(outcomes) == [
        (1, "not_unicode"),
        None,
        (3, "content_not_text"),
        (4, "not_unicode"),
        (5, "broken_json"),
    ]
    assert outcomes[0].document.text == '{"text": "caf\\udce9"}'
    assert outcomes[1].text == "good"


def test_what_only_the_standard_library_takes_for_json_is_read(tmp_path):
    rows = ['{"text": "a", "score": NaN}', '{"text": "b"}\x0b', '{"text": "nul \\u0000 inside"}']
    assert texts(read_rows(tmp_path, rows)) == ["a", "b", "nul \0 inside"]


def test_hostile_json_is_a_broken_row(tmp_path):
    deep = "[" * 900 + "]" * 900
    rows = [{"text": "good"}, "[" * 100_000, f'{{"text": {deep}}}', {"text": deep}]
    outcomes = read_rows(tmp_path, rows)
    assert reasons(outcomes) == [None, (2, "broken_json"), (3, "content_not_text"), None]
    assert outcomes[3].text == deep


def test_emoji_and_right_to_left_text_come_through(tmp_path):
    written = ["👩‍👩‍👧‍👦 \U0001f1e9\U0001f1ea", "שלום \u200fעולם", "مرحبا"]
    assert texts(read_rows(tmp_path, [{"text": text} for text in written])) == written


@pytest.mark.heavy
def test_a_document_of_50_mb_on_one_line_is_read_in_seconds(tmp_path):
    text = "中文 words " * 4_000_000
    write_jsonl(tmp_path / "a.jsonl", [{"text": "before"}, {"text": text}, {"text": "after"}])
    started = time.perf_counter()
    assert [len(each) for each in texts(read(path=str(tmp_path / "a.jsonl")))] == [6, len(text), 5]
    assert time.perf_counter() - started < 20


def test_a_line_that_is_too_long_is_one_row_and_the_next_one_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MAX_ROW_BYTES", 1000)
    rows = [{"text": "before"}, {"text": "x" * 5000}, {"text": "y" * 988}, {"text": "after"}]
    outcomes = read_rows(tmp_path, rows)
    assert reasons(outcomes) == [None, (2, "row_too_large"), None, None]
    assert outcomes[1].document.text == '{"text": "' + "x" * 990
    assert outcomes[1].detail == "more than 1000 bytes"
    (tmp_path / "a.txt").write_text("x" * 1001)
    assert reasons(read(path=str(tmp_path / "a.txt"))) == [(1, "row_too_large")]


# Files that are not there, or not what the source says.


def test_what_is_not_there_is_refused(tmp_path):
    assert "no such file or folder" in refusal(kind="jsonl", path=str(tmp_path / "none.jsonl"))
    assert "matches no file" in refusal(kind="jsonl", path=str(tmp_path / "*.jsonl"))
    assert "holds no file with the ending .parquet" in refusal(kind="parquet", path=str(tmp_path))
    assert "holds no file with a known ending (.jsonl .ndjson .json" in refusal(path=str(tmp_path))
    assert "not a place pyarrow.fs knows" in refusal(kind="jsonl", path="gopher://host/a.jsonl")
    assert "package 'pydantik' is not installed; did you mean 'pydantic'?" in refusal(
        kind="python_docs", packages=["stdlib", "pydantik"]
    )


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("jsonl", b"", "the file is empty"),
        ("jsonl", b" \n\n", "nothing but white space"),
        ("jsonl", b"PAR1....PAR1", "is Parquet, not jsonl"),
        ("jsonl", b"\x00\x01\x02", "is binary or UTF-16, not jsonl"),
        ("jsonl", '{"text": "x"}'.encode("utf-16"), "is binary or UTF-16"),
        ("jsonl", b"\x1f\x8b\x08\x00", "gzip (give it the ending .gz)"),
        ("jsonl", b"\x28\xb5\x2f\xfd\x00", "zstd (give it the ending .zst)"),
        ("jsonl", b"PK\x03\x04", "a zip archive"),
        ("jsonl", b'[{"text": "a"}]\n', "a JSON array, not JSON lines; use 'kind: json'"),
        ("jsonl", b"text,n\na,1\n", "none of its first 50 lines is a JSON object"),
        ("json", b'{"text": "a"}\n{"text": "b"}\n', "JSON lines; use 'kind: jsonl'"),
        ("json", b"[]", "an empty array"),
        ("json", b"[1, 2]", "none of its first rows is an object"),
        ("json", b"text", "neither an array nor an object of JSON"),
        ("json", b'[{"text": "a"', "not valid JSON behind character 1: the file is cut off"),
        (
            "json",
            b'[{"text": "a"} {"text": "b"}]',
            "not valid JSON behind character 15: expected ',', found '{'",
        ),
        ("json", b'[{"text": "a"},]', "not valid JSON"),
        ("json", b"[" * 100_000, "nested too deeply"),
        ("csv", b"text,n\n", "a header line and no rows"),
        ("csv", b"text,text\na,b\n", "the header names column 'text' twice"),
        ("csv", b"PAR1", "is Parquet, not csv"),
        ("parquet", b'{"text": "x"}\n', "cannot be read as Parquet"),
        ("parquet", b"", "the file is empty"),
        ("text", b"%PDF-1.4", "is PDF, not text"),
        ("text", b"abc\x00", "is binary"),
        ("text", b"WARC/1.0\r\n", "is a web archive, not text"),
        ("html", b"PK\x03\x04", "a zip archive"),
        ("warc", b"<html>", "is no web archive"),
    ],
)
def test_a_file_of_another_format_is_refused_before_work(tmp_path, kind, content, message):
    file = tmp_path / f"file.{ {'text': 'txt'}.get(kind, kind) }"
    file.write_bytes(content)
    said = refusal(kind=kind, path=str(file))
    assert message in said
    assert str(file) in said


def test_an_empty_parquet_table_is_refused(tmp_path):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    assert "the table has no rows" in refusal(kind="parquet", path=str(tmp_path))


def test_binary_content_without_a_known_ending_is_refused(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(range(256)) * 10)
    assert "is binary or UTF-16; say its 'kind', or convert it to UTF-8" in refusal(
        path=str(tmp_path / "a.bin")
    )


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".zst", zstd), (".bz2", bz2.compress)])
def test_a_cut_off_archive_is_a_data_error(tmp_path, ending, pack):
    content = "".join(json.dumps({"text": f"{random.random()}"}) + "\n" for _ in range(20_000)).encode()
    whole = pack(content)
    file = tmp_path / f"a.jsonl{ending}"
    for kept in (20, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:kept])
        with pytest.raises(DataError, match=f"{file}: cannot be read: Truncated compressed stream"):
            read(kind="jsonl", path=str(tmp_path))
    file.write_bytes(whole + b"and more")
    with pytest.raises(DataError, match="cannot be read"):
        read(kind="jsonl", path=str(tmp_path))


def test_a_cut_off_parquet_file_is_a_data_error(tmp_path):
    pq.write_table(pa.table({"text": [str(random.random()) for _ in range(50_000)]}), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read as Parquet" in refusal(path=str(tmp_path / "a.parquet"))
    damaged = bytearray(whole)
    damaged[1000:3000] = b"\0" * 2000
    (tmp_path / "a.parquet").write_bytes(damaged)
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read(path=str(tmp_path / "a.parquet"))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet", "a.csv"])
def test_a_file_that_vanishes_or_changes_after_planning_is_a_data_error(tmp_path, name):
    file = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.table({"text": ["a"]}), file)
    else:
        text = b"text\na\n" if name.endswith("csv") else b'{"text": "a"}\n'
        file.write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    [unit] = units(str(file))
    unit = pickle.loads(pickle.dumps(unit))
    assert texts(unit.read()) == ["a"]
    os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(DataError, match=f"{file}: changed while it was in use .*; run again"):
        list(unit.read())
    file.unlink()
    with pytest.raises(
        DataError, match=f"{file}: is gone since it was listed; on a cluster, local paths must be"
    ):
        list(unit.read())


def test_a_file_one_may_not_read_is_said_to_be_so():
    is_root = os.geteuid() == 0
    folder = Path(tempfile.mkdtemp())  # pytest's own folder is closed to others as a whole
    try:
        folder.chmod(0o755)
        (folder / "closed").mkdir(mode=0o000)
        file = write_jsonl(folder / "a.jsonl", [{"text": "a"}])
        file.chmod(0o000)
        if is_root:  # who may read everything, unless as somebody else
            os.seteuid(65534)
        for path in (file, folder / "closed"):
            assert f"{path}: not readable by this user; change its mode" in refusal(
                kind="jsonl", path=str(path)
            )
    finally:
        if is_root:
            os.seteuid(0)
        (folder / "closed").chmod(0o700)
        shutil.rmtree(folder)


# A schema that changes between the files of a source.


def test_a_file_that_lacks_the_column_is_named(tmp_path):
    write_jsonl(tmp_path / "1.jsonl", [{"text": "a"}])
    write_jsonl(tmp_path / "2.jsonl", [{"body": "b"}])
    said = refusal(kind="jsonl", path=str(tmp_path))
    assert f"{tmp_path}/2.jsonl: cannot tell the form from its columns (body)" in said
    said = refusal(kind="jsonl", path=str(tmp_path), form="text")
    assert f"{tmp_path}/2.jsonl: no column 'text'; found: body" in said


def test_files_of_a_source_that_would_be_read_in_different_ways_are_refused(tmp_path):
    write_jsonl(tmp_path / "1.jsonl", [{"text": "a"}])
    write_jsonl(tmp_path / "2.jsonl", [{"messages": CHAT}])
    said = refusal(kind="jsonl", path=str(tmp_path))
    assert (
        f"{tmp_path}/2.jsonl: its rows have the form 'messages', those of {tmp_path.name}/1.jsonl 'text'"
        in said
    )
    write_jsonl(tmp_path / "2.jsonl", [{"content": "b"}])
    said = refusal(kind="jsonl", path=str(tmp_path))
    assert (
        f"{tmp_path}/2.jsonl: has no column 'text' to be read as 'text', which {tmp_path.name}/1.jsonl has"
        in said
    )


def test_a_column_that_changes_its_type_drops_rows_by_name(tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"text": [5]}), tmp_path / "2.parquet")
    assert reasons(read(path=str(tmp_path))) == [None, (1, "content_not_text")]


# Folders, globs, names and fingerprints.


def test_folders_and_globs_find_files_in_order(tmp_path):
    for name in ("b/2.jsonl", "a/1.jsonl", "a/.hidden.jsonl", "a/deep/3.jsonl", "a/x.txt"):
        write_jsonl(tmp_path / name, [{"text": name}])
    root = tmp_path.name
    everything = read(kind="jsonl", path=str(tmp_path))
    assert [each.uid for each in everything] == [
        f"{root}/a/1.jsonl:1",
        f"{root}/a/deep/3.jsonl:1",
        f"{root}/b/2.jsonl:1",
    ]
    assert contents(read(kind="jsonl", path=f"{tmp_path}/*/[12].jsonl")) == [["a/1.jsonl"], ["b/2.jsonl"]]
    assert len(read(kind="jsonl", path=f"{tmp_path}/**/?.jsonl")) == 3
    assert everything[0].domain == root


def test_a_name_with_wildcards_in_it_is_a_name_when_it_is_there(tmp_path):
    write_jsonl(tmp_path / "a[1]*.jsonl", [{"text": "starred"}])
    assert texts(read(path=str(tmp_path / "a[1]*.jsonl"))) == ["starred"]


def test_the_same_name_twice_gets_different_uids(tmp_path):
    paths = [str(write_jsonl(tmp_path / folder / "a.jsonl", [{"text": folder}])) for folder in ("x", "y")]
    found = [
        each
        for unit in units(paths[0], paths[1], {"path": paths[0], "domain": "again"})
        for each in unit.read()
    ]
    assert [(each.uid, each.text, each.domain) for each in found] == [
        ("a.jsonl:1", "x", "a"),
        ("a.jsonl~2:1", "y", "a"),
        ("a.jsonl~3:1", "x", "again"),
    ]
    assert [unit.priority for unit in units(*paths)] == [0, 1]
    inside = read(path=str(tmp_path))
    assert [each.uid for each in inside] == [f"{tmp_path.name}/x/a.jsonl:1", f"{tmp_path.name}/y/a.jsonl:1"]


def test_files_on_an_object_store_are_read(tmp_path, s3_root, monkeypatch):
    import pyarrow.fs as pafs

    monkeypatch.setattr(sources, "BYTES_PER_ITEM", 1000)
    place, _, options = s3_root.partition("?")
    filesystem, base = pafs.FileSystem.from_uri(s3_root)
    table = pa.table({"text": [f"row {number} " + "x" * 100 for number in range(100)]})
    for name in ("one", "two"):
        with filesystem.open_output_stream(f"{base}/{tmp_path.name}/{name}.jsonl") as stream:
            stream.write(b'{"text": "%s"}\n' % name.encode())
        with filesystem.open_output_stream(
            f"{base}/{tmp_path.name}/{name}.csv.gz", compression="gzip"
        ) as stream:
            stream.write(b"text\n%s\n" % name.encode())
    with filesystem.open_output_stream(f"{base}/{tmp_path.name}/t.parquet") as stream:
        pq.write_table(table, stream, row_group_size=20, compression="none")
    for kind, path in (
        ("jsonl", tmp_path.name),
        ("jsonl", f"{tmp_path.name}/*.jsonl"),
        ("csv", tmp_path.name),
    ):
        assert texts(read(kind=kind, path=f"{place}/{path}?{options}")) == ["one", "two"]
    planned = units({"kind": "parquet", "path": f"{place}/{tmp_path.name}?{options}"})
    assert [unit.part.first_row for unit in planned] == [1, 21, 41, 61, 81]
    assert texts(each for unit in planned for each in unit.read()) == table["text"].to_pylist()
    source = {"path": f"{place}/{tmp_path.name}/one.jsonl?{options}"}
    config = CleanConfig.model_validate({"sources": [source]})
    before = fingerprint_sources(config)
    with filesystem.open_output_stream(f"{base}/{tmp_path.name}/one.jsonl") as stream:
        stream.write(b'{"text": "changed"}\n')
    assert fingerprint_sources(config) != before
    assert "no such file" in refusal(kind="jsonl", path=f"{place}/nothing?{options}")


def test_the_fingerprint_follows_the_content_not_the_time(tmp_path):
    file = write_jsonl(tmp_path / "a.jsonl", [{"text": "x"}])
    config = CleanConfig.model_validate({"sources": [{"kind": "jsonl", "path": str(file)}]})
    before = fingerprint_sources(config)
    write_jsonl(file, [{"text": "x"}])
    os.utime(file, (1, 1))
    assert fingerprint_sources(config) == before
    write_jsonl(file, [{"text": "y"}])
    assert fingerprint_sources(config) != before


def test_a_file_is_read_once_for_its_fingerprint_and_its_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "BYTES_PER_ITEM", 1000)
    file = write_jsonl(tmp_path / "a.jsonl", [{"text": "x" * 90}] * 100)
    os.utime(file, (1, 1))
    config = CleanConfig.model_validate({"sources": [str(file)]})
    passes = source_scan._remembered_scan.cache_info().misses
    fingerprint_sources(config)
    assert len(plan_units(config)) == 10
    fingerprint_sources(config)
    assert source_scan._remembered_scan.cache_info().misses == passes + 1


# Parts.


@given(
    pieces=st.lists(st.text("a\né你", max_size=12), min_size=1, max_size=40),
    mark=st.sampled_from(["\n", "\n\n", "\n\n\n", "a\na", "你"]),
    part_bytes=st.integers(1, 50),
    block_bytes=st.integers(1, 40),
)
def test_parts_are_cut_at_marks_and_know_their_first_row(pieces, mark, part_bytes, block_bytes):
    content, encoded = mark.join(pieces).encode(), mark.encode()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_scan, "BLOCK_BYTES", block_bytes)
        Path(folder, "a").write_bytes(content)
        [file] = find_files(f"{folder}/a").files
        scan = source_scan.scan(file, encoded, part_bytes)
    split = content.split(encoded)
    assert scan.marks == len(split) - 1
    starts = {0: 1}
    for number, piece in enumerate(split[:-1], start=2):
        starts[max(starts) + len(piece) + len(encoded)] = number
    assert [part.first_row for part in scan.parts] == [starts[part.start] for part in scan.parts]
    assert [part.start for part in scan.parts] == [0, *(part.end for part in scan.parts[:-1])]
    assert scan.parts[-1].end == len(content)
    for part in scan.parts[:-1]:
        assert not [start for start in starts if part.start + part_bytes <= start < part.end]
        assert part.bytes >= part_bytes


@pytest.mark.parametrize("separator", [None, "\n\n\n"])
@pytest.mark.parametrize("item_bytes", [1, 37, 400, 10_000])
def test_a_file_in_parts_is_the_same_file(tmp_path, monkeypatch, item_bytes, separator):
    draw = random.Random(item_bytes)
    rows = [{"text": "你好 world\n" * draw.randrange(9)} for _ in range(60)]
    if separator:
        file = tmp_path / "a.txt"
        file.write_text(separator.join(row["text"] for row in rows) + separator, encoding="utf-8")
        source = {"kind": "text", "path": str(file), "separator": separator}
    else:
        lines = [json.dumps(row) if draw.random() < 0.8 else "" for row in rows]
        file = write_jsonl(tmp_path / "a.jsonl", [*lines, '{"half'])
        source = {"kind": "jsonl", "path": str(file)}
    [whole] = units(source)
    expected = list(whole.read())
    monkeypatch.setattr(sources, "BYTES_PER_ITEM", item_bytes)
    parts = units(source)
    assert len(parts) > 1 or item_bytes == 10_000
    assert [each for part in parts for each in pickle.loads(pickle.dumps(part)).read()] == expected
    assert sum(part.weight for part in parts) == pytest.approx(file.stat().st_size / item_bytes)


def test_parquet_is_cut_at_row_groups(tmp_path, monkeypatch):
    table = pa.table({"text": [f"row {number} {'x' * 100}" for number in range(1000)]})
    pq.write_table(
        table, tmp_path / "a.parquet", row_group_size=100, compression="none", use_dictionary=False
    )
    size = (tmp_path / "a.parquet").stat().st_size
    monkeypatch.setattr(sources, "BYTES_PER_ITEM", size // 4)
    planned = units(str(tmp_path / "a.parquet"))
    assert [(part.part.start, part.part.end, part.part.first_row) for part in planned] == [
        (0, 3, 1),
        (3, 6, 301),
        (6, 9, 601),
        (9, 10, 901),
    ]
    found = [each for unit in planned for each in unit.read()]
    assert [each.row for each in found] == list(range(1, 1001))
    assert texts(found) == table["text"].to_pylist()
    assert sum(unit.weight for unit in planned) == pytest.approx(4, rel=0.01)


def test_long_documents_in_parquet_come_a_few_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("heliostat.data.reader_parquet.BYTES_PER_BATCH", 10_000)
    rows = [f"{number} {'x' * 4_000}" for number in range(9)]
    pq.write_table(pa.table({"text": rows}), tmp_path / "a.parquet", compression="none", use_dictionary=False)
    assert texts(read(path=str(tmp_path / "a.parquet"))) == rows


def test_small_files_share_a_work_item_and_large_ones_do_not(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("x" * 6 * 2**20)
    planned = units({"kind": "text", "path": str(tmp_path)})
    assert [len(item) for item in group_units(planned)] == [2, 1]
    assert group_units([]) == []


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json", "a.csv", "a.parquet"])
def test_reading_takes_no_more_memory_for_a_larger_file(tmp_path, name):
    """In a process of its own, each file as one part: what counts is the most it ever had."""
    peaks = [
        memory_for_reading(write_rows(tmp_path / f"{number}-{name}", number)) for number in (1_000, 15_000)
    ]
    assert peaks[1] - peaks[0] < 20_000, peaks  # KiB; the larger file has 140 MB more text


def write_rows(file: Path, number: int) -> Path:
    row = {"text": "word " * 2000}
    opener = gzip.open if file.suffix == ".gz" else open
    if file.suffix == ".parquet":
        schema = pa.schema([("text", pa.string())])
        with pq.ParquetWriter(file, schema, compression="none", use_dictionary=False) as writer:
            for _ in range(number // 1000):
                writer.write_table(pa.table({"text": [row["text"]] * 1000}))
        return file
    with opener(file, "wt") as stream:
        is_array, is_csv = file.suffix == ".json", file.suffix == ".csv"
        stream.write("[" if is_array else "text,n\n" if is_csv else "")
        for position in range(number):
            stream.write("," if is_array and position else "")
            stream.write(f"{row['text']},1\n" if is_csv else json.dumps(row) + "\n")
        stream.write("]" if is_array else "")
    return file


def memory_for_reading(file: Path) -> int:
    code = (
        "import resource, sys\n"
        "from heliostat.data import sources\n"
        "from heliostat.data.config import CleanConfig\n"
        "sources.BYTES_PER_ITEM = 2**40\n"
        "[unit] = sources.plan_units(CleanConfig(sources=(sys.argv[1],)))\n"
        "assert sum(1 for _ in unit.read()) >= 1000\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    command = [sys.executable, "-c", code, str(file)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_config_errors_and_data_errors_are_told_apart(tmp_path):
    with pytest.raises(ConfigError):
        check_sources(
            CleanConfig.model_validate({"sources": [{"kind": "text", "path": str(tmp_path / "no")}]})
        )
    (tmp_path / "empty.txt").touch()
    with pytest.raises(DataError):
        check_sources(CleanConfig.model_validate({"sources": [str(tmp_path / "empty.txt")]}))


def test_all_outcomes_are_documents_or_dropped(tmp_path):
    outcomes = read_rows(tmp_path, [{"text": "a"}, "oops"])
    assert [type(each) for each in outcomes] == [Document, Dropped]
