"""How much of what goes, so that a model keeps a share of its parameters: pure arithmetic over its config."""

from dataclasses import dataclass
from typing import Any

from heliostat.compression.config import PruneConfig
from heliostat.errors import ModelError

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
CHANNEL_STEP = 32
"""Blocks of 8-bit GGUF and groups of 4-bit weights are 32 wide."""
LEAST_CHANNELS = 0.25


@dataclass(frozen=True)
class Shape:
    """The sizes that decide a decoder's parameters."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_groups: int
    head_width: int
    vocab_size: int
    tied: bool
    attention_bias: bool
    head_norms: bool

    @classmethod
    def of(cls, config: dict[str, Any]) -> "Shape":
        """Read from a config.json.

        Raises:
            ModelError: a family whose layers are not known here.
        """
        family = config.get("model_type")
        if family not in FAMILIES:
            raise ModelError(
                f"model_type '{family}' cannot be pruned here (known: {', '.join(FAMILIES)}); leave the "
                "prune step out"
            )
        heads = config["num_attention_heads"]
        return cls(
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=heads,
            num_groups=config.get("num_key_value_heads") or heads,
            head_width=config.get("head_dim") or config["hidden_size"] // heads,
            vocab_size=config["vocab_size"],
            tied=bool(config.get("tie_word_embeddings")),
            attention_bias=family == "qwen2",
            head_norms=family == "qwen3",
        )

    def num_parameters(self, num_layers: int, num_groups: int, channels: int) -> int:
        """With so many layers, groups of heads and channels, and all other sizes as they are."""
        heads = num_groups * (self.num_heads // self.num_groups)
        rows = (heads + 2 * num_groups) * self.head_width
        attention = (rows + heads * self.head_width) * self.hidden_size
        attention += rows * self.attention_bias + 2 * self.head_width * self.head_norms
        layer = attention + 3 * channels * self.hidden_size + 2 * self.hidden_size
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tied else 2)
        return embeddings + num_layers * layer + self.hidden_size


@dataclass(frozen=True)
class Plan:
    """What is left: layers, groups of heads that share a key, channels of the feed-forward part."""

    num_layers: int
    num_groups: int
    channels: int
    num_parameters: int


def plan_pruning(config: PruneConfig, shape: Shape) -> Plan:
    """Layers and groups go as told; as many channels as it takes follow, in every layer alike.

    Raises:
        ModelError: so much cannot go that way.
    """
    layers, groups = shape.num_layers - config.remove_layers, shape.num_groups - config.remove_head_groups
    if layers < 1 or groups < 1:
        name, has = (
            ("remove_layers", shape.num_layers) if layers < 1 else ("remove_head_groups", shape.num_groups)
        )
        raise ModelError(f"{name}: {getattr(config, name)} of {has} leaves none; take at most {has - 1}")
    whole = shape.num_parameters(shape.num_layers, shape.num_groups, shape.intermediate_size)
    allowed = int(config.keep * whole)
    per_channel = 3 * shape.hidden_size * layers
    channels = (allowed - shape.num_parameters(layers, groups, 0)) // per_channel
    if channels >= shape.intermediate_size:
        channels = shape.intermediate_size
    else:
        channels -= channels % CHANNEL_STEP
    if channels < LEAST_CHANNELS * shape.intermediate_size:
        raise ModelError(
            f"keep: {config.keep:g} of {whole:,} parameters would leave {max(0, channels)} of "
            f"{shape.intermediate_size} channels; raise keep, or remove more layers or head groups"
        )
    return Plan(layers, groups, channels, shape.num_parameters(layers, groups, channels))
