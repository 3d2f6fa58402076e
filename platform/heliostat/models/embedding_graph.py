"""A sentence embedder without torch: the encoder as an OpenVINO graph with 8-bit weights, for a server.

The vectors are those of `embedding.load_embedder` (mean of the last states, length 1) but for the rounding of
the weights. Loading takes under a second and some 100 MB, where torch and transformers alone take ten seconds
and half a gigabyte. Only BERT's architecture is drawn here; others go through torch.
Source of the architecture: Devlin et al. 2018, as transformers' `BertModel` has it (post-norm, erf GELU).
"""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

from heliostat.errors import ModelError
from heliostat.models.embedding import MAX_TOKENS, Embed, load_embedder
from heliostat.models.safety import CONFIG_NAME, TOKENIZER_NAME, check_model_folder

AsyncEmbed = Callable[[list[str]], Awaitable[np.ndarray]]
"""An `Embed` to be awaited."""
_ROUNDED_BITS_LIMIT = 127  # symmetric 8-bit weights, a scale for each row


def load_serving_embedder(folder: Path, num_threads: int = 1) -> Embed:
    """The embedder in a folder, quick for single short texts: 30 words in 7 ms on one core with all-MiniLM,
    where torch takes 26 (AVX512-VNNI).

    What it returns may be called from one thread at a time.

    Raises:
        ModelError: it cannot be loaded, or its files lack some of its weights.
    """
    check_model_folder(folder)
    config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    drawn = (
        config.get("model_type") == "bert"
        and config.get("hidden_act", "gelu") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
    )
    if not drawn:
        return load_embedder(folder, num_threads)
    tokenize = _load_tokenizer(
        folder, min(MAX_TOKENS, int(config.get("max_position_embeddings", MAX_TOKENS)))
    )
    infer = _compile(_draw(_read_weights(folder), config), num_threads)

    def embed(texts: list[str]) -> np.ndarray:
        rows = [infer(tokenize(text)) for text in texts]
        return np.stack(rows) if rows else np.zeros((0, int(config["hidden_size"])), np.float32)

    return embed


def _load_tokenizer(folder: Path, max_tokens: int) -> Callable[[str], list[int]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_NAME))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)

    def tokenize(text: str) -> list[int]:
        clean = text.encode("utf-8", "replace").decode()  # lone surrogates, which tokenizers refuse
        return list(tokenizer.encode(clean).ids)

    return tokenize


