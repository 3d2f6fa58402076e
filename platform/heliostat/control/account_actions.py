"""What an admin does to the dashboard's accounts. Somebody who may change them again always stays."""

from collections.abc import Mapping
from dataclasses import dataclass

from heliostat.control.accounts import Account, Accounts, as_role
from heliostat.control.roles import Actor, Role, require
from heliostat.errors import ConfigError


@dataclass(frozen=True)
class Listed:
    """Who may log in, and as what; nothing of the password."""

    name: str
    role: Role


def list_accounts(accounts: Accounts, actor: Actor) -> tuple[Listed, ...]:
    """Everybody, by name.

    Raises:
        AccessError: only an admin may.
        ConfigError: the file cannot be read.
    """
    require(actor, "admin", "list accounts")
    return tuple(Listed(each.name, each.role) for each in accounts.all())


def add_account(accounts: Accounts, actor: Actor, name: str, role: str, password: str) -> Listed:
    """Make an account. The first one is an admin's, as the way in without a login closes with it.

    Raises:
        AccessError: only an admin may.
        ConfigError: the name is taken or unfit, the role is none, or the password is too short.
    """
    require(actor, "admin", "add accounts")
    account = accounts.add(name.strip().lower(), as_role(role), password, _an_admin_stays)
    return Listed(account.name, account.role)


def remove_account(accounts: Accounts, actor: Actor, name: str) -> None:
    """End an account and all its sessions.

    Raises:
        AccessError: only an admin may.
        ConfigError: there is none of that name, or no admin would stay.
    """
    require(actor, "admin", "remove accounts")
    accounts.remove(name, _an_admin_stays)


def change_role(accounts: Accounts, actor: Actor, name: str, role: str) -> None:
    """Give an account another role, and end its sessions.

    Raises:
        AccessError: only an admin may.
        ConfigError: there is none of that name, the role is none, or no admin would stay.
    """
    require(actor, "admin", "change roles")
    accounts.set_role(name, as_role(role), _an_admin_stays)


def set_password(accounts: Accounts, actor: Actor, name: str, password: str) -> None:
    """Give an account a new password, and end its sessions.

    Raises:
        AccessError: only an admin may.
        ConfigError: there is none of that name, or the password is too short.
    """
    require(actor, "admin", "set passwords")
    accounts.set_password(name, password)


def _an_admin_stays(accounts: Mapping[str, Account]) -> None:
    if not any(account.role == "admin" for account in accounts.values()):
        raise ConfigError(
            "no admin would be left, so nobody could change accounts from the dashboard any more; "
            "give somebody else the role admin first"
        )
