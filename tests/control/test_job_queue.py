"""The queue of jobs without a cluster: order, limits, roles, processes that die between two steps."""

import socket
from datetime import UTC, datetime, timedelta

import pytest
from recorded_ray import answering, recorded

from heliostat.control import kept_packages
from heliostat.control.job_queue import (
    Limits,
    change_limits,
    dispatch_due,
    queue_of,
    read_limits,
    release_stale_claims,
)
from heliostat.control.job_records import (
    JobFilter,
    JobRecord,
    add_job,
    change_job,
    claim_job,
    count_jobs,
    events_of,
    find_jobs,
    job_of,
    read_jobs,
)
from heliostat.control.jobs import change_priority, clone_job, retry_job, stop_job, submit_job
from heliostat.control.readings import Unavailable
from heliostat.control.roles import Actor
from heliostat.control.sites import Site
from heliostat.control.store import Store
from heliostat.control.submissions import Submission
from heliostat.errors import AccessError, ConfigError

ADA, BOB, ROOT = Actor("ada", "operator"), Actor("bob", "operator"), Actor("root", "admin")
VIEWER = Actor("vic", "viewer")


@pytest.fixture
def site(tmp_path, database) -> Site:
    return Site.open(str(tmp_path / "workspace"))


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "clean.yaml"
    (tmp_path / "rows.jsonl").write_text('{"text": "one"}\n')
    path.write_text(
        "name: clean\ndata:\n  name: clean\n  sources:\n"
        f"    - {{kind: jsonl, path: {tmp_path / 'rows.jsonl'}}}\n"
    )
    return path


def put(
    site: Site,
    job_id: str,
    user: str = "ada",
    state: str = "QUEUED",
    priority: int = 0,
    age: int = 0,
    request: dict | None = None,
):
    at = datetime.now(UTC) - timedelta(seconds=age)
    job = JobRecord(
        id=job_id,
        name="n",
        project="p",
        user=user,
        state=state,
        priority=priority,
        request=request,
        created_at=at,
        changed_at=at,
    )
    add_job(site.store, job, "put there")
    return job


def test_the_higher_priority_goes_first_then_the_older(site):
    put(site, "young", age=1)
    put(site, "old", age=9)
    put(site, "urgent", priority=3)
    put(site, "late", priority=-2, age=99)
    assert [job.id for job in queue_of(site.store)] == ["urgent", "old", "young", "late"]


def test_a_persons_limit_holds_back_that_persons_jobs_only_and_says_so(site):
    for number in range(2):
        put(site, f"running-{number}", state="RUNNING")
    put(site, "adas", age=9)
    put(site, "bobs", user="bob")
    assert dispatch_due(site) == ()
    assert job_of(site.store, "adas").reason.startswith("waits: ada has 2 of 2 jobs running; number 1 of 2")
    assert "no cluster's address" in job_of(site.store, "bobs").reason
    change_limits(site.store, ROOT, Limits(max_running=2))
    dispatch_due(site)
    assert "2 of 2 jobs are running" in job_of(site.store, "bobs").reason


def test_limits_are_an_admins_and_let_something_run(site):
    with pytest.raises(AccessError, match="change the limits"):
        change_limits(site.store, ADA, Limits())
    with pytest.raises(ConfigError, match="below 1"):
        change_limits(site.store, ROOT, Limits(max_running=0))
    change_limits(site.store, ROOT, Limits(max_running_per_user=5))
    assert read_limits(Store(site.store.url)).max_running_per_user == 5


def test_one_process_gets_a_job_however_many_want_it(site):
    put(site, "wanted")
    assert [claim_job(site.store, "wanted", "QUEUED", "SUBMITTING") for _ in range(3)] == [True, False, False]


def test_a_job_whose_sender_died_goes_back_into_the_queue_unless_ray_has_it(site, monkeypatch):
    for name in ("lost", "sent", "fresh"):
        put(site, name, age=0 if name == "fresh" else 600)
        if name == "fresh":
            claim_job(site.store, name, "QUEUED", "SUBMITTING")
        else:
            put_state(site, name)
    release_stale_claims(site, known={"sent"})
    states = {job.id: job.state for job in find_jobs(site.store)}
    assert states == {"lost": "QUEUED", "sent": "SUBMITTING", "fresh": "SUBMITTING"}
    assert "queued again" in events_of(site.store, "lost")[-1].text


def put_state(site: Site, job_id: str) -> None:
    from sqlalchemy import update

    from heliostat.control.tables import jobs

    with site.store.begin() as connection:  # changed_at stays old, as a killed process leaves it
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(state="SUBMITTING"))


