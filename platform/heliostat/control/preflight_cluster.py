"""What a recipe needs of a cluster: that it answers, knows us, runs what we run, and has room."""

from heliostat.control.checks import Check, Question, of_error, ok
from heliostat.control.head import check_clock, check_token, check_versions, probe_head
from heliostat.control.preflight_place import Setting
from heliostat.errors import ClusterError

CLUSTER_SECONDS = 7.0


def cluster_questions(setting: Setting) -> list[Question]:
    """The checks of this file; none without an address."""
    address = setting.address
    if address is None:
        return []
    return [Question("cluster", lambda: check_cluster(setting, address), CLUSTER_SECONDS)]


def check_cluster(setting: Setting, address: str) -> list[Check]:
    """One after the other: who does not answer, or does not know us, is asked no more."""
    try:
        head = probe_head(address)
    except ClusterError as error:
        return of_error("cluster", error)
    checks = [ok("cluster", f"a head answers at {head.address}", address=head.address)]
    try:
        checks.append(check_token(head))
    except ClusterError as error:
        return [*checks, *of_error("token", error)]
    return [*checks, *check_versions(head), check_clock(head)]
