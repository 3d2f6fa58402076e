"""What a decoder is made of, read from its config.json alone: layers, heads, experts, and parameters by part.

Pure: no weights are read. Counts are exact for the architectures in EXACT and taken as those of a Llama of
the same widths for others.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from heliostat.errors import ModelError

LLAMA_LIKE = frozenset({"llama", "mistral", "qwen2", "qwen3", "smollm3"})
LATENT = frozenset({"deepseek_v2", "deepseek_v3"})
EXACT = LLAMA_LIKE | LATENT | {"mixtral", "qwen2_moe", "qwen3_moe"}
_NORMED_HEADS = frozenset({"qwen3", "qwen3_moe"})
# Of each of our names, those that other architectures' configs have for it.
_ALIASES = {
    "hidden_size": ("n_embd", "d_model"),
    "num_hidden_layers": ("n_layer", "num_layers"),
    "num_attention_heads": ("n_head", "num_heads"),
    "max_position_embeddings": ("n_positions", "seq_length"),
}
_NUM_EXPERTS = ("num_local_experts", "n_routed_experts", "num_experts")


@dataclass(frozen=True)
class Linear:
    """One matrix of a layer, under the name that a LoRA recipe calls it by."""

    name: str
    inputs: int
    outputs: int
    bias: bool = False
    by_rows: bool = False
    """Whether tensor parallel cuts its inputs (and copies its bias), not its outputs."""

    @property
    def num_parameters(self) -> int:
        """Weights and biases."""
        return self.inputs * self.outputs + self.outputs * self.bias


@dataclass(frozen=True)
class Latent:
    """The low ranks of multi-head latent attention (DeepSeek-AI, 2024, arXiv:2405.04434)."""

    query_rank: int | None
    key_value_rank: int
    rope_dim: int
    nope_dim: int
    value_dim: int


@dataclass(frozen=True)
class Experts:
    """The experts of a sparse layer; `shared_size` is the width of those that see every token, 0 if none."""

    num_experts: int
    per_token: int
    intermediate_size: int
    shared_size: int
    layers: frozenset[int]
    """The sparse layers; the others have one dense block."""


@dataclass(frozen=True)
class ModelShape:
    """A causal decoder: embeddings, layers of attention and of one or many feed-forward blocks, an output."""

    model_type: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_positions: int
    tied_embeddings: bool = False
    query_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    latent: Latent | None = None
    experts: Experts | None = None

    @classmethod
    def from_config_json(cls, values: dict[str, Any]) -> "ModelShape":
        """The shape that a Hugging Face config.json describes.

        Raises:
            ModelError: it lacks a size without which nothing can be told.
        """
        kind = str(values.get("model_type", ""))
        hidden, heads = _size(values, "hidden_size"), _size(values, "num_attention_heads")
        attention_bias = bool(values.get("attention_bias", False))
        inner = values.get("intermediate_size") or values.get("n_inner") or 4 * hidden
        return cls(
            model_type=kind,
            hidden_size=hidden,
            intermediate_size=int(inner),
            num_layers=_size(values, "num_hidden_layers"),
            num_heads=heads,
            num_key_value_heads=int(values.get("num_key_value_heads") or heads),
            head_dim=_head_dim(values, kind, hidden, heads),
            vocab_size=_size(values, "vocab_size"),
            max_positions=_size(values, "max_position_embeddings"),
            tied_embeddings=bool(values.get("tie_word_embeddings", kind == "smollm3")),
            query_bias=_query_bias(values, kind, attention_bias),
            output_bias=attention_bias,
            mlp_bias=bool(values.get("mlp_bias", False)),
            latent=_latent(values) if kind in LATENT else None,
            experts=_experts(values, kind),
        )

    @property
    def is_exact(self) -> bool:
        """Whether the counts are this architecture's own."""
        return self.model_type in EXACT

    @property
    def has_normed_heads(self) -> bool:
        """Whether each head's queries and keys are normed."""
        return self.model_type in _NORMED_HEADS

    @property
    def key_value_size(self) -> int:
        """Numbers of one token's keys, and of its values, in one layer."""
        return self.num_key_value_heads * self.head_dim

    @property
    def query_size(self) -> int:
        """Numbers of one token's queries in one layer."""
        return self.num_heads * (
            self.latent.nope_dim + self.latent.rope_dim if self.latent else self.head_dim
        )

    def attention(self) -> tuple[Linear, ...]:
        """The matrices of one layer's attention."""
        if self.latent:
            return self._latent_attention(self.latent)
        hidden, queries, keys = self.hidden_size, self.query_size, self.key_value_size
        return (
            Linear("q_proj", hidden, queries, self.query_bias),
            Linear("k_proj", hidden, keys, self.query_bias),
            Linear("v_proj", hidden, keys, self.query_bias),
            Linear("o_proj", queries, hidden, self.output_bias, by_rows=True),
        )

    def _latent_attention(self, latent: Latent) -> tuple[Linear, ...]:
        hidden, bias, rank = self.hidden_size, self.output_bias, latent.query_rank
        queries = (
            (Linear("q_proj", hidden, self.query_size),)
            if rank is None
            else (Linear("q_a_proj", hidden, rank, bias), Linear("q_b_proj", rank, self.query_size))
        )
        read = latent.key_value_rank
        values = self.num_heads * latent.value_dim
        return (
            *queries,
            Linear("kv_a_proj_with_mqa", hidden, read + latent.rope_dim, bias),
            Linear("kv_b_proj", read, self.num_heads * latent.nope_dim + values),
            Linear("o_proj", values, hidden, bias, by_rows=True),
        )

    def feed_forward(self, width: int) -> tuple[Linear, ...]:
        """The three matrices of a gated block of this width."""
        hidden, bias = self.hidden_size, self.mlp_bias
        return (
            Linear("gate_proj", hidden, width, bias),
            Linear("up_proj", hidden, width, bias),
            Linear("down_proj", width, hidden, bias, by_rows=True),
        )

    def dense_block(self, layer: int) -> tuple[Linear, ...]:
        """The matrices outside attention that every token of a layer goes through."""
        if self.experts is None or layer not in self.experts.layers:
            return self.feed_forward(self.intermediate_size)
        if not self.experts.shared_size:
            return ()
        gate = (Linear("shared_expert_gate", self.hidden_size, 1),) if self.model_type == "qwen2_moe" else ()
        return (*self.feed_forward(self.experts.shared_size), *gate)

    def linears(self) -> Iterator[Linear]:
        """All named matrices of all layers."""
        for layer in range(self.num_layers):
            yield from self.attention()
            yield from self.dense_block(layer)

    @property
    def expert_parameters(self) -> int:
        """Parameters of one expert of one layer."""
        return 3 * self.hidden_size * self.experts.intermediate_size if self.experts else 0

    def layer_parts(self, layer: int) -> dict[str, int]:
        """Parameters of one layer by part: attention, mlp, experts, router, norms."""
        sparse = self.experts if self.experts and layer in self.experts.layers else None
        heads = 2 * self.head_dim if self.has_normed_heads else 0
        ranks = (self.latent.query_rank or 0) + self.latent.key_value_rank if self.latent else 0
        return {
            "attention": sum(each.num_parameters for each in self.attention()),
            "mlp": sum(each.num_parameters for each in self.dense_block(layer)),
            "experts": sparse.num_experts * self.expert_parameters if sparse else 0,
            "router": sparse.num_experts * self.hidden_size if sparse else 0,
            "norms": 2 * self.hidden_size + heads + ranks,
        }

    def parts(self) -> dict[str, int]:
        """Parameters of the whole model by part; those that are 0 are left out."""
        table = self.vocab_size * self.hidden_size
        total = {
            "embeddings": table,
            "output": 0 if self.tied_embeddings else table,
            "norms": self.hidden_size,
        }
        for layer in range(self.num_layers):
            for part, size in self.layer_parts(layer).items():
                total[part] = total.get(part, 0) + size
        return {part: size for part, size in total.items() if size}

    @property
    def num_parameters(self) -> int:
        """All parameters."""
        return sum(self.parts().values())

    @property
    def active_parameters(self) -> int:
        """Parameters one token goes through: of the experts, those it is sent to."""
        if self.experts is None:
            return self.num_parameters
        resting = self.experts.num_experts - self.experts.per_token
        return self.num_parameters - len(self.experts.layers) * resting * self.expert_parameters


