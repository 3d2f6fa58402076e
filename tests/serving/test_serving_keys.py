"""Keys: what is kept of them, what they open, and what a gateway notices of a change while it runs."""

import json
import logging
import os
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliostat.cli.app import execute
from heliostat.errors import ConfigError, ServingError
from heliostat.serving.access.admission import Access
from heliostat.serving.access.config import ROUTES, AccessConfig, Limits
from heliostat.serving.access.key_records import (
    KEYS_PATH,
    KeyReader,
    KeyScope,
    duration_of,
    make_key,
    moment_of,
    write_keys,
)
from heliostat.serving.access.key_store import KeyStore
from heliostat.serving.access.keyring import Keyring, PlainKeys
from heliostat.serving.api.errors import RefusedRequest
from heliostat.storage import Storage

KEY = re.compile(r"sk-hs-[0-9a-f]{10}-[0-9a-f]{64}")


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage.at(tmp_path)


def scope(**fields) -> KeyScope:
    return KeyScope.model_validate({"name": "ci", "tenant": "acme"} | fields)


def bearer(key: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + key.encode())]


def access_to(storage: Storage, **config) -> Access:
    return Access(AccessConfig.model_validate(config), KeyStore(storage), loopback_only=True)


def refusal(access: Access, headers, peer="127.0.0.1", route="chat") -> RefusedRequest:
    with pytest.raises(RefusedRequest) as caught:
        access.admit(headers, peer, route)
    return caught.value


def test_a_key_is_shown_once_and_only_a_salted_hash_is_kept(storage):
    key, record = KeyStore(storage).create(scope())
    assert KEY.fullmatch(key)
    assert key.startswith(record.prefix)
    kept = storage.read_bytes(KEYS_PATH).decode()
    assert record.prefix in kept
    assert key.rpartition("-")[2] not in kept
    again, other = make_key(scope(), record.created_at)
    assert {again, other.salt, other.digest}.isdisjoint({key, record.salt, record.digest})


def test_a_key_names_its_caller(storage):
    key, record = KeyStore(storage).create(scope(models=["quick*"], limits={"concurrency": 3}))
    caller = access_to(storage).admit(bearer(key), "127.0.0.1", "chat")
    assert (caller.tenant, caller.name, caller.key_prefix) == ("acme", "ci", record.prefix)
    assert caller.limits == Limits(concurrency=3)
    assert "admin" not in caller.routes
    assert key not in repr(caller)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer \t ",
        b"Basic KEY",
        b"KEY",
        b"BearerKEY",
        b"Bearer KEYx",
        b"Bearer xKEY",
        b"Bearer KEY\x00",
        b"Bearer KEY\r\nx: y",
        b"Bearer \xff\xfe\x80",
        "Bearer ключ".encode(),
        b"Bearer " + b"a" * 2**20,
        b"Bearer KEY KEY",
        b"Bearer PREFIX-" + b"0" * 64,
        b"Bearer sk-hs-0000000000-" + b"0" * 64,
        b"Bearer PREFIX",
        b"Bearer PREFIX-",
        b"Bearer -",
    ],
    ids=lambda value: repr(value[:24]),
)
def test_whatever_is_no_key_is_401(storage, value):
    key, record = KeyStore(storage).create(scope())
    access = access_to(storage)
    value = value.replace(b"KEY", key.encode()).replace(b"PREFIX", record.prefix.encode())
    started = time.process_time()
    refused = refusal(access, [(b"authorization", value)])
    assert time.process_time() - started < 0.05
    assert (refused.status, refused.code) == (401, "invalid_api_key")
    assert refused.headers["www-authenticate"] == "Bearer"
    assert key not in str(refused)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_but_the_key_open_a_ring(value):
    key, record = make_key(scope(), datetime.now(UTC))
    ring = Keyring([record])
    assert ring.find(value) is None
    found = ring.find(key.encode())
    assert found
    assert found[0] is record


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_scheme_is_read_in_any_case(storage, scheme):
    key, _ = KeyStore(storage).create(scope())
    headers = [(b"Authorization", f"{scheme}  {key} ".encode())]
    assert access_to(storage).admit(headers, "127.0.0.1", "chat").tenant == "acme"


