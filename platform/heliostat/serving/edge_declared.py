"""Edge: an endpoint as one of the applications that Serve is told of in a file, such as KubeRay's RayService.

    applications:
      - name: declared-chat
        import_path: heliostat.serving.edge_declared:endpoint
        route_prefix: null
        args: {model: chat@production, serve: {name: chat, host: 0.0.0.0}}

The application holds no model. It deploys the endpoint as `heliostat serve deploy` does, or finds it, and is
healthy as long as the endpoint is there; so a cluster made anew serves what the one before it served.
"""

from pydantic import Field
from ray import serve
from ray.serve import Application

from heliostat.config import Config
from heliostat.errors import ServingError
from heliostat.records import Artifact
from heliostat.serving.config import ServeConfig
from heliostat.serving.edge import applications
from heliostat.serving.edge.operations import SERVED_KINDS
from heliostat.serving.edge.rollout import standing_record
from heliostat.serving.run import deploy_model
from heliostat.storage import open_artifact
from heliostat.versions.names import looks_like_reference
from heliostat.versions.resolving import resolve_artifact
from heliostat.workspace import Workspace

HEALTH_SECONDS = 10


class DeclaredEndpoint(Config):
    """What `args` of the application says."""

    model: str = Field(min_length=1)
    """A version such as NAME@production, or the folder or URI of a model or quantized artifact."""
    serve: ServeConfig = ServeConfig()
    workspace: str | None = None
    """None takes $HELIOSTAT_WORKSPACE of the nodes."""


class Keeper:
    """Brings the endpoint up when it starts, and says whether it is still there."""

    def __init__(self, declared: DeclaredEndpoint) -> None:
        """Returns when the endpoint answers.

        Raises:
            HeliostatError: the model is not there, or does not come up; Serve shows the line.
        """
        workspace = Workspace.resolve(declared.workspace)
        self._endpoint = deploy_model(declared.serve, _model(declared.model, workspace), workspace)

    def check_health(self) -> None:
        """Serve asks this; a keeper that fails is made anew, and deploys again.

        Raises:
            ServingError: the endpoint is gone.
        """
        standing = standing_record(self._endpoint.name)
        there = applications.applications()
        if standing is None or not {each.app_name for each in standing.versions} <= there:
            raise ServingError(f"{self._endpoint.name} is served no more; it is brought up again")


def _model(reference: str, workspace: Workspace) -> Artifact:
    if looks_like_reference(reference):
        return resolve_artifact(reference, workspace)
    return open_artifact(reference, SERVED_KINDS)


def endpoint(declared: DeclaredEndpoint) -> Application:
    """The application of a declared endpoint; what `import_path` names."""
    keeper = serve.deployment(Keeper).options(
        name="Keeper",
        ray_actor_options={"num_cpus": 0},
        health_check_period_s=HEALTH_SECONDS,
        max_constructor_retry_count=1,
    )
    application: Application = keeper.bind(declared)
    return application