def test_a_cluster_that_is_away_keeps_the_job_in_the_queue_with_the_reason(site, recipe):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    away = Site(site.workspace, site.store, f"http://127.0.0.1:{port}")
    job = submit_job(away, ADA, Submission(recipe))
    assert job.state == "QUEUED"
    assert "waits for the cluster: no Ray dashboard answers" in job.reason
    assert job.recipe is not None
    assert "clean" in job.recipe
    again = Site.open(site.workspace.storage.root, away.address)  # another process, later
    assert [each.id for each in queue_of(again.store)] == [job.id]
    assert stop_job(again, BOB, job.id).state == "STOPPED"
    assert stop_job(again, BOB, job.id).reason == "taken out of the queue by bob"
    retried = retry_job(again, ADA, job.id)
    assert (retried.parent, retried.relation, retried.state) == (job.id, "retry", "QUEUED")
    assert retried.request["submission_id"] == retried.id
    assert retried.request["entrypoint"] == job_of(site.store, job.id).request["entrypoint"]
    cloned = clone_job(again, ADA, job.id, ("data.split.seed=7",))
    assert cloned.overrides == ("data.split.seed=7",)
    assert "data.split.seed=7" in cloned.request["entrypoint"]
    with pytest.raises(ConfigError, match="unknown key"):
        clone_job(again, ADA, job.id, ("data.spilt.seed=7",))


def test_a_job_whose_sending_was_not_answered_is_not_sent_twice_and_holds_up_no_other(site):
    """A second time Ray refuses the id with HTTP 500, which reads like a head that is away."""
    entry = recorded("jobs")[0]
    sent = entry["submission_id"]
    put(site, sent, age=9, request={"submission_id": sent})
    put(site, "behind", user="bob", request={"submission_id": "behind"})
    answers = {"/api/version": {"ray_version": "2.60.0"}, f"/api/jobs/{sent}": entry}
    with answering(answers) as address:
        assert dispatch_due(Site(site.workspace, site.store, address)) == (sent,)
    assert job_of(site.store, sent).state == "PENDING"
    assert "waits for the cluster" in job_of(site.store, "behind").reason, "it was tried too"


def test_a_wrong_recipe_leaves_no_record(site, recipe):
    with pytest.raises(ConfigError, match="did you mean 'sources'"):
        submit_job(site, ADA, Submission(recipe, ("data.surces=1",)))
    assert count_jobs(site.store) == {}


def test_a_long_name_makes_an_id_that_every_database_and_disk_takes_and_a_longer_project_is_refused(
    site, recipe
):
    long = recipe.rename(recipe.with_name("ä" * 20 + "x" * 200 + ".yaml"))
    job = submit_job(site, ADA, Submission(long, project="p" * 120))
    assert len(job.id) < 160
    assert job_of(site.store, job.id).project == "p" * 120
    with pytest.raises(ConfigError, match="has 121 characters; take at most 120"):
        submit_job(site, ADA, Submission(long, project="p" * 121))


def test_a_viewer_cannot_act_however_he_calls(site, recipe):
    job = put(site, "of-ada", state="FAILED")
    for act in (
        lambda: submit_job(site, VIEWER, Submission(recipe)),
        lambda: stop_job(site, VIEWER, job.id),
        lambda: retry_job(site, VIEWER, job.id),
        lambda: change_priority(site, VIEWER, job.id, -1),
        lambda: change_limits(site.store, VIEWER, Limits()),
    ):
        with pytest.raises(AccessError, match="vic is a viewer"):
            act()
    assert count_jobs(site.store) == {"FAILED": 1}


def test_priorities_above_zero_are_an_admins(site):
    put(site, "job")
    with pytest.raises(AccessError):
        change_priority(site, ADA, "job", 1)
    with pytest.raises(ConfigError, match="from -10 to 10"):
        change_priority(site, ROOT, "job", 11)
    assert change_priority(site, ROOT, "job", 10).priority == 10
    change_job(site.store, "job", state="RUNNING")
    with pytest.raises(ConfigError, match="only jobs that wait"):
        change_priority(site, ROOT, "job", 2)


@pytest.mark.parametrize(("part", "found"), [("_", ["a_1"]), ("%", ["b%2"]), ("1", ["a-1", "a_1"])])
def test_a_part_of_a_jobs_id_is_taken_as_it_is_typed(site, part, found):
    for name in ("a-1", "a_1", "b%2"):
        put(site, name)
    assert sorted(job.id for job in find_jobs(site.store, JobFilter(text=part))) == found


def test_jobs_are_found_by_state_person_and_part_of_the_name(site):
    put(site, "a-1", state="FAILED")
    put(site, "b-2", user="bob")
    assert [job.id for job in find_jobs(site.store, JobFilter(states=("FAILED",)))] == ["a-1"]
    assert [job.id for job in find_jobs(site.store, JobFilter(user="bob"))] == ["b-2"]
    assert [job.id for job in find_jobs(site.store, JobFilter(text="-1"))] == ["a-1"]
    assert isinstance(read_jobs(Store("sqlite:////proc/none/control.db")), Unavailable)
    with pytest.raises(ConfigError, match="no job 'gone'"):
        job_of(site.store, "gone")


def test_a_job_that_takes_packages_which_are_gone_fails_with_the_reason(site, recipe, monkeypatch):
    site = Site(site.workspace, site.store, "http://127.0.0.1:9")
    job = submit_job(site, ADA, Submission(recipe))
    site.workspace.storage.delete(kept_packages.FOLDER)
    dispatch_due(site)
    failed = job_of(site.store, job.id)
    assert failed.state == "FAILED"
    assert "is gone" in failed.reason
