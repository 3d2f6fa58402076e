"""The file of keys: damaged, gone, large, changed by several at once; and files of plain keys beside it."""

import json
import logging
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.serving.key_holders import access_to, bearer, refusal, scope

from heliostat.errors import ConfigError, ServingError
from heliostat.serving.access.admission import Access
from heliostat.serving.access.config import AccessConfig
from heliostat.serving.access.key_records import (
    KEYS_PATH,
    KeyReader,
    duration_of,
    make_key,
    moment_of,
    write_keys,
)
from heliostat.serving.access.key_store import KeyStore
from heliostat.serving.access.keyring import PlainKeys
from heliostat.storage import Storage


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage.at(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "EOF"),
        (b'{"version":1,"keys":[{"prefix":"sk-', "EOF"),
        (b"[]", "should be an object"),
        (b'{"version":2,"keys":[]}', "version"),
        (b'{"version":1,"keys":[],"more":1}', "more: Extra inputs"),
        (b'{"version":1,"keys":[{"prefix":"sk-hs-1"}]}', "keys.0.family: Field required"),
        (b"\xff\xfe\x00", ""),
    ],
)
def test_a_damaged_file_is_one_line_at_start_and_changes_nothing_in_a_gateway(
    storage, content, message, caplog
):
    key, _ = KeyStore(storage).create(scope())
    access = access_to(storage)
    storage.write_bytes(KEYS_PATH, content)
    with pytest.raises(ServingError, match="is no file of keys") as caught:
        KeyStore(storage)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            access.refresh()
    assert [record.message.count("those read before stay") for record in caplog.records] == [1]
    access.admit(bearer(key), "127.0.0.1", "chat")


def test_a_file_that_vanishes_or_cannot_be_read_leaves_the_old_keys(storage, caplog):
    key, _ = KeyStore(storage).create(scope())
    access = access_to(storage)
    Path(storage.uri(KEYS_PATH)).unlink()
    access.refresh()
    assert "has vanished" in caplog.text
    Path(storage.uri(KEYS_PATH)).mkdir()
    access.refresh()
    access.admit(bearer(key), "127.0.0.1", "chat")


def test_a_prefix_that_is_there_twice_is_refused(storage):
    _, record = make_key(scope(), datetime.now(UTC))
    with pytest.raises(ServingError, match="twice"):
        KeyReader().read(write_keys((record, record)), "keys.json")


def test_a_file_laid_out_by_others_means_the_same():
    records = tuple(make_key(scope(), datetime.now(UTC))[1] for _ in range(3))
    content = write_keys(records)
    reader = KeyReader()
    assert reader.read(content, "keys.json") == records
    assert reader.read(json.dumps(json.loads(content), indent=2).encode(), "keys.json") == records
    assert all(a is b for a, b in zip(reader.read(content, ""), reader.read(content, ""), strict=True))
    assert reader.read(write_keys(()), "keys.json") == ()
    for damaged in (content.replace(b",\n", b"\n"), content[:-4], content.replace(b'"digest"', b'"digast"')):
        with pytest.raises(ServingError, match="is no file of keys"):
            reader.read(damaged, "keys.json")


def test_ten_thousand_keys_are_read_and_found_quickly(storage):
    narrow = scope(networks=["10.0.0.0/8"])
    made = [make_key(narrow, datetime.now(UTC)) for _ in range(10_001)]
    records = tuple(record for _, record in made)
    storage.write_bytes(KEYS_PATH, write_keys(records[:-1]))
    started = time.process_time()
    access = access_to(storage)
    assert time.process_time() - started < 3
    headers = bearer(made[5000][0])
    started = time.process_time()
    for _ in range(1000):
        access.admit(headers, "10.1.2.3", "chat")
    assert (time.process_time() - started) / 1000 < 0.001
    started = time.process_time()
    for _ in range(1000):
        access.refresh()
    assert (time.process_time() - started) / 1000 < 0.001
    storage.write_bytes(KEYS_PATH, write_keys(records))
    started = time.process_time()
    access.refresh()
    assert time.process_time() - started < 0.2
    assert len(access._keys.ring) == 10_001


def test_changes_by_several_commands_at_once_are_all_kept(storage):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: KeyStore(storage).create(scope(name=f"n{number}")), range(16)))
    assert {record.scope.name for record in KeyStore(storage).records()} == {f"n{n}" for n in range(16)}


def test_plain_keys_of_a_file_open_everything_and_are_known_by_their_line(tmp_path, storage):
    file = tmp_path / "keys"
    file.write_text("# team a\nfirst-key\n\n  second-key  \nключ\n")
    plain = PlainKeys.read(str(file))
    access = Access(AccessConfig(), KeyStore(storage, plain), loopback_only=False)
    assert access.admit(bearer("first-key"), "127.0.0.1", "admin").key_prefix == "line-2"
    assert access.admit(bearer("second-key"), "8.8.8.8", "chat").key_prefix == "line-4"
    assert access.admit(bearer("ключ"), "8.8.8.8", "chat").key_prefix == "line-5"
    for wrong in ("", "first", "# team a", "line-2", "second-key\x00"):
        assert refusal(access, bearer(wrong)).status == 401
    assert "first-key" not in repr(plain)
    key, _ = KeyStore(storage).create(scope())
    access.refresh()
    for each in (key, "first-key"):
        access.admit(bearer(each), "127.0.0.1", "chat")


def test_a_missing_or_empty_key_file_is_refused(tmp_path):
    with pytest.raises(ServingError, match="cannot be read"):
        PlainKeys.read(str(tmp_path / "none"))
    (tmp_path / "empty").write_text("# nothing\n")
    with pytest.raises(ServingError, match="holds no key"):
        PlainKeys.read(str(tmp_path / "empty"))
    (tmp_path / "binary").write_bytes(b"\xff\x00")
    with pytest.raises(ServingError, match="not text"):
        PlainKeys.read(str(tmp_path / "binary"))
    (tmp_path / "long").write_text("x" * 2000)
    with pytest.raises(ServingError, match="at most 1024 bytes") as caught:
        PlainKeys.read(str(tmp_path / "long"))
    assert "xx" not in str(caught.value)


def test_times_are_read_as_people_write_them():
    now = datetime(2030, 1, 1, tzinfo=UTC)
    assert moment_of("30d", now) == now + timedelta(days=30)
    assert moment_of("2030-12-31", now) == datetime(2031, 1, 1, tzinfo=UTC)
    assert duration_of("90m") == timedelta(minutes=90)
    for wrong in ("", "d", "-1d", "1.5d", "30 d", "2029-01-01", "0", "1y", "٣d", "999999w"):
        with pytest.raises(ConfigError):
            moment_of(wrong, now)
