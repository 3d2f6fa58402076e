"""Which parameters a run trains, as a recipe says it."""

from typing import Annotated, Literal

from pydantic import Field

from heliostat.config import Config


class FullAdapter(Config):
    """Train all parameters."""

    kind: Literal["full"] = "full"


class LoraAdapter(Config):
    """Train low-rank updates of some linear layers (Hu et al., 2021, arXiv:2106.09685).

    `use_dora` learns the length of each weight's columns apart from their direction (Liu et al., 2024,
    arXiv:2402.09353); `use_rslora` divides alpha by the root of r (Kalajdzievski, 2023, arXiv:2312.03732).
    """

    kind: Literal["lora"] = "lora"
    r: int = Field(default=16, ge=1)
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: tuple[str, ...] = Field(default=("q_proj", "v_proj"), min_length=1)
    use_dora: bool = False
    use_rslora: bool = False


class PromptTuningAdapter(Config):
    """Train embeddings that stand in front of each document (Lester et al., 2021, arXiv:2104.08691)."""

    kind: Literal["prompt_tuning"] = "prompt_tuning"
    num_virtual_tokens: int = Field(default=16, ge=1)


class PrefixTuningAdapter(Config):
    """Train keys and values in front of each document, in all layers (Li, Liang, 2021, arXiv:2101.00190)."""

    kind: Literal["prefix_tuning"] = "prefix_tuning"
    num_virtual_tokens: int = Field(default=16, ge=1)


class FreezeAdapter(Config):
    """Train all but the embeddings and the bottom layers, which keep what they know."""

    kind: Literal["freeze_bottom"] = "freeze_bottom"
    num_layers: int = Field(ge=1, description="how many of the layers, from the input on, stay as they are")


Adapter = Annotated[
    FullAdapter | LoraAdapter | PromptTuningAdapter | PrefixTuningAdapter | FreezeAdapter,
    Field(discriminator="kind"),
]
VIRTUAL_TOKENS = (PromptTuningAdapter, PrefixTuningAdapter)
"""Adapters that put something in front of a document: they need each document in a row of its own."""
