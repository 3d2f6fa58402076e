"""Why endpoints got more replicas or fewer: the last decisions, each with its reason. Knows no Ray.

Ray Serve changes a number and says nothing of why. Here the policy's word, a person's change and a new
version come together, in words for people and as a cause with figures for whoever translates.
"""

from collections import deque
from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from pydantic import Field

from heliostat.endpoints import DeploymentRecord, Version
from heliostat.records import Record, now
from heliostat.serving.config import ServeConfig

MOST_KEPT = 50
Cause = Literal["requests", "kv_cache", "first_token", "woken", "bounds", "by_hand", "deployed"]
"""`bounds`: Serve aims at another number without the policy's wish, as behind a change of the bounds."""


class ScalingWord(Record):
    """What Serve aims at for an application now; `cause` is None where it is merely told again."""

    app_name: str
    target: int
    cause: Cause | None = None
    figures: dict[str, float] = Field(default_factory=dict)


class ScalingDecision(Record):
    """From how many replicas to how many, and why."""

    at: datetime
    version: str
    before: int
    after: int
    cause: Cause
    figures: dict[str, float]
    reason: str


def reason_of(cause: Cause, figures: dict[str, float]) -> str:
    """A cause in words."""
    if cause == "requests":
        return f"{figures['num_requests']:g} requests at work, {figures['target']:g} are meant for a replica"
    if cause == "kv_cache":
        return (
            f"keys and values fill {figures['usage']:.0%} of their room, {figures['target']:.0%} is the limit"
        )
    if cause == "first_token":
        return f"first tokens take {figures['seconds']:g} s, {figures['target']:g} s is the limit"
    plain: dict[str, str] = {
        "woken": "a request came while it rested",
        "bounds": "its bounds were changed",
        "by_hand": "somebody set the number",
        "deployed": "a new version came up",
    }
    return plain[cause]


class Decisions:
    """The last ones of each endpoint, and how many replicas each version is to have."""

    def __init__(self) -> None:
        self._targets: dict[str, dict[str, int | None]] = {}
        self._kept: dict[str, deque[ScalingDecision]] = {}

    def of(self, name: str) -> tuple[ScalingDecision, ...]:
        """Those of an endpoint, the latest first."""
        return tuple(reversed(self._kept.get(name, ())))

    def target(self, name: str, version: Version) -> int | None:
        """How many replicas a version is to have; None where nobody has said so yet."""
        config = ServeConfig.model_validate(version.config)
        if config.autoscaling is None:
            return config.num_replicas
        return self._targets.get(name, {}).get(version.app_name)

    def hear(self, records: Iterable[DeploymentRecord], word: ScalingWord) -> None:
        """Take the policy's word for an application that one of the records serves."""
        for record in records:
            for version in record.versions:
                if version.app_name == word.app_name:
                    self._note(record.endpoint.name, version, word)

    def follow(self, record: DeploymentRecord) -> None:
        """Take note of what somebody changed in a record: a new version, or another fixed number."""
        name = record.endpoint.name
        known = self._targets.setdefault(name, {})
        served = {version.app_name: version for version in record.versions}
        for gone in known.keys() - served.keys():
            del known[gone]
        for app_name, version in served.items():
            config = ServeConfig.model_validate(version.config)
            if app_name not in known:
                self._note(name, version, _word(app_name, config.least_replicas, "deployed"))
            elif config.autoscaling is None:
                self._note(name, version, _word(app_name, config.num_replicas, "by_hand"))

    def remember(self, record: DeploymentRecord) -> None:
        """Take over what was served before this process knew of it: that is no decision."""
        known = self._targets.setdefault(record.endpoint.name, {})
        for version in record.versions:
            config = ServeConfig.model_validate(version.config)
            known[version.app_name] = None if config.autoscaling else config.num_replicas

    def drop(self, name: str) -> None:
        """An endpoint is served no more."""
        self._targets.pop(name, None)

    def _note(self, name: str, version: Version, word: ScalingWord) -> None:
        known = self._targets.setdefault(name, {})
        before, known[version.app_name] = known.get(version.app_name, 0), word.target
        if before in (None, word.target):  # None: of a controller that was restarted
            return
        cause = word.cause or "bounds"
        decision = ScalingDecision(
            at=now(),
            version=version.label,
            before=before,
            after=word.target,
            cause=cause,
            figures=word.figures,
            reason=reason_of(cause, word.figures),
        )
        self._kept.setdefault(name, deque(maxlen=MOST_KEPT)).append(decision)


def _word(app_name: str, target: int, cause: Cause) -> ScalingWord:
    return ScalingWord(app_name=app_name, target=target, cause=cause)
