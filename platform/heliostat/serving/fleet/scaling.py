"""How many replicas a version should have, from what they have to do, and why. Serve calls this about ten
times a second.

Serve's own measure, requests that go on, says little of language models: sixteen short ones are less work
than four long ones. This one looks at the requests, at the room that their keys and values take, and at how
long first tokens are waited for. Serve keeps no reasons, so the policy has them ready for whoever shows them.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from heliostat.serving.config import ScalingConfig
from heliostat.serving.fleet.decisions import Cause, ScalingWord

REPEAT_SECONDS = 10.0
"""So often the number is told again: whoever keeps it may have been restarted."""


class ScalingContext(Protocol):
    """The part of Serve's AutoscalingContext that is looked at."""

    app_name: str | None
    current_num_replicas: int
    target_num_replicas: int
    total_queued_requests: float | None
    aggregated_metrics: Mapping[str, Mapping[Any, float]] | None


@dataclass(frozen=True)
class Wish:
    """Replicas wanted, what decided it, and the figures that did."""

    replicas: int
    cause: Cause
    figures: dict[str, float] = field(default_factory=dict)


class ScalingPolicy:
    """Serve's class of a custom policy: made with the values of a `ScalingConfig`, called with its
    context.
    """

    def __init__(self, **values: Any) -> None:
        self._config = ScalingConfig.model_validate(values)
        self._wish: Wish | None = None
        self._told: tuple[int, float] | None = None

    def __call__(self, context: ScalingContext) -> tuple[int, dict[str, Any]]:
        """The replicas wanted; Serve keeps them within bounds and waits for its delays."""
        if word := self.news(context, time.monotonic()):
            self.tell(word)
        metrics = context.aggregated_metrics or {}
        means = {name: list(values.values()) for name, values in metrics.items()}
        queued = context.total_queued_requests or 0
        self._wish = wish(self._config, context.current_num_replicas, queued, means)
        return self._wish.replicas, {}

    def tell(self, word: ScalingWord) -> None:
        """Hand on what Serve has decided; the edge says to whom."""

    def news(self, context: ScalingContext, at: float) -> ScalingWord | None:
        """What Serve aims at now, if that is new or was told `REPEAT_SECONDS` ago: it follows the last wish,
        but for the first replica of a version at rest, which Serve starts without asking.
        """
        target, told = context.target_num_replicas, self._told
        if told and told[0] == target and at - told[1] < REPEAT_SECONDS:
            return None
        self._told = (target, at)
        if told is None or told[0] == target or self._wish is None:
            return ScalingWord(app_name=context.app_name or "", target=target)
        if told[0] == 0:
            return ScalingWord(app_name=context.app_name or "", target=target, cause="woken")
        cause, figures = self._wish.cause, self._wish.figures
        return ScalingWord(app_name=context.app_name or "", target=target, cause=cause, figures=figures)


def wish(config: ScalingConfig, current: int, queued: float, means: Mapping[str, list[float]]) -> Wish:
    """Replicas wanted, given how many there are, calls that wait for one, and each replica's lately means.

    Enough that each has at most `target_requests`; one more than there are while keys and values fill more
    than `target_kv_cache_usage`, or first tokens take longer than `target_first_token_seconds`.
    """
    num_requests = sum(means.get("num_requests", ())) + queued
    figures = {"num_requests": round(num_requests, 1), "target": config.target_requests}
    found = Wish(math.ceil(num_requests / config.target_requests), "requests", figures)
    kept = means.get("kv_cache_usage") or [0.0]
    usage = sum(kept) / len(kept)
    if usage > config.target_kv_cache_usage and current >= found.replicas:
        figures = {"usage": round(usage, 3), "target": config.target_kv_cache_usage}
        found = Wish(current + 1, "kv_cache", figures)
    limit, slowest = config.target_first_token_seconds, max(means.get("first_token_seconds") or [0.0])
    if limit is not None and slowest > limit and current >= found.replicas:
        found = Wish(current + 1, "first_token", {"seconds": round(slowest, 2), "target": limit})
    within = min(max(found.replicas, config.min_replicas), config.max_replicas)
    return Wish(within, found.cause, found.figures)
