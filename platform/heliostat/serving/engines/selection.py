"""Which engine serves an artifact, and what an engine needs to know of a model's folder."""

import json
from pathlib import Path
from typing import Any

from heliostat.errors import ServingError
from heliostat.models.safety import check_runs_no_code
from heliostat.records import Artifact
from heliostat.serving.engines.config import (
    AutoEngine,
    ChosenEngine,
    EngineConfig,
    OpenVINOEngineConfig,
    TransformersEngineConfig,
    VLLMEngineConfig,
)
from heliostat.serving.engines.interface import Capabilities, Engine

CHOSEN: dict[str, ChosenEngine] = {
    "quantized": OpenVINOEngineConfig(),
    "model": TransformersEngineConfig(),
}
SERVED_BY = {"quantized": ("openvino",), "model": ("transformers", "vllm")}


def choose_engine(config: EngineConfig, artifact: Artifact) -> ChosenEngine:
    """The engine's config with `auto` resolved, which never is vllm: a recipe must name its interpreter.

    Raises:
        ServingError: no engine, or not the one asked for, can serve this artifact.
    """
    from heliostat.models.perplexity import OPENVINO_MODEL_NAME

    fitting = CHOSEN.get(artifact.kind)
    if fitting is None:
        raise ServingError(
            f"{artifact.uri}: a {artifact.kind} artifact cannot be served; "
            "give a model (merge an adapter first) or a quantized one"
        )
    if isinstance(config, AutoEngine):
        config = fitting
    if config.kind not in SERVED_BY[artifact.kind]:
        raise ServingError(
            f"{artifact.uri}: engine {config.kind} cannot serve a {artifact.kind} artifact; "
            f"set engine.kind to {' or '.join(SERVED_BY[artifact.kind])} or auto, "
            "or give the other kind of artifact"
        )
    names = {file.path for file in artifact.files}
    if isinstance(config, OpenVINOEngineConfig) and OPENVINO_MODEL_NAME not in names:
        raise ServingError(f"{artifact.uri}: has no {OPENVINO_MODEL_NAME}; run the compression stage again")
    return config


async def start_engine(config: ChosenEngine, folder: Path) -> Engine:
    """Load a model's folder into an engine.

    Raises:
        ServingError, ModelError: it cannot be loaded.
    """
    check_folder(folder)
    limit = max_context_tokens(folder)
    if isinstance(config, OpenVINOEngineConfig):
        from heliostat.serving.engines.openvino import OpenVINOEngine

        return await OpenVINOEngine.start(folder, config, limit)
    if isinstance(config, VLLMEngineConfig):
        from heliostat.serving.engines.vllm import VLLMEngine

        return await VLLMEngine.start(folder, config, limit)
    from heliostat.serving.engines.transformers_engine import TransformersEngine

    return await TransformersEngine.start(folder, config, limit)


def capabilities_of(config: ChosenEngine) -> Capabilities:
    """What the engine of this config can do, without loading it."""
    if isinstance(config, OpenVINOEngineConfig):
        from heliostat.serving.engines import openvino

        return openvino.CAPABILITIES
    if isinstance(config, VLLMEngineConfig):
        from heliostat.serving.engines import vllm

        return vllm.capabilities(config)
    from heliostat.serving.engines import transformers_engine

    return transformers_engine.CAPABILITIES


def check_folder(folder: Path) -> None:
    """Refuse a folder that would bring code along; an artifact need not have come by our own import.

    Raises:
        ModelError: names the file.
    """
    from heliostat.models.perplexity import OPENVINO_MODEL_NAME

    # OpenVINO's .bin is raw numbers.
    check_runs_no_code(folder, frozenset({".bin"} if (folder / OPENVINO_MODEL_NAME).is_file() else ()))


def max_context_tokens(folder: Path) -> int:
    """The longest prompt and answer together that the model was built for.

    Raises:
        ServingError: the folder's config.json does not say.
    """
    file = folder / "config.json"
    try:
        values: dict[str, Any] = json.loads(file.read_bytes())
        return int(values["max_position_embeddings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ServingError(
            f"{file}: does not say max_position_embeddings ({error}); write it there"
        ) from None
