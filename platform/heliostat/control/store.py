"""The control plane's database: what it knows of jobs, runs and the cluster outlives both.

SQLite beside mlflow.db for one machine; PostgreSQL or MySQL where several share it. Nothing secret is in it.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, Engine, create_engine, event, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from heliostat.control import tables
from heliostat.control.readings import Ok, Reading, Unavailable
from heliostat.databases import SHARED, AddressError, database_url, patience_with
from heliostat.errors import StoreError
from heliostat.records import first_problem
from heliostat.text.concealing import without_secrets
from heliostat.tracking import SQLITE
from heliostat.workspace import Workspace

T = TypeVar("T")
VARIABLE = "HELIOSTAT_DATABASE"
FILE = "control.db"
LOCK_TIMEOUT_SECONDS = 10.0
MAKING_TRIES = 50
AWAY_SECONDS = 2.0
"""So long a server that could not be reached is not asked again: a page reads a dozen things."""


class Store:
    """One database, connected to when it is first asked."""

    def __init__(self, url: str) -> None:
        """`url` is SQLAlchemy's (`postgresql+psycopg://...`, `sqlite:////path/control.db`)."""
        self.url = url
        self._away = (0.0, "")

    @classmethod
    def of(cls, workspace: Workspace) -> "Store":
        """The store of a workspace: $HELIOSTAT_DATABASE, else the tracking database where that is a shared
        one, else SQLite in the workspace.

        Raises:
            StoreError: the workspace lies on an object store, where SQLite cannot be, and none is named.
        """
        named = named_database()
        if named is not None:
            return cls(named)
        if workspace.storage.remote:
            raise StoreError(
                f"{workspace.storage.root}: an object store cannot hold {FILE}; "
                f"set {VARIABLE} to a database, for example postgresql://USER@HOST/NAME"
            )
        return cls(f"{SQLITE}{workspace.storage.root}/{FILE}")

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction: kept when the block ends, undone when it raises.

        Raises:
            StoreError: the database is away, full, or refuses.
        """
        connection = self._connection()
        try:
            with connection, connection.begin():
                yield connection
        except SQLAlchemyError as error:
            raise StoreError(self._refusal(error)) from None

    def put_reading(self, name: str, value: Any, at: datetime) -> None:
        """Keep an answer (plain JSON) in place of the one before."""
        self._put(name, {"at": at, "value": value, "reason": None, "since": None})

    def put_unavailable(self, name: str, reason: str, since: datetime) -> None:
        """Note that there is no answer; the last one stays. Of several silences in a row the first counts."""
        with self.begin() as connection:
            row = connection.execute(select(tables.readings).where(tables.readings.c.name == name)).first()
        silent_since = row.since if row is not None and row.since else since
        self._put(name, {"reason": reason, "since": silent_since})

    def reading(self, name: str, adapter: TypeAdapter[T]) -> Reading[T]:
        """What the collector noted last under this name."""
        try:
            with self.begin() as connection:
                row = connection.execute(
                    select(tables.readings).where(tables.readings.c.name == name)
                ).first()
        except StoreError as error:
            return Unavailable(str(error), datetime.now(UTC))
        if row is None:
            return Unavailable("nothing has asked the cluster yet; 'heliostat control' does")
        last = None
        if row.at is not None:
            try:
                last = Ok(adapter.validate_python(row.value, strict=False), row.at)
            except ValidationError as error:
                return Unavailable(f"noted by another version: {first_problem(error)}", row.at)
        if row.reason or last is None:
            return Unavailable(row.reason or "no answer yet", row.since, last)
        return last

    def setting(self, name: str, default: Any) -> Any:
        """A value that people set, such as a limit."""
        with self.begin() as connection:
            row = connection.execute(
                select(tables.settings.c.value).where(tables.settings.c.name == name)
            ).first()
        return default if row is None else row.value

    def put_setting(self, name: str, value: Any) -> None:
        """Keep a value under a name."""
        self.upsert(tables.settings, "name", name, {"value": value})

    def upsert(self, table: Any, key: str, of: str, values: dict[str, Any]) -> None:
        """Change the row whose `key` column is `of`, or add it; in words every database knows."""
        changed = update(table).where(table.c[key] == of).values(**values)
        with self.begin() as connection:
            if connection.execute(changed).rowcount:
                return
        try:
            with self._connection() as connection, connection.begin():
                connection.execute(insert(table).values(**{key: of}, **values))
        except IntegrityError:  # another process added it between the two
            with self.begin() as connection:
                connection.execute(changed)
        except SQLAlchemyError as error:
            raise StoreError(self._refusal(error)) from None

    def _connection(self) -> Connection:
        until, because = self._away
        if time.monotonic() < until:
            raise StoreError(because)
        engine = self._engine
        try:
            return engine.connect()
        except SQLAlchemyError as error:
            raise self._unreached(engine, error) from None

    def _put(self, name: str, values: dict[str, Any]) -> None:
        self.upsert(tables.readings, "name", name, values)

    @cached_property
    def _engine(self) -> Engine:
        try:
            url = database_url(self.url)
            engine = create_engine(url, pool_pre_ping=True, connect_args=patience_with(url))
        except AddressError as error:
            raise StoreError(f"{VARIABLE} {error}") from None
        except ImportError as error:
            driver = {"psycopg": "'heliostat[postgresql]'"}.get(error.name or "", error.name)
            raise StoreError(f"{self._refusal(error)}; pip install {driver}") from None
        except SQLAlchemyError as error:
            raise StoreError(self._refusal(error)) from None
        if engine.dialect.name == "sqlite":
            try:
                Path(str(engine.url.database)).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(self._refusal(error)) from None
            event.listen(engine, "connect", _set_up_sqlite)
        else:
            try:
                engine.connect().close()
            except SQLAlchemyError as error:
                raise self._unreached(engine, error) from None
        found = self._make_tables(engine)
        if found is not None and found > tables.SCHEMA_VERSION:
            raise StoreError(
                f"the database at {self.shown} was made by a later Heliostat (schema {found}, "
                f"this one knows {tables.SCHEMA_VERSION}); update this one"
            )
        return engine

    def _make_tables(self, engine: Engine) -> int | None:
        """Make the tables that are missing; the schema's version that was there before. Processes that make
        them at the same time are in each other's way once, and find them the next time."""
        for tries_left in reversed(range(MAKING_TRIES)):
            try:
                tables.metadata.create_all(engine)
                with engine.begin() as connection:
                    found: int | None = connection.execute(select(tables.schema.c.version)).scalar()
                    if found is None:
                        connection.execute(insert(tables.schema).values(version=tables.SCHEMA_VERSION))
                    elif found < tables.SCHEMA_VERSION:
                        tables.bring_up(connection, found)
                return found
            except SQLAlchemyError as error:
                if not tries_left:
                    raise StoreError(self._refusal(error)) from None
                time.sleep(0.1)
        return None

    @property
    def shown(self) -> str:
        """The address without what is secret in it."""
        return without_secrets(self.url)

    def _unreached(self, engine: Engine, error: SQLAlchemyError) -> StoreError:
        """That there is no connection; noted for who asks next, unless others have one and it is full."""
        refusal = self._refusal(error)
        pool = engine.pool
        if isinstance(pool, QueuePool) and not pool.checkedout() and engine.dialect.name != "sqlite":
            self._away = (time.monotonic() + AWAY_SECONDS, refusal)
        return StoreError(refusal)

    def _refusal(self, error: Exception) -> str:
        lines = str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__]
        reason = lines[0]
        if "disk is full" in reason:
            reason = "the disk is full; free some space"
        return f"the control plane's database at {self.shown} cannot be used: {reason}"


def named_database() -> str | None:
    """The database that the environment names: $HELIOSTAT_DATABASE, else a shared one for tracking."""
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    return os.environ.get(VARIABLE) or (tracking if tracking.startswith(SHARED) else None)


def _set_up_sqlite(connection: Any, record: object) -> None:
    """Readers do not wait for a writer; a second writer waits for its turn."""
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {int(LOCK_TIMEOUT_SECONDS * 1000)}")
    with suppress(sqlite3.OperationalError):  # another process is at it; the file keeps the mode
        cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()
