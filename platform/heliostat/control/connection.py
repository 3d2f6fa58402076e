"""Whether a cluster answers, asked now because a person wants to know."""

import time
from dataclasses import dataclass
from typing import Literal

from heliostat.control.ray_api import RayApi, Unreachable
from heliostat.control.roles import Actor, require
from heliostat.errors import ClusterError

Outcome = Literal["answers", "refused", "away", "none"]


@dataclass(frozen=True)
class Attempt:
    """What came of asking: Ray's version, or why there is none. `refused`: something answers, and asks for
    a token or does not take ours, or its Ray is too old, or it is not Ray."""

    outcome: Outcome
    version: str = ""
    reason: str = ""
    seconds: float = 0.0


def try_connection(actor: Actor, address: str | None) -> Attempt:
    """Ask the cluster at `address` for its version.

    Raises:
        AccessError: a viewer may not.
    """
    require(actor, "operator", "test the connection")
    if address is None:
        return Attempt("none")
    begun = time.monotonic()
    try:
        with RayApi(address) as api:
            version = api.check_version()
    except Unreachable as error:
        return Attempt("away", reason=str(error), seconds=time.monotonic() - begun)
    except ClusterError as error:
        return Attempt("refused", reason=str(error), seconds=time.monotonic() - begun)
    return Attempt("answers", version=version, seconds=time.monotonic() - begun)
