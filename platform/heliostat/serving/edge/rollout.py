"""How a version comes up, takes over and goes, so that no request fails: the next one answers before the
last ends.

A new version is started beside those there are, with no share of the requests; when its replicas and every
gateway are ready, the weights change at once; versions without a share end behind the answers they are
giving.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from heliostat.driver import Driver
from heliostat.endpoints import DeploymentRecord, Endpoint, Version, read_deployments
from heliostat.errors import ServingError
from heliostat.ray_session import is_local
from heliostat.records import Artifact, Provenance
from heliostat.serving.config import ChosenEngine, ServeConfig
from heliostat.serving.edge import applications
from heliostat.serving.edge.calls import call, find_controller
from heliostat.serving.edge.engine_replica import EngineSpec
from heliostat.serving.fleet.shares import first_reason, reweighed
from heliostat.workspace import Workspace

POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Rollout:
    """One change of one endpoint."""

    config: ServeConfig
    endpoint: Endpoint
    controller: Any
    standing: DeploymentRecord | None
    """What serves the name now."""

    def bring_up(self, version: Version, model: Artifact, engine: ChosenEngine, deadline: float) -> None:
        """Start a version's replicas beside the others, without a share; return when every gateway has them.

        Raises:
            ServingError: it does not come up; what served before goes on as it did.
        """
        secret = call(self.controller.secret)
        alone = applications.one_host()
        spec = EngineSpec(version.app_name, model, self.config, engine, secret, alone, self.controller)
        applications.start_version(spec)
        before = self.standing.versions if self.standing else ()
        resting = version.model_copy(update={"weight": 0.0})
        waking = applications.wake(version.app_name) if self.config.may_rest else None
        try:
            wait_until(lambda: self._has_replicas(version), version.app_name, deadline)
            self._put((*before, resting))
            wait_until(lambda: self._is_ready(version), version.app_name, deadline)
        except BaseException:
            if waking:
                waking.cancel()
            self._put_back()
            applications.delete_application(version.app_name)
            raise

    def switch_to(self, version: Version) -> None:
        """Give a version that is up its share, and end those that have none left."""
        before = self.standing.versions if self.standing else ()
        rest = tuple(each for each in reweighed(before, 100 - version.weight) if each.weight)
        self._put((*rest, version), before)
        end_unused(before, (*rest, version))

    def _put(self, versions: tuple[Version, ...], before: tuple[Version, ...] = ()) -> None:
        main = max(versions, key=lambda version: version.weight)
        record = DeploymentRecord(
            endpoint=self.endpoint,
            status="running",
            artifact_id=main.artifact_id,
            artifact_uri=main.artifact_uri,
            engine=main.engine,
            config=main.config,
            started_at=versions[-1].started_at,
            driver=Driver.here() if is_local() else None,
            provenance=Provenance.collect(),
            versions=versions,
            before=before,
        )
        call(self.controller.put, record)

    def _put_back(self) -> None:
        """As it was before this change."""
        if self.standing:
            call(self.controller.put, self.standing)
        else:
            call(self.controller.drop, self.endpoint.name)

    def _has_replicas(self, version: Version) -> bool:
        there = call(self.controller.replicas, version.app_name)
        return len(there) >= self.config.least_replicas

    def _is_ready(self, version: Version) -> bool:
        return bool(call(self.controller.is_ready, version.app_name))


def standing_record(name: str) -> DeploymentRecord | None:
    """What serves a name on this cluster, or None."""
    controller = find_controller()
    records = call(controller.records) if controller else {}
    return records.get(name)


def next_label(name: str, workspace: Workspace, standing: DeploymentRecord | None) -> str:
    """The label of an endpoint's next version: v1, v2, ... over all that it ever had in this workspace."""
    records = [record for record in read_deployments(workspace) if record.endpoint.name == name]
    known = [version for record in (*records, standing) if record for version in record.versions]
    numbers = [int(version.label[1:]) for version in known if re.fullmatch(r"v\d+", version.label)]
    return f"v{max(numbers, default=0) + 1}"


def end_unused(before: Sequence[Version], now: Sequence[Version]) -> None:
    """Let the replicas of versions that are not served any more finish what they answer, and end them."""
    kept = {version.app_name for version in now}
    for version in before:
        if version.app_name not in kept:
            applications.delete_application(version.app_name)


def take_down(name: str) -> None:
    """Stop serving a name; nothing happens where it is not served."""
    controller, standing = find_controller(), standing_record(name)
    if controller and standing:
        call(controller.drop, name)
        end_unused(standing.versions, ())


def wait_until(condition: Callable[[], bool], app_name: str, deadline: float) -> None:
    """Until something holds of an application.

    Raises:
        ServingError: the application failed, or it did not hold in time.
    """
    while not condition():
        status = applications.application_status(app_name)
        if status.failed:
            raise ServingError(f"{app_name} did not start: {first_reason(status.reason)}")
        if time.monotonic() > deadline:
            waits = first_reason(status.reason) if status.reason else "no word came from its replicas"
            raise ServingError(
                f"{app_name} did not start in time ({waits}); raise startup_timeout_seconds, "
                "or free CPUs on the cluster"
            )
        time.sleep(POLL_SECONDS)
