"""The endpoints of a workspace and how they are doing: their records, their gateways, and Ray Serve."""

import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter

from heliostat.control.endpoint_figures import Figures, Look, read_look
from heliostat.control.endpoint_state import EndpointState, with_gateway, without_gateway
from heliostat.control.gateway_key import GatewayKey, find_gateway_key
from heliostat.control.readings import Ok, Reading, take
from heliostat.control.serve_state import ServeState
from heliostat.control.serving import GatewayRefuses, endpoints_at, metrics_at
from heliostat.control.sites import Site
from heliostat.endpoints import DeploymentRecord, read_deployments
from heliostat.errors import ServingError

WINDOW_SECONDS = 60.0
KEPT_LOOKS = 90
KEPT_MOMENTS = 600
MOST_AT_ONCE = 8
SERVE = "serve"
"""The name of the collector's reading of Ray Serve."""


@dataclass(frozen=True)
class _Answer:
    """A gateway's word, or why there is none."""

    endpoints: Mapping[str, Mapping[str, Any]]
    look: Look | None
    refused: str = ""
    away: str = ""


@dataclass(frozen=True)
class Moment:
    """How an endpoint was doing when it was looked at."""

    at: datetime
    figures: Figures
    replicas_now: int | None
    replicas_target: int | None


class EndpointReader:
    """Reads again and again, and keeps a minute of looks at each gateway for shares and rates; threads may
    share one."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._looks: dict[str, deque[Look]] = {}
        self._course: dict[str, deque[Moment]] = {}
        self._lock = threading.Lock()

    def read(self) -> Reading[tuple[EndpointState, ...]]:
        """Every endpoint on record: those that serve first, by name. One whose gateway is away says so
        itself; what a replica waits for is the collector's last word of Ray Serve.

        Unavailable where the records, or the gateway's key, cannot be read.
        """
        return take(self._read)

    def course(self, name: str) -> tuple[Moment, ...]:
        """How an endpoint was doing at each look so far, the oldest first."""
        with self._lock:
            return tuple(self._course.get(name, ()))

    def _read(self) -> tuple[EndpointState, ...]:
        records = read_deployments(self._site.workspace)
        running = sorted({each.endpoint.url for each in records if each.status == "running"})
        key = find_gateway_key(self._site.workspace) if running else None
        with ThreadPoolExecutor(max_workers=MOST_AT_ONCE) as pool:
            answers = dict(zip(running, pool.map(lambda url: _ask(url, key), running), strict=True))
        waiting = self._waiting() if running else {}
        states = [self._state(record, answers.get(record.endpoint.url), waiting) for record in records]
        self._keep(answers, states)
        return tuple(sorted(states, key=lambda each: (not each.live, each.status == "gone", each.name)))

    def _keep(self, answers: Mapping[str, _Answer], states: list[EndpointState]) -> None:
        now = datetime.now(UTC)
        with self._lock:
            for url, answer in answers.items():
                if answer.look:
                    self._looks.setdefault(url, deque(maxlen=KEPT_LOOKS)).append(answer.look)
            for state in states:
                if state.live:
                    moment = Moment(now, state.figures, state.replicas_now, state.replicas_target)
                    self._course.setdefault(state.name, deque(maxlen=KEPT_MOMENTS)).append(moment)

    def _waiting(self) -> dict[str, str]:
        """What each of Serve's applications waits for, where it says so."""
        serve = self._site.store.reading(SERVE, TypeAdapter(ServeState))
        found: dict[str, str] = {}
        for application in serve.value.applications if isinstance(serve, Ok) else ():
            said = [each.why for each in application.deployments if each.why] or [application.message]
            if application.status != "RUNNING" and said[0]:
                found[application.name] = said[0]
        return found

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


def read_endpoints(site: Site) -> Reading[tuple[EndpointState, ...]]:
    """The endpoints as one look tells, without shares and rates that take two; see `EndpointReader`."""
    return EndpointReader(site).read()


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
