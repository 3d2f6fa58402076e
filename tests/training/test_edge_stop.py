"""A bell that is rung in one process of the cluster is heard in another, once it is rung and not before."""

import time
from typing import Any

import pytest

pytestmark = pytest.mark.ray


@pytest.fixture
def edge_stop(ray_cluster):
    """The module, which imports Ray: not before a session has set what Ray reads as it is loaded."""
    from heliostat.training import edge_stop

    return edge_stop


def told_within(wish: Any, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not wish.told() and time.monotonic() < deadline:
        time.sleep(0.05)
    return wish.told()


def test_whoever_has_its_name_rings_it(ray_cluster, edge_stop):
    bell, other = edge_stop.StopBell.hung(), edge_stop.StopBell.hung()
    wish, of_other = edge_stop.StopWish(bell), edge_stop.StopWish(other)
    assert not told_within(wish, 1.5)
    ray_cluster.get(ray_cluster.remote(edge_stop.StopBell.ring).options(num_cpus=0).remote(bell))
    assert told_within(wish, 10)
    assert not of_other.told()
    other.ring()
    assert told_within(of_other, 10)


def test_nothing_of_it_is_left(edge_stop):
    from ray.experimental import internal_kv

    bell = edge_stop.StopBell.hung()
    bell.ring()
    assert bell.has_rung()
    bell.take_down()
    bell.take_down()
    assert not bell.has_rung()
    assert bell.name.encode() not in internal_kv._internal_kv_list(b"", namespace=edge_stop.NAMESPACE)
