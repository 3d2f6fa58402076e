"""A recipe made ready for a cluster: what travels with it, and the request in the words of Ray's Jobs API."""

import ipaddress
import os
import re
import secrets
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from heliostat.control.packages import ENTRY_SCRIPT, Package, pack_jobs, pack_source, working_folder
from heliostat.control.ray_api import RayApi
from heliostat.errors import ConfigError
from heliostat.ray_session import ENVIRONMENT
from heliostat.recipe import Recipe
from heliostat.workspace import DEFAULT_WORKSPACE

LONGEST_NAME = 120
"""In characters: a job's id is a folder's name and a key in every database."""
STOP_WAIT_SECONDS = 120
"""What a job that is stopped may take to save its last step; Ray's own three seconds are for none."""


@dataclass(frozen=True)
class Submission:
    """What to run: a recipe, changes to it, where its outputs go, and after which stage to stop."""

    recipe: Path
    overrides: tuple[str, ...] = ()
    workspace: str | None = None
    until: str | None = None
    project: str = ""


@dataclass(frozen=True)
class Prepared:
    """A submission that passed its checks: Ray's request, and what the cluster must hold before."""

    id: str
    name: str
    recipe_text: str
    request: dict[str, Any]
    packages: tuple[Package, ...]


def prepare(address: str, submission: Submission, user: str) -> Prepared:
    """Check a recipe, and pack what travels with it.

    Raises:
        ConfigError: the recipe is wrong, or the files are more than Ray takes.
    """
    recipe = Recipe.load(submission.recipe, submission.overrides)
    project = submission.project or recipe.name
    if len(project) > LONGEST_NAME:
        raise ConfigError(
            f"project '{project[:20]}…' has {len(project)} characters; take at most {LONGEST_NAME}"
        )
    jobs, place, text = pack_jobs(working_folder(), submission.recipe)
    source = pack_source()
    runtime_env: dict[str, Any] = {
        "working_dir": jobs.uri,
        "env_vars": ENVIRONMENT
        | {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_SECONDS)}
        | _workspace_variable(address, submission.workspace),
    }
    if source is not None:
        runtime_env["py_modules"] = [source.uri]
    submission_id = new_id(submission.recipe.stem)
    metadata = {"user": user, "recipe": submission.recipe.stem, "project": project}
    request = {
        "entrypoint": _entrypoint(place, submission),
        "submission_id": submission_id,
        "runtime_env": runtime_env,
        "metadata": metadata,
    }
    packages = (jobs,) if source is None else (jobs, source)
    return Prepared(submission_id, submission.recipe.stem, text, request, packages)


def send(api: RayApi, request: dict[str, Any], packages: tuple[Package, ...]) -> str:
    """Upload what the cluster lacks, and submit; returns the submission id.

    Raises:
        ClusterError: the cluster is out of reach, too old, or refuses.
    """
    api.check_version()
    for package in packages:
        if not api.has_package(package.name):
            api.upload_package(package.name, package.content)
    return api.submit(request)


def new_id(name: str) -> str:
    """A submission id that nobody has: `heliostat-NAME-DATE-TIME-` and four characters."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()[:LONGEST_NAME]).strip("-") or "recipe"
    return f"heliostat-{plain}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def is_this_machine(address: str) -> bool:
    """Whether an address means this very machine."""
    host = urlsplit(address if "://" in address else f"http://{address}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _entrypoint(place: str, submission: Submission) -> str:
    until = ["--until", submission.until] if submission.until else []
    return shlex.join(["python", ENTRY_SCRIPT, place, *submission.overrides, *until])


def _workspace_variable(address: str, workspace: str | None) -> dict[str, str]:
    """The workspace the job is told of: the one asked for, else this shell's; for a cluster on this very
    machine the default one here; else none, and the cluster's own HELIOSTAT_WORKSPACE counts."""
    root = workspace or os.environ.get("HELIOSTAT_WORKSPACE")
    if not root and is_this_machine(address):
        root = DEFAULT_WORKSPACE
    if not root:
        return {}
    return {"HELIOSTAT_WORKSPACE": root if "://" in root else str(Path(root).expanduser().resolve())}
