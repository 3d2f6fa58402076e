"""What in a workspace is referred to, and by what. Pure, over the records.

Roots are what people and processes rely on: versions with their aliases, endpoints, runs that are going on,
artifacts that a process uses. From there everything is kept that it was made from. A report is kept when one
of its models is a root, with the other models in it, or when all it was made from is kept anyway: the reports
of a sweep's other trials are not, though they name the same base model.
"""

from collections.abc import Iterator
from datetime import datetime

from heliostat.versions.contents import REPORT, Contents
from heliostat.versions.names import ALIASES


def kept_artifacts(contents: Contents, made_after: datetime | None = None) -> dict[str, str]:
    """The paths of artifacts to keep, each with the reason in words. Those made after a time are kept too."""
    kept = _roots(contents)
    for path, artifact in contents.artifacts.items():
        if made_after is not None and artifact.created_at > made_after:
            kept.setdefault(path, f"made on {artifact.created_at:%Y-%m-%d %H:%M}")
    rooted = {contents.artifacts[path].id for path in kept if contents.artifacts[path].kind != REPORT}
    for path, artifact in contents.artifacts.items():
        about = rooted.intersection(artifact.parents) if artifact.kind == REPORT else set()
        if about:
            kept.setdefault(path, f"report on {min(about)}")
    _close(contents, kept)
    _add_reports_on_kept(contents, kept)
    return kept


def kept_runs(contents: Contents, kept: dict[str, str], made_after: datetime | None = None) -> dict[str, str]:
    """The paths of runs to keep, each with the reason: they go on, or made what is kept."""
    ids = {contents.artifacts[path].id for path in kept}
    reasons: dict[str, str] = {}
    for path, run in contents.runs.items():
        made = ids.intersection(run.outputs)
        if path in contents.running:
            reasons[path] = f"going on ({contents.running[path]})"
        elif run.parent and f"runs/{run.parent}" in contents.running:
            reasons[path] = f"part of {run.parent}, which goes on"
        elif made:
            reasons[path] = f"made {min(made)}"
        elif made_after is not None and run.started_at > made_after:
            reasons[path] = f"started on {run.started_at:%Y-%m-%d %H:%M}"
    return reasons


def _roots(contents: Contents) -> dict[str, str]:
    """Paths of what is relied on, each with the first reason found."""
    roots: dict[str, str] = {}
    for artifact_id, reason in (*_by_versions(contents), *_by_endpoints(contents), *_by_runs(contents)):
        for path in contents.paths_of(artifact_id):
            roots.setdefault(path, reason)
    for path, holder in contents.in_use.items():
        if path in contents.artifacts:
            roots.setdefault(path, f"in use by {holder}")
    return roots


def _by_versions(contents: Contents) -> Iterator[tuple[str, str]]:
    for version in contents.versions:
        named = "".join(f", {alias}" for alias in version.aliases)
        yield version.artifact_id, f"version {version.reference}{named}"
        for alias in ALIASES:
            report = version.report(alias)
            if report:
                yield report, f"report with which {version.reference} became {alias}"
    for note in contents.notes:
        yield note.artifact_id, f"version {note.reference}, in a store that is not asked now"


def _by_endpoints(contents: Contents) -> Iterator[tuple[str, str]]:
    for record in contents.deployments:
        if record.status == "running":
            name = record.endpoint.name
            unless = f"if it is gone: heliostat endpoints forget {name}"
            for artifact_id in record.artifacts:
                yield artifact_id, f"endpoint {name}, running by its record ({unless})"


def _by_runs(contents: Contents) -> Iterator[tuple[str, str]]:
    for path, holder in contents.running.items():
        for artifact_id in (*contents.runs[path].inputs, *contents.runs[path].outputs):
            yield artifact_id, f"{path} goes on with it ({holder})"
    for path, run in contents.runs.items():  # a sweep that goes on compares its trials at its end
        if run.parent and f"runs/{run.parent}" in contents.running:
            for artifact_id in run.outputs:
                yield artifact_id, f"made by {path}, a part of {run.parent}, which goes on"


def _close(contents: Contents, kept: dict[str, str]) -> None:
    """Add all that the kept was made from."""
    by_id: dict[str, list[str]] = {}
    for path, artifact in contents.artifacts.items():
        by_id.setdefault(artifact.id, []).append(path)
    waiting = list(kept)
    while waiting:
        child = contents.artifacts[waiting.pop()]
        for parent in (path for each in child.parents for path in by_id.get(each, ())):
            if parent not in kept:
                kept[parent] = f"{child.id} was made from it"
                waiting.append(parent)


def _add_reports_on_kept(contents: Contents, kept: dict[str, str]) -> None:
    """A report on what is kept anyway keeps nothing else, and is itself a record of it. Reports may be made
    of reports, so this goes on until nothing is added."""
    added = True
    while added:
        ids = {contents.artifacts[path].id for path in kept}
        reports = [
            path
            for path, each in contents.artifacts.items()
            if each.kind == REPORT and path not in kept and each.parents and ids.issuperset(each.parents)
        ]
        kept |= dict.fromkeys(reports, "report on what is kept")
        added = bool(reports)
