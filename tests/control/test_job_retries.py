"""Jobs that the cluster lost: each is tried again once, whoever hears of it and however many do."""

import json
import socket
from datetime import UTC, datetime
from threading import Barrier, Thread

import pytest
from recorded_ray import answering

from heliostat.control.clusters import name_of
from heliostat.control.job_records import JobFilter, JobRecord, change_job, events_of, find_jobs, job_of
from heliostat.control.job_retries import end_lost_job, own_retry
from heliostat.control.job_watch import sync_jobs
from heliostat.control.jobs import follow_job, retry_job, submit_job
from heliostat.control.ray_api import RayApi
from heliostat.control.roles import Actor
from heliostat.control.sites import Site
from heliostat.control.submissions import Submission
from heliostat.errors import ClusterError

ADA = Actor("ada", "operator")
LOST = {"state": "FAILED", "reason": "its node was lost"}


@pytest.fixture
def site(tmp_path) -> Site:
    return Site.open(str(tmp_path / "workspace"))


@pytest.fixture
def running(site, tmp_path) -> JobRecord:
    """A job with a recipe that is on the cluster."""
    (tmp_path / "rows.jsonl").write_text('{"text": "one"}\n')
    recipe = tmp_path / "clean.yaml"
    recipe.write_text(
        "name: clean\ndata:\n  name: clean\n  sources:\n"
        f"    - {{kind: jsonl, path: {tmp_path / 'rows.jsonl'}}}\n"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{probe.getsockname()[1]}"
    job = submit_job(Site(site.workspace, site.store, away), ADA, Submission(recipe))
    change_job(site.store, job.id, state="RUNNING", reason="")
    return job_of(site.store, job.id)


def lose(site: Site, job: JobRecord) -> JobRecord | None:
    return end_lost_job(site, job.id, "RUNNING", {**LOST, "ended_at": datetime.now(UTC)})


def test_a_lost_job_ends_in_words_and_its_retry_waits_in_the_queue(site, running):
    retry = lose(site, running)
    assert retry is not None
    ended, waiting = job_of(site.store, running.id), job_of(site.store, retry.id)
    assert (ended.state, ended.reason) == ("FAILED", f"its node was lost; tried again as {retry.id}")
    assert (waiting.state, waiting.parent, waiting.user) == ("QUEUED", running.id, "ada")
    assert waiting.request == {**running.request, "submission_id": retry.id}
    assert [event.text for event in events_of(site.store, running.id)][-1] == f"tried again as {retry.id}"
    assert own_retry(site.store, ended) == retry.id


@pytest.mark.parametrize("answer", [(200, ""), {}, {"jobs": []}])
def test_an_answer_that_is_no_list_of_jobs_loses_none(site, running, answer):
    with (
        answering({"jobs": answer}) as address,
        RayApi(address) as api,
        pytest.raises(ClusterError, match="answered no list"),
    ):
        sync_jobs(site, api)
    assert [job.state for job in find_jobs(site.store)] == ["RUNNING"]


@pytest.fixture
def empty_cluster():
    """A head that knows of no jobs, and asks for no token."""
    with answering({"jobs": (200, "[]")}) as address, RayApi(address) as api:
        yield api


def test_a_cluster_that_somebody_else_asks_loses_no_job_of_another(site, running, empty_cluster):
    change_job(site.store, running.id, cluster="http://its-own:8265")
    assert sync_jobs(site, empty_cluster, watches=True) == ()
    assert [job.state for job in find_jobs(site.store)] == ["RUNNING"]


def test_a_cluster_that_no_longer_knows_its_own_job_has_lost_it(site, running, empty_cluster):
    change_job(site.store, running.id, cluster=name_of(empty_cluster.address))
    (retry,) = sync_jobs(site, empty_cluster)
    assert (job_of(site.store, running.id).state, retry.parent) == ("LOST", running.id)
    assert retry.cluster is None


def test_who_watches_takes_over_what_was_sent_through_another_address(site, running):
    entry = {"submission_id": running.id, "status": "RUNNING", "type": "SUBMISSION"}
    change_job(site.store, running.id, cluster="http://127.0.0.1:8265")
    with answering({"jobs": (200, json.dumps([entry]))}) as address, RayApi(address) as api:
        sync_jobs(site, api)
        assert job_of(site.store, running.id).cluster == "http://127.0.0.1:8265"
        sync_jobs(site, api, watches=True)
        assert job_of(site.store, running.id).cluster == name_of(address)


def test_however_many_hear_of_the_loss_at_once_there_is_one_retry(site, running):
    together, heard = Barrier(4), []

    def hear() -> None:
        together.wait()
        heard.append(lose(site, running))

    threads = [Thread(target=hear) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([retry for retry in heard if retry is not None]) == 1
    assert len(find_jobs(site.store, JobFilter(states=("QUEUED",)))) == 1


def test_what_was_tried_again_by_itself_is_not_tried_a_second_time(site, running):
    retry = lose(site, running)
    change_job(site.store, retry.id, state="RUNNING")
    assert lose(site, retry) is None
    assert job_of(site.store, retry.id).reason == "its node was lost"


def test_a_retry_that_a_person_asked_for_is_not_taken_for_the_jobs_own(site, running):
    change_job(site.store, running.id, state="FAILED", reason="a broken row")
    retry_job(site, ADA, running.id)
    assert own_retry(site.store, job_of(site.store, running.id)) is None


def test_who_follows_a_lost_job_follows_its_retry_to_the_end(site, running):
    retry = lose(site, running)
    change_job(site.store, retry.id, state="SUCCEEDED")
    shown: list[str] = []
    ended = follow_job(site, running.id, shown.append)
    assert (ended.id, ended.state) == (retry.id, "SUCCEEDED")
    assert shown == [f"job {running.id} FAILED: its node was lost; tried again as {retry.id}\n"]
