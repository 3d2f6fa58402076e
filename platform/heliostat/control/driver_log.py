"""The end of a job's log, read from the node its driver ran on, without the whole of it."""

from heliostat.control.answers import text
from heliostat.control.ray_api import RayApi
from heliostat.errors import ClusterError


def read_driver_log_tail(api: RayApi, submission_id: str, num_lines: int = 500) -> str:
    """The last lines of what the job's driver printed, without colours; empty when it printed nothing yet.

    Raises:
        Unreachable: the cluster does not answer.
        ClusterError: there is no such job, or its node is gone and the log with it.
    """
    job = api.job(submission_id)
    node = text(job.get("driver_node_id"))
    if not node:  # the driver was never started, or an older Ray does not say where
        return _last(api.logs(submission_id), num_lines)
    try:
        return api.get_text(
            "/api/v0/logs/file",
            f"the log of {submission_id}",
            node_id=node,
            submission_id=submission_id,
            lines=num_lines,
            filter_ansi_code="true",
        )
    except ClusterError:
        # Until the driver prints there is no file; and a node that is gone has taken it along.
        return _last(api.logs(submission_id), num_lines)


def _last(log: str, num_lines: int) -> str:
    return "".join(log.splitlines(keepends=True)[-num_lines:])
