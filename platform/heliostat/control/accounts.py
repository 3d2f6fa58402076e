"""The people who may log in to the dashboard: names, roles and hashed passwords in one file of mode 0600.

Passwords are kept as scrypt hashes (RFC 7914). An account's `stamp` changes with its password and its role;
what was handed out under an older stamp, a session above all, is worth nothing any more.
"""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import ValidationError

from heliostat.control.roles import ROLES, Role
from heliostat.control.secret_files import locked, write_secret
from heliostat.errors import ConfigError
from heliostat.records import Record, first_problem
from heliostat.storage import explain_os_errors
from heliostat.workspace import Workspace

SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**15, 8, 1
"""32 MiB and some 80 ms a guess."""
MINIMUM_PASSWORD = 8
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")


class Account(Record):
    """One person."""

    name: str
    role: Role
    stamp: str
    salt: str
    scrypt: str


class AccountFile(Record):
    """All of them, as the file holds them."""

    accounts: tuple[Account, ...] = ()


Guard = Callable[[Mapping[str, Account]], None]
"""Sees all accounts as a change would leave them, while nobody else changes them; raises to refuse."""


def _any(accounts: Mapping[str, Account]) -> None:
    return


class Accounts:
    """The accounts of one file; what others write to it counts at once."""

    def __init__(self, path: Path) -> None:
        """Work on `path`, which need not be there yet."""
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._by_name: dict[str, Account] = {}

    @classmethod
    def of(cls, workspace: Workspace) -> "Accounts":
        """The accounts of a workspace, or of the file that HELIOSTAT_USERS names.

        An object store has no file modes: its accounts are in ~/.heliostat/users.json of this machine.
        """
        named = os.environ.get("HELIOSTAT_USERS")
        if named:
            return cls(Path(named).expanduser())
        if workspace.storage.remote:
            return cls(Path("~/.heliostat/users.json").expanduser())
        return cls(Path(workspace.storage.uri("dashboard")) / "users.json")

    def all(self) -> list[Account]:
        """Everybody, by name."""
        self._read()
        return sorted(self._by_name.values(), key=lambda account: account.name)

    def find(self, name: str) -> Account | None:
        """One account; None where there is none of that name."""
        self._read()
        return self._by_name.get(name)

    def add(self, name: str, role: Role, password: str, guard: Guard = _any) -> Account:
        """Make an account; `guard` sees who there would be, and may refuse by raising.

        Raises:
            ConfigError: the name is taken or unfit, or the password is too short.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"user name '{name}': use small letters, digits and . _ - @, at most 64 of them"
            )
        account = _account(name, role, password)

        def change(accounts: dict[str, Account]) -> None:
            if name in accounts:
                raise ConfigError(
                    f"user {name} is there already; 'heliostat dashboard user password {name}' "
                    "sets a new password"
                )
            accounts[name] = account

        self._change(change, guard)
        return account

    def remove(self, name: str, guard: Guard = _any) -> None:
        """End an account and all its sessions; `guard` as for `add`.

        Raises:
            ConfigError: there is none of that name, or others would be left without an admin.
        """

        def change(accounts: dict[str, Account]) -> None:
            gone = accounts.pop(_known(accounts, name))
            if gone.role == "admin" and accounts:  # without any account the local way is open again
                _keep_an_admin(accounts, name)

        self._change(change, guard)

    def set_password(self, name: str, password: str) -> None:
        """Give an account a new password, and end its sessions.

        Raises:
            ConfigError: there is none of that name, or the password is too short.
        """

        def change(accounts: dict[str, Account]) -> None:
            accounts[name] = _account(name, accounts[_known(accounts, name)].role, password)

        self._change(change)

    def set_role(self, name: str, role: Role, guard: Guard = _any) -> None:
        """Give an account another role, and end its sessions; `guard` as for `add`.

        Raises:
            ConfigError: there is none of that name, or nobody would be left who is an admin.
        """

        def change(accounts: dict[str, Account]) -> None:
            old = accounts[_known(accounts, name)]
            accounts[name] = old.model_copy(update={"role": role, "stamp": secrets.token_hex(8)})
            if old.role == "admin":
                _keep_an_admin(accounts, name)

        self._change(change, guard)

    def check(self, name: str, password: str) -> Account | None:
        """The account that this name and password open; None where they open none.

        An unknown name takes as long as a wrong password, so that names cannot be found out by the clock.
        """
        account = self.find(name)
        salt = account.salt if account else "00" * 16
        given = _hash(password, salt)
        right = hmac.compare_digest(given, account.scrypt if account else "")
        return account if right else None

    def _read(self) -> None:
        """Read the file again where it has changed.

        Raises:
            ConfigError: others may read it, or it is not what we wrote.
        """
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            self._seen, self._by_name = None, {}
            return
        seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        if seen == self._seen:
            return
        if stat.st_mode & 0o077:
            raise ConfigError(f"{self.path}: others may read the accounts; chmod 600 {self.path}")
        with explain_os_errors(str(self.path)):
            content = self.path.read_bytes()
        try:
            file = AccountFile.model_validate_json(content)
        except ValidationError as error:
            raise ConfigError(f"{self.path}: {first_problem(error)}") from None
        self._by_name = {account.name: account for account in file.accounts}
        self._seen = seen

    def _change(self, change: Callable[[dict[str, Account]], None], guard: Guard = _any) -> None:
        with locked(self.path):
            self._seen = None
            self._read()
            accounts = dict(self._by_name)
            change(accounts)
            guard(accounts)
            file = AccountFile(accounts=tuple(accounts.values()))
            write_secret(self.path, file.model_dump_json(indent=1).encode())


def _account(name: str, role: Role, password: str) -> Account:
    if len(password) < MINIMUM_PASSWORD:
        raise ConfigError(f"the password is too short; take {MINIMUM_PASSWORD} characters or more")
    salt = secrets.token_hex(16)
    stamp = secrets.token_hex(8)
    return Account(name=name, role=role, stamp=stamp, salt=salt, scrypt=_hash(password, salt))


def _hash(password: str, salt: str) -> str:
    memory = 2 * 128 * SCRYPT_N * SCRYPT_R
    return hashlib.scrypt(
        password.encode(), salt=bytes.fromhex(salt), n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, maxmem=memory
    ).hex()


def _known(accounts: dict[str, Account], name: str) -> str:
    if name not in accounts:
        there = ", ".join(sorted(accounts)) or "none"
        raise ConfigError(f"there is no user {name}; there are: {there}")
    return name


def _keep_an_admin(accounts: dict[str, Account], name: str) -> None:
    if all(account.role != "admin" for account in accounts.values()):
        raise ConfigError(
            f"{name} is the last admin; make somebody else one before: "
            "'heliostat dashboard user role NAME admin'"
        )


def as_role(word: str) -> Role:
    """A role by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    for role in ROLES:
        if word == role:
            return role
    raise ConfigError(f"role '{word}': use one of {', '.join(ROLES)}")
