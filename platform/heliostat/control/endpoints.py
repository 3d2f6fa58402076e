"""The endpoints of a workspace and how they are doing: their records, their gateways, and Ray Serve."""

import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from heliostat.control.endpoint_figures import Look, read_look
from heliostat.control.endpoint_state import EndpointState, with_gateway, without_gateway
from heliostat.control.gateway_key import GatewayKey, find_gateway_key
from heliostat.control.readings import Reading, take
from heliostat.control.serving import GatewayRefuses, endpoints_at, metrics_at
from heliostat.control.sites import Site
from heliostat.endpoints import DeploymentRecord, read_deployments
from heliostat.errors import ServingError

WINDOW_SECONDS = 60.0
KEPT_LOOKS = 90
MOST_AT_ONCE = 8


@dataclass(frozen=True)
class _Answer:
    """A gateway's word, or why there is none."""

    endpoints: Mapping[str, Mapping[str, Any]]
    look: Look | None
    refused: str = ""
    away: str = ""


class EndpointReader:
    """Reads again and again, and keeps a minute of looks at each gateway for shares and rates; threads may
    share one."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._looks: dict[str, deque[Look]] = {}
        self._lock = threading.Lock()

    def read(self, waiting: Mapping[str, str] | None = None) -> Reading[tuple[EndpointState, ...]]:
        """Every endpoint on record, by name: those that serve first. `waiting` has what Ray Serve's
        applications wait for, by their names; an endpoint whose gateway is away says so itself.

        Unavailable where the records, or the gateway's key, cannot be read.
        """
        return take(lambda: self._read(waiting or {}))

    def _read(self, waiting: Mapping[str, str]) -> tuple[EndpointState, ...]:
        records = read_deployments(self._site.workspace)
        running = sorted({each.endpoint.url for each in records if each.status == "running"})
        key = find_gateway_key(self._site.workspace) if running else None
        with ThreadPoolExecutor(max_workers=MOST_AT_ONCE) as pool:
            answers = dict(zip(running, pool.map(lambda url: _ask(url, key), running), strict=True))
        states = [self._state(record, answers.get(record.endpoint.url), waiting) for record in records]
        with self._lock:
            for url, answer in answers.items():
                if answer.look:
                    self._looks.setdefault(url, deque(maxlen=KEPT_LOOKS)).append(answer.look)
        return tuple(sorted(states, key=lambda each: (not each.live, each.status == "gone", each.name)))

    def _state(
        self, record: DeploymentRecord, answer: _Answer | None, waiting: Mapping[str, str]
    ) -> EndpointState:
        if record.status == "stopped":
            return without_gateway(record, "stopped", "it was taken down")
        if record.status == "gone" or answer is None:
            return without_gateway(record, "gone", "whoever served it has ended without a word")
        if answer.refused:
            return without_gateway(record, "locked", answer.refused)
        if answer.away:
            return without_gateway(record, "away", answer.away)
        told = answer.endpoints.get(record.endpoint.name)
        if told is None:
            return without_gateway(
                record, "missing", f"{record.endpoint.url} answers and has no such endpoint"
            )
        return with_gateway(record, told, answer.look, self._before(record.endpoint.url, answer), waiting)

    def _before(self, url: str, answer: _Answer) -> Look | None:
        """The oldest look of the last minute at the same process."""
        if answer.look is None:
            return None
        oldest, started = answer.look.at - WINDOW_SECONDS, answer.look.started
        with self._lock:
            looks = [each for each in self._looks.get(url, ()) if each.started == started]
        return next((each for each in looks if each.at >= oldest), None)


def read_endpoints(
    site: Site, waiting: Mapping[str, str] | None = None
) -> Reading[tuple[EndpointState, ...]]:
    """The endpoints as one look tells, without shares and rates that take two; see `EndpointReader`."""
    return EndpointReader(site).read(waiting)


def _ask(url: str, key: GatewayKey | None) -> _Answer:
    try:
        endpoints = {str(each["name"]): each for each in endpoints_at(url, key)}
    except GatewayRefuses as error:
        return _Answer({}, None, refused=str(error))
    except ServingError as error:
        return _Answer({}, None, away=str(error))
    try:
        look = read_look(metrics_at(url, key), time.time())
    except ServingError:  # a key may open the one and not the other
        look = None
    return _Answer(endpoints, look)