def _size(values: dict[str, Any], name: str) -> int:
    for key in (name, *_ALIASES.get(name, ())):
        if isinstance(values.get(key), int):
            return int(values[key])
    raise ModelError(
        f"config.json (model_type '{values.get('model_type')}') has no {name}; it is not the config of a "
        "causal language model whose size can be told"
    )


def _head_dim(values: dict[str, Any], kind: str, hidden: int, heads: int) -> int:
    if kind in LATENT:
        return int(values["v_head_dim"]) if "v_head_dim" in values else 128
    fallback = 128 if kind == "qwen3" else hidden // heads  # Qwen3's own default
    return int(values.get("head_dim") or fallback)


def _query_bias(values: dict[str, Any], kind: str, attention_bias: bool) -> bool:
    if kind == "qwen2_moe":
        return bool(values.get("qkv_bias", True))
    return kind == "qwen2" or attention_bias


def _latent(values: dict[str, Any]) -> Latent:
    """The ranks, with transformers' defaults."""
    rank = values.get("q_lora_rank", 1536)
    return Latent(
        query_rank=None if rank is None else int(rank),
        key_value_rank=int(values.get("kv_lora_rank", 512)),
        rope_dim=int(values.get("qk_rope_head_dim", 64)),
        nope_dim=int(values.get("qk_nope_head_dim", 128)),
        value_dim=int(values.get("v_head_dim", 128)),
    )


def _experts(values: dict[str, Any], kind: str) -> Experts | None:
    found = next((int(values[key]) for key in _NUM_EXPERTS if values.get(key)), 0)
    if not found:
        return None
    layers = range(_size(values, "num_hidden_layers"))
    every, dense = int(values.get("decoder_sparse_step", 1)), set(values.get("mlp_only_layers") or ())
    first = int(values.get("first_k_dense_replace", 3 if kind == "deepseek_v3" else 0))
    width = int(values.get("moe_intermediate_size") or values.get("intermediate_size") or 0)
    shared = int(values.get("shared_expert_intermediate_size") or 0)
    if kind in LATENT:
        shared = width * int(values.get("n_shared_experts") or 0)
    return Experts(
        num_experts=found,
        per_token=int(values.get("num_experts_per_tok") or 2),
        intermediate_size=width,
        shared_size=shared,
        layers=frozenset(
            each for each in layers if each >= first and each not in dense and (each + 1) % every == 0
        ),
    )
