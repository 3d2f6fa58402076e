"""The settings page: what each role sees and may do, and that no password is shown or kept."""

import platform
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import streamlit as st
from pages import commands, open_page, put_readings, setting, texts
from streamlit.testing.v1 import AppTest

import heliostat
from heliostat.control.accounts import Accounts
from heliostat.control.job_queue import Limits, change_limits, read_limits
from heliostat.control.roles import Actor
from heliostat.control.sites import Site
from heliostat.errors import AccessError, ConfigError

pytestmark = pytest.mark.heavy
PASSWORD = "a long pass word"


@pytest.fixture
def site(workspace, monkeypatch) -> Site:
    for name in ("RAY_API_SERVER_ADDRESS", "HELIOSTAT_DASHBOARD_ROLE", "HELIOSTAT_USERS", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in setting(workspace.storage.root).items():
        monkeypatch.setenv(name, value)
    st.cache_resource.clear()
    return Site.open(workspace.storage.root, "http://127.0.0.1:9")


@pytest.fixture
def accounts(site, monkeypatch) -> Accounts:
    """Two accounts. The page behind a login needs a browser's cookie; the forms on it are run alone."""
    accounts = Accounts.of(site.workspace)
    accounts.add("ada", "admin", PASSWORD)
    accounts.add("bob", "operator", PASSWORD)
    return accounts


def drawn():
    """A page of nothing but the forms, or one of their dialogs, which ada sees. Dialogs of a whole page close
    with the next click in the test's runner."""
    import os

    from dashboard.parts import account_forms
    from dashboard.session import Session, current_language, current_translator

    from heliostat.control.accounts import Accounts
    from heliostat.control.roles import Actor
    from heliostat.workspace import Workspace

    actor = Actor("ada", os.environ.get("HELIOSTAT_DASHBOARD_ROLE", "admin"))
    session = Session(actor, current_translator(), current_language(), False)
    what, *more = os.environ["DRAWN"].split()
    getattr(account_forms, what)(session, Accounts.of(Workspace.resolve()), *more)


def open_forms(monkeypatch, what: str = "account_forms") -> AppTest:
    monkeypatch.setenv("DRAWN", what)
    test = AppTest.from_function(drawn, default_timeout=30).run()
    assert not test.exception
    return test


def said(test) -> str:
    return "\n".join([*texts(test), *(each.value for each in (*test.text, *test.code))]).replace("\\", "")


def labels(test) -> set[str]:
    return {each.label for each in test.button}


class Asking(BaseHTTPRequestHandler):
    """A head that asks for a token."""

    def do_GET(self):
        self.send_response(401)
        self.end_headers()

    def log_message(self, *arguments):
        return


@pytest.fixture
def asking():
    with HTTPServer(("127.0.0.1", 0), Asking) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_connection_says_address_version_and_command(site):
    put_readings(site, datetime.now(UTC))
    told = said(open_page("settings"))
    assert "The cluster answers: Ray 2.60.0" in told
    assert "heliostat dashboard --address http://127.0.0.1:9" in told


def test_a_cluster_that_is_away_is_one_line(site):
    test = open_page("settings")
    test.button(key="settings_test").click().run()
    assert test.error[0].value.startswith("It does not answer:")


def test_a_cluster_that_asks_for_a_token_says_so(site, asking, monkeypatch):
    monkeypatch.setenv("HELIOSTAT_ADDRESS", asking)
    test = open_page("settings")
    test.button(key="settings_test").click().run()
    assert "It answers and refuses:" in said(test)
    assert "asks for a token; put it into RAY_AUTH_TOKEN" in said(test)


def test_secrets_of_addresses_are_masked(site, monkeypatch):
    monkeypatch.setenv("HELIOSTAT_ADDRESS", "http://me:s3cret@127.0.0.1:9")
    test = open_page("settings")
    assert "http://me:***@127.0.0.1:9" in said(test)
    assert "s3cret" not in str(test.main)


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_who_is_no_admin_may_look_and_sees_no_accounts(site, role, monkeypatch):
    monkeypatch.setenv("HELIOSTAT_DASHBOARD_ROLE", role)
    test = open_page("settings")
    assert test.button(key="settings_test").disabled == (role == "viewer")
    assert all(each.disabled for each in test.number_input)
    assert next(each for each in test.button if each.label == "Save").disabled
    assert "Accounts" not in [each.value for each in test.header]
    assert "Add an account" not in labels(test)


def test_the_forms_say_nothing_to_who_is_no_admin(accounts, monkeypatch):
    monkeypatch.setenv("HELIOSTAT_DASHBOARD_ROLE", "operator")
    test = open_forms(monkeypatch)
    assert "may not list accounts" in said(test)
    assert not test.text_input
    assert "bob" not in said(test)


def test_an_admin_changes_the_limits(site):
    test = open_page("settings")
    test.number_input(key="settings_total").set_value(5)
    next(each for each in test.button if each.label == "Save").click().run()
    assert not test.exception
    assert read_limits(site.store) == Limits(max_running=5, max_running_per_user=2)
    assert "heliostat jobs limits --total 5 --per-user 2" in said(test)


def test_a_limit_above_what_the_form_offers_is_shown_and_kept(site):
    change_limits(site.store, Actor("ada", "admin"), Limits(max_running=200_000))
    test = open_page("settings")
    assert not test.exception
    assert test.number_input(key="settings_total").value == 200_000


def test_limits_are_checked_whoever_asks(site):
    assert [each.min for each in open_page("settings").number_input] == [1, 1]
    with pytest.raises(ConfigError, match="below 1"):
        change_limits(site.store, Actor("ada", "admin"), Limits(max_running=0))
    with pytest.raises(AccessError):
        change_limits(site.store, Actor("bob", "operator"), Limits(max_running=3))
    assert read_limits(site.store) == Limits()


def test_without_accounts_the_first_one_can_only_be_an_admins(site):
    test = open_page("settings")
    assert "whoever sits at this machine" in said(test)
    assert len(test.selectbox(key="settings_add_role_0").options) == 1


def test_an_admin_adds_an_account_and_the_password_is_kept_nowhere(accounts, monkeypatch):
    test = open_forms(monkeypatch)
    test.text_input(key="settings_add_name_0").set_value("cleo")
    test.selectbox(key="settings_add_role_0").set_value("operator")
    for key in ("settings_add_password_0", "settings_add_again_0"):
        test.text_input(key=key).set_value("something secret")
    next(each for each in test.button if each.label == "Add an account").click().run()
    assert not test.exception
    added = accounts.check("cleo", "something secret")
    assert added is not None
    assert added.role == "operator"
    assert "something secret" not in str(test.main)
    assert "settings_add_password_0" not in test.session_state
    assert "settings_add_again_0" not in test.session_state


def test_passwords_that_differ_change_nothing(accounts, monkeypatch):
    test = open_forms(monkeypatch)
    test.text_input(key="settings_of_ada_password_0").set_value("something secret")
    test.text_input(key="settings_of_ada_again_0").set_value("something else")
    next(each for each in test.button if each.label == "Set a new password").click().run()
    assert "the two passwords differ" in said(test)
    assert accounts.check("ada", PASSWORD) is not None


def test_a_new_password_counts_at_once(accounts, monkeypatch):
    test = open_forms(monkeypatch)
    test.selectbox(key="settings_which").set_value("bob").run()
    for key in ("settings_of_bob_password_0", "settings_of_bob_again_0"):
        test.text_input(key=key).set_value("something secret")
    next(each for each in test.button if each.label == "Set a new password").click().run()
    assert accounts.check("bob", "something secret") is not None
    assert accounts.check("bob", PASSWORD) is None


def test_changing_a_role_asks_first_with_its_command(accounts, monkeypatch):
    test = open_forms(monkeypatch)
    test.selectbox(key="settings_which").set_value("bob").run()
    test.selectbox(key="settings_role_bob").set_value("viewer").run()
    test.button(key="settings_set_role").click().run()
    assert any(each.startswith("heliostat dashboard user role bob viewer") for each in commands(test))
    assert accounts.find("bob").role == "operator", "nothing was agreed to"


def test_a_role_is_changed_when_it_was_agreed_to(accounts, monkeypatch):
    test = open_forms(monkeypatch, "ask_to_change_role bob viewer")
    test.button(key="confirm_yes").click().run()
    assert accounts.find("bob").role == "viewer"


def test_an_admin_who_removes_the_own_account_is_told_and_the_last_one_stays(accounts, monkeypatch):
    test = open_forms(monkeypatch, "ask_to_remove ada")
    assert "you will be logged out" in said(test)
    test.button(key="confirm_yes").click().run()
    assert "is the last admin" in said(test)
    assert [each.name for each in accounts.all()] == ["ada", "bob"]


def test_the_versions_here_are_listed(site):
    told = {each.value for each in open_page("settings").text}
    assert {heliostat.__version__, platform.python_version(), st.__version__} <= told


def test_the_page_speaks_chinese(site):
    assert "账号" in [each.value for each in open_page("settings", language="zh").header]


def test_the_forms_go_on_when_the_chosen_account_is_gone(accounts, monkeypatch):
    test = open_forms(monkeypatch)
    test.selectbox(key="settings_which").set_value("bob").run()
    accounts.remove("bob")
    test.run()
    assert not test.exception
    assert "This is your own account." in said(test)
