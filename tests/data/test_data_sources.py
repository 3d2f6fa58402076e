"""Files of sources: missing, broken, changed, in folders and in parts; nothing of them lost in silence."""

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
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
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

from heliostat.data import source_scan, sources
from heliostat.data.config import CleanConfig
from heliostat.data.documents import Document, Dropped
from heliostat.data.files import find_files
from heliostat.data.sources import check_sources, fingerprint_sources, group_units, plan_units
from heliostat.errors import ConfigError, DataError

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


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("[!x]*.jsonl", ["a", "中", "]"]),
        ("[^x]*.jsonl", ["a", "中", "]"]),
        ("[!x中]*.jsonl", ["a", "]"]),
        ("[!a-z]*.jsonl", ["中", "]"]),
        ("[]x]*.jsonl", ["x", "x!", "]"]),
        ("[!]x]*.jsonl", ["a", "中"]),
        ("?[!0-9].jsonl", ["x!"]),
        ("x[!].jsonl", ["x!"]),
        ("?[!_]*.jsonl", ["x!"]),
        ("deep[!_]c.jsonl", None),
        ("*[!x]/?.jsonl", ["deep/c"]),
    ],
)
def test_a_set_in_a_glob_is_read_as_a_shell_reads_it(tmp_path, glob, expected):
    names = ["a", "x", "x!", "]", "中", "deep/c"]
    for name in names:
        write_jsonl(tmp_path / f"{name}.jsonl", [{"text": name}])
    if expected is None:
        assert "matches no file" in refusal(path=f"{tmp_path}/{glob}")
        return
    assert sorted(texts(read(path=f"{tmp_path}/{glob}"))) == sorted(expected)


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