def test_two_authorization_headers_are_refused_even_when_both_are_right(storage):
    key, _ = KeyStore(storage).create(scope())
    refused = refusal(access_to(storage), [*bearer(key), *bearer(key)])
    assert refused.status == 401
    assert "send one" in str(refused)


def test_a_request_without_headers_is_401_once_there_is_a_key(storage):
    access = access_to(storage)
    assert access.admit([], "127.0.0.1", "chat").tenant == "local"
    KeyStore(storage).create(scope())
    access.refresh()
    assert refusal(access, []).status == 401


def test_without_keys_only_this_machine_is_let_in(storage):
    access = access_to(storage, trusted_proxies=["127.0.0.1"])
    anonymous = access.admit([], "::1", "admin")
    assert (anonymous.tenant, anonymous.routes) == ("local", ROUTES)
    assert refusal(access, [(b"x-forwarded-for", b"203.0.113.9")]).status == 401
    with pytest.raises(ServingError, match="heliostat keys create"):
        Access(AccessConfig(), KeyStore(storage), loopback_only=False)


def test_taking_all_keys_out_of_the_file_does_not_open_the_gateway(storage):
    KeyStore(storage).create(scope())
    access = access_to(storage)
    storage.write_bytes(KEYS_PATH, write_keys(()))
    access.refresh()
    assert refusal(access, []).status == 401


def test_a_revoked_key_ends_in_a_running_gateway(storage):
    key, record = KeyStore(storage).create(scope())
    access = access_to(storage)
    access.admit(bearer(key), "127.0.0.1", "chat")
    first = KeyStore(storage).revoke(record.prefix)
    assert KeyStore(storage).revoke(record.prefix) == first, "a second time changes nothing"
    access.refresh()
    refused = refusal(access, bearer(key))
    assert (refused.status, str(refused)) == (401, "This API key is revoked")


@pytest.mark.anyio
async def test_a_gateway_that_watches_notices_by_itself(storage):
    import asyncio

    key, record = KeyStore(storage).create(scope())
    access = access_to(storage)
    watching = asyncio.create_task(access.watch())
    try:
        KeyStore(storage).revoke(record.prefix)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                access.admit(bearer(key), "127.0.0.1", "chat")
            except RefusedRequest:
                return
            await asyncio.sleep(0.05)
        pytest.fail("the revoked key still opens")
    finally:
        watching.cancel()


def test_a_gateway_that_nobody_watches_for_looks_when_it_is_late(storage, monkeypatch):
    key, record = KeyStore(storage).create(scope())
    access = access_to(storage)
    KeyStore(storage).revoke(record.prefix)
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + 6)
    assert refusal(access, bearer(key)).status == 401


def test_an_expired_key_is_refused_and_a_clock_set_back_does_not_revive_it(storage, monkeypatch):
    ends = datetime.now(UTC) + timedelta(hours=1)
    key, _ = KeyStore(storage).create(scope(expires_at=ends))
    access = access_to(storage)
    access.admit(bearer(key), "127.0.0.1", "chat")
    wall, monotonic = time.time, time.monotonic
    monkeypatch.setattr(time, "time", lambda: wall() + 3601)
    assert str(refusal(access, bearer(key))) == "This API key is expired"
    monkeypatch.setattr(time, "time", lambda: wall() - 86400)
    access.admit(bearer(key), "127.0.0.1", "chat")  # an hour has not passed, whatever the clock says
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + 3601)
    assert refusal(access, bearer(key)).status == 401


def test_rotation_keeps_scope_and_limits_and_lets_the_old_key_end(storage):
    store = KeyStore(storage)
    key, record = store.create(scope(models=["a*"], expires_at=datetime.now(UTC) + timedelta(days=30)))
    new_key, new, old = store.rotate(record.prefix, timedelta(days=1))
    access = access_to(storage)
    for each in (key, new_key):
        caller = access.admit(bearer(each), "127.0.0.1", "chat")
        assert (caller.family, caller.models) == (record.prefix, ("a*",))
    assert old.scope.expires_at - datetime.now(UTC) < timedelta(days=1, seconds=1)
    assert new.scope.expires_at - datetime.now(UTC) > timedelta(days=29)
    _, _, ended = store.rotate(new.prefix, timedelta())
    assert ended.revoked_at is not None
    access.refresh()
    assert refusal(access, bearer(new_key)).status == 401
    with pytest.raises(ConfigError, match="is revoked and cannot be rotated"):
        store.rotate(new.prefix, timedelta())


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


