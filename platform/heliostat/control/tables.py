"""The tables of the control plane's database. A time is seconds since 1970 in it, and a datetime here."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Column, Dialect, Float, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.types import TypeDecorator

SCHEMA_VERSION = 1
_NAME = 255
"""What MySQL can index."""


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
    Column("reason", Text, nullable=False, default=""),
    Column("priority", Integer, nullable=False, default=0),
    Column("recipe", Text),
    Column("overrides", JSON),
    Column("until", String(64)),
    Column("request", JSON),
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
    Column("text", Text, nullable=False),
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
    Column("record", JSON, nullable=False),
    Index("heliostat_runs_by_time", "started_at"),
    Index("heliostat_runs_by_job", "job"),
)
readings = Table(
    "heliostat_readings",
    metadata,
    Column("name", String(_NAME), primary_key=True),
    Column("at", UtcTime),
    Column("value", JSON),
    Column("reason", Text),
    Column("since", UtcTime),
)
samples = Table(
    "heliostat_samples",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("kind", String(64), nullable=False),
    Column("subject", String(_NAME), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("measures", JSON, nullable=False),
    Index("heliostat_samples_by_subject", "kind", "subject", "at"),
)
alerts = Table(
    "heliostat_alerts",
    metadata,
    Column("id", String(_NAME), primary_key=True),
    Column("rule", String(64), nullable=False),
    Column("subject", String(_NAME), nullable=False),
    Column("text", Text, nullable=False),
    Column("mend", Text, nullable=False),
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
    Column("value", JSON, nullable=False),
)
