"""The adapters that a config names: from references to artifacts that fit the model and its engine."""

import struct
from pathlib import Path

from heliostat.endpoints import ServedAdapter
from heliostat.errors import ArtifactError, ConfigError, HeliostatError
from heliostat.models.adapters import ADAPTER_CONFIG_NAME
from heliostat.models.importing import import_adapter
from heliostat.models.safety import weight_files
from heliostat.records import CERTIFICATE_NAME, Artifact
from heliostat.serving.config import (
    AdapterConfig,
    ChosenEngine,
    OpenVINOEngineConfig,
    ServeConfig,
    VLLMEngineConfig,
)
from heliostat.serving.engines.lora_folder import LoraFolder, read_lora_folder, tensor_shapes
from heliostat.serving.engines.selection import capabilities_of
from heliostat.storage import artifact_folder, is_remote, open_artifact
from heliostat.versions.artifacts import read_artifacts
from heliostat.versions.names import looks_like_reference
from heliostat.versions.resolving import resolve_artifact
from heliostat.workspace import Workspace


def served_adapters(
    config: ServeConfig, model: Artifact, engine: ChosenEngine, workspace: Workspace
) -> tuple[ServedAdapter, ...]:
    """The config's adapters as `model` under `engine` is to serve them.

    Raises:
        ConfigError: one is not there, not of this model, or more than the engine can put on; one line.
    """
    if not config.adapters:
        return ()
    if not capabilities_of(engine).adapters:
        raise ConfigError(f"serve.adapters: engine {engine.kind} has none; leave them out or take another")
    adapters = open_adapters(config, workspace)
    check_bases(config, adapters, model)
    for asked, adapter in zip(config.adapters, adapters, strict=True):
        try:
            lora = read_lora_folder(artifact_folder(adapter))
            _check_engine(lora, engine)
            if not adapter.parents:  # it came from elsewhere, and its shapes are all that tells
                _check_shapes(lora, model, workspace)
        except HeliostatError as error:
            raise ConfigError(f"{_place(asked)}: {error}") from None
    return tuple(
        ServedAdapter(name=asked.name, artifact_id=adapter.id, artifact_uri=adapter.uri)
        for asked, adapter in zip(config.adapters, adapters, strict=True)
    )


def open_adapters(config: ServeConfig, workspace: Workspace) -> tuple[Artifact, ...]:
    """The artifacts of the config's adapters, in their order; a folder from elsewhere is imported.

    Raises:
        ConfigError: one is not there, or is no adapter.
    """
    found = []
    for asked in config.adapters:
        try:
            found.append(_open(asked.model, workspace))
        except HeliostatError as error:
            raise ConfigError(f"{_place(asked)}: {error}") from None
    return tuple(found)


def check_bases(config: ServeConfig, adapters: tuple[Artifact, ...], model: Artifact) -> None:
    """Refuse adapters that were trained on another model than the one served, or than the one that was
    compressed into it.

    Raises:
        ConfigError: which model it belongs to.
    """
    served = (model.id, *model.parents[:1]) if model.kind == "quantized" else (model.id,)
    for asked, adapter in zip(config.adapters, adapters, strict=True):
        base = next(iter(adapter.parents), None)  # training names the model first
        if base and base not in served:
            raise ConfigError(
                f"{_place(asked)}: {adapter.id} was trained on {base}, and the endpoint serves "
                f"{' made from '.join(served)}; serve its base, or name an adapter of this model"
            )


def _place(asked: AdapterConfig) -> str:
    return f"serve.adapters: {asked.name}"


def _open(reference: str, workspace: Workspace) -> Artifact:
    folder = Path(reference).expanduser()
    if is_remote(reference) or (folder / CERTIFICATE_NAME).is_file():
        artifact = open_artifact(reference if is_remote(reference) else str(folder), ("adapter", "model"))
    elif (folder / ADAPTER_CONFIG_NAME).is_file():
        return import_adapter(folder, workspace)
    elif looks_like_reference(reference) or not folder.is_dir():
        artifact = resolve_artifact(reference, workspace)
    else:
        raise ArtifactError(f"{folder}: holds no adapter; give a folder with {ADAPTER_CONFIG_NAME}")
    merged = artifact.facts.get("adapter")  # training merges what it made, and registers that
    if artifact.kind == "model" and merged:
        artifact = resolve_artifact(merged, workspace)
    if artifact.kind != "adapter":
        raise ArtifactError(f"{reference}: is of kind {artifact.kind}, and no LoRA adapter")
    return artifact


def _check_engine(lora: LoraFolder, engine: ChosenEngine) -> None:
    rank = max(rank for rank, _, _ in lora.layers.values())
    if isinstance(engine, VLLMEngineConfig) and rank > engine.max_adapter_rank:
        raise ConfigError(f"has rank {rank}; raise engine.max_adapter_rank from {engine.max_adapter_rank}")
    if isinstance(engine, OpenVINOEngineConfig) and lora.scaling is None:
        raise ConfigError("ranks or alphas differ between layers, which engine openvino cannot put on")


def _check_shapes(lora: LoraFolder, model: Artifact, workspace: Workspace) -> None:
    """Of a compressed model those of the one that it was made from, where that is still there."""
    whole = model
    if model.kind == "quantized":
        known = {artifact.id: artifact for artifact in read_artifacts(workspace).values()}
        found = known.get(next(iter(model.parents), ""))
        if found is None:
            return  # the engine looks when it loads the adapter
        whole = found
    layers: dict[str, tuple[int, int]] = {}
    for file in weight_files(artifact_folder(whole)):
        try:
            shapes = tensor_shapes(file)
        except (OSError, ValueError, struct.error) as error:
            raise ArtifactError(f"{file}: cannot be read: {error}") from None
        for name, shape in shapes.items():
            if name.endswith(".weight") and len(shape) == 2:
                layers[name.removesuffix(".weight")] = (shape[1], shape[0])
    lora.check_fits(layers)
