"""What a recipe runs in: the workspace, room on its disk, the name and port of its endpoint."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from heliostat.control.checks import Check, Question, ok, refused, skipped, warning
from heliostat.control.submissions import is_this_machine
from heliostat.endpoints import DeploymentRecord, read_deployments
from heliostat.errors import HeliostatError, ServingError
from heliostat.planning import plan_run
from heliostat.recipe import Recipe
from heliostat.serving.config import ServeConfig
from heliostat.serving.ports import check_port_free
from heliostat.tracking import check_reachable, tracking_uri
from heliostat.workspace import DEFAULT_WORKSPACE, Workspace

GB = 10**9
DATASET_COPIES = 3
"""Cleaned documents, what was dropped, and packed sequences, each about as large as the text itself."""
STATE_BYTES = 12
"""A trained parameter in a checkpoint: a float32 master copy and Adam's two moments."""
LEAST_FREE_BYTES = 2 * GB
"""For runs, records and the tracking database, whatever the recipe."""


@dataclass(frozen=True)
class Setting:
    """A recipe, where its outputs go, and the cluster it is to run on; without one, this machine."""

    recipe: Recipe
    workspace: Workspace
    given: str | None
    """The workspace as it was asked for, by an option or by the environment; None where it is the default."""
    address: str | None

    @classmethod
    def of(cls, recipe: Recipe, workspace: str | Workspace | None, address: str | None) -> Self:
        """The setting of a command line."""
        if isinstance(workspace, Workspace):
            return cls(recipe, workspace, workspace.storage.root, address)
        given = workspace or os.environ.get("HELIOSTAT_WORKSPACE") or None
        return cls(recipe, Workspace.resolve(workspace), given, address)

    @property
    def elsewhere(self) -> bool:
        """Whether the cluster's address is that of another machine. (A tunnel's is not.)"""
        return self.address is not None and not is_this_machine(self.address)


def place_questions(setting: Setting) -> list[Question]:
    """The checks of this file."""
    questions = [Question("workspace", lambda: check_workspace(setting.workspace))]
    if setting.elsewhere:
        return questions
    questions += [
        Question("disk", lambda: check_disk(setting)),
        Question("tracking", lambda: check_tracking(setting.workspace)),
    ]
    if setting.recipe.serve:
        questions.append(Question("endpoint", lambda: check_endpoint(setting)))
    return questions


def check_workspace(workspace: Workspace) -> Check:
    """Whether it can be written, without making it."""
    storage = workspace.storage
    if storage.remote:
        storage.list()
        return ok("workspace", f"{storage.root} answers", root=storage.root)
    folder = nearest(Path(storage.root))
    if not folder.is_dir():
        return refused("workspace", f"{folder} is no folder", "choose another --workspace", root=storage.root)
    try:
        tempfile.TemporaryFile(dir=folder).close()  # rights alone do not tell of read-only file systems
    except OSError as error:
        mend = "choose another --workspace, or have its owner let you write"
        says = f"{folder} cannot be written: {error.strerror or error}"
        return refused("workspace", says, mend, root=storage.root)
    made = "" if folder == Path(storage.root) else ", to be made"
    return ok("workspace", f"{storage.root}{made}", root=storage.root)


def nearest(path: Path) -> Path:
    """The path, or the first of the folders above it that is there."""
    return next(place for place in (path, *path.parents) if place.exists())


def check_disk(setting: Setting) -> Check:
    """Free disk against what the recipe will write."""
    if setting.workspace.storage.remote:
        return skipped("disk", "the workspace lies on an object store, which does not tell what is free")
    parts = bytes_written(setting)
    needed = sum(parts.values())
    free = shutil.disk_usage(nearest(Path(setting.workspace.storage.root))).free
    detail = ", ".join(f"{name} {_gb(size)}" for name, size in parts.items())
    says = f"{_gb(free)} GB free, about {_gb(needed)} GB needed ({detail})"
    facts = {"free_bytes": free, "needed_bytes": needed, "parts": parts}
    mend = "free some space ('heliostat gc' says what nobody refers to), or choose another --workspace"
    if free < needed:
        return refused("disk", says, mend, **facts)
    return warning("disk", says, mend, **facts) if free < 2 * needed else ok("disk", says, **facts)


