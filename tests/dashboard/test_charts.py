"""Charts are plain JSON, say what the data says, and stand logarithms, gaps and nothing at all."""

import json

import numpy as np
import pytest
from dashboard.charts.bars import bar_chart, funnel_chart, histogram_chart, interval_chart
from dashboard.charts.colours import PALETTE, colours_of
from dashboard.charts.heat import heat_strip
from dashboard.charts.lineage import GraphNode, layers_of, lineage_chart
from dashboard.charts.metric import Line, Look, hidden_by_log, metric_chart
from dashboard.charts.numbers import plain
from dashboard.charts.parallel import ParallelAxis, parallel_chart
from dashboard.charts.sparkline import sparkline
from dashboard.charts.trials import history_chart, trial_curves

from heliostat.control.curves import Curve, Mark, View, curve_of
from heliostat.control.series import Series


def curve(values, view: View | None = None) -> Curve:
    values = np.asarray(values, dtype=float)
    steps = np.arange(1, len(values) + 1)
    return curve_of(Series("loss", steps, values, 1.79e9 + steps, steps * 10.0), view)


def as_json(option: dict) -> dict:
    """The option as the browser gets it; JSON knows no NaN, so none may be in it."""
    return json.loads(json.dumps(option, allow_nan=False))


def series_of(option: dict, name: str) -> dict:
    return next(each for each in option["series"] if each["name"] == name)


def test_a_curve_is_bold_over_what_was_measured():
    option = as_json(metric_chart([Line("run", curve([3, 1, 2]))]))
    bold, raw = series_of(option, "run"), series_of(option, "run (raw)")
    assert [x for x, _ in bold["data"]] == [1, 2, 3]
    assert [y for _, y in raw["data"]] == [3, 1, 2]
    assert bold["lineStyle"]["width"] > raw["lineStyle"]["width"]
    assert bold["z"] > raw["z"]


def test_a_band_shows_what_thinning_hid():
    values = np.zeros(5000)
    values[2500] = 9.0
    option = as_json(metric_chart([Line("run", curve(values, View(most=50)))]))
    low, spread = series_of(option, "run low"), series_of(option, "run high")
    assert max(y for _, y in spread["data"]) == 9
    assert low["stackStrategy"] == spread["stackStrategy"] == "all"
    assert low["stack"] == spread["stack"]
    assert not low["tooltip"]["show"]


@pytest.mark.parametrize("values", [[0, 0], [-1, -2], [np.nan, 0], []])
def test_a_logarithm_of_nothing_positive_stays_linear(values):
    option = as_json(metric_chart([Line("run", curve(values))], look=Look(log=True)))
    assert option["yAxis"]["type"] == "value"


def test_a_logarithmic_axis_leaves_out_what_it_cannot_show_and_counts_it():
    lines = [Line("run", curve([1, 0, -3, 10], View(0)))]
    option = as_json(metric_chart(lines, look=Look(log=True)))
    assert option["yAxis"]["type"] == "log"
    assert [y for _, y in series_of(option, "run")["data"]] == [1, None, None, 10]
    assert hidden_by_log(lines) == 2


def test_a_band_on_a_logarithmic_axis_has_both_ends_or_none():
    values = np.tile([0.0, 5.0], 500)
    option = as_json(metric_chart([Line("run", curve(values, View(0.5, most=20)))], look=Look(log=True)))
    low, spread = series_of(option, "run low")["data"], series_of(option, "run high")["data"]
    assert all(over is None for (_, under), (_, over) in zip(low, spread, strict=True) if under is None)
    assert any(under is None for _, under in low)


def test_gaps_and_what_happened_are_marked():
    marks = [Mark(2.0, 2, "checkpoint"), Mark(3.0, 3, "workers", "2")]
    option = as_json(metric_chart([Line("run", curve([1, np.nan, 2]))], marks))
    lines = option["series"][0]["markLine"]["data"]
    assert {each["name"] for each in lines} == {"checkpoint 2", "workers 3 2", "gap 2"}


def test_a_thousand_checkpoints_are_no_fence():
    marks = [Mark(float(step), step, "checkpoint") for step in range(1000)]
    option = metric_chart([Line("run", curve([1, 2]))], marks)
    lines = option["series"][0]["markLine"]["data"]
    assert 20 <= len(lines) <= 40
    assert lines[-1]["xAxis"] == 999


def test_points_of_an_evaluation_are_seen_singly():
    option = as_json(metric_chart([Line("loss", curve([3, 2])), Line("eval", curve([2.5]), points=True)]))
    assert series_of(option, "eval")["showSymbol"]
    assert not series_of(option, "loss")["showSymbol"]
    assert option["legend"]["show"]


def test_wall_time_keeps_its_milliseconds():
    option = as_json(metric_chart([Line("run", curve([1, 2], View(axis="time")))], look=Look(axis="time")))
    assert option["xAxis"]["type"] == "time"
    assert series_of(option, "run")["data"][0][0] == 1790000001000


def test_a_run_keeps_its_colour_and_no_two_share_one():
    ids = [f"train-{number}" for number in range(10)]
    alone = colours_of(ids[:1])
    together = colours_of(reversed(ids))
    assert len(set(together.values())) == len(ids)
    assert set(together.values()) <= set(PALETTE)
    assert colours_of(ids) == together
    assert alone[ids[0]] == together[ids[0]]


def test_numbers_are_what_json_knows():
    assert plain(np.float64("nan")) is plain(None) is plain(np.inf) is None
    assert plain(np.float32(0.123456789)) == 0.123457
    assert plain(1_234_567.0) == 1_234_567


