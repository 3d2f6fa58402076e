"""The cluster's use over the last day: what nodes tell, kept a day, per cluster."""

from datetime import UTC, datetime, timedelta

import pytest

from heliostat.control.cluster_course import note_use, read_course, use_of
from heliostat.control.nodes import GpuState, Node
from heliostat.control.readings import Ok, Unavailable
from heliostat.control.store import Store

BEGAN = datetime.now(UTC)


def node(**told) -> Node:
    """A node of which only this is told."""
    return Node.model_construct(**dict.fromkeys(Node.model_fields) | {"alive": True, "gpus": ()} | told)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(f"sqlite:///{tmp_path}/control.db")


def test_the_use_is_that_of_the_nodes_that_are_alive():
    gpus = (GpuState(utilisation=50.0), GpuState(utilisation=100.0))
    nodes = (
        node(cpus_used=1.0, cpus_total=4.0, gpus_total=2.0, gpus_used=2.0, gpus=gpus,
             memory_used_bytes=6, memory_total_bytes=8),
        node(cpus_used=0.0, cpus_total=4.0, memory_used_bytes=0, memory_total_bytes=4),
        node(cpus_used=9.0, cpus_total=9.0, alive=False),
    )  # fmt: skip
    use = use_of(nodes, BEGAN)
    assert (use.num_nodes, use.cpus_used, use.cpus_total) == (2, 1.0, 8.0)
    assert (use.gpus_used, use.gpus_total) == (2.0, 2.0)
    assert use.memory_share == 0.5
    assert use.gpu_utilisation == 0.75


def test_what_nobody_told_is_no_zero():
    use = use_of((node(),), BEGAN)
    assert (use.cpus_used, use.gpus_total, use.memory_share, use.gpu_utilisation) == (None, None, None, None)


def test_lines_are_kept_a_day_and_each_cluster_has_its_own(store):
    now = datetime.now(UTC)
    for hours in (30, 3, 2, 1):
        note_use(
            store, use_of((node(cpus_total=float(hours)),), now - timedelta(hours=hours)), "http://a:8265"
        )
    note_use(store, use_of((), now), "http://b:8265")
    course = read_course(store, "http://a:8265")
    assert isinstance(course, Ok)
    assert [use.cpus_total for use in course.value] == [3.0, 2.0, 1.0]
    assert len(read_course(store, "http://a:8265", hours=1.5).value) == 1
    assert len(read_course(store, "http://b:8265").value) == 1


def test_a_database_that_is_away_is_a_reason(tmp_path):
    (tmp_path / "file").write_text("")
    course = read_course(Store(f"sqlite:///{tmp_path}/file/control.db"), "http://a:8265")
    assert isinstance(course, Unavailable)
    assert "cannot be used" in course.reason
