"""Accounts by the dashboard's admins: who may, and that somebody who may stays."""

import threading

import pytest

from heliostat.control.account_actions import (
    add_account,
    change_role,
    list_accounts,
    remove_account,
    set_password,
)
from heliostat.control.accounts import Accounts
from heliostat.control.connection import try_connection
from heliostat.control.roles import Actor
from heliostat.errors import AccessError, ConfigError

ADMIN = Actor("ada", "admin")
PASSWORD = "long enough"


@pytest.fixture
def accounts(tmp_path) -> Accounts:
    accounts = Accounts(tmp_path / "users.json")
    accounts.add("ada", "admin", PASSWORD)
    return accounts


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_only_an_admin_may_look_at_accounts_or_change_them(accounts, role):
    actor = Actor("ada", role)
    calls = (
        lambda: list_accounts(accounts, actor),
        lambda: add_account(accounts, actor, "bob", "admin", PASSWORD),
        lambda: change_role(accounts, actor, "ada", "viewer"),
        lambda: set_password(accounts, actor, "ada", "another one"),
        lambda: remove_account(accounts, actor, "ada"),
    )
    before = accounts.path.read_bytes()
    for call in calls:
        with pytest.raises(AccessError, match=f"is a {role} and may not"):
            call()
    assert accounts.path.read_bytes() == before


def test_the_last_admin_can_be_neither_removed_nor_demoted(accounts):
    add_account(accounts, ADMIN, "bob", "operator", PASSWORD)
    with pytest.raises(ConfigError, match="is the last admin"):
        remove_account(accounts, ADMIN, "ada")
    with pytest.raises(ConfigError, match="is the last admin"):
        change_role(accounts, ADMIN, "ada", "viewer")
    assert [(each.name, each.role) for each in list_accounts(accounts, ADMIN)] == [
        ("ada", "admin"),
        ("bob", "operator"),
    ]


def test_an_admin_may_go_when_another_is_there(accounts):
    add_account(accounts, ADMIN, "bob", "admin", PASSWORD)
    remove_account(accounts, ADMIN, "ada")
    assert [each.name for each in accounts.all()] == ["bob"]


def test_the_first_account_is_an_admins(tmp_path):
    accounts = Accounts(tmp_path / "users.json")
    with pytest.raises(ConfigError, match="no admin would be left"):
        add_account(accounts, ADMIN, "bob", "viewer", PASSWORD)
    assert not accounts.all()


@pytest.mark.heavy
def test_two_admins_who_remove_each_other_at_once_leave_one(accounts):
    add_account(accounts, ADMIN, "bob", "admin", PASSWORD)
    start, refused = threading.Barrier(2), []

    def remove(name: str) -> None:
        start.wait()
        try:
            remove_account(Accounts(accounts.path), ADMIN, name)
        except ConfigError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=remove, args=(name,)) for name in ("ada", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    assert len(accounts.all()) == 1


def test_what_is_listed_holds_nothing_of_a_password(accounts):
    (listed,) = list_accounts(accounts, ADMIN)
    assert set(vars(listed)) == {"name", "role"}


def test_a_viewer_may_not_make_the_server_ask_the_cluster():
    with pytest.raises(AccessError, match="may not test the connection"):
        try_connection(Actor("eve", "viewer"), "http://127.0.0.1:9")