def test_bars_are_stacked_or_side_by_side():
    stacked = as_json(bar_chart(["a", "b"], {"x": [1, None], "y": [2, 3]}, stacked=True))
    assert {each["stack"] for each in stacked["series"]} == {"whole"}
    beside = as_json(bar_chart(["a"], {"x": [1.5]}, unit=" %"))
    assert "stack" not in beside["series"][0]
    assert beside["series"][0]["label"]["formatter"] == "{c} %"


def test_a_funnel_shows_kept_and_dropped_of_each_step():
    option = as_json(funnel_chart([("read", 10, 0), ("length", 7, 3)], "kept", "dropped"))
    assert option["yAxis"]["data"] == ["read", "length"]
    assert series_of(option, "kept")["data"] == [10, 7]
    assert series_of(option, "dropped")["data"] == [0, 3]


def test_a_histogram_lays_after_over_before():
    option = as_json(histogram_chart([0, 10, 20], {"before": [4, 2], "after": [3, 1]}))
    assert option["xAxis"]["data"] == ["0–10", "≥ 10"]
    assert [each["name"] for each in option["series"]] == ["before", "after"]


def test_intervals_lie_around_their_points():
    option = as_json(interval_chart(["one"], [0.5], [(0.4, 0.7)]))
    points, ends = option["series"]
    assert points["data"][0]["value"] == [0.5, "one"]
    assert [x for x, _ in ends["data"]] == [0.4, 0.7]


def test_parallel_coordinates_take_words_logarithms_and_failures():
    axes = [ParallelAxis("rate", log=True), ParallelAxis("kind", words=("a", "b")), ParallelAxis("loss")]
    option = as_json(parallel_chart(axes, [[1e-4, "a", 2.0], [1e-2, "b", 1.0], [1e-3, "b", None]]))
    assert [each["type"] for each in option["parallelAxis"]] == ["log", "category", "value"]
    assert option["series"][0]["data"] == [[1e-4, "a", 2], [0.01, "b", 1]]
    assert (option["visualMap"]["min"], option["visualMap"]["max"]) == (1, 2)
    assert as_json(parallel_chart(axes, []))["series"][0]["data"] == []


def test_a_logarithmic_axis_with_zero_stays_linear_and_loses_no_trial():
    axes = [ParallelAxis("warmup", log=True), ParallelAxis("loss")]
    option = as_json(parallel_chart(axes, [[0.0, 2.0], [0.1, 1.0]]))
    assert option["parallelAxis"][0]["type"] == "value"
    assert len(option["series"][0]["data"]) == 2


def test_lineage_goes_from_left_to_right():
    edges = [("data", "run"), ("model", "run"), ("run", "adapter"), ("model", "adapter")]
    layers = layers_of(["adapter", "run", "data", "model"], edges)
    assert layers == {"data": 0, "model": 0, "run": 1, "adapter": 2}
    nodes = [GraphNode(each, "run" if each == "run" else "model", f"<b>{each}{{a}}") for each in layers]
    option = as_json(lineage_chart(nodes, edges, {"model": "Model"}))
    places = {node["id"]: node["value"] for node in option["series"][0]["data"]}
    assert places["data"][0] < places["run"][0] < places["adapter"][0]
    assert len({tuple(place) for place in places.values()}) == 4
    upright = as_json(lineage_chart(nodes, edges, {}, upright=True))
    assert {node["id"]: node["value"][1] for node in upright["series"][0]["data"]}["adapter"] == -2
    assert "{a}" not in option["series"][0]["data"][0]["label"]["formatter"]


def test_a_circle_in_the_records_ends():
    assert set(layers_of(["a", "b"], [("a", "b"), ("b", "a")]).values()) == {0, 1}


def test_a_heat_strip_leaves_empty_what_is_not_known():
    option = as_json(heat_strip(["gpu 0"], ["10:00", "10:01"], [[50.0, None]]))
    assert option["series"][0]["data"] == [[0, 0, 50]]


def test_a_sparkline_has_its_ends_and_no_gaps():
    told = sparkline(curve([5, np.nan, *range(200), 7], View(0)))
    assert len(told) == 40
    assert (told[0], told[-1]) == (5, 7)
    assert sparkline(None) == sparkline(curve([])) == sparkline(curve([np.nan])) == []


def test_a_history_is_the_best_so_far_over_what_was_tried():
    attempts = [(0, 3.0, 3.0, "finished"), (1, float("nan"), 3.0, "failed"), (2, 2.0, 2.0, "finished")]
    option = as_json(
        history_chart(attempts, "best", {"finished": "done", "failed": "failed", "running": "on"})
    )
    assert series_of(option, "best")["data"] == [[0, 3], [1, 3], [2, 2]]
    assert series_of(option, "done")["data"] == [[0, 3], [2, 2]]
    assert series_of(option, "failed")["data"] == [[1, None]]
    assert as_json(history_chart([], "best", {}))["series"][0]["data"] == []


def test_the_best_trial_is_in_front_and_a_logarithm_loses_only_what_it_must():
    curves = {"one": [(1, 2.0), (2, 0.0)], "two": [(1, 3.0)]}
    option = as_json(trial_curves(curves, "two", log=True))
    assert option["yAxis"]["type"] == "log"
    assert series_of(option, "one")["data"] == [[1, 2], [2, None]]
    assert series_of(option, "two")["z"] > series_of(option, "one")["z"]
    assert as_json(trial_curves({"one": [(1, -1.0)]}, None, log=True))["yAxis"]["type"] == "value"
