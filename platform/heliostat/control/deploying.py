"""Deploying a model that is there: the recipe jobs/recipes/deploy.yaml as a job on the cluster.

A model, a run or a version is turned into the recipe's overrides, so that the command is one line to copy.
"""

import json
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from heliostat.config import Config
from heliostat.control.endpoint_actions import ROLE, Done
from heliostat.control.inventory import list_models, show_run
from heliostat.control.jobs import submit_job
from heliostat.control.packages import working_folder
from heliostat.control.roles import Actor, require
from heliostat.control.shown_commands import command_on
from heliostat.control.sites import Site
from heliostat.control.submissions import Submission
from heliostat.errors import ArtifactError, ClusterError
from heliostat.recipe import Recipe
from heliostat.records import Artifact
from heliostat.workspace import Workspace

RECIPE = "jobs/recipes/deploy.yaml"
SERVED_KINDS = ("model", "quantized")
Engine = Literal["auto", "transformers", "openvino"]
"""vllm is left out: a recipe has to name its interpreter."""


class Deployment(Config):
    """What is deployed, and how. What is None is left to the recipe's defaults."""

    model: str
    """A folder, an artifact's URI, or a version such as NAME@production."""
    name: str | None = None
    engine: Engine = "auto"
    fewest_replicas: int = Field(default=1, ge=0)
    most_replicas: int = Field(default=1, ge=1)
    weight: float = Field(default=100, ge=0, le=100)
    """Percent of the requests where the name is served already; below 100 it is a canary."""
    num_cpus: float | None = Field(default=None, ge=0)
    num_gpus: float | None = Field(default=None, ge=0)
    port: int | None = Field(default=None, ge=0, le=65535)

    @property
    def overrides(self) -> tuple[str, ...]:
        """Changes to the recipe, as they are typed."""
        values: dict[str, Any] = {"model": self.model, "serve.name": self.name, "serve.port": self.port}
        if self.engine != "auto":
            values["serve.engine.kind"] = self.engine
        if self.fewest_replicas == self.most_replicas:
            values["serve.num_replicas"] = self.most_replicas
        else:
            values["serve.autoscaling.min_replicas"] = self.fewest_replicas
            values["serve.autoscaling.max_replicas"] = self.most_replicas
        if self.weight != 100:
            values["serve.weight"] = self.weight
        values |= {"serve.resources.num_cpus": self.num_cpus, "serve.resources.num_gpus": self.num_gpus}
        return tuple(f"{key}={_typed(value)}" for key, value in values.items() if value is not None)


def servable_models(workspace: Workspace) -> list[Artifact]:
    """The finished models that can be served, the latest first."""
    return [each for each in list_models(workspace) if each.kind in SERVED_KINDS]


def model_of_run(workspace: Workspace, run_id: str) -> Artifact:
    """The model that a run made.

    Raises:
        ArtifactError: there is no such run, or it made no model that is still there.
    """
    made = set(show_run(workspace, run_id).outputs)
    found = next((each for each in servable_models(workspace) if each.id in made), None)
    if found is None:
        raise ArtifactError(f"{run_id}: made no model that is still there; deploy another one")
    return found


def check_deployment(deployment: Deployment) -> None:
    """See that the recipe can be made of it.

    Raises:
        ConfigError: what is wrong, by field.
    """
    Recipe.load(working_folder() / RECIPE, deployment.overrides)


def deploy_command(site: Site, deployment: Deployment) -> str:
    """The command that deploys: as a job on the site's cluster, else on this machine until Ctrl-C."""
    if site.address:
        words = ["submit", RECIPE, *deployment.overrides, "--until", "serve"]
        return command_on(site, "heliostat", *words, cluster=True)
    return command_on(site, "heliostat", "serve", "deploy", RECIPE, *deployment.overrides)


def deploy(actor: Actor, site: Site, deployment: Deployment) -> Done:
    """Submit the job that deploys; `said` is its id.

    Raises:
        AccessError: this one may not.
        ConfigError: it cannot be deployed so; nothing was sent.
        ClusterError: there is no cluster, it is out of reach, or it refuses.
    """
    require(actor, ROLE, "deploy models")
    check_deployment(deployment)
    command = deploy_command(site, deployment)
    if not site.address:
        raise ClusterError(f"no cluster is set, so nobody here can serve; in a terminal do: {command}")
    recipe: Path = working_folder() / RECIPE
    submission = Submission(recipe, deployment.overrides, str(site.workspace.storage.root), "serve")
    return Done(submit_job(site, actor, submission).id, command)


def _typed(value: Any) -> str:
    """A value as YAML reads it back."""
    plain = f"{value:g}" if isinstance(value, float) else str(value)
    return plain if yaml.safe_load(plain) == value and plain.strip() == plain else json.dumps(value)
