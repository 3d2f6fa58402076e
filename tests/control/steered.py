"""A gateway over HTTP whose admin routes change a real controller, without Ray behind it: what replicas do
is told by the test."""

from dataclasses import dataclass, field

from tests.serving.test_serving_decisions import served

from heliostat.control.roles import Actor
from heliostat.endpoints import DeploymentRecord, write_record
from heliostat.serving.engines.interface import Capabilities, EngineStats
from heliostat.serving.fleet.controller import Controller
from heliostat.serving.fleet.routes import Replica
from heliostat.serving.fleet.shares import reweighed
from heliostat.workspace import Workspace

VIEWER, OPERATOR = Actor("vera", "viewer"), Actor("otto", "operator")


@dataclass
class Steered:
    """The gateway's way to the controller; shares are changed as in the cluster, replicas are not started."""

    controller: Controller = field(default_factory=Controller)

    async def status(self):
        return self.controller.status()

    async def logs(self, name, num_lines):
        return {"v1/r": ["a line"] * min(num_lines, 3)}

    async def operate(self, what, name, values):
        record = self.controller.records.get(name)
        if record is None:
            return f"{name}: no endpoint of that name is served here"
        if what == "delete":
            self.controller.drop(name)
            return None
        if what == "scale":
            return self._put(record, [self._bounded(each, values) for each in record.versions])
        if len(record.versions) < 2:
            return f"{name} has one version only"
        *others, newest = record.versions
        if what == "rollback":
            return self._put(record, reweighed(others, 100))
        weight = 100.0 if what == "promote" else values["weight"]
        kept = [] if what == "promote" else reweighed(others, 100 - weight)
        return self._put(record, [*kept, newest.model_copy(update={"weight": weight})])

    def _bounded(self, version, values):
        config = version.config | {"num_replicas": values["most"]}
        return version.model_copy(update={"config": config})

    def _put(self, record, versions) -> DeploymentRecord:
        changed = record.model_copy(update={"versions": tuple(versions)})
        self.controller.put(changed)
        return changed

    def report(self, app_name: str = "app-v1", replica: str = "r", **stats) -> None:
        """A replica's word."""
        known = Replica(replica, app_name, "127.0.0.1", 1, 8, Capabilities(), 512)
        values = {"num_requests": 0, "num_steps": 0, "num_generated_tokens": 0} | stats
        self.controller.report_replica(known, EngineStats(**values))


def recorded(workspace: Workspace, url: str, *weights: float, **config) -> DeploymentRecord:
    """The endpoint `told` on record at a gateway, with a version for each weight."""
    record = served(**config)
    (version,) = record.versions
    versions = tuple(
        version.model_copy(
            update={"label": f"v{number}", "app_name": f"app-v{number}", "weight": float(weight)}
        )
        for number, weight in enumerate(weights or (100,), 1)
    )
    endpoint = record.endpoint.model_copy(update={"url": url})
    record = record.model_copy(update={"endpoint": endpoint, "versions": versions})
    write_record(workspace, record)
    return record
