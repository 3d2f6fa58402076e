"""Versions of models in MLflow's registry: registered, listed, given aliases, rolled back.

MLflow counts versions 1, 2, 3; the semantic version is a tag, and unique for each name. Of a deleted one a
tag of the registered model is left, so that its number stays taken. What MLflow calls a model's source is the
artifact's place; its id and content are tags, so that the right files are told from others that lie there
later. Registered models without our tags are left alone.
"""

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from heliostat.errors import ConfigError
from heliostat.locks import lock
from heliostat.records import Artifact, Provenance, now
from heliostat.storage import is_remote
from heliostat.tracking import SQLITE, connect, refusals_in_one_line, tracking_uri
from heliostat.version_notes import VersionNote, note_path, note_report, write_note
from heliostat.versions.history import AliasEvent, Deletion, before
from heliostat.versions.names import Alias, Version, check_name
from heliostat.workspace import Workspace

_PAGE = 1000
_VERSION, _ARTIFACT, _CONTENT = "heliostat.version", "heliostat.artifact", "heliostat.content"
_KIND, _PATH, _RUN, _USER = "heliostat.kind", "heliostat.path", "heliostat.run", "heliostat.user"
_REPORT = "heliostat.report"
_DELETED = "heliostat.deleted."
"""Then the version: no two that delete at the same time write over each other's."""
_EVENT = re.compile(r"heliostat\.(\w+)\.(\d+)")


