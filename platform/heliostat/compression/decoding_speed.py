"""How fast a folder writes text: greedy decoding of one stream, in tokens a second.

The same prompt for every folder. A transformers folder decodes with transformers, an OpenVINO folder with its
own graph, as their engines do for a single request; the prompt's reading is not counted.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np

from heliostat.compression.openvino_graph import model_inputs
from heliostat.models.loading import load_model
from heliostat.models.perplexity import OPENVINO_MODEL_NAME

NUM_TOKENS = 32


def tokens_per_second(folder: Path, prompt: np.ndarray, num_threads: int) -> float:
    """Of NUM_TOKENS greedy tokens behind the prompt, (length,) token ids."""
    if (folder / OPENVINO_MODEL_NAME).is_file():
        return _with_openvino(folder, prompt, num_threads)
    return _with_transformers(folder, prompt, num_threads)


def _with_openvino(folder: Path, prompt: np.ndarray, num_threads: int) -> float:
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": num_threads}
    compiled = openvino.Core().compile_model(folder / OPENVINO_MODEL_NAME, "CPU", settings)
    request = compiled.create_infer_request()

    def following(inputs: dict[str, np.ndarray]) -> int:
        request.infer(inputs)
        return int(request.get_tensor("logits").data[0, -1].argmax())

    token = following(model_inputs(prompt))
    token = following(_next_inputs(token, len(prompt)))  # the first single token has kernels to choose
    started = time.perf_counter()
    for position in range(len(prompt) + 1, len(prompt) + 1 + NUM_TOKENS):
        token = following(_next_inputs(token, position))
    return NUM_TOKENS / (time.perf_counter() - started)


def _next_inputs(token: int, position: int) -> dict[str, np.ndarray]:
    return {
        "input_ids": np.array([[token]], dtype=np.int64),
        "attention_mask": np.ones((1, position + 1), dtype=np.int64),
        "position_ids": np.array([[position]], dtype=np.int64),
        "beam_idx": np.zeros(1, dtype=np.int32),
    }


def _with_transformers(folder: Path, prompt: np.ndarray, num_threads: int) -> float:
    import torch

    torch.set_num_threads(num_threads)
    model = load_model(folder)
    ids = torch.from_numpy(prompt)[None]
    with torch.inference_mode():
        cache, token = _greedy_step(model, ids, None)
        cache, token = _greedy_step(model, token, cache)
        started = time.perf_counter()
        for _ in range(NUM_TOKENS):
            cache, token = _greedy_step(model, token, cache)
        return NUM_TOKENS / (time.perf_counter() - started)


def _greedy_step(model: Any, ids: Any, cache: Any) -> tuple[Any, Any]:
    done = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return done.past_key_values, done.logits[:, -1].argmax(dim=-1, keepdim=True)