@pytest.fixture
def run(tmp_path, capsys):
    def run(*arguments: str) -> tuple[int, str, str]:
        code = execute(["keys", *arguments, "--workspace", str(tmp_path)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_the_command_makes_lists_rotates_and_revokes(run, storage):
    options = (
        "--tenant",
        "acme",
        "--models",
        "quick*, chat",
        "--routes",
        "chat,embeddings",
        "--expires",
        "30d",
    )
    limits = ("--requests-per-minute", "60", "--tokens-per-minute", "9000", "--concurrency", "2")
    code, out, err = run("create", "ci", *options, *limits, "--cidr", "10.0.0.0/8", "--cidr", "::1")
    assert code == 0
    assert KEY.fullmatch(out.strip()), "nothing but the key, for pipes"
    prefix = out[:16]
    assert prefix in err
    secret = out.strip().rpartition("-")[2]
    assert secret not in err
    record = KeyStore(storage).records()[0]
    assert record.scope.models == ("quick*", "chat")
    assert record.scope.networks == ("10.0.0.0/8", "::1/128")
    listed = run("list")[1]
    row = listed.splitlines()[1]
    for shown in (
        prefix,
        "acme",
        "active",
        "quick*,chat",
        "chat,embeddings",
        "10.0.0.0/8",
        "60 requests/min",
    ):
        assert shown in row
    assert secret not in listed
    assert record.digest not in listed
    code, new, err = run("rotate", prefix, "--grace", "0")
    assert code == 0
    assert "has ended" in err
    assert run("revoke", new.strip())[0] == 0, "a whole key is understood, and not repeated"
    states = [line.split()[3] for line in run("list")[1].splitlines()[1:]]
    assert states == ["revoked", "revoked"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("create", "a b"), "name: "),
        (("create", "a", "--routes", "chat,fly"), "routes.1: "),
        (("create", "a", "--cidr", "10.1.2.3/8"), "'10.0.0.0/8' is the network around it"),
        (("create", "a", "--cidr", "nowhere"), "is no network"),
        (("create", "a", "--models", "a,,b"), "models.1: "),
        (("create", "a", "--expires", "soon"), "no length of time"),
        (("revoke", "sk-hs-0123456789"), "there is no key sk-hs-0123456789"),
        (("revoke", "my-old-secret"), "not a key's prefix"),
        (("rotate", "sk-hs-0123456789", "--grace", "x"), "no length of time"),
    ],
)
def test_a_wrong_command_is_one_line(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert "my-old-secret" not in err


def test_no_key_is_in_any_output(run, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    store = KeyStore(Storage.at(tmp_path))
    keys = [store.create(scope(name=f"n{number}"))[0] for number in range(3)]
    access = access_to(Storage.at(tmp_path), trusted_proxies=["10.0.0.0/8"])
    everything = ""
    for key in keys:
        for headers in (bearer(key) * 2, bearer(key + "x"), [(b"x-forwarded-for", key.encode())]):
            refused = refusal(access, headers, "10.0.0.1")
            everything += json.dumps(refused.body) + repr(refused) + repr(refused.headers)
        everything += repr(access.admit(bearer(key), "10.0.0.1", "chat"))
        everything += repr(run("rotate", key)) + repr(run("revoke", key)) + repr(run("revoke", f" {key}"))
    access.refresh()
    everything += caplog.text + repr(run("list"))
    for folder, _, names in os.walk(tmp_path):
        everything += "".join(Path(folder, name).read_text() for name in names)
    assert "sk-hs-" in everything
    assert not any(key.rpartition("-")[2] in everything for key in keys)
