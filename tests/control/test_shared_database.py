"""The control plane on a PostgreSQL that several machines share."""

import math
import socket
import sys
import time
from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter
from small_studies import add_run
from sqlalchemy import JSON, Column, MetaData, Table, create_engine, insert, make_url, select

from heliostat.control import tables
from heliostat.control.collector import Collector
from heliostat.control.job_records import read_jobs
from heliostat.control.readings import Ok, Unavailable
from heliostat.control.run_index import RunFilter, find_runs, sync_runs
from heliostat.control.sites import Site
from heliostat.control.store import AWAY_SECONDS, Store
from heliostat.databases import CONNECT_SECONDS
from heliostat.errors import StoreError, TrackingError
from heliostat.tracking import Tracker


@pytest.fixture
def site(tmp_path, postgresql, monkeypatch) -> Site:
    monkeypatch.setenv("HELIOSTAT_DATABASE", postgresql.url(tmp_path.name))
    return Site.open(str(tmp_path))


def test_a_run_whose_loss_is_no_number_is_listed_with_the_others(site):
    add_run(site.workspace, "train-000000000001", metrics={"loss": float("nan")})
    add_run(site.workspace, "train-000000000002", metrics={"loss": 1.5})
    assert sync_runs(site) == 2
    losses = {run.id: run.metrics["loss"] for run in find_runs(site.store)}
    assert math.isnan(losses.pop("train-000000000001"))
    assert losses == {"train-000000000002": 1.5}


def test_a_search_minds_no_capitals(site):
    add_run(site.workspace, "train-00000000abcd")
    sync_runs(site)
    assert len(find_runs(site.store, RunFilter(text="ABCD"))) == 1


def test_a_database_that_comes_back_is_used_again(site, postgresql):
    assert isinstance(read_jobs(site.store), Ok)
    postgresql.stop()
    try:
        away = read_jobs(site.store)
    finally:
        postgresql.start()
    assert isinstance(away, Unavailable)
    assert "cannot be used: " in away.reason
    assert "ss/word" not in away.reason
    assert "ss%2Fword" not in away.reason
    time.sleep(AWAY_SECONDS)
    assert isinstance(read_jobs(site.store), Ok)


def unreachable(kind: str) -> socket.socket:
    """A port where nobody listens, or one where a connection is taken and nothing said."""
    held = socket.create_server(("127.0.0.1", 0)) if kind == "silent" else socket.socket()
    if kind == "closed":
        held.bind(("127.0.0.1", 0))
    return held


@pytest.mark.parametrize(("kind", "seconds"), [("closed", 5), ("silent", CONNECT_SECONDS + 5)])
def test_a_page_that_reads_a_dozen_things_of_a_database_that_is_away_waits_once(kind, seconds):
    with unreachable(kind) as held:
        store = Store(f"postgresql+psycopg://someone:secret@127.0.0.1:{held.getsockname()[1]}/none")
        began = time.monotonic()
        answers = [read_jobs(store) for _ in range(12)]
        assert time.monotonic() - began < seconds
    assert {type(answer) for answer in answers} == {Unavailable}
    assert len({answer.reason for answer in answers}) == 1
    assert "secret" not in answers[0].reason


def test_a_tracking_database_that_goes_and_comes_back_refuses_at_once_and_takes_notes_again(
    tmp_path, postgresql
):
    tracker = Tracker(postgresql.url(tmp_path.name))
    site = Site.open(str(tmp_path))
    run_id = tracker.start(add_run(site.workspace, "train-000000000001"))
    tracker.log(run_id, {"loss": 2.0}, 1)
    postgresql.stop()
    began = time.monotonic()
    try:
        with pytest.raises(TrackingError) as refused:
            tracker.log(run_id, {"loss": 1.0}, 2)
        assert time.monotonic() - began < 10
    finally:
        postgresql.start()
    assert "\n" not in str(refused.value)
    assert "ss%2Fword" not in str(refused.value)
    tracker.log(run_id, {"loss": 1.0}, 2)
    assert tracker.history(run_id, "loss") == [(1, 2.0), (2, 1.0)]


def test_of_two_machines_one_asks_the_cluster_until_it_lets_go(site):
    first, second = Collector(site), Collector(Site(site.workspace, Store(site.store.url)))
    assert [first._holds_lease(), second._holds_lease(), first._holds_lease()] == [True, False, True]
    first._let_go()
    assert [second._holds_lease(), first._holds_lease()] == [True, False]


def test_tables_of_schema_1_are_brought_up_and_keep_what_they_hold(tmp_path, postgresql):
    url = postgresql.url(tmp_path.name)
    engine = create_engine(url)
    old = MetaData()
    for table in tables.metadata.tables.values():
        columns = (
            Column(
                column.name,
                JSON() if isinstance(column.type, tables.Json) else column.type,
                primary_key=column.primary_key,
            )
            for column in table.columns
        )
        Table(table.name, old, *columns)
    old.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(tables.schema).values(version=1))
        readings = old.tables["heliostat_readings"]
        connection.execute(
            insert(readings).values(name="nodes", at=datetime.now(UTC), value={"a": [1, None]})
        )
    store = Store(url)
    assert store.reading("nodes", TypeAdapter(dict)).value == {"a": [1, None]}
    store.put_reading("nodes", {"loss": float("nan")}, datetime.now(UTC))
    store.put_unavailable("nodes", "no answer", datetime.now(UTC))
    assert Store(url).setting("limit", 7) == 7
    with engine.begin() as connection:
        assert connection.execute(select(tables.schema.c.version)).scalars().all() == [2]


@pytest.mark.parametrize("options", ["?connect_timeout=2", ""])
def test_what_an_address_says_of_patience_counts(options):
    with unreachable("silent") as held:
        store = Store(f"postgresql+psycopg://127.0.0.1:{held.getsockname()[1]}/none{options}")
        began = time.monotonic()
        read_jobs(store)
        took = time.monotonic() - began
    assert (took < CONNECT_SECONDS - 0.1) is bool(options)


def test_a_server_that_is_full_is_not_away(site):
    with site.store.begin() as connection:
        connection.exec_driver_sql("CREATE ROLE narrow LOGIN PASSWORD 'narrow' CONNECTION LIMIT 1")
        connection.exec_driver_sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO narrow")
    narrow = make_url(site.store.url).set(username="narrow", password="narrow")
    store = Store(narrow.render_as_string(hide_password=False))
    with store.begin():
        assert "too many connections" in read_jobs(store).reason
    assert isinstance(read_jobs(store), Ok), "at once, for who has a connection"


def test_without_the_driver_it_is_told_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"pip install 'heliostat\[postgresql\]'"):
        Store("postgresql+psycopg://someone@127.0.0.1/none").put_reading("nodes", 1, datetime.now(UTC))
