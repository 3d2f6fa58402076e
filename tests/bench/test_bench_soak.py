"""What a soak says of growth, and what it counts as wrong."""

import random

import pytest
from tests.bench.serving_soak_report import Findings
from tests.bench.serving_soak_watch import Sample, role_of, slope_of, too_short, trend_of, trends
from tests.serving.mixed_load import Outcome

MEBIBYTE = 2**20


def samples_of(minutes: float, megabytes, descriptors=lambda minute: 10) -> list[Sample]:
    """One every five seconds."""
    moments = [number / 12 for number in range(int(12 * minutes) + 1)]
    return [
        Sample(60 * minute, int(megabytes(minute) * MEBIBYTE), int(descriptors(minute)), 5)
        for minute in moments
    ]


def test_a_process_that_grows_is_told_from_one_that_warms_up_and_jitters():
    noise = random.Random(1)
    jitters = trend_of("gateway", 1, samples_of(20, lambda _: 200 + noise.uniform(-3, 3)))
    warms_up = trend_of("gateway", 2, samples_of(20, lambda minute: 200 + 30 * min(1, minute / 4)))
    jumps_once = trend_of("gateway", 3, samples_of(20, lambda minute: 200 + 20 * (minute > 15)))
    grows = trend_of("gateway", 4, samples_of(20, lambda minute: 200 + 1.5 * minute))
    assert [each.flat for each in (jitters, warms_up, jumps_once, grows)] == [True, True, True, False]
    assert grows.verdict == "grows by 90.0 MB/h"
    assert grows.bytes_per_hour == pytest.approx(90 * MEBIBYTE, rel=0.01)


def test_an_engine_may_fill_its_cache_and_no_more():
    fills = trend_of("engine", 1, samples_of(20, lambda minute: 300 + 50 * minute))
    overflows = trend_of("engine", 2, samples_of(20, lambda minute: 300 + 100 * minute))
    assert [fills.flat, overflows.flat] == [True, False]


def test_descriptors_that_are_not_given_back_are_growth_too():
    leaks = trend_of("gateway", 1, samples_of(20, lambda _: 200, lambda minute: 10 + 5 * minute))
    assert not leaks.flat
    assert "descriptors" in leaks.verdict


def test_of_a_process_that_lived_shortly_nothing_is_said():
    samples = {("engine", 1): samples_of(3, lambda minute: 100 * minute), ("gateway", 2): samples_of(20, abs)}
    assert [trend.role for trend in trends(samples)] == ["gateway"]
    assert too_short(samples) == {"engine": (1, 300 * MEBIBYTE)}


def test_one_wild_value_does_not_move_the_slope():
    points = [(float(at), 5.0) for at in range(50)]
    assert slope_of([*points[:20], (20.0, 1e9), *points[21:]]) == 0


@pytest.mark.parametrize(
    ("command", "role"),
    [
        ("/venv/bin/python -P -m heliostat.serving.engines.openvino_process 5 /folder {}", "engine"),
        ("ray::ServeReplica:heliostat-gateway:Gateway", "gateway"),
        ("ray::ServeReplica:heliostat-soaked-v1:Engine", "replica"),
        ("ray::ControllerActor.watch", "controller"),
        ("ray::ServeController", "Ray: Serve"),
        ("/bin/bash", None),
    ],
)
def test_processes_are_known_by_their_command_lines(command, role):
    assert role_of(command) == role


def test_what_must_not_be_is_found():
    def outcome(verdict, status=200):
        return Outcome("chat", verdict, 1.0, 0.1, 0.1, status)

    well = [outcome("ok"), outcome("left"), outcome("cut"), outcome("ok", 400)]
    assert Findings(1, outcomes=well).violations == []
    wrong = [outcome("failed", 503), outcome("broken")]
    grows = trend_of("engine", 7, samples_of(20, lambda minute: 100 * minute))
    found = Findings(1, outcomes=well + wrong, trends=[grows], faults=["a canary: NoEffect"]).violations
    assert [each.split()[0] for each in found] == ["a", "1", "1", "1", "engine"]