def bytes_written(setting: Setting) -> dict[str, int]:
    """An estimate, by what it is for. What is not known yet (a model that is not imported) is left out."""
    from heliostat.data.source_config import FileSource
    from heliostat.data.sources import units_of

    recipe, parts = setting.recipe, {"records": LEAST_FREE_BYTES}
    datasets = [stage.data for stage in recipe.pretrain] + ([recipe.data] if recipe.data else [])
    sources = [source for data in datasets for source in data.sources if isinstance(source, FileSource)]
    try:
        text = sum(unit.file.bytes for source in sources for unit in units_of(source))
    except HeliostatError:  # another check says so
        text = 0
    parts["data"] = DATASET_COPIES * text
    for run in recipe.trainings:
        try:
            plan = plan_run(recipe, run, setting.workspace, ())
        except HeliostatError:
            continue
        states = run.train.checkpoint.num_to_keep + 1  # the next one is written before the oldest goes
        parts["checkpoints"] = (
            parts.get("checkpoints", 0) + states * STATE_BYTES * plan.parameters["trainable"]
        )
        copies = 1 + len(recipe.compress)
        parts["models"] = parts.get("models", 0) + copies * 4 * plan.parameters["all"]
    return parts


def check_tracking(workspace: Workspace) -> Check:
    """Whether runs can be tracked."""
    uri = tracking_uri(workspace)
    check_reachable(uri)
    return ok("tracking", "MLflow's server answers" if uri.startswith("http") else "in the workspace")


def check_endpoint(setting: Setting) -> list[Check]:
    """The endpoint's name and port, against those on record and those that are listened on here."""
    serve = setting.recipe.serve
    assert serve is not None
    running = [each for each in read_deployments(setting.workspace) if each.status == "running"]
    checks = [_port(serve, running)] if setting.address is None else []
    standing = next((each for each in running if each.endpoint.name == serve.name), None)
    if standing is None:
        return [*checks, ok("endpoint", f"the name {serve.name or 'of the model'} is free")]
    says = f"{serve.name} serves already, {standing.artifact_id} at {standing.endpoint.url}"
    if serve.weight < 100:
        return [*checks, ok("endpoint", f"{says}; this becomes its canary with {serve.weight:g} %")]
    mend = "set serve.name to another, or serve.weight=10 for a canary"
    return [*checks, warning("endpoint", f"{says}, and is replaced by this", mend)]


def _port(serve: ServeConfig, running: list[DeploymentRecord]) -> Check:
    if serve.port == 0:
        return ok("port", "a free one is picked")
    try:
        check_port_free(serve.host, serve.port)
    except ServingError as error:
        ours = [each.endpoint.name for each in running if urlsplit(each.endpoint.url).port == serve.port]
        if ours:
            return ok("port", f"{serve.port} is that of the gateway of {ours[0]}, which takes this as well")
        says, _, mend = str(error).partition("; ")
        return refused("port", says, mend.replace("set port", "set serve.port"), port=serve.port)
    return ok("port", f"{serve.port} on {serve.host} is free", port=serve.port)


def check_workspace_from(setting: Setting, hostnames: set[str], own: str) -> Check:
    """Whether the nodes of a cluster, by their host names, can reach the workspace; `own` is our name."""
    name, root = "workspace of the cluster", setting.workspace.storage.root
    if setting.workspace.storage.remote:
        return ok(name, f"{root} is a URI; the nodes need the credentials for it")
    others = sorted(hostnames - {own})
    if not others and not setting.elsewhere:
        return ok(name, "the cluster's nodes are on this machine")
    where = f"the cluster has other machines ({', '.join(others[:3]) or setting.address})"
    if setting.given is None:
        mend = (
            "give --workspace with a path or URI that all nodes reach, or set HELIOSTAT_WORKSPACE on the head"
        )
        which = f"./{DEFAULT_WORKSPACE} of this machine" if not setting.elsewhere else "none"
        return warning(name, f"{where}, and no workspace was named: the job gets {which}", mend)
    if not setting.given.startswith("/"):
        mend = "give --workspace as an absolute path or a URI that all nodes reach"
        return warning(name, f"{where}, and {setting.given} is relative to a folder of this machine", mend)
    mend = "right if that is a shared folder, mounted at the same path; else use a URI (s3://...)"
    return warning(name, f"{where}, and {root} is a local path", mend)


def _gb(size: int) -> str:
    return f"{size / GB:,.1f}"
