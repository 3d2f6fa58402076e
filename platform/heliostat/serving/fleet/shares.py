"""Pure rules of a rollout: how shares are split, and what a failure's report says."""

import re
from collections.abc import Sequence

from heliostat.endpoints import Version


def reweighed(versions: Sequence[Version], share: float) -> tuple[Version, ...]:
    """Versions with `share` percent among them, in the proportions that they had."""
    total = sum(version.weight for version in versions)
    return tuple(
        version.model_copy(update={"weight": share * version.weight / total if total else 0.0})
        for version in versions
    )


def first_reason(message: str) -> str:
    """The line of a replica's report that says what is wrong, without traceback and class."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b.*?: ", line)]
    line = (named or lines or ["no reason was given; the replica's log has more"])[-1]
    return re.sub(r"^[\w.]*(Error|Exception)(\([\w.]*\))?: ", "", line)
