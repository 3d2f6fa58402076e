"""What the head of a cluster tells of itself: whether it asks for a token, its versions, its clock."""

import re
import sys
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib import metadata

import httpx

from heliostat.control.auth_token import find_auth_token
from heliostat.control.checks import Check, of_error, ok, skipped, warning
from heliostat.control.ray_api import RayApi, Unreachable
from heliostat.errors import ClusterError

PROBE_SECONDS = 2.5
MOST_SKEW_SECONDS = 5.0
"""Beyond this, ages and orders of events that come from two machines mislead."""


@dataclass(frozen=True)
class Head:
    """A cluster's head. `python` is its release (`3.11`), None where it does not tell."""

    address: str
    asks_for_token: bool
    python: str | None
    clock_ahead_seconds: float | None
    """How much its clock is ahead of this machine's; to the second, for so is the header."""


def probe_head(address: str) -> Head:
    """Ask for what needs no token.

    Raises:
        Unreachable: nobody answers.
        ClusterError: `address` is none.
    """
    with RayApi(address) as api:
        url = api.address
    before = time.time()
    try:
        answer = httpx.get(f"{url}/api/authentication_mode", timeout=PROBE_SECONDS)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise Unreachable(
            f"no Ray dashboard answers at {url} ({str(error) or type(error).__name__}); "
            "check the address and that the head node runs, "
            "or forward its port with ssh -L 8265:127.0.0.1:8265 HEAD"
        ) from None
    middle = (before + time.time()) / 2
    python = re.search(r"Python/(\d+\.\d+)", answer.headers.get("server", ""))
    return Head(
        address=url,
        asks_for_token=answer.is_success and '"token"' in answer.text,
        python=python[1] if python else None,
        clock_ahead_seconds=_ahead(answer.headers.get("date"), middle),
    )


def _ahead(date: str | None, now: float) -> float | None:
    """Dates have no fractions: half a second is added to what they say."""
    if not date:
        return None
    try:
        return parsedate_to_datetime(date).timestamp() + 0.5 - now
    except ValueError:
        return None


def check_token(head: Head) -> Check:
    """Whether this machine has the token that the cluster asks for; the cluster is asked.

    Raises:
        ClusterError: it has none, or another.
    """
    token = find_auth_token()
    with RayApi(head.address) as api:
        api.check_version()
    if not head.asks_for_token:
        mend = "start the head with RAY_AUTH_MODE=token; cluster/start_head.sh does"
        says = "the cluster asks for no token: who reaches its port can run anything on it"
        return warning("token", says, mend, asked=False)
    assert token is not None, "the cluster has just taken it"
    return ok("token", f"the cluster takes the token from {token.source}", asked=True, source=token.source)


def check_versions(head: Head) -> list[Check]:
    """The cluster's Ray and Python beside this machine's."""
    with RayApi(head.address) as api:
        theirs = api.check_version()
    checks = [_ray(theirs)]
    ours = ".".join(map(str, sys.version_info[:2]))
    if head.python is None:
        checks.append(skipped("versions", "the cluster does not tell its Python"))
    elif head.python != ours:
        mend = f"use Python {head.python} here, or a cluster with {ours}"
        says = f"Python {head.python} on the cluster, {ours} here: what is pickled here may not load there"
        checks.append(warning("versions", says, mend, cluster=head.python, here=ours))
    else:
        checks.append(
            ok("versions", f"Python {ours} here and on the cluster", cluster=head.python, here=ours)
        )
    return checks


def check_head(address: str) -> tuple[Head | None, list[Check]]:
    """Whether the head answers and knows us, and then its versions and clock; None where it can be asked no
    more."""
    try:
        head = probe_head(address)
    except ClusterError as error:
        return None, of_error("cluster", error)
    checks = [ok("cluster", f"a head answers at {head.address}", address=head.address)]
    try:
        checks.append(check_token(head))
    except ClusterError as error:
        return None, [*checks, *of_error("token", error)]
    return head, [*checks, *check_versions(head), check_clock(head)]


def _ray(theirs: str) -> Check:
    try:
        ours = metadata.version("ray")
    except metadata.PackageNotFoundError:
        return ok("versions", f"Ray {theirs} on the cluster, none here", cluster=theirs)
    if theirs.split(".")[:2] == ours.split(".")[:2]:
        return ok("versions", f"Ray {theirs} on the cluster, {ours} here", cluster=theirs, here=ours)
    mend = f"install ray=={theirs} here, or Ray {ours} on the cluster"
    return warning("versions", f"Ray {theirs} on the cluster, {ours} here", mend, cluster=theirs, here=ours)


def check_clock(head: Head) -> Check:
    """The head's clock against this machine's."""
    ahead = head.clock_ahead_seconds
    if ahead is None:
        return skipped("clock", "the head does not tell its time")
    facts = {"ahead_seconds": round(ahead, 1)}
    if abs(ahead) <= MOST_SKEW_SECONDS:
        return ok("clock", "this machine's and the head's agree", **facts)
    which = "ahead of" if ahead > 0 else "behind"
    mend = "let both keep their time by NTP (timedatectl set-ntp true)"
    return warning("clock", f"the head's clock is {abs(ahead):,.0f} s {which} this machine's", mend, **facts)