def _read_weights(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    weights: dict[str, np.ndarray] = {}
    for file in sorted(folder.glob("*.safetensors")):
        weights |= load_file(file)
    return {name.removeprefix("bert."): tensor.astype(np.float32) for name, tensor in weights.items()}


def _compile(model: Any, num_threads: int) -> Callable[[list[int]], np.ndarray]:
    import openvino as ov

    properties = {
        "INFERENCE_NUM_THREADS": num_threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",  # bf16, the default where a CPU has it, moves near-equal vectors
    }
    request = ov.Core().compile_model(model, "CPU", properties).create_infer_request()

    def infer(ids: list[int]) -> np.ndarray:
        (vector,) = request.infer([np.array([ids], np.int64)]).values()
        return np.array(vector[0], np.float32)

    return infer


class _Drawing:
    """OpenVINO operations over a dictionary of weights."""

    def __init__(self, weights: dict[str, np.ndarray], config: dict[str, Any]) -> None:
        from openvino import opset13

        self.ops = opset13
        self.weights = weights
        self.epsilon = float(config.get("layer_norm_eps", 1e-12))
        self.num_heads = int(config["num_attention_heads"])
        self.head_size = int(config["hidden_size"]) // self.num_heads

    def tensor(self, name: str) -> np.ndarray:
        if name not in self.weights:
            raise ModelError(f"the embedder's weights lack the tensor {name}; import it again")
        return self.weights[name]

    def linear(self, states: Any, weight: np.ndarray, bias: np.ndarray) -> Any:
        scale = np.abs(weight).max(axis=1, keepdims=True) / _ROUNDED_BITS_LIMIT
        scale[scale == 0] = 1
        rounded = self.ops.constant(np.round(weight / scale).astype(np.int8))
        restored = self.ops.multiply(self.ops.convert(rounded, "f32"), self.ops.constant(scale))
        product = self.ops.matmul(states, restored, False, True)
        return self.ops.add(product, self.ops.constant(bias))

    def named_linear(self, states: Any, name: str) -> Any:
        return self.linear(states, self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias"))

    def norm(self, states: Any, name: str) -> Any:
        axes = self.ops.constant(np.array([-1], np.int64))
        scaled = self.ops.mvn(states, axes, True, self.epsilon, "INSIDE_SQRT")
        scaled = self.ops.multiply(scaled, self.ops.constant(self.tensor(f"{name}.weight")))
        return self.ops.add(scaled, self.ops.constant(self.tensor(f"{name}.bias")))

    def attention(self, states: Any, layer: str) -> Any:
        """Queries, keys and values in one product of matrices."""
        names = [f"{layer}.attention.self.{part}" for part in ("query", "key", "value")]
        weight = np.concatenate([self.tensor(f"{name}.weight") for name in names])
        bias = np.concatenate([self.tensor(f"{name}.bias") for name in names])
        together = self.linear(states, weight, bias)
        shape = self.ops.constant(np.array([0, -1, 3, self.num_heads, self.head_size], np.int64))
        heads = self.ops.transpose(
            self.ops.reshape(together, shape, True), self.ops.constant(np.array([2, 0, 3, 1, 4], np.int64))
        )
        axis = self.ops.constant(0)
        query, key, value = (self.ops.gather(heads, self.ops.constant(part), axis) for part in range(3))
        mixed = self.ops.scaled_dot_product_attention(query, key, value)
        back = self.ops.transpose(mixed, self.ops.constant(np.array([0, 2, 1, 3], np.int64)))
        flat = self.ops.constant(np.array([0, 0, -1], np.int64))
        return self.named_linear(self.ops.reshape(back, flat, True), f"{layer}.attention.output.dense")

    def layer(self, states: Any, layer: str) -> Any:
        attended = self.ops.add(states, self.attention(states, layer))
        states = self.norm(attended, f"{layer}.attention.output.LayerNorm")
        inner = self.ops.gelu(self.named_linear(states, f"{layer}.intermediate.dense"), "ERF")
        outer = self.ops.add(states, self.named_linear(inner, f"{layer}.output.dense"))
        return self.norm(outer, f"{layer}.output.LayerNorm")

    def embeddings(self, ids: Any) -> Any:
        axis = self.ops.constant(0)
        length = self.ops.gather(self.ops.shape_of(ids), self.ops.constant(1), axis)
        places = self.ops.range(self.ops.constant(0), length, self.ops.constant(1), "i64")
        first = "embeddings"
        words = self.ops.gather(self.ops.constant(self.tensor(f"{first}.word_embeddings.weight")), ids, axis)
        kind = self.tensor(f"{first}.token_type_embeddings.weight")[0]
        positions = self.tensor(f"{first}.position_embeddings.weight") + kind
        placed = self.ops.gather(self.ops.constant(positions), places, axis)
        return self.norm(self.ops.add(words, placed), f"{first}.LayerNorm")


def _draw(weights: dict[str, np.ndarray], config: dict[str, Any]) -> Any:
    """The graph from token ids (1, n) to a vector (1, hidden size) of length 1."""
    import openvino as ov

    drawing = _Drawing(weights, config)
    ops = drawing.ops
    ids = ops.parameter(ov.PartialShape([1, -1]), ov.Type.i64, name="ids")
    states = drawing.embeddings(ids)
    for number in range(int(config["num_hidden_layers"])):
        states = drawing.layer(states, f"encoder.layer.{number}")
    mean = ops.reduce_mean(states, ops.constant(np.array([1], np.int64)), False)
    axes = ops.constant(np.array([1], np.int64))
    return ov.Model([ops.normalize_l2(mean, axes, 1e-12, "max")], [ids], "embedder")
