"""`heliostat keys`: what it makes and shows, what it refuses, and that no output holds a key."""

import json
import logging
import os
import re
from pathlib import Path

import pytest
from tests.serving.key_holders import access_to, bearer, refusal, scope

from heliostat.cli.app import execute
from heliostat.serving.access.key_store import KeyStore
from heliostat.storage import Storage

KEY = re.compile(r"sk-hs-[0-9a-f]{10}-[0-9a-f]{64}")


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage.at(tmp_path)


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
