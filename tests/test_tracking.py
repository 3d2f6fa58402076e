"""Tracking: MLflow on SQLite or a server, TensorBoard files, and a clear line when nobody answers."""

import json
import socket
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from heliostat.config import Config
from heliostat.errors import TrackingError
from heliostat.records import Provenance, Run, now
from heliostat.tracking import METRICS_FILE, RESUMED, MetricWriter, Tracker, read_metrics, tracking_uri
from heliostat.workspace import Workspace


class Words(Config):
    text: str = "x"


@pytest.fixture
def tracker(workspace) -> Tracker:
    return Tracker.of(workspace)


def a_run(**changes) -> Run:
    return Run(
        id="train-0123",
        stage="train",
        status="running",
        config={"optimizer": {"learning_rate": 0.001}, "text": "x" * 2000},
        fingerprint=Words().fingerprint(),
        inputs=(),
        started_at=now(),
        provenance=Provenance.collect(),
    ).model_copy(update=changes)


def test_a_run_is_tracked_with_its_config_and_metrics(tracker):
    run_id = tracker.start(a_run())
    for step in range(3):
        tracker.log(run_id, {"loss": 3.0 - step, "learning_rate": 0.1}, step)
    tracker.finish(run_id, "finished")
    assert tracker.history(run_id, "loss") == [(0, 3.0), (1, 2.0), (2, 1.0)]
    stored = tracker._client.get_run(run_id)
    assert stored.data.params["optimizer.learning_rate"] == "0.001"
    assert stored.data.tags["heliostat.stage"] == "train"
    assert stored.info.status == "FINISHED"


def test_a_step_logged_twice_keeps_its_last_value(tracker):
    run_id = tracker.start(a_run())
    tracker.log(run_id, {"loss": 3.0}, 1)
    time.sleep(0.002)
    tracker.log(run_id, {"loss": 2.0}, 1)
    assert tracker.history(run_id, "loss") == [(1, 2.0)]


def test_an_interrupted_run_is_opened_again_not_doubled(tracker):
    run_id = tracker.start(a_run())
    tracker.finish(run_id, "failed")
    assert tracker.start(a_run(tracking_run_id=run_id)) == run_id
    assert tracker._client.get_run(run_id).info.status == "RUNNING"


def test_each_step_goes_to_mlflow_tensorboard_and_a_plain_file(tracker, tmp_path):
    run_id = tracker.start(a_run())
    writer = MetricWriter(tracker, run_id, tmp_path / "run")
    for step in (1, 2):
        writer.write({step: {"loss": 1 / step}})
    writer.close()
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 1.0), (2, 0.5)]
    written = read_metrics(tmp_path / "run")
    assert [(row["step"], row["loss"]) for row in written] == [(1, 1.0), (2, 0.5)]
    assert written[0]["time"] <= written[1]["time"] <= time.time()
    assert tracker.history(run_id, "loss") == [(1, 1.0), (2, 0.5)]


def test_a_resumed_run_replaces_the_steps_it_repeats(tracker, tmp_path):
    run_id = tracker.start(a_run())
    first = MetricWriter(tracker, run_id, tmp_path)
    for step in (1, 2, 3):
        first.write({step: {"loss": float(step)}})
    with (tmp_path / METRICS_FILE).open("a") as stream:
        stream.write(json.dumps({"step": 4, "loss": 4.0})[:9])  # cut short by a crash
    MetricWriter(tracker, run_id, tmp_path).write({2: {"loss": 20.0}})
    assert [(row["step"], row["loss"]) for row in read_metrics(tmp_path)] == [(1, 1.0), (2, 20.0)]


def test_a_writer_that_goes_on_after_a_lost_worker_replaces_the_steps_it_repeats(tracker, tmp_path):
    run_id = tracker.start(a_run())
    writer = MetricWriter(tracker, run_id, tmp_path)
    for steps in ((1, 2), (3, 4), (2, 3), (4,)):
        writer.write({step: {"loss": float(step)} for step in steps})
    writer.close()
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3, 4]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4]


def test_the_first_step_behind_each_interruption_is_marked_in_the_plain_file_alone(tracker, tmp_path):
    run_id = tracker.start(a_run())
    writer = MetricWriter(tracker, run_id, tmp_path)
    for steps in ((1, 2), (3, 4), (3, 4)):
        writer.write({step: {"loss": float(step)} for step in steps})
    writer.close()
    writer.write({5: {"loss": 5.0}})
    MetricWriter(tracker, run_id, tmp_path).write({6: {"loss": 6.0}, 7: {"loss": 7.0}})
    assert [row["step"] for row in read_metrics(tmp_path) if RESUMED in row] == [3, 5, 6]
    assert RESUMED not in tracker._client.get_run(run_id).data.metrics


def test_steps_that_nobody_took_are_handed_in_when_the_store_answers_by_a_resumed_run_too(tracker, tmp_path):
    run_id = tracker.start(a_run())
    told: list[str] = []
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        away = Tracker(f"http://127.0.0.1:{closed.getsockname()[1]}", at_once=False)
        killed = MetricWriter(away, run_id, tmp_path, told.append)
        for step in (1, 2, 3):
            killed.write({step: {"loss": float(step)}})
    assert len(told) == 1, "it is said once"
    assert told[0].startswith("no tracking server answers at http://127.0.0.1")
    assert told[0].endswith("training goes on, and hands in what MLflow missed when it answers")
    MetricWriter(tracker, run_id, tmp_path).write({3: {"loss": 30.0}, 4: {"loss": 4.0}})
    assert tracker.history(run_id, "loss") == [(1, 1.0), (2, 2.0), (3, 30.0), (4, 4.0)]


