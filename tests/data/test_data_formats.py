"""The formats of sources: told from ending or content, read whole; broken rows dropped by name and number."""

import bz2
import gzip
import json
import time
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.source_files import (
    CHAT,
    contents,
    read,
    read_rows,
    reasons,
    refusal,
    texts,
    units,
    write_jsonl,
    zstd,
)

from heliostat.data import readers
from heliostat.data.documents import Document
from heliostat.errors import DataError

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


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "readme.html",
        "README_zh-CN.md",
        "Readme.en.txt",
        "LICENSE.txt",
        "licence.md",
        "CITATION.txt.gz",
        "changelog.rst",
        "CONTRIBUTING.md",
        "CODE_OF_CONDUCT.md",
        "notice.text",
        "license.json",
        "dataset_info.json",
        "dataset_dict.json",
        "state.json",
    ],
)
def test_what_has_the_name_of_a_companion_is_read_only_where_it_is_named(tmp_path, name):
    write_jsonl(tmp_path / "data" / "rows" / "train.jsonl", [{"text": "行"}])
    content = b'{"text": "no data"}' if name.endswith("json") else b"no data"
    if name.endswith("html"):
        content = b"<html><body><p>no data</p></body></html>"
    (tmp_path / "data" / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert texts(read(path=str(tmp_path / "data"))) == ["行"]
    assert texts(read(path=str(tmp_path / "data" / name))) == ["no data"]
    assert texts(read(path=f"{tmp_path}/data/{name[:3]}*")) == ["no data"]


def test_rows_are_data_whatever_their_file_is_called(tmp_path):
    names = ["README.csv", "citation.parquet", "citations.jsonl", "code.jsonl", "license.json"]
    names += ["license_clauses.jsonl", "notice.json", "readme.jsonl", "readmes.jsonl", "state.jsonl"]
    for name in names:
        write_jsonl(tmp_path / name, [{"text": f"许可 {name}"}])
    (tmp_path / "README.csv").write_text("text\n许可 README.csv\n", encoding="utf-8")
    pq.write_table(pa.table({"text": ["许可 citation.parquet"]}), tmp_path / "citation.parquet")
    (tmp_path / "notice.json").write_text('\ufeff\n[{"text": "许可 notice.json"}]', encoding="utf-8")
    write_jsonl(tmp_path / "license.json", [{"text": "许可"}, {"text": "license.json"}])
    expected = [f"许可 {name}" for name in names]
    expected[4:5] = ["许可", "license.json"]
    assert texts(read(path=str(tmp_path))) == expected
    assert texts(read(path=f"{tmp_path}/license_*.jsonl")) == ["许可 license_clauses.jsonl"]


def test_documents_with_longer_names_than_a_companion_are_data(tmp_path):
    names = ["citations.txt", "license_clauses.txt", "notices.md", "readme_corpus.txt", "state.txt"]
    for name in names:
        (tmp_path / name).write_text(f"文 {name}", encoding="utf-8")
    (tmp_path / "NOTICE.txt").write_text("no data")
    assert texts(read(path=str(tmp_path))) == [f"文 {name}" for name in names]
    assert texts(read(path=f"{tmp_path}/NOTICE.*")) == ["no data"]


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
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + b"x" * 999)
    assert reasons(read(path=str(tmp_path / "a.txt"))) == [(1, "row_too_large")]


@pytest.mark.parametrize("block_bytes", [1, 7, 100, 2**20])
@pytest.mark.parametrize("item_bytes", [1, 2**20])
def test_a_piece_that_is_too_long_is_one_row_and_the_next_one_is_read(
    tmp_path, monkeypatch, block_bytes, item_bytes
):
    monkeypatch.setattr(readers, "MAX_ROW_BYTES", 100)
    monkeypatch.setattr(readers, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr("heliostat.data.sources.BYTES_PER_ITEM", item_bytes)
    pieces = ["before", "汉" * 34, "汉字" * 16, "x" * 100, "y" * 101, "", "after 后", "z=" * 2000]
    (tmp_path / "a.txt").write_text("==\n".join(pieces), encoding="utf-8")
    outcomes = read(kind="text", path=str(tmp_path / "a.txt"), separator="==\n")
    assert reasons(outcomes) == [
        None,
        (2, "row_too_large"),
        None,
        None,
        (5, "row_too_large"),
        (6, "empty"),
        None,
        (8, "row_too_large"),
    ]
    assert texts([outcomes[0], *outcomes[2:4], outcomes[6]]) == [pieces[0], *pieces[2:4], pieces[6]]
    assert [outcomes[row - 1].detail for row in (2, 5, 8)] == ["more than 100 bytes"] * 3
    assert outcomes[4].document.text == "y" * 101
    assert outcomes[7].document.text == ("z=" * 51)[:101]


@pytest.mark.parametrize("piece", ["words ", "文字"])
def test_a_separator_that_never_comes_does_not_gather_the_file(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(readers, "MAX_ROW_BYTES", 2**20)
    (tmp_path / "a.txt").write_text(piece * 4 * 2**20, encoding="utf-8")
    [unit] = units({"kind": "text", "path": str(tmp_path / "a.txt"), "separator": "\n--\n"})
    tracemalloc.start()
    try:
        outcomes = list(unit.read())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reasons(outcomes) == [(1, "row_too_large")]
    assert outcomes[0].detail == "more than 1048576 bytes"
    assert peak < 12 * 2**20, peak  # the file has 24 MiB
