"""A run's metrics as columns: read once, gone on with, and read anew where the file was rewritten."""

import json
import math
import time

import numpy as np
import pytest

from heliostat.control.series import RunFile, read_metrics_of, read_series
from heliostat.errors import ArtifactError
from heliostat.storage import Storage
from heliostat.tracking import METRICS_FILE
from heliostat.workspace import Workspace

RUN = "train-0123456789ab"


@pytest.fixture
def place(tmp_path) -> Workspace:
    (tmp_path / "runs" / RUN).mkdir(parents=True)
    return Workspace(Storage.at(tmp_path))


def line(step: int, **figures: float) -> str:
    return json.dumps({"step": step, "time": 1e9 + step + 0.25, **figures}) + "\n"


def append(place: Workspace, *lines: str) -> None:
    from pathlib import Path

    with Path(place.storage.uri(f"runs/{RUN}/{METRICS_FILE}")).open("a") as stream:
        stream.write("".join(lines))


def rewrite(place: Workspace, *lines: str) -> None:
    place.storage.write_bytes(f"runs/{RUN}/{METRICS_FILE}", "".join(lines).encode())


def test_a_run_that_has_written_nothing_has_no_metrics(place):
    assert read_metrics_of(place, RUN).names == []
    append(place, "")
    assert read_metrics_of(place, RUN).names == []
    assert read_series(place, RUN, "loss") is None


def test_columns_hold_the_steps_that_reported_them(place):
    append(place, line(1, loss=3.0, tokens=10), line(2, loss=2.5, tokens=20, validation_loss=2.75))
    file = read_metrics_of(place, RUN)
    assert file.names == ["loss", "tokens", "validation_loss"]
    loss, validation = file.get("loss"), file.get("validation_loss")
    assert loss is not None
    assert validation is not None
    assert loss.steps.tolist() == [1, 2]
    assert loss.values.tolist() == [3.0, 2.5]
    assert loss.tokens.tolist() == [10, 30]
    assert validation.steps.tolist() == [2]
    assert validation.tokens.tolist() == [30]
    assert validation.times.tolist() == [1e9 + 2.25]
    assert validation.num_points == 1


def test_only_what_was_appended_is_parsed_again(place, monkeypatch):
    append(place, *(line(step, loss=step / 2) for step in range(1, 100)))
    read_metrics_of(place, RUN)
    seen = []
    add = RunFile.add
    monkeypatch.setattr(RunFile, "add", lambda self, rows: (seen.append(len(rows)), add(self, rows))[1])
    read_metrics_of(place, RUN)
    assert seen == []
    append(place, line(100, loss=1.0))
    series = read_series(place, RUN, "loss")
    assert seen == [1]
    assert series is not None
    assert series.num_points == 100
    assert series.values[-1] == 1.0


def test_a_last_line_that_is_being_written_waits_for_its_end(place):
    whole = line(2, loss=2.0)
    append(place, line(1, loss=3.0), whole[:20])
    assert read_metrics_of(place, RUN).num_rows == 1
    append(place, whole[20:])
    series = read_series(place, RUN, "loss")
    assert series is not None
    assert series.values.tolist() == [3.0, 2.0]


@pytest.mark.parametrize("more", [0, 3, 40])
def test_a_file_that_a_resumed_run_rewrote_is_read_anew(place, more):
    first = [line(step, loss=float(step)) for step in range(1, 21)]
    append(place, *first)
    read_metrics_of(place, RUN)
    again = [
        json.dumps({"step": step, "time": 2e9 + step, "loss": -float(step)}) + "\n"
        for step in range(11, 11 + more)
    ]
    rewrite(place, *first[:10], *again)
    series = read_series(place, RUN, "loss")
    assert series is not None
    assert series.steps.tolist() == list(range(1, 11 + more))
    assert series.values[10:].tolist() == [-float(step) for step in range(11, 11 + more)]


def test_what_is_no_number_is_kept_as_such_and_what_is_no_line_is_left_out(place):
    append(place, line(1, loss=1.0), line(2, loss=math.nan), line(3, loss=math.inf), "{broken\n", "[1]\n")
    append(place, '{"step": 4, "time": 1e9, "loss": "low", "note": "x"}\n', line(5, loss=2.0))
    series = read_series(place, RUN, "loss")
    assert series is not None
    assert series.steps.tolist() == [1, 2, 3, 5]
    assert np.isnan(series.values[1])
    assert np.isinf(series.values[2])
    assert read_metrics_of(place, RUN).names == ["loss"]


def test_a_file_that_is_gone_is_forgotten(place):
    append(place, line(1, loss=1.0))
    assert read_metrics_of(place, RUN).names == ["loss"]
    place.storage.delete(f"runs/{RUN}/{METRICS_FILE}")
    assert read_metrics_of(place, RUN).names == []


@pytest.mark.parametrize("run_id", ["../secrets", "", ".hidden", "a/b"])
def test_what_is_no_id_of_a_run_is_refused(place, run_id):
    with pytest.raises(ArtifactError, match="no run's id"):
        read_metrics_of(place, run_id)


def test_metrics_on_an_object_store_are_read_and_gone_on_with(s3_root):
    place = Workspace(Storage.at(s3_root))
    rewrite(place, line(1, loss=1.0))
    assert read_metrics_of(place, RUN).num_rows == 1
    rewrite(place, line(1, loss=1.0), line(2, loss=0.5))
    series = read_series(place, RUN, "loss")
    assert series is not None
    assert series.values.tolist() == [1.0, 0.5]


def test_pieces_meet_where_lines_meet(place, monkeypatch):
    monkeypatch.setattr("heliostat.control.series.PIECE_BYTES", 100)
    append(place, *(line(step, loss=float(step), much="x" * (step % 7) * 60) for step in range(1, 200)))
    series = read_series(place, RUN, "loss")
    assert series is not None
    assert series.values.tolist() == [float(step) for step in range(1, 200)]


def test_a_hundred_thousand_points_are_read_in_a_moment_and_again_in_none(place):
    append(place, *(line(step, loss=step % 97) for step in range(100_000)))
    started = time.process_time()
    read_series(place, RUN, "loss")
    first = time.process_time() - started
    again = min(_seconds(lambda: read_series(place, RUN, "loss")) for _ in range(5))
    assert first < 1.5
    assert again < 0.02


def _seconds(do) -> float:
    started = time.process_time()
    do()
    return time.process_time() - started


@pytest.mark.parametrize("most", [1, 2, 5, 99])
def test_the_end_of_a_metric_is_the_end_of_all_of_it_however_it_was_read(place, most):
    for step in range(1, 9):
        losses = {"loss": 3.0 / step} if step % 3 else {}
        append(place, line(step, tokens=1, **losses))
        read_metrics_of(place, RUN)
    file = read_metrics_of(place, RUN)
    whole, tail = file.get("loss"), file.tail("loss", most)
    assert whole is not None
    for name in ("steps", "values", "times"):
        assert getattr(tail, name).tolist() == getattr(whole, name)[-most:].tolist()


def test_a_metric_that_no_step_reported_has_an_empty_end(place):
    append(place, line(1, loss=3.0))
    assert read_metrics_of(place, RUN).tail("validation_loss", 5).values.tolist() == []
