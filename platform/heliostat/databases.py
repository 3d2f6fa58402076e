"""Databases that several machines share: what their addresses look like, and whether one answers.

sqlalchemy is imported inside the functions: `heliostat --help` must not wait for it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import URL

SHARED = ("postgresql", "mysql", "mariadb")
"""How their addresses begin."""
CONNECT_SECONDS = 3
UNANSWERED_MILLISECONDS = 10_000
"""What a host that went silent is waited for; the kernel's own patience is a quarter of an hour."""
_LIBPQ = {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": UNANSWERED_MILLISECONDS}
_MYSQL = {"connect_timeout": CONNECT_SECONDS}
_OF_DRIVER = {"psycopg": _LIBPQ, "psycopg2": _LIBPQ, "pymysql": _MYSQL, "mysqldb": _MYSQL}
"""Other drivers have other words for it, or none: they wait as they do."""
PATIENCE = {"PGCONNECT_TIMEOUT": "5"}
"""For the environment: seconds, where an address does not say. libpq waits as long as the kernel does."""


class AddressError(ValueError):
    """An address that is none. Says nothing of it, as any piece may be one of its password."""


def database_url(uri: str) -> "URL":
    """The parts of a database's address.

    Raises:
        AddressError: it is none.
        SQLAlchemyError: it is not even like one.
    """
    from sqlalchemy import make_url

    wrong = AddressError("is no database's URL; in a password write %40 for @, %2F for / and %3A for :")
    try:
        url = make_url(uri)
    except ValueError:
        raise wrong from None
    if "@" in (url.host or ""):
        raise wrong
    return url


def patience_with(url: "URL") -> dict[str, Any]:
    """How long to wait for a database, as its driver takes it; what the address says itself is left to it."""
    patience = _OF_DRIVER.get(url.get_driver_name(), {})
    return {name: value for name, value in patience.items() if name not in url.query}


def connect_once(uri: str) -> None:
    """Try to connect.

    Raises:
        AddressError: the address is none.
        SQLAlchemyError: nobody answers there, or refuses.
        ImportError: its driver is not installed.
    """
    from sqlalchemy import create_engine

    engine = create_engine(database_url(uri))
    try:
        engine.connect().close()
    finally:
        engine.dispose()
