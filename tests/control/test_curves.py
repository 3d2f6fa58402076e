"""Curves as they are drawn, marks of what happened, and runs side by side."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest

from heliostat.control.curves import (
    View,
    compare_runs,
    config_diff,
    curve_of,
    metric_names,
    run_curves,
    run_marks,
)
from heliostat.control.series import Series
from heliostat.errors import ArtifactError
from heliostat.records import Provenance, Run
from heliostat.stage import RUN_FILE
from heliostat.storage import Storage
from heliostat.tracking import METRICS_FILE, RESUMED
from heliostat.workspace import Workspace


def series(values, name: str = "loss") -> Series:
    values = np.asarray(values, dtype=float)
    steps = np.arange(1, len(values) + 1)
    return Series(name, steps, values, 1e9 + steps * 2.0, steps * 100.0)


def add_run(place: Workspace, run_id: str, config: dict, rows: list[dict]) -> None:
    run = Run(
        id=run_id,
        stage="train",
        status="finished",
        config=config,
        fingerprint="",
        inputs=(),
        started_at=datetime.now(UTC),
        provenance=Provenance.collect(),
    )
    place.storage.write_bytes(f"runs/{run_id}/{RUN_FILE}", run.model_dump_json().encode())
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    place.storage.write_bytes(f"runs/{run_id}/{METRICS_FILE}", lines.encode())


def test_many_points_are_drawn_as_a_thousand_with_the_first_and_last_exact():
    values = np.sin(np.arange(84_211) / 300)
    values[5_000] = 40.0
    curve = curve_of(series(values), View(smoothing=0.9))
    assert len(curve.x) == 1000
    assert curve.num_points == 84_211
    assert (curve.steps[0], curve.values[0]) == (1, values[0])
    assert (curve.steps[-1], curve.values[-1]) == (84_211, values[-1])
    assert np.nanmax(curve.high) == 40.0
    assert np.nanmax(curve.values) < 2


def test_smoothing_comes_before_thinning():
    values = np.random.default_rng(0).normal(size=50_000)
    whole = curve_of(series(values), View(0.99, most=50_000))
    thinned = curve_of(series(values), View(0.99, most=100))
    at = np.searchsorted(whole.steps, thinned.steps)
    np.testing.assert_array_equal(thinned.smoothed, whole.smoothed[at])


def test_gaps_are_listed_by_their_steps():
    curve = curve_of(series([1, np.nan, 2, np.inf, 3]))
    assert curve.gaps == (2, 4)
    assert curve.num_gaps == 2
    assert np.isnan(curve.values[[1, 3]]).all()
    assert curve.last == 3


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ("step", [1, 2, 3]),
        ("tokens", [100, 200, 300]),
        ("relative", [0, 2, 4]),
        ("time", [1000000002000, 1000000004000, 1000000006000]),
    ],
)
def test_each_axis_has_its_unit(axis, expected):
    assert curve_of(series([1, 2, 3]), View(axis=axis)).x.tolist() == expected


def test_a_series_of_nothing_and_of_one_point_are_drawn():
    assert curve_of(series([])).last is None
    one = curve_of(series([2.5]))
    assert one.values.tolist() == one.smoothed.tolist() == one.low.tolist() == [2.5]


def test_what_happened_to_a_run_is_marked(tmp_path):
    place = Workspace(Storage.at(tmp_path))
    rows = [
        {"step": step, "time": 1e9 + step + 600 * (step > 6), "loss": 1.0, "num_workers": 2 - (step > 3)}
        | ({"checkpoint_seconds": 0.1} if step % 4 == 0 else {})
        for step in range(1, 10)
    ]
    add_run(place, "train-a", {}, rows)
    marks = run_marks(place, "train-a")
    assert [(mark.kind, mark.step, mark.about) for mark in marks] == [
        ("checkpoint", 4, ""),
        ("workers", 4, "1"),
        ("pause", 7, "601"),
        ("checkpoint", 8, ""),
    ]


def test_where_a_run_went_on_behind_an_interruption_is_marked_and_is_no_metric(tmp_path):
    place = Workspace(Storage.at(tmp_path))
    rows = [{"step": 1, "time": 1, "loss": 2.0}, {"step": 2, "time": 2, "loss": 1.0, RESUMED: 1.0}]
    add_run(place, "train-a", {}, rows)
    assert [(mark.kind, mark.step) for mark in run_marks(place, "train-a")] == [("resumed", 2)]
    assert metric_names(place, "train-a") == ["loss"]


def test_runs_are_compared_with_the_first_one(tmp_path):
    place = Workspace(Storage.at(tmp_path))
    shared = {"seed": 0, "adapter": {"kind": "lora", "r": 4}}
    add_run(place, "train-a", {**shared, "learning_rate": 0.1}, [{"step": 1, "time": 1, "loss": 2.0}])
    rows = [{"step": step, "time": step, "loss": loss} for step, loss in ((1, 1.0), (2, 1.5))]
    add_run(place, "train-b", {**shared, "learning_rate": 0.2, "adapter": {"kind": "full"}}, rows)
    found = compare_runs(place, ["train-a", "train-b", "train-a"], ["loss", "mfu"])
    assert [run.id for run in found.runs] == ["train-a", "train-b"]
    assert found.figures["loss"]["train-b"].last == 1.5
    assert found.figures["loss"]["train-b"].best == 1.0
    assert found.figures["loss"]["train-b"].difference == pytest.approx(-0.25)
    assert found.figures["loss"]["train-a"].difference == 0
    assert found.curves["mfu"] == {}
    assert {each.key: each.values for each in found.differences} == {
        "adapter.kind": {"train-a": "lora", "train-b": "full"},
        "adapter.r": {"train-a": 4},
        "learning_rate": {"train-a": 0.1, "train-b": 0.2},
    }
    assert found.same_keys == 1


def test_a_run_that_is_not_there_is_said_so(tmp_path):
    place = Workspace(Storage.at(tmp_path))
    with pytest.raises(ArtifactError, match="no run 'train-z'"):
        compare_runs(place, ["train-z"], ["loss"])


def test_sections_in_lists_are_compared_by_number_and_lists_of_values_whole():
    one = {"steps": [{"kind": "pii"}, {"kind": "length", "max": 3}], "layers": [1, 2], "empty": {}}
    two = {"steps": [{"kind": "pii"}, {"kind": "length", "max": 4}], "layers": [1, 3], "empty": {}}
    differences, same = config_diff({"a": one, "b": two})
    assert [each.key for each in differences] == ["steps.1.max", "layers"]
    assert same == 3


def test_what_was_computed_is_kept_until_there_is_more(tmp_path):
    place = Workspace(Storage.at(tmp_path))
    rows = [{"step": step, "time": 1e9 + step, "loss": 1 / step} for step in range(1, 9)]
    add_run(place, "train-a", {}, rows)
    first = run_curves(place, "train-a")["loss"]
    assert run_curves(place, "train-a")["loss"] is first
    add_run(place, "train-a", {}, [*rows, {"step": 9, "time": 1e9 + 9, "loss": 0.0}])
    assert run_curves(place, "train-a")["loss"].num_points == 9
