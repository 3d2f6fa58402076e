"""The weights of an OpenVINO graph in fewer bits, by NNCF.

8 bits need no data. 4 bits do: rounding SmolLM2-135M to the nearest of 16 steps costs 24 % of perplexity.
The layers whose inputs vary most keep 8 bits, and the scales of the others are fitted so that the outputs on
calibration documents change least ("scale estimation"); AWQ (Lin et al., 2023, arXiv:2306.00978) and GPTQ
(Frantar et al., 2022, arXiv:2210.17323) can be added.
"""

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from heliostat.compression.config import OpenVINOConfig
from heliostat.compression.openvino_graph import model_inputs

SWITCH = "NNCF_DISABLE_OPTIMIZED_COMPRESSION"


def quantize_weights(graph: Any, config: OpenVINOConfig, documents: Sequence[np.ndarray]) -> Any:
    """The graph with its weights in the config's scheme; `documents` are token ids to calibrate int4 on.

    NNCF empties the graph's state before each document, so none reads another.
    """
    if config.scheme == "fp32":
        return graph
    with _reference_arithmetic():
        import nncf

        logging.getLogger("nncf").setLevel(logging.ERROR)
        with _progress_bars_discarded():
            if config.scheme == "int8":
                return nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_ASYM)
            return _in_four_bits(graph, config, documents)


def _in_four_bits(graph: Any, config: OpenVINOConfig, documents: Sequence[np.ndarray]) -> Any:
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedCompressionParameters, GroupSizeFallbackMode

    modes = nncf.CompressWeightsMode
    return nncf.compress_weights(
        graph,
        mode=modes.INT4_SYM if config.symmetric else modes.INT4_ASYM,
        group_size=config.group_size,
        ratio=config.ratio,
        backup_mode=nncf.BackupMode.INT8_ASYM,
        dataset=nncf.Dataset([model_inputs(document) for document in documents]),
        subset_size=len(documents),
        sensitivity_metric=nncf.SensitivityMetric.MAX_ACTIVATION_VARIANCE,
        awq="awq" in config.methods,
        scale_estimation="scale_estimation" in config.methods,
        gptq="gptq" in config.methods,
        advanced_parameters=AdvancedCompressionParameters(
            group_size_fallback_mode=GroupSizeFallbackMode.ADJUST
        ),
    )


@contextlib.contextmanager
def _reference_arithmetic() -> Iterator[None]:
    """Let NNCF quantize with numpy: its own way compiles a little graph for each weight (23 s instead of 7 s
    for all of SmolLM2-135M's 211)."""
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SWITCH]
        else:
            os.environ[SWITCH] = before


@contextlib.contextmanager
def _progress_bars_discarded() -> Iterator[None]:
    """NNCF draws its own bars on standard output and has no switch for them."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
