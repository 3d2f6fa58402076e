"""Keys: what is kept of them, what they open, and what a gateway notices of a change while it runs."""

import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.serving.key_holders import access_to, bearer, refusal, scope

from heliostat.errors import ConfigError, ServingError
from heliostat.serving.access.admission import Access
from heliostat.serving.access.config import ROUTES, AccessConfig, Limits
from heliostat.serving.access.key_records import KEYS_PATH, make_key, write_keys
from heliostat.serving.access.key_store import KeyStore
from heliostat.serving.access.keyring import Keyring
from heliostat.serving.api.errors import RefusedRequest
from heliostat.storage import Storage

KEY = re.compile(r"sk-hs-[0-9a-f]{10}-[0-9a-f]{64}")


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage.at(tmp_path)


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
