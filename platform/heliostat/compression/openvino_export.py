"""A transformers folder as an engine folder for openvino-genai: graph, tokenizer and chat template."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heliostat.compression.config import OpenVINOConfig
from heliostat.compression.openvino_graph import check_exportable, export_graph
from heliostat.compression.openvino_quantize import quantize_weights
from heliostat.errors import ModelError
from heliostat.models.adapters import copy_tokenizer
from heliostat.models.loading import load_model, load_tokenizer
from heliostat.models.perplexity import OPENVINO_MODEL_NAME

CONFIG_FILES = ("config.json", "generation_config.json")


def steps_of(config: OpenVINOConfig) -> dict[str, float]:
    """The steps of an export and the share of its time each takes (SmolLM2-135M, two cores)."""
    if config.scheme == "int4":
        return {"load": 0.1, "convert": 0.15, "compress": 0.7, "save": 0.05}
    return {"load": 0.3, "convert": 0.35, "compress": 0.25, "save": 0.1}


def export_steps(
    source: Path, target: Path, config: OpenVINOConfig, documents: Sequence[np.ndarray] = ()
) -> Iterator[str]:
    """Write the engine folder `target`; yields the name of each step when it begins.

    `documents` are token ids, (length,) each, that int4 is calibrated on.

    Raises:
        ModelError: the model cannot be loaded, or not be exported.
    """
    yield "load"
    model = load_model(source)
    check_exportable(model.config, source)
    yield "convert"
    try:
        graph = export_graph(model)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise ModelError(
            f"{source}: architecture '{model.config.model_type}' cannot be exported to OpenVINO ({reason}); "
            "leave out the compress section and serve it with transformers"
        ) from error
    yield "compress"
    graph = quantize_weights(graph, config, documents)
    yield "save"
    _save(graph, source, target)


def _save(graph: Any, source: Path, target: Path) -> None:
    import openvino
    from openvino_tokenizers import convert_tokenizer

    target.mkdir(parents=True, exist_ok=True)
    openvino.save_model(graph, target / OPENVINO_MODEL_NAME, compress_to_fp16=False)
    tokenizer, detokenizer = convert_tokenizer(load_tokenizer(source), with_detokenizer=True)
    openvino.save_model(tokenizer, target / "openvino_tokenizer.xml")
    openvino.save_model(detokenizer, target / "openvino_detokenizer.xml")
    copy_tokenizer(source, target)
    for name in CONFIG_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
