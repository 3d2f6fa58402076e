"""The collector on bad days: answers that make no sense."""

import logging

from recorded_ray import answering, recorded

from heliostat.control.collector import Collector, read_cluster, read_noted_nodes
from heliostat.control.readings import Ok, Unavailable
from heliostat.control.sites import Site


def test_an_answer_that_one_task_stumbles_over_ends_no_other(tmp_path, caplog):
    odd = [recorded("jobs")[0] | {"metadata": "a word where a mapping should be"}]
    with answering({"/api/version": {"ray_version": "2.60.0"}, "jobs": odd}) as address:
        site = Site.open(str(tmp_path / "workspace"), address)
        with caplog.at_level(logging.ERROR):
            Collector(site).work_once()
    noted = read_cluster(site.store)
    assert isinstance(noted, Unavailable)
    assert "AttributeError" in noted.reason
    assert "task 'jobs' failed" in caplog.text
    assert isinstance(read_noted_nodes(site.store), Ok)
