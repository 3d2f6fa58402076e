"""How many replicas a version should have, from what they have to do. Serve calls this about ten times a
second.

Serve's own measure, requests that go on, says little of language models: sixteen short ones are less work
than four long ones. This one looks at the requests, at the room that their keys and values take, and at how
long first tokens are waited for.
"""

import math
from collections.abc import Mapping
from typing import Any, Protocol

from heliostat.serving.config import ScalingConfig


class ScalingContext(Protocol):
    """The part of Serve's AutoscalingContext that is looked at."""

    current_num_replicas: int
    total_queued_requests: float | None
    aggregated_metrics: Mapping[str, Mapping[Any, float]] | None


class ScalingPolicy:
    """Serve's class of a custom policy: made with the values of a `ScalingConfig`, called with its
    context.
    """

    def __init__(self, **values: Any) -> None:
        self._config = ScalingConfig.model_validate(values)

    def __call__(self, context: ScalingContext) -> tuple[int, dict[str, Any]]:
        """The replicas wanted; Serve keeps them within bounds and waits for its delays."""
        metrics = context.aggregated_metrics or {}
        means = {name: list(values.values()) for name, values in metrics.items()}
        queued = context.total_queued_requests or 0
        return desired(self._config, context.current_num_replicas, queued, means), {}


def desired(config: ScalingConfig, current: int, queued: float, means: Mapping[str, list[float]]) -> int:
    """Replicas wanted, given how many there are, calls that wait for one, and each replica's lately means.

    Enough that each has at most `target_requests`; one more than there are while keys and values fill more
    than `target_kv_cache_usage`, or first tokens take longer than `target_first_token_seconds`.
    """
    num_requests = sum(means.get("num_requests", ())) + queued
    wanted = math.ceil(num_requests / config.target_requests)
    usage = means.get("kv_cache_usage") or [0.0]
    if sum(usage) / len(usage) > config.target_kv_cache_usage:
        wanted = max(wanted, current + 1)
    limit = config.target_first_token_seconds
    if limit is not None and max(means.get("first_token_seconds") or [0.0]) > limit:
        wanted = max(wanted, current + 1)
    return min(max(wanted, config.min_replicas), config.max_replicas)
