"""Pictures of an endpoint's course: what is drawn of what was seen."""

import json
from datetime import UTC, datetime, timedelta

from dashboard.charts.endpoint_course import course_rows, load_option, replicas_option

from heliostat.control.endpoint_figures import Figures
from heliostat.control.endpoint_state import Decision
from heliostat.control.endpoints import Moment

START = datetime(2026, 1, 1, tzinfo=UTC)
COURSE = [
    Moment(START + timedelta(seconds=3 * number), Figures(requests_per_second=rate, p50_seconds=p50), 1, 2)
    for number, (rate, p50) in enumerate(((0.5, None), (2.0, 0.25)))
]


def decision(at: datetime) -> Decision:
    return Decision(at=at, version="v1", before=1, after=2, cause="woken", figures={}, reason="asked")


def test_load_has_two_axes_and_gaps_where_nothing_is_known():
    option = load_option(COURSE, {"requests": "req", "p50": "P50", "p95": "P95"})
    assert [series["name"] for series in option["series"]] == ["req", "P50", "P95"]
    assert [value for _, value in option["series"][1]["data"]] == [None, 0.25]
    assert len(option["yAxis"]) == 2
    json.dumps(option, allow_nan=False)


def test_replicas_are_steps_and_only_decisions_within_the_picture_are_marked():
    seen, earlier = decision(START + timedelta(seconds=1)), decision(START - timedelta(hours=1))
    option = replicas_option(COURSE, [seen, earlier], {"now": "up", "target": "to be"})
    marks = option["series"][1]["markLine"]["data"]
    assert [mark["name"] for mark in marks] == ["1 → 2"]
    assert marks[0]["xAxis"] == int(seen.at.timestamp() * 1000)
    assert {series["step"] for series in option["series"]} == {"end"}
    assert (
        replicas_option([], [seen], {"now": "up", "target": "to be"})["series"][1]["markLine"]["data"] == []
    )


def test_the_table_has_a_row_for_each_look():
    assert [row["requests_per_second"] for row in course_rows(COURSE)] == [0.5, 2.0]
