"""Accounts, sessions, waiting after wrong passwords, and what a proxy may say."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from heliostat.control import ended_sessions
from heliostat.control.accounts import Accounts
from heliostat.control.door import (
    LONGEST_SESSION_SECONDS,
    SESSION_SECONDS,
    Door,
    check_trusted,
    check_way_in,
    is_loopback,
)
from heliostat.control.ended_sessions import EndedFile
from heliostat.control.proxy_login import ProxyLogin
from heliostat.control.throttle import Throttle
from heliostat.errors import ConfigError, StorageError


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def accounts(tmp_path) -> Accounts:
    accounts = Accounts(tmp_path / "dashboard" / "users.json")
    accounts.add("anna", "operator", "long enough")
    return accounts


@pytest.fixture
def door(accounts) -> Door:
    return Door(accounts, loopback=True, clock=Clock())


def cookie_of(door: Door) -> str:
    opened = door.log_in("anna", "long enough")
    assert opened is not None
    return opened[0]


def test_a_password_is_kept_as_a_hash_that_only_the_owner_reads(accounts):
    assert "long enough" not in accounts.path.read_text()
    assert stat.S_IMODE(accounts.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(accounts.path.parent.stat().st_mode) == 0o700


def test_an_account_file_that_others_may_read_is_refused(accounts):
    accounts.path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        Accounts(accounts.path).all()


def test_the_right_password_opens_and_a_wrong_one_does_not(door):
    admission = door.by_cookie(cookie_of(door))
    assert admission is not None
    assert (admission.actor.user, admission.actor.role) == ("anna", "operator")
    assert door.log_in("anna", "wrong") is None
    assert door.log_in("nobody", "long enough") is None


@pytest.mark.parametrize("forged", ["", ".", "e30.00", "é.é"])
def test_a_forged_cookie_opens_nothing(door, forged):
    assert door.by_cookie(forged) is None


def test_a_cookie_changed_in_one_place_opens_nothing(door):
    cookie = cookie_of(door)
    body, _, signature = cookie.partition(".")
    assert door.by_cookie(f"{body}x.{signature}") is None
    assert door.by_cookie(f"{body}.{signature[:-1]}{'0' if signature[-1] != '0' else '1'}") is None


def test_a_sealed_admission_is_no_cookie_and_a_cookie_no_seal(door):
    cookie = cookie_of(door)
    admission = door.by_cookie(cookie)
    assert door.by_cookie(door.sealed(admission)) is None
    assert door.unsealed(cookie) is None
    assert door.unsealed(door.sealed(admission)) == admission


@pytest.mark.parametrize(
    "change",
    [
        lambda accounts: accounts.remove("anna"),
        lambda accounts: accounts.set_password("anna", "another one"),
        lambda accounts: accounts.set_role("anna", "viewer"),
    ],
    ids=["removed", "password", "role"],
)
def test_a_session_ends_with_what_it_stood_on(door, accounts, change):
    cookie = cookie_of(door)
    change(Accounts(accounts.path))  # as another process does
    assert door.by_cookie(cookie) is None


def test_a_session_ends_when_nothing_is_done_for_long_and_not_before(door):
    cookie = cookie_of(door)
    for _ in range(3):
        door.clock.now += SESSION_SECONDS - 1
        assert door.by_cookie(cookie) is not None
    door.clock.now += SESSION_SECONDS + 1
    assert door.by_cookie(cookie) is None


def test_a_logout_ends_copies_of_the_cookie_too(door, accounts):
    cookie = cookie_of(door)
    beside = Door(Accounts(accounts.path), loopback=True, clock=door.clock)
    assert beside.by_cookie(cookie) is not None
    door.log_out(door.by_cookie(cookie))
    assert door.by_cookie(cookie) is None
    assert beside.by_cookie(cookie) is None, "another dashboard on the same accounts"
    assert Door(accounts, loopback=True, clock=door.clock).by_cookie(cookie) is None, "the next start"


def test_ended_sessions_are_forgotten_when_their_cookies_are_over(door, accounts):
    for _ in range(2):
        door.log_out(door.by_cookie(cookie_of(door)))
        door.clock.now += LONGEST_SESSION_SECONDS + 1
    door.log_out(door.by_cookie(cookie_of(door)))
    kept = EndedFile.model_validate_json(accounts.path.with_name("users.ended.json").read_bytes())
    assert list(kept.ended.values()) == [door.clock.now]


def test_a_logout_that_cannot_be_written_holds_for_this_process_and_is_written_with_the_next(
    door, accounts, monkeypatch, caplog
):
    def full(path, content):
        raise StorageError(f"{path}: the disk is full")

    first, second = cookie_of(door), cookie_of(door)
    with monkeypatch.context() as patch:
        patch.setattr(ended_sessions, "write_secret", full)
        door.log_out(door.by_cookie(first))
    assert "for this process only" in caplog.text
    assert door.by_cookie(first) is None
    door.log_out(door.by_cookie(second))
    assert Door(accounts, loopback=True, clock=door.clock).by_cookie(first) is None


def test_logouts_at_the_same_time_are_all_kept(door, accounts):
    cookies = [cookie_of(door) for _ in range(8)]
    with ThreadPoolExecutor(len(cookies)) as threads:
        list(threads.map(door.log_out, [door.by_cookie(cookie) for cookie in cookies]))
    again = Door(accounts, loopback=True, clock=door.clock)
    assert [again.by_cookie(cookie) for cookie in cookies] == [None] * len(cookies)


def test_a_file_of_ended_sessions_that_is_none_lets_nobody_in(door, accounts):
    cookie = cookie_of(door)
    accounts.path.with_name("users.ended.json").write_text("{")
    with pytest.raises(ConfigError, match="remove it and the accounts' key"):
        door.by_cookie(cookie)


def test_the_first_account_closes_the_local_way_for_good(tmp_path):
    accounts = Accounts(tmp_path / "users.json")
    door = Door(accounts, loopback=True)
    local = door.sealed(door.local())
    assert door.way == "local"
    accounts.add("anna", "admin", "long enough")
    assert door.way == "accounts"
    assert door.unsealed(local) is None
    accounts.remove("anna")
    assert door.way == "accounts"


def test_a_dashboard_open_to_others_needs_a_login(tmp_path):
    accounts = Accounts(tmp_path / "users.json")
    check_way_in("127.0.0.1", accounts, None)
    with pytest.raises(ConfigError, match="heliostat dashboard user add"):
        check_way_in("0.0.0.0", accounts, None)
    accounts.add("anna", "admin", "long enough")
    check_way_in("0.0.0.0", accounts, None)


@pytest.mark.parametrize("name", ["localhost", "a.localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]"])
def test_names_of_this_machine(name):
    assert is_loopback(name)


@pytest.mark.parametrize(
    "name", ["localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0", "10.0.0.1", ""]
)
def test_names_of_other_machines(name):
    assert not is_loopback(name)


def test_a_proxy_is_believed_from_its_own_address_only():
    proxy = ProxyLogin(trusted=("10.0.0.5/32",), roles={"ml": "operator", "ml-admins": "admin"})
    headers = {"x-forwarded-user": "anna", "x-forwarded-groups": "staff, ml,ml-admins"}
    assert proxy.actor("10.0.0.5", headers).role == "admin"
    assert proxy.actor("10.0.0.6", headers) is None
    assert proxy.actor("10.0.0.5", headers | {"x-forwarded-groups": "staff"}) is None
    assert proxy.actor("10.0.0.5", {}) is None


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [("::ffff:10.0.0.5", True), ("::ffff:a00:5", True), ("::ffff:10.0.0.6", False), ("fd00::5", False)],
)
def test_a_socket_for_both_kinds_of_addresses_knows_the_proxy_too(peer, trusted):
    proxy = ProxyLogin(trusted=("10.0.0.5/32",), default_role="viewer")
    assert proxy.trusts(peer) == trusted


def test_a_proxy_with_a_secret_is_believed_only_when_it_sends_it(tmp_path):
    file = tmp_path / "secret"
    file.write_text("sixteen and more characters\n")
    file.chmod(0o600)
    proxy = ProxyLogin(trusted=("127.0.0.0/8",), default_role="viewer", secret_file=file)
    named = {"x-forwarded-user": "anna"}
    assert proxy.actor("127.0.0.1", named) is None
    assert proxy.actor("127.0.0.1", named | {"x-heliostat-proxy-secret": "sixteen and more"}) is None
    right = named | {"x-heliostat-proxy-secret": "sixteen and more characters"}
    assert proxy.actor("127.0.0.1", right).user == "anna"
    assert proxy.actor("10.0.0.1", right) is None
    file.unlink()
    assert proxy.actor("127.0.0.1", right) is None


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [(None, 0, "No such file"), ("short", 0o600, "16 characters"), ("x" * 32, 0o644, "chmod 600")],
)
def test_a_proxys_secret_that_is_none_is_refused(tmp_path, content, mode, says):
    file = tmp_path / "secret"
    if content is not None:
        file.write_text(content)
        file.chmod(mode)
    with pytest.raises(ValueError, match=says):
        ProxyLogin(trusted=("127.0.0.1",), secret_file=file)


def test_trusting_everybody_is_refused():
    with pytest.raises(ValueError, match="everybody"):
        ProxyLogin(trusted=("0.0.0.0/0",))


def test_wrong_passwords_cost_twice_the_time_each():
    clock = Clock()
    throttle = Throttle(clock)
    waits = []
    for _ in range(6):
        throttle.failed("anna", "peer")
        waits.append(throttle.wait_seconds("anna", "peer"))
    assert waits == [0, 0, 1, 2, 4, 8]
    clock.now += 8
    assert throttle.wait_seconds("anna", "peer") == 0
    throttle.succeeded("anna", "peer")
    throttle.failed("anna", "peer")
    assert throttle.wait_seconds("anna", "peer") == 0


def guessed(throttle: Throttle, clock: Clock, seconds: float, name: str, peer: str) -> int:
    """How many guesses somebody gets who tries whenever he may."""
    until, count = clock.now + seconds, 0
    while clock.now < until:
        clock.now += throttle.wait_seconds(name, peer) or 0.1
        throttle.failed(name, peer)
        count += 1
    return count


def test_others_behind_the_same_proxy_wait_seconds_for_somebodys_wrong_passwords():
    clock = Clock()
    throttle = Throttle(clock)
    guessed(throttle, clock, 3600, "oskar", "proxy")
    assert throttle.wait_seconds("oskar", "proxy") > 500
    assert throttle.wait_seconds("anna", "proxy") <= 10


def test_guesses_from_elsewhere_let_the_owner_of_an_account_wait_a_minute_at_most():
    throttle = Throttle(Clock())
    for number in range(100):
        throttle.failed("anna", f"10.0.0.{number}")
    assert throttle.wait_seconds("anna", "at home") == 60


def test_guesses_at_an_account_stay_few():
    clock = Clock()
    assert guessed(Throttle(clock), clock, 24 * 3600, "anna", "peer") < 120


def test_people_who_log_in_do_not_make_their_address_wait():
    throttle = Throttle(Clock())
    for number in range(50):
        throttle.failed(f"user{number}", "proxy")  # before the password is looked at
        throttle.succeeded(f"user{number}", "proxy")
    assert throttle.wait_seconds("anna", "proxy") == 0


@pytest.mark.parametrize(("proxies", "says"), [(("0.0.0.0/0",), "everybody"), (("ingress",), "ingress")])
def test_a_trusted_proxy_is_an_address_and_not_everybody(proxies, says):
    with pytest.raises(ConfigError, match=f"--trusted-proxy: .*{says}"):
        check_trusted(proxies)