@dataclass(frozen=True)
class ModelVersion:
    """A version of a model. `number` is MLflow's; `path` is relative to the workspace's root."""

    name: str
    version: Version
    number: int
    artifact_id: str
    kind: str
    path: str
    uri: str
    content: str
    created_at: datetime
    aliases: tuple[Alias, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """As it is written: `NAME@v1.2.3`."""
        return f"{self.name}@{self.version}"

    def report(self, alias: Alias) -> str | None:
        """The id of the report with which it was promoted to an alias."""
        return self.tags.get(f"{_REPORT}.{alias}")


class Registry:
    """The versions of a workspace's models."""

    def __init__(self, workspace: Workspace, user: str | None = None) -> None:
        """Of this workspace's tracking store; nothing is opened before it is asked something. `user` is
        who acts, where that is not whom this process belongs to.

        Raises:
            TrackingError: the workspace lies on an object store and no tracking server is named.
        """
        self.workspace = workspace
        self.user = user or Provenance.collect().user
        self.uri = tracking_uri(workspace)

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        """All versions, or those of a name: by name, the highest version first.

        Raises:
            TrackingError: the store refuses.
        """
        if self._is_missing:
            return []
        with refusals_in_one_line(self.uri):
            models = [model for model in self._models() if name in (None, model.name)]
            found = [version for model in models for version in self._versions_of(model)]
        return sorted(sorted(found, key=lambda each: each.version, reverse=True), key=lambda each: each.name)

    def register(self, name: str, version: Version, artifact: Artifact, run_id: str | None) -> ModelVersion:
        """Give an artifact of this workspace a version. The tracked run that made it may be named.

        Raises:
            BusyError: the artifact is being made again.
            ConfigError: the version exists or existed, or the name is none.
            TrackingError: the store refuses.
        """
        path = self.workspace.path_of(artifact.uri)
        if path is None:
            raise ConfigError(f"{artifact.uri}: lies outside the workspace {self.workspace.storage.uri()}")
        self._refuse_existing(check_name(name), version)
        tags = {
            _VERSION: str(version),
            _ARTIFACT: artifact.id,
            _CONTENT: artifact.content,
            _KIND: artifact.kind,
            _PATH: path,
            _RUN: run_id or "",
            _USER: self.user,
        }
        with lock(self.workspace.storage, path), refusals_in_one_line(self.uri):
            if name not in {model.name for model in self._models()}:
                self._create(name)
            made = self._client.create_model_version(
                name, self._source(artifact.uri), run_id=run_id, tags=tags, await_creation_for=0
            )
            number = int(made.version)
            first = all(each.number >= number for each in self.versions(name) if each.version == version)
            if not first or version in self.deletions(name):
                self._client.delete_model_version(name, str(number))  # another process was first
                self._refuse_existing(name, version)
        note = VersionNote(name=name, version=str(version), artifact_id=artifact.id, path=path)
        write_note(self.workspace, note)
        return next(each for each in self.versions(name) if each.number == number)

    def delete(self, version: ModelVersion) -> Deletion:
        """Take a version away; that it was there is logged with its name, and its number stays taken.

        The log comes first and the store last: a kill in between leaves a version that can be deleted again.
        """
        event = Deletion(
            version=str(version.version),
            artifact_id=version.artifact_id,
            uri=version.uri,
            at=now(),
            user=self.user,
        )
        with refusals_in_one_line(self.uri):
            key = f"{_DELETED}{version.version}"
            self._client.set_registered_model_tag(version.name, key, event.model_dump_json())
            self.workspace.storage.delete(note_path(version.name, version.version))
            self._client.delete_model_version(version.name, str(version.number))
        return event

    def deletions(self, name: str) -> dict[Version, Deletion]:
        """The versions of a name that were deleted."""
        found = {key: value for key, value in self._tags(name).items() if key.startswith(_DELETED)}
        return {
            Version.parse(key.removeprefix(_DELETED)): Deletion.model_validate_json(value)
            for key, value in found.items()
        }

    def highest(self, name: str) -> Version | None:
        """The highest version that a name has or had; None of none."""
        return max((*(each.version for each in self.versions(name)), *self.deletions(name)), default=None)

    def give(self, alias: Alias, to: ModelVersion, gate: str = "", report: str | None = None) -> AliasEvent:
        """Let a version bear an alias; the event goes into the name's log."""
        return self._move(alias, to, "promote", gate, report)

    def roll_back(self, name: str, alias: Alias = "production") -> AliasEvent:
        """Give an alias back to the version that bore it before.

        Raises:
            ConfigError: there is no such name, or none bore the alias before.
            TrackingError: the store refuses.
        """
        versions = self.versions(name)
        bearer = next((each for each in versions if alias in each.aliases), None)
        gone = frozenset(map(str, self.deletions(name)))
        earlier = before(self.history(name, alias), str(bearer.version) if bearer else None, gone)
        target = next((each for each in versions if str(each.version) == earlier), None)
        if target is None:
            has = f"{bearer.version} is the first" if bearer else "no version was"
            still = " of those that were not deleted" if gone else ""
            raise ConfigError(
                f"{name}: {has}{still} to bear the alias {alias}; there is nothing to roll back to"
            )
        return self._move(alias, target, "rollback", "", target.report(alias))

    def history(self, name: str, alias: Alias) -> list[AliasEvent]:
        """What was done to an alias of a name, the oldest first."""
        events = [_event_of(key, value, alias) for key, value in self._tags(name).items()]
        return sorted((event for event in events if event), key=lambda event: event.number)

    def _tags(self, name: str) -> dict[str, str]:
        if self._is_missing:
            return {}
        with refusals_in_one_line(self.uri):
            return next((dict(each.tags) for each in self._models() if each.name == name), {})

    @property
    def _is_missing(self) -> bool:
        """Whether nothing was ever tracked here; a look around makes no database."""
        return self.uri.startswith(SQLITE) and not Path(self.uri.removeprefix(SQLITE)).exists()

    @cached_property
    def _client(self) -> Any:
        return connect(self.uri)

    def _models(self) -> list[Any]:
        models: list[Any] = []
        token = None
        while True:
            page = self._client.search_registered_models(max_results=_PAGE, page_token=token)
            models += page
            token = page.token
            if not token:
                return models

    def _versions_of(self, model: Any) -> list[ModelVersion]:
        pages: list[Any] = []
        token = None
        while True:
            page = self._client.search_model_versions(
                f"name='{model.name}'", max_results=_PAGE, page_token=token
            )
            pages += page
            token = page.token
            if not token:
                break
        aliases = {alias: int(number) for alias, number in model.aliases.items()}
        return [_version_of(each, aliases) for each in pages if _VERSION in each.tags]

    def _create(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:  # another process made it since we looked
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _source(self, uri: str) -> str:
        """MLflow's server takes a local path only below its own artifacts; ours is said to be ours."""
        return uri if is_remote(uri) or self.uri.startswith(SQLITE) else f"heliostat:{uri}"

    def _refuse_existing(self, name: str, version: Version) -> None:
        existing = {each.version: each for each in self.versions(name)}
        gone = self.deletions(name).get(version)
        if gone and version not in existing:
            raise ConfigError(
                f"{name}@{version} was deleted on {gone.at:%Y-%m-%d %H:%M} by {gone.user}, and its number "
                f"stays taken (it was {gone.artifact_id}): leave --version out, or take --bump patch"
            )
        if version in existing:
            highest = max(existing)
            raise ConfigError(
                f"{name}@{version} exists since {existing[version].created_at:%Y-%m-%d %H:%M} "
                f"({existing[version].artifact_id}); versions are never replaced, the highest is {highest}: "
                "leave --version out, or take --bump patch"
            )

    def _move(self, alias: Alias, to: ModelVersion, action: Any, gate: str, report: str | None) -> AliasEvent:
        bearer = next((each for each in self.versions(to.name) if alias in each.aliases), None)
        earlier = self.history(to.name, alias)
        event = AliasEvent(
            number=earlier[-1].number + 1 if earlier else 1,
            action=action,
            alias=alias,
            version=str(to.version),
            replaced=str(bearer.version) if bearer else None,
            gate=gate,
            report=report,
            at=now(),
            user=self.user,
        )
        if report:
            note_report(self.workspace, to.name, to.version, report)
        with refusals_in_one_line(self.uri):
            if report:
                self._client.set_model_version_tag(to.name, str(to.number), f"{_REPORT}.{alias}", report)
            self._client.set_registered_model_alias(to.name, alias, str(to.number))
            key = f"heliostat.{alias}.{event.number:05d}"
            self._client.set_registered_model_tag(to.name, key, event.model_dump_json())
        return event


def _version_of(found: Any, aliases: dict[str, int]) -> ModelVersion:
    tags, number = dict(found.tags), int(found.version)
    borne: list[Any] = [alias for alias, bearer in sorted(aliases.items()) if bearer == number]
    return ModelVersion(
        name=found.name,
        version=Version.parse(tags[_VERSION]),
        number=number,
        artifact_id=tags.get(_ARTIFACT, ""),
        kind=tags.get(_KIND, ""),
        path=tags.get(_PATH, ""),
        uri=found.source.removeprefix("heliostat:"),
        content=tags.get(_CONTENT, ""),
        created_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC).replace(microsecond=0),
        aliases=tuple(borne),
        tags=tags,
    )


def _event_of(key: str, value: str, alias: Alias) -> AliasEvent | None:
    named = _EVENT.fullmatch(key)
    if not named or named[1] != alias:
        return None
    try:
        return AliasEvent.model_validate(json.loads(value))
    except (ValidationError, ValueError):  # written by other means than ours
        return None