def test_steps_that_a_store_missed_wait_in_the_plain_file_and_not_in_memory(tracker, tmp_path, monkeypatch):
    monkeypatch.setattr("heliostat.tracking.ASK_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr("heliostat.tracking.CAUGHT_UP_AT_ONCE", 3)
    run_id = tracker.start(a_run())
    told: list[str] = []
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        away = Tracker(f"http://127.0.0.1:{closed.getsockname()[1]}", at_once=False)
        writer = MetricWriter(away, run_id, tmp_path, told.append)
        for first in range(1, 200, 10):
            writer.write({step: {"loss": float(step)} for step in range(first, first + 10)})
    assert not any(each for each in vars(writer).values() if isinstance(each, dict | set | list))
    writer._tracker = tracker
    for step in range(201, 280):
        writer.write({step: {"loss": float(step)}})
    writer.close()
    assert told[1] == "MLflow answers again, and gets the 201 step(s) that it missed"
    assert tracker.history(run_id, "loss") == [(step, float(step)) for step in range(1, 280)]


def test_a_resumed_run_hands_in_only_what_is_missing_before_it(tracker, tmp_path):
    run_id = tracker.start(a_run())
    first = MetricWriter(tracker, run_id, tmp_path)
    first.write({1: {"loss": 1.0}, 2: {"loss": float("nan")}, 3: {"loss": 3.0}})
    first.close()
    MetricWriter(tracker, run_id, tmp_path).write({4: {"loss": 4.0}})
    logged = tracker._client.get_metric_history(run_id, "loss")
    assert sorted(point.step for point in logged) == [1, 3, 4]


def test_a_run_that_ends_hands_in_what_was_missed_or_says_where_it_is(tracker, tmp_path):
    run_id, folder = tracker.start(a_run()), tmp_path / "train-0123"
    told: list[str] = []
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        away = Tracker(f"http://127.0.0.1:{closed.getsockname()[1]}", at_once=False)
        writer = MetricWriter(away, run_id, folder, told.append)
        writer.write({1: {"loss": 1.0}, 2: {"loss": 2.0, "gradient_norm": float("inf")}})
        writer.catch_up()
    assert told[1].startswith("no tracking server answers at http://127.0.0.1")
    assert told[1].endswith(f"; {folder}/metrics.jsonl has the steps that MLflow lacks")
    MetricWriter(tracker, run_id, folder).catch_up()
    assert tracker.history(run_id, "loss") == [(1, 1.0), (2, 2.0)]


def test_a_store_whose_making_was_interrupted_is_made_afresh(tmp_path, monkeypatch):
    file = tmp_path / "mlflow.db"

    def interrupted(engine):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("mlflow.store.db.utils._upgrade_db", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Tracker(f"sqlite:///{file}")
    assert not file.exists()
    assert Tracker(f"sqlite:///{file}").start(a_run())


def test_the_store_is_in_the_workspace_unless_said_otherwise(workspace, monkeypatch):
    assert tracking_uri(workspace) == f"sqlite:///{workspace.storage.root}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert tracking_uri(workspace) == "http://tracking:5000"


def test_a_workspace_on_an_object_store_needs_a_server():
    with pytest.raises(TrackingError, match="set MLFLOW_TRACKING_URI"):
        tracking_uri(Workspace.resolve("s3://bucket/workspace"))


@pytest.mark.heavy
@pytest.mark.parametrize("place", ["closed port", "silent server", "unknown name"])
def test_no_tracking_server_is_one_line_within_ten_seconds(place):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if place == "silent server":
            listener.listen()
        host = "tracking.invalid" if place == "unknown name" else "127.0.0.1"
        uri = f"http://{host}:{listener.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(TrackingError) as caught:
            Tracker(uri)
    assert time.monotonic() - started < 10
    assert str(caught.value).startswith(f"no tracking server answers at {uri}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        "htp://server",
        "sqlite:////proc/heliostat/mlflow.db",
        "postgresql://nowhere.invalid/x",
        "postgresql+psycopg://127.0.0.1:1/x",
        "postgresql+psycopg2://no.driver/x",
    ],
)
def test_a_store_that_cannot_be_used_is_one_line_at_once(uri):
    import mlflow  # noqa: F401 which takes seconds itself

    started = time.monotonic()
    with pytest.raises(TrackingError) as caught:
        Tracker(uri)
    assert time.monotonic() - started < 10
    assert uri in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "uri", ["postgresql+psycopg://127.0.0.1:12planted/x", "postgresql+psycopg://u:p@planted@127.0.0.1:1/x"]
)
def test_an_address_that_is_none_is_one_line_without_its_password(uri):
    with pytest.raises(TrackingError, match="write %40 for @") as caught:
        Tracker(uri)
    assert "planted" not in str(caught.value)


def test_a_database_that_takes_the_connection_and_says_nothing_is_not_waited_for(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(TrackingError, match="timeout"):
            Tracker(f"postgresql+psycopg://someone:secret@127.0.0.1:{silent.getsockname()[1]}/x")
    assert time.monotonic() - started < 15


def test_a_file_that_is_no_database_is_one_line(tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database, but some kilobytes of prose" * 100)
    with pytest.raises(TrackingError) as caught:
        Tracker(f"sqlite:///{tmp_path}/mlflow.db")
    assert "\n" not in str(caught.value)
