"""`heliostat dashboard user`: accounts from a terminal or a script; a password is never an argument."""

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from heliostat.cli.app import execute
from heliostat.control.accounts import Accounts
from heliostat.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "a passphrase of five words"
COMMAND = [sys.executable, "-m", "heliostat.cli", "dashboard", "user"]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("HELIOSTAT_WORKSPACE", str(tmp_path / "place"))
    monkeypatch.delenv("HELIOSTAT_USERS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "platform"))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    return tmp_path / "place"


def user(*words: str, typed: str = PASSWORD) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, *words], input=f"{typed}\n", capture_output=True, text=True, timeout=60)


def accounts() -> Accounts:
    return Accounts.of(Workspace.resolve())


def refusal(capsys, *words: str) -> str:
    """What a command that is refused says: one line, and nothing else."""
    assert execute(["dashboard", "user", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line


def test_a_password_from_standard_input_makes_an_account_that_it_opens():
    done = user("add", "anna", "--role", "operator")
    assert (done.returncode, done.stdout, done.stderr) == (0, "anna may log in as operator\n", "")
    assert accounts().check("anna", PASSWORD).role == "operator"
    assert accounts().check("anna", f"{PASSWORD}\n") is None


def test_on_a_terminal_the_password_is_asked_for_twice_and_not_shown():
    for again, code in ((PASSWORD, 0), ("another one", 2)):
        name = f"anna{code}"
        said, ended = typed_on_a_terminal(["add", name], [PASSWORD, again])
        assert ended == code, said
        assert "Password:" in said
        assert "Again:" in said
        assert PASSWORD not in said
        assert (accounts().find(name) is not None) == (code == 0)
    assert "the two passwords differ; nothing was changed" in said


def typed_on_a_terminal(words: list[str], lines: list[str]) -> tuple[str, int]:
    """What the terminal shows, and the exit code."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *words], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    said = b""
    for line in lines:
        while not said.endswith(b": "):
            said += os.read(ours, 1024)
        os.write(ours, f"{line}\n".encode())
        said += os.read(ours, 1)
    with contextlib.suppress(OSError):  # raised once the other end is closed
        while piece := os.read(ours, 1024):
            said += piece
    os.close(ours)
    return said.decode(), process.wait(timeout=60)


@pytest.mark.parametrize("option", ["--password", "--passwd", "-p"])
def test_a_password_cannot_be_an_argument(capsys, option):
    assert execute(["dashboard", "user", "add", "anna", option, PASSWORD]) == 2
    assert accounts().all() == []
    assert execute(["dashboard", "user", "add", "anna", PASSWORD]) == 2
    assert accounts().all() == []
    capsys.readouterr()


def test_the_list_shows_names_and_roles_and_no_hash(capsys):
    made = [accounts().add("zoe", "admin", PASSWORD), accounts().add("anna", "viewer", PASSWORD)]
    assert execute(["dashboard", "user", "list"]) == 0
    said = capsys.readouterr().out
    assert [line.split() for line in said.splitlines()] == [
        ["USER", "ROLE"],
        ["anna", "viewer"],
        ["zoe", "admin"],
    ]
    for account in made:
        for secret in (account.scrypt, account.salt, account.stamp):
            assert secret not in said


def test_a_new_password_opens_and_the_old_one_no_longer():
    accounts().add("anna", "viewer", PASSWORD)
    done = user("password", "anna", typed="quite another one")
    assert (done.returncode, done.stdout) == (0, "anna has a new password\n")
    assert accounts().check("anna", PASSWORD) is None
    assert accounts().check("anna", "quite another one") is not None


def test_a_role_is_changed_and_an_account_removed(capsys):
    accounts().add("anna", "viewer", PASSWORD)
    assert execute(["dashboard", "user", "role", "anna", "operator"]) == 0
    assert accounts().find("anna").role == "operator"
    assert execute(["dashboard", "user", "remove", "anna"]) == 0
    assert accounts().all() == []
    assert capsys.readouterr().out == "anna is operator now\nanna may no longer log in\n"


@pytest.mark.parametrize("words", [["remove", "anna"], ["role", "anna", "admin"]])
def test_a_user_that_is_not_there_is_one_line_that_names_those_who_are(capsys, words):
    accounts().add("zoe", "admin", PASSWORD)
    assert refusal(capsys, *words) == "heliostat: error: there is no user anna; there are: zoe"


def test_a_new_password_for_nobody_is_one_line():
    done = user("password", "anna")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "heliostat: error: there is no user anna; there are: none\n"


@pytest.mark.parametrize(
    ("words", "typed", "says"),
    [
        (["add", "anna"], "short", "take 8 characters or more"),
        (["add", "anna"], "", "take 8 characters or more"),
        (["add", "Anna <b>"], PASSWORD, "use small letters"),
        (["add", "anna", "--role", "owner"], PASSWORD, "use one of viewer, operator, admin"),
        (["add", "zoe"], PASSWORD, "user zoe is there already"),
    ],
)
def test_what_is_no_account_is_one_line_without_the_password(words, typed, says):
    accounts().add("zoe", "admin", PASSWORD)
    done = user(*words, typed=typed)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert says in line
    assert PASSWORD not in line
    assert [account.name for account in accounts().all()] == ["zoe"]


@pytest.mark.parametrize("words", [["remove", "zoe"], ["role", "zoe", "operator"]])
def test_the_last_admin_stays_one_while_there_are_others(capsys, words):
    accounts().add("zoe", "admin", PASSWORD)
    accounts().add("anna", "operator", PASSWORD)
    assert "zoe is the last admin" in refusal(capsys, *words)
    assert accounts().find("zoe").role == "admin"
    assert execute(["dashboard", "user", "role", "anna", "admin"]) == 0
    assert execute(["dashboard", "user", *words]) == 0


def test_the_only_account_can_be_removed_but_not_made_less_than_admin(capsys):
    accounts().add("zoe", "admin", PASSWORD)
    assert "zoe is the last admin" in refusal(capsys, "role", "zoe", "viewer")
    assert execute(["dashboard", "user", "remove", "zoe"]) == 0
