"""Sources: every format and form, broken rows with their numbers, files that are not what they should be."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.in_process import write_jsonl

from heliostat.data.config import CleanConfig
from heliostat.data.documents import Document, Dropped
from heliostat.data.sources import check_sources, fingerprint_sources, group_units, plan_units
from heliostat.errors import ConfigError, DataError, HeliostatError

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def read(**source) -> list[Document | Dropped]:
    config = CleanConfig.model_validate({"sources": [source]})
    check_sources(config)
    return [outcome for unit in plan_units(config) for outcome in unit.read()]


def refusal(**source) -> str:
    with pytest.raises(HeliostatError) as caught:
        check_sources(CleanConfig.model_validate({"sources": [source]}))
    message = str(caught.value)
    assert "\n" not in message
    return message


def contents(outcomes) -> list[list[str]]:
    return [outcome.contents for outcome in outcomes]


# The forms, recognised from the columns.


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "你好，世界"}, ["你好，世界"]),
        ({"instruction": "Add", "input": "1 2", "output": "3"}, ["Add\n\n1 2", "3"]),
        ({"instruction": "Add", "input": "", "output": "3"}, ["Add", "3"]),
        ({"system": "Be brief", "instruction": "Add", "output": "3"}, ["Be brief", "Add", "3"]),
        ({"messages": CHAT}, ["Hi", "Hello"]),
        ({"messages": json.dumps(CHAT)}, ["Hi", "Hello"]),
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]}, ["Hi", "Yo"]),
    ],
)
def test_a_form_is_recognised_from_its_columns(tmp_path, row, expected):
    file = write_jsonl(tmp_path / "a.jsonl", [row])
    assert contents(read(kind="jsonl", path=str(file))) == [expected]


def test_columns_with_other_names_are_mapped(tmp_path):
    file = write_jsonl(tmp_path / "a.jsonl", [{"q": "Why?", "a": "Because.", "topic": "logic"}])
    columns = {"instruction": "q", "output": "a", "domain": "topic"}
    [document] = read(kind="jsonl", path=str(file), form="alpaca", columns=columns)
    assert document == Document(
        uid="a.jsonl:1",
        source="a.jsonl",
        row=1,
        domain="logic",
        messages=({"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}),
    )


# The formats.


def test_parquet_rows_are_read(tmp_path):
    table = pa.table({"text": ["one", None, "three"], "other": [1, 2, 3]})
    pq.write_table(table, tmp_path / "a.parquet")
    first, second, third = read(kind="parquet", path=str(tmp_path / "a.parquet"))
    assert (first.text, third.text, third.row) == ("one", "three", 3)
    assert (second.reason, second.document.row) == ("missing_value", 2)


def test_messages_in_parquet_structs_are_read(tmp_path):
    pq.write_table(pa.table({"messages": [CHAT]}), tmp_path / "a.parquet")
    assert contents(read(kind="parquet", path=str(tmp_path))) == [["Hi", "Hello"]]


def test_csv_rows_are_read_with_their_numbers(tmp_path):
    (tmp_path / "a.csv").write_text('text,n\n"two\nlines",1\nshort\n,3\n' + "x" * 200_000 + ",4\n")
    outcomes = read(kind="csv", path=str(tmp_path / "a.csv"))
    assert outcomes[0].text == "two\nlines"
    assert [(each.document.row, each.reason, each.detail) for each in outcomes[1:3]] == [
        (2, "wrong_number_of_fields", "1 fields, the header has 2"),
        (3, "empty", ""),
    ]
    assert len(outcomes[3].text) == 200_000


def test_csv_with_another_delimiter(tmp_path):
    (tmp_path / "a.tsv").write_text("text\tn\na,b\t1\n")
    assert contents(read(kind="csv", path=str(tmp_path), delimiter="\t")) == [["a,b"]]


def test_a_text_file_is_one_document_or_several(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\n\ntwo\n\n\n\n\n\nthree", encoding="utf-8")
    assert contents(read(kind="text", path=str(tmp_path / "a.txt"))) == [["one\n\n\ntwo\n\n\n\n\n\nthree"]]
    pieces = read(kind="text", path=str(tmp_path / "a.txt"), separator="\n\n\n")
    assert [piece.text for piece in pieces if isinstance(piece, Document)] == ["one", "two", "three"]
    assert [piece.reason for piece in pieces if isinstance(piece, Dropped)] == ["empty"]


def test_packed_files_are_unpacked(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "packed"}\n'))
    assert contents(read(kind="jsonl", path=str(tmp_path))) == [["packed"]]


def test_a_byte_order_mark_and_blank_lines_are_no_rows(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "one"}\n\n\n{"text": "four"}')
    assert [(each.text, each.row) for each in read(kind="jsonl", path=str(tmp_path))] == [
        ("one", 1),
        ("four", 4),
    ]


# Broken rows: dropped by name, with file and row.


def test_broken_rows_are_dropped_with_a_reason_and_their_number(tmp_path):
    turns = [{"role": "user", "content": "a"}]
    rows = [
        {"messages": CHAT},
        '{"messages": [',
        "[1, 2]",
        {"messages": None},
        {"messages": "{oops"},
        {"messages": [*turns, *turns, CHAT[1]]},
        {"messages": [CHAT[1], *turns]},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, CHAT[1]]},
        {"messages": turns},
        {"messages": []},
        {"messages": [turns[0], {"role": "assistant", "content": "  "}]},
        '{"messages": [{"role": "user", "content": "\\ud800"}, {"role": "assistant", "content": "x"}]}',
        {"other": 1},
    ]
    outcomes = read(kind="jsonl", path=str(write_jsonl(tmp_path / "bad.jsonl", rows)))
    assert isinstance(outcomes[0], Document)
    assert [(each.document.row, each.reason) for each in outcomes[1:]] == [
        (2, "broken_json"),
        (3, "not_an_object"),
        (4, "missing_value"),
        (5, "broken_json"),
        (6, "wrong_role_order"),
        (7, "wrong_role_order"),
        (8, "unknown_role"),
        (9, "content_not_text"),
        (10, "no_answer"),
        (11, "no_messages"),
        (12, "empty_message"),
        (13, "not_unicode"),
        (14, "missing_value"),
    ]
    assert outcomes[1].document.text == '{"messages": ['
    assert "column" in outcomes[1].detail
    assert {each.step for each in outcomes[1:]} == {"read"}
    assert {each.document.source for each in outcomes[1:]} == {"bad.jsonl"}


def test_bytes_that_are_not_utf8_drop_their_row_only(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "caf\xe9"}\n{"text": "good"}\n{"text": 5}\n')
    first, second, third = read(kind="jsonl", path=str(tmp_path))
    assert (first.reason, first.document.row) == ("not_unicode", 1)
    assert second.text == "good"
    assert third.reason == "content_not_text"


def test_hostile_json_is_a_broken_row(tmp_path):
    deep = "[" * 900 + "]" * 900
    rows = [{"text": "good"}, "[" * 100_000, f'{{"text": {deep}}}', {"text": deep}]
    outcomes = read(kind="jsonl", path=str(write_jsonl(tmp_path / "a.jsonl", rows)))
    assert [outcome.reason for outcome in outcomes[1:3]] == ["broken_json", "content_not_text"]
    assert outcomes[3].text == deep


# Files that are not there, or not what the source says.


def test_what_is_not_there_is_refused(tmp_path):
    assert "no such file or folder" in refusal(kind="jsonl", path=str(tmp_path / "none.jsonl"))
    assert "matches no file" in refusal(kind="jsonl", path=str(tmp_path / "*.jsonl"))
    assert "holds no file with the ending .parquet" in refusal(kind="parquet", path=str(tmp_path))
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
        ("jsonl", b"PK\x03\x04", "a zip archive"),
        ("jsonl", b'[{"text": "a"}]\n', "a JSON array, not JSON lines"),
        ("jsonl", b"text,n\na,1\n", "none of its first 50 lines is a JSON object"),
        ("csv", b"text,n\n", "a header line and no rows"),
        ("csv", b"PAR1", "is Parquet, not csv"),
        ("parquet", b'{"text": "x"}\n', "cannot be read as Parquet"),
        ("parquet", b"", "the file is empty"),
        ("text", b"%PDF-1.4", "is PDF, not text"),
        ("text", b"abc\x00", "is binary"),
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


def test_a_cut_off_archive_is_a_data_error(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "packed"}\n' * 9)[:20])
    with pytest.raises(DataError, match="cannot be read"):
        read(kind="jsonl", path=str(tmp_path))


def test_a_missing_column_lists_those_there_are_and_a_close_one(tmp_path):
    file = write_jsonl(tmp_path / "a.jsonl", [{"texts": "x", "id": 1}])
    said = refusal(kind="jsonl", path=str(file), form="text")
    assert "no column 'text'; found: id, texts; did you mean 'texts'?" in said
    assert "columns: {text: texts}" in said
    assert "cannot tell the form from its columns (id, texts)" in refusal(kind="jsonl", path=str(file))
    mapped = refusal(kind="jsonl", path=str(file), form="text", columns={"text": "body"})
    assert "no column 'body'" in mapped
    domain = refusal(kind="jsonl", path=str(file), columns={"text": "texts", "domain": "topic"})
    assert "no column 'topic'" in domain


# Folders, globs, names and fingerprints.


def test_folders_and_globs_find_files_in_order(tmp_path):
    for name in ("b/2.jsonl", "a/1.jsonl", "a/.hidden.jsonl", "a/deep/3.jsonl", "a/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
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


def test_the_same_file_twice_gets_different_uids(tmp_path):
    file = str(write_jsonl(tmp_path / "a.jsonl", [{"text": "x"}]))
    source = {"kind": "jsonl", "path": file}
    units = plan_units(CleanConfig.model_validate({"sources": [source, source | {"domain": "again"}]}))
    assert [(each.uid, each.domain) for unit in units for each in unit.read()] == [
        ("a.jsonl:1", "a"),
        ("a.jsonl~2:1", "again"),
    ]


def test_files_on_an_object_store_are_read(tmp_path, s3_root):
    import pyarrow.fs as pafs

    place, _, options = s3_root.partition("?")
    filesystem, base = pafs.FileSystem.from_uri(s3_root)
    for name in ("one", "two"):
        with filesystem.open_output_stream(f"{base}/{tmp_path.name}/{name}.jsonl") as stream:
            stream.write(b'{"text": "%s"}\n' % name.encode())
    for path in (tmp_path.name, f"{tmp_path.name}/*.jsonl"):
        source = {"kind": "jsonl", "path": f"{place}/{path}?{options}"}
        assert contents(read(**source)) == [["one"], ["two"]]
    assert "no such file" in refusal(kind="jsonl", path=f"{place}/nothing?{options}")


def test_the_fingerprint_follows_the_content_not_the_time(tmp_path):
    file = write_jsonl(tmp_path / "a.jsonl", [{"text": "x"}])
    config = CleanConfig.model_validate({"sources": [{"kind": "jsonl", "path": str(file)}]})
    before = fingerprint_sources(config)
    write_jsonl(file, [{"text": "x"}])
    assert fingerprint_sources(config) == before
    write_jsonl(file, [{"text": "y"}])
    assert fingerprint_sources(config) != before


def test_small_files_share_a_work_item_and_large_ones_do_not(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("x" * 12 * 2**20)
    units = plan_units(CleanConfig.model_validate({"sources": [{"kind": "text", "path": str(tmp_path)}]}))
    assert [len(item) for item in group_units(units)] == [2, 1]
    assert group_units([]) == []


def test_config_errors_and_data_errors_are_told_apart(tmp_path):
    with pytest.raises(ConfigError):
        check_sources(
            CleanConfig.model_validate({"sources": [{"kind": "text", "path": str(tmp_path / "no")}]})
        )
