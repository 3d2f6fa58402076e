"""Jobs that were handed in by other means, with words that not every database takes."""

import pytest
from sqlalchemy import text
from tests.control.recorded_ray import answering

from heliostat.control.job_records import find_jobs, job_of
from heliostat.control.job_watch import explain_end, sync_jobs
from heliostat.control.ray_api import RayApi
from heliostat.control.sites import Site


def entry(job_id, status="PENDING", **more):
    return {"submission_id": job_id, "type": "SUBMISSION", "status": status, "entrypoint": "true"} | more


def sync(site, *entries):
    with answering({"jobs": list(entries)}) as address, RayApi(address) as api:
        sync_jobs(site, api)


@pytest.fixture
def site(tmp_path) -> Site:
    return Site.open(str(tmp_path / "workspace"))


def test_a_foreign_jobs_words_are_cut_to_what_every_database_keeps(site):
    said = {"user": "u\0" + "u" * 300, "project": "p" * 300, "recipe": "r" * 300}
    sync(site, entry("foreign", "FAILED", metadata=said, message="it\0failed " + "m" * 20_000))
    job = job_of(site.store, "foreign")
    assert [len(each) for each in (job.user, job.project, job.name)] == [255, 255, 255]
    assert len(job.reason) <= 10_000
    assert not any("\0" in each for each in (job.user, job.reason))


@pytest.mark.parametrize("job_id", ["i" * 256, "nul\0inside"])
def test_an_id_that_cannot_be_kept_is_skipped_with_one_line_in_the_log(site, job_id, caplog):
    for _ in range(2):
        sync(site, entry(job_id), entry("next"))
    assert [job.id for job in find_jobs(site.store)] == ["next"]
    assert len([each for each in caplog.messages if "not put on record" in each]) == 1


def test_a_job_that_the_database_refuses_does_not_hold_up_the_others(site, caplog):
    find_jobs(site.store)
    with site.store.begin() as connection:
        connection.execute(
            text(
                "CREATE TRIGGER strict BEFORE INSERT ON heliostat_jobs WHEN NEW.id = 'refused' "
                "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
            )
        )
    sync(site, entry("a"), entry("refused"), entry("z"))
    assert {job.id for job in find_jobs(site.store)} == {"a", "z"}
    assert [each for each in caplog.messages if "not this one" in each]


def test_a_nul_in_rays_words_does_not_reach_the_record():
    assert explain_end(entry("x", "FAILED", message="it\0failed")) == "it failed"
