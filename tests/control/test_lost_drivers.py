"""Jobs whose driver's node is gone, in answers as a head gives them that was started again with Redis."""

import json

import pytest
from tests.control.recorded_ray import RECORDED, answering

from heliostat.control.job_records import job_of
from heliostat.control.job_watch import sync_jobs
from heliostat.control.lost_drivers import with_lost_drivers
from heliostat.control.ray_api import RayApi
from heliostat.control.ray_jobs import follow_job
from heliostat.control.sites import Site


@pytest.fixture(scope="module")
def restarted():
    """What Ray 2.60 answered after its head was killed and started again, before it looked after its jobs."""
    return json.loads((RECORDED / "restarted_head.json").read_text())


@pytest.fixture
def api(restarted):
    with answering(dict(restarted)) as address, RayApi(address) as asked:
        yield asked


def test_a_job_of_a_dead_node_is_lost_though_ray_says_that_it_runs(api, restarted):
    before = {entry["submission_id"]: entry["status"] for entry in restarted["jobs"]}
    after = {entry["submission_id"]: entry for entry in with_lost_drivers(api, api.jobs())}
    assert sorted(before.values()) == ["FAILED", "RUNNING", "RUNNING", "SUCCEEDED"]
    assert {name: entry["status"] for name, entry in after.items()} == {
        "lost-running": "FAILED",
        "lost-failed": "FAILED",
        "after": "RUNNING",
        "before": "SUCCEEDED",
    }
    lost = [after["lost-running"], after["lost-failed"]]
    assert {(entry["error_type"], entry["message"]) for entry in lost} == {
        ("JOB_SUPERVISOR_ACTOR_DIED", "the node of its driver was lost")
    }


def test_the_record_says_so_in_the_same_words(api, tmp_path):
    site = Site.open(str(tmp_path / "workspace"), api.address)
    sync_jobs(site, api)
    assert {job_of(site.store, name).reason for name in ("lost-running", "lost-failed")} == {
        "the node of its driver was lost"
    }
    assert job_of(site.store, "after").state == "RUNNING"


def test_who_follows_straight_does_not_wait_for_ever(restarted):
    (entry,) = [entry for entry in restarted["jobs"] if entry["submission_id"] == "lost-running"]
    with answering(dict(restarted) | {"job": entry, "logs": {"logs": "step 1\n"}}) as address:
        job = follow_job(address, "lost-running", lambda text: None, poll_seconds=0.01)
    assert (job.status, job.message) == ("FAILED", "the node of its driver was lost")
