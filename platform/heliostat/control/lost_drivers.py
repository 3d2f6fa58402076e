"""Jobs that ended with the node of their driver, of which Ray says that they run, or that they never began.

A head that is started again with its tables in Redis lists the jobs of before as they were. Ray 2.60 looks
after them only when the next job is handed in, or a log is asked for: until then they are RUNNING for ever,
and then they FAILED because it "failed to get job supervisor".
"""

from collections.abc import Sequence
from typing import Any

from heliostat.control.ray_api import RayApi

DRIVER_LOST = "JOB_SUPERVISOR_ACTOR_DIED"
"""Ray's word for such a job, where it sees its driver's end itself."""
MESSAGE = "the node of its driver was lost"
_ALIVE = ("PENDING", "RUNNING")
_NEVER_BEGAN = "JOB_SUPERVISOR_ACTOR_START_FAILURE"


def with_lost_drivers(api: RayApi, entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ray's entries of jobs; those that cannot run any more say so, and why.

    Raises:
        Unreachable: the cluster does not answer.
    """
    if not any(_doubtful(entry) for entry in entries):
        return list(entries)
    dead = {node.get("node_id") for node in api.rows("nodes") if node.get("state") == "DEAD"}
    lost = {"status": "FAILED", "error_type": DRIVER_LOST, "message": MESSAGE}
    return [
        entry | lost if _doubtful(entry) and entry["driver_node_id"] in dead else entry for entry in entries
    ]


def _doubtful(entry: dict[str, Any]) -> bool:
    if not entry.get("driver_node_id"):  # it has no driver yet, or never had
        return False
    return entry.get("status") in _ALIVE or entry.get("error_type") == _NEVER_BEGAN
