"""What a plan needs and can have without loading anything: the model's shape and the dataset's size."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heliostat.errors import ModelError
from heliostat.models.importing import PACKAGE_PREFIX, import_model, package_named
from heliostat.models.safety import CONFIG_NAME
from heliostat.models.scratch_config import Model, TrainedTokenizer
from heliostat.records import Artifact
from heliostat.storage import STAGING_PREFIX, artifact_folder, find_artifact
from heliostat.training.model_shape import ModelShape
from heliostat.versions.names import looks_like_reference
from heliostat.workspace import Workspace


@dataclass(frozen=True)
class DatasetFacts:
    """The size of a dataset's train split; `where` is the dataset's URI."""

    sequences: int
    tokens: int
    labels: int
    where: str


@dataclass(frozen=True)
class PlanInputs:
    """What a config is planned for: model, length of a packed sequence, the dataset if it is there."""

    shape: ModelShape
    max_sequence_length: int
    dataset: DatasetFacts | None = None
    packed: bool = True
    added_tokens: int = 0

    @classmethod
    def of(
        cls, shape: ModelShape, max_sequence_length: int, added_tokens: int = 0, packed: bool = True
    ) -> "PlanInputs":
        """Inputs without a dataset; each added token has a row in the embeddings."""
        grown = replace(shape, vocab_size=shape.vocab_size + added_tokens)
        return cls(grown, max_sequence_length, packed=packed, added_tokens=added_tokens)

    def with_dataset(self, dataset: DatasetFacts | None) -> "PlanInputs":
        """The same for a dataset that has been prepared."""
        return replace(self, dataset=dataset)


def find_shape(reference: str, workspace: Workspace | None) -> ModelShape:
    """The shape of a base model: a folder's, a version's, or that of a package that was imported into the
    workspace.

    Raises:
        ModelError: there is no such model, or it is a package that has not been imported; says how to.
    """
    if looks_like_reference(reference) and workspace is not None:
        folder = artifact_folder(import_model(reference, workspace))
        return ModelShape.from_config_json(_json_object((folder / CONFIG_NAME).read_bytes(), str(folder)))
    if not reference.startswith(PACKAGE_PREFIX):
        file = Path(reference).expanduser() / CONFIG_NAME
        if not file.is_file():
            raise ModelError(f"{file}: no such file; give a model's folder, or {PACKAGE_PREFIX}NAME")
        return ModelShape.from_config_json(_json_object(file.read_bytes(), str(file)))
    if workspace is None:
        package_named(reference)
        raise ModelError(f"{reference}: its size is known when it is in a workspace")
    path = find_package(reference, workspace)
    if path:
        content = workspace.storage.read_bytes(f"{path}/{CONFIG_NAME}")
        return ModelShape.from_config_json(_json_object(content, workspace.storage.uri(path)))
    raise ModelError(
        f"{reference}: not in {workspace.storage.uri()} yet, and its size is known only then; "
        f"'heliostat models import {reference}' fetches it"
    )


def find_package(reference: str, workspace: Workspace) -> str | None:
    """Where a package's model lies in the workspace, relative to its root; None before it was imported.

    Raises:
        ModelError: there is no such package.
    """
    package = package_named(reference)
    for artifact, path in _artifacts(workspace, "models", package.name):
        if artifact.config.get("sha256") == package.sha256:
            return path
    return None


def shape_of_model(model: Model, workspace: Workspace | None = None) -> ModelShape:
    """Of a model that is there, or of one that is built from its section.

    Raises:
        ModelError: it is a package that is not in the workspace, or there is no workspace to look in.
    """
    if isinstance(model, str):
        return find_shape(model, workspace)
    from heliostat.models.from_scratch import config_json

    tokenizer = model.tokenizer
    if isinstance(tokenizer, TrainedTokenizer):
        size = tokenizer.vocab_size
    else:
        size = find_shape(tokenizer.model, workspace).vocab_size
    return ModelShape.from_config_json(config_json(model, size))


def is_known_at_once(model: Model) -> bool:
    """Whether a model's shape is known without a workspace: a package's is when it has been imported, a
    version's when it was looked up."""
    source = model if isinstance(model, str) else getattr(model.tokenizer, "model", "")
    return not source.startswith(PACKAGE_PREFIX) and not looks_like_reference(source)


def find_dataset(workspace: Workspace, name: str, packing: dict[str, Any]) -> DatasetFacts | None:
    """The newest dataset of this name that was packed so; None before the data stage has run."""
    for artifact, _ in _artifacts(workspace, "data/tokenized", name):
        split = artifact.facts.get("splits", {}).get("train")
        if split and artifact.config == packing:
            return DatasetFacts(split["rows"], split["tokens"], split["labels"], artifact.uri)
    return None


def _artifacts(workspace: Workspace, folder: str, name: str) -> list[tuple[Artifact, str]]:
    """The finished artifacts of a name, the newest first, each with its path."""
    entries = [each for each in workspace.storage.list(folder) if not each.startswith((".", STAGING_PREFIX))]
    paths = [f"{folder}/{each}" for each in entries if each.rpartition("-")[0] == name]
    found = [(artifact, path) for path in paths if (artifact := find_artifact(workspace.storage, path))]
    return sorted(found, key=lambda each: each[0].created_at, reverse=True)


def _json_object(content: bytes, where: str) -> dict[str, Any]:
    try:
        return dict(json.loads(content))
    except (ValueError, TypeError) as error:
        raise ModelError(f"{where}: cannot be read as JSON ({error}); copy it again") from None
