"""The control plane's database: what several processes do to it at once, and what it says when it is away."""

import math
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter

from heliostat.control.readings import Ok, Unavailable, latest, take
from heliostat.control.roles import Actor, require
from heliostat.control.store import Store
from heliostat.errors import AccessError, ClusterError, ConfigError, StoreError
from heliostat.workspace import Workspace

NUMBERS = TypeAdapter(list[int])


@pytest.fixture
def store(database) -> Store:
    return Store(database)


def test_a_reading_that_was_never_made_says_who_makes_it(store):
    reading = store.reading("nodes", NUMBERS)
    assert isinstance(reading, Unavailable)
    assert "heliostat control" in reading.reason
    assert latest(reading) is None


def test_silence_keeps_the_last_answer_and_the_moment_it_began(store):
    at = datetime.now(UTC) - timedelta(seconds=30)
    store.put_reading("nodes", [1, 2], at)
    reading = store.reading("nodes", NUMBERS)
    assert isinstance(reading, Ok)
    assert reading.value == [1, 2]
    assert 29 < reading.age_seconds < 60
    began = datetime.now(UTC)
    store.put_unavailable("nodes", "no answer", began)
    store.put_unavailable("nodes", "still no answer", began + timedelta(seconds=5))
    silent = store.reading("nodes", NUMBERS)
    assert isinstance(silent, Unavailable)
    assert silent.reason == "still no answer"
    assert abs((silent.since - began).total_seconds()) < 0.01
    assert latest(silent).value == [1, 2]
    store.put_reading("nodes", [3], datetime.now(UTC))
    assert isinstance(store.reading("nodes", NUMBERS), Ok)
    store.put_unavailable("nodes", "again", began + timedelta(seconds=9))
    assert store.reading("nodes", NUMBERS).since > began + timedelta(seconds=8)


def test_what_another_version_noted_is_a_reason_and_no_exception(store):
    store.put_reading("nodes", {"of": "another shape"}, datetime.now(UTC))
    reading = store.reading("nodes", NUMBERS)
    assert isinstance(reading, Unavailable)
    assert "another version" in reading.reason


@pytest.mark.parametrize("value", [[float("inf"), -float("inf")], "a\0b", "\ud800", {"ä": None}, None])
def test_any_value_comes_back_as_it_was(store, value):
    store.put_reading("any", value, datetime.now(UTC))
    assert store.reading("any", TypeAdapter(Any)).value == value


def test_what_is_no_number_comes_back(store):
    store.put_reading("loss", {"loss": float("nan")}, datetime.now(UTC))
    assert math.isnan(store.reading("loss", TypeAdapter(dict[str, float])).value["loss"])


def test_a_reason_of_odd_characters_is_noted(store):
    store.put_unavailable("nodes", "a\0b \ud800 \U0001f642", datetime.now(UTC))
    assert store.reading("nodes", NUMBERS).reason == "a\ufffdb \ufffd \U0001f642"


@pytest.mark.heavy
def test_processes_that_make_the_tables_at_once_all_can_write(database):
    code = (
        "import sys; from heliostat.control.store import Store; s = Store(sys.argv[1]);"
        "[s.put_setting(f'{sys.argv[2]}-{i}', i) for i in range(20)]"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, database, str(k)]) for k in range(4)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0, 0]
    store = Store(database)
    assert {store.setting(f"{k}-{i}", None) == i for k in range(4) for i in range(20)} == {True}


def test_a_database_that_cannot_be_used_says_why_without_its_password(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="cannot be used"):
        Store(f"sqlite:///{tmp_path}/file/control.db").setting("limit", 1)
    with pytest.raises(StoreError) as refused:
        Store("nodatabase://someone:secret@host/name").setting("limit", 1)
    assert "secret" not in str(refused.value)
    (tmp_path / "text.db").write_text("this is no database, however long it may be" * 100)
    assert isinstance(Store(f"sqlite:///{tmp_path}/text.db").reading("nodes", NUMBERS), Unavailable)


def test_a_file_of_schema_1_is_read_and_written_on(tmp_path):
    """Its JSON columns give SQLite's own numbers for what is a number."""
    url = f"sqlite:///{tmp_path}/control.db"
    with closing(sqlite3.connect(tmp_path / "control.db")) as old, old:
        old.execute("CREATE TABLE heliostat_schema (version INTEGER NOT NULL PRIMARY KEY)")
        old.execute("INSERT INTO heliostat_schema VALUES (1)")
        old.execute(
            "CREATE TABLE heliostat_readings (name VARCHAR(255) NOT NULL PRIMARY KEY, at FLOAT, value JSON, "
            "reason TEXT, since FLOAT)"
        )
        for name, value in (("runs", "0"), ("half", "0.5"), ("nodes", "[1, 2]"), ("none", "null")):
            old.execute("INSERT INTO heliostat_readings VALUES (?, 1.0, ?, NULL, NULL)", (name, value))
    store = Store(url)
    kept = {name: store.reading(name, TypeAdapter(Any)).value for name in ("runs", "half", "nodes", "none")}
    assert kept == {"runs": 0, "half": 0.5, "nodes": [1, 2], "none": None}
    store.put_unavailable("runs", "no answer", datetime.now(UTC))
    store.put_reading("runs", 3, datetime.now(UTC))
    assert Store(url).reading("runs", TypeAdapter(int)).value == 3


def test_a_database_of_a_later_version_is_left_alone(tmp_path, monkeypatch, store):
    from heliostat.control import tables

    monkeypatch.setattr(tables, "SCHEMA_VERSION", 99)
    store.put_setting("limit", 1)
    monkeypatch.undo()
    with pytest.raises(StoreError, match="later Heliostat"):
        Store(store.url).setting("limit", 1)


def test_an_object_store_needs_a_database_of_its_own(monkeypatch):
    monkeypatch.delenv("HELIOSTAT_DATABASE", raising=False)
    workspace = Workspace.resolve("s3://bucket/workspace")
    with pytest.raises(StoreError, match="HELIOSTAT_DATABASE"):
        Store.of(workspace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://someone@host/mlflow")
    assert Store.of(workspace).url == "postgresql://someone@host/mlflow"


def test_away_is_a_reading_and_a_persons_mistake_an_error():
    def away() -> int:
        raise ClusterError("no answer")

    def wrong() -> int:
        raise ConfigError("no such thing")

    assert take(away).reason == "no answer"
    assert take(lambda: 3).value == 3
    with pytest.raises(ConfigError):
        take(wrong)


def test_roles_are_an_order_and_a_refusal_says_who_may():
    require(Actor("ada", "admin"), "operator", "stop jobs")
    require(Actor("ada", "operator"), "operator", "stop jobs")
    with pytest.raises(AccessError, match="ada is a viewer and may not stop jobs; ask an admin for the role"):
        require(Actor("ada"), "operator", "stop jobs")
