"""A transformers folder as an engine folder for openvino-genai: graph, tokenizer and chat template."""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from heliostat.compression.openvino_graph import check_exportable, export_graph
from heliostat.errors import ModelError
from heliostat.models.adapters import copy_tokenizer
from heliostat.models.loading import load_model, load_tokenizer
from heliostat.models.perplexity import OPENVINO_MODEL_NAME

CONFIG_FILES = ("config.json", "generation_config.json")

# The steps of an export and the share of its time each takes (SmolLM2-135M, two cores).
STEPS = {"load": 0.3, "convert": 0.35, "compress": 0.25, "save": 0.1}


def export_steps(source: Path, target: Path, scheme: str) -> Iterator[str]:
    """Write the engine folder `target`; yields the name of each of STEPS when it begins.

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
    graph = compress_weights(graph, scheme)
    yield "save"
    _save(graph, source, target)


def compress_weights(graph: Any, scheme: str) -> Any:
    """The graph with its weights in `scheme` (int8, or fp32: unchanged)."""
    if scheme == "fp32":
        return graph
    with _reference_arithmetic():
        import nncf

        logging.getLogger("nncf").setLevel(logging.ERROR)
        with _progress_bars_discarded():
            return nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_ASYM)


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


@contextlib.contextmanager
def _reference_arithmetic() -> Iterator[None]:
    """Let NNCF quantize with numpy: its own way compiles a little graph for each weight (23 s instead of 7 s
    for all of SmolLM2-135M's 211)."""
    name = "NNCF_DISABLE_OPTIMIZED_COMPRESSION"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextlib.contextmanager
def _progress_bars_discarded() -> Iterator[None]:
    """NNCF draws its own bars on standard output and has no switch for them."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
