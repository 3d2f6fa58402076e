"""The tables of the control plane's database. A time is seconds since 1970 in it, and a datetime here."""

import json
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import (
    Column,
    Connection,
    Dialect,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
    update,
)
from sqlalchemy.dialects.mysql import LONGTEXT
from sqlalchemy.types import TypeDecorator

SCHEMA_VERSION = 2
"""1 had the database's own JSON."""
_NAME = 255
"""What MySQL can index."""
_LONG = Text().with_variant(LONGTEXT(), "mysql", "mariadb")
"""MySQL's own text ends at 64 KiB."""


class UtcTime(TypeDecorator[datetime]):
    """A moment; SQLite would forget its zone."""

    impl = Float(53)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> float | None:
        """Seconds since 1970."""
        return value.timestamp() if value else None

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """The moment in UTC."""
        return datetime.fromtimestamp(value, UTC) if value is not None else None


class Json(TypeDecorator[Any]):
    """Plain data as text. A database's own JSON takes no NaN, which is what a diverged run has for a loss."""

    impl = _LONG
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        """JSON in ASCII, so that no database minds a character; NaN and Infinity as Python writes them."""
        return json.dumps(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """The data; None too where there is none. A list of a thousand runs is megabytes, which orjson reads
        in a part of the time; NaN only json takes."""
        if not isinstance(value, str):  # SQLite gives the numbers of schema 1 as such
            return value
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return json.loads(value)


class Words(TypeDecorator[str]):
    """A text that may come from elsewhere, such as Ray's reason for a failure."""

    impl = _LONG
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """The text, with U+FFFD for a NUL, which PostgreSQL refuses, and for half a character."""
        if value is None:
            return None
        return value.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


metadata = MetaData()

schema = Table("heliostat_schema", metadata, Column("version", Integer, primary_key=True))

jobs = Table(
    "heliostat_jobs",
    metadata,
    Column("id", String(_NAME), primary_key=True),
    Column("name", String(_NAME), nullable=False),
    Column("project", String(_NAME), nullable=False),
    Column("user", String(_NAME), nullable=False),
    Column("state", String(32), nullable=False),
    Column("reason", Words, nullable=False, default=""),
    Column("priority", Integer, nullable=False, default=0),
    Column("recipe", Words),
    Column("overrides", Json),
    Column("until", String(64)),
    Column("request", Json),
    Column("parent", String(_NAME)),
    Column("relation", String(16)),
    Column("retries_left", Integer, nullable=False, default=0),
    Column("cluster", String(_NAME)),
    Column("created_at", UtcTime, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("ended_at", UtcTime),
    Index("heliostat_jobs_by_state", "state"),
    Index("heliostat_jobs_by_time", "created_at"),
)
job_events = Table(
    "heliostat_job_events",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("job", String(_NAME), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("text", Words, nullable=False),
    Index("heliostat_job_events_by_job", "job"),
)
runs = Table(
    "heliostat_runs",
    metadata,
    Column("id", String(_NAME), primary_key=True),
    Column("stage", String(64), nullable=False),
    Column("status", String(32), nullable=False),
    Column("job", String(_NAME)),
    Column("started_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
    Column("read_at", UtcTime, nullable=False),
    Column("record", Json, nullable=False),
    Index("heliostat_runs_by_time", "started_at"),
    Index("heliostat_runs_by_job", "job"),
)
readings = Table(
    "heliostat_readings",
    metadata,
    Column("name", String(_NAME), primary_key=True),
    Column("at", UtcTime),
    Column("value", Json),
    Column("reason", Words),
    Column("since", UtcTime),
)
samples = Table(
    "heliostat_samples",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("kind", String(64), nullable=False),
    Column("subject", String(_NAME), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("measures", Json, nullable=False),
    Index("heliostat_samples_by_subject", "kind", "subject", "at"),
)
alerts = Table(
    "heliostat_alerts",
    metadata,
    Column("id", String(_NAME), primary_key=True),
    Column("rule", String(_NAME), nullable=False),
    Column("subject", String(_NAME), nullable=False),
    Column("text", Words, nullable=False),
    Column("mend", Words, nullable=False),
    Column("since", UtcTime, nullable=False),
    Column("until", UtcTime),
    Column("acknowledged_by", String(_NAME)),
    Index("heliostat_alerts_by_time", "since"),
)
leases = Table(
    "heliostat_leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("owner", String(_NAME), nullable=False),
    Column("expires", UtcTime, nullable=False),
)
settings = Table(
    "heliostat_settings",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Json, nullable=False),
)


def bring_up(connection: Connection, found: int) -> None:
    """Change the tables of schema `found` into today's; done twice, it changes nothing more."""
    if found < 2 and connection.dialect.name == "postgresql":
        quote = connection.dialect.identifier_preparer.quote
        for table in metadata.tables.values():
            for column in table.columns:
                if isinstance(column.type, Json):
                    name = quote(column.name)
                    changed = f"ALTER TABLE {table.name} ALTER COLUMN {name} TYPE TEXT USING {name}::text"
                    connection.execute(text(changed))
        connection.execute(text(f"ALTER TABLE {alerts.name} ALTER COLUMN rule TYPE VARCHAR({_NAME})"))
    connection.execute(update(schema).values(version=SCHEMA_VERSION))
