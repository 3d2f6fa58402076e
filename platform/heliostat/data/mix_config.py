"""What a mixture can be asked for; `heliostat.data.mixing` says how it is made."""

from typing import Literal, Self

from pydantic import Field, model_validator

from heliostat.config import Config

USUAL_WEIGHTS = {"general": 30.0, "domain": 70.0}
"""Of the groups with these names when no group has a weight."""


class MixGroup(Config):
    """Sources or domains that share a part of the tokens."""

    match: tuple[str, ...] = Field(min_length=1)
    """Names, or patterns with `*` and `?`. Where several groups match, the most literal characters win."""
    weight: float | None = Field(default=None, ge=0)
    """Its part, against the weights of the others; 0 leaves its documents out."""
    max_repeats: int | None = Field(default=None, ge=1)
    """How often a document may be used; that of the mix unless given."""


class MixConfig(Config):
    """Groups and their parts of the tokens; two groups `general` and `domain` have 30 : 70 unless told."""

    groups: dict[str, MixGroup] = Field(min_length=1)
    by: Literal["source", "domain"] = "domain"
    """What `match` is compared with."""
    max_repeats: int = Field(default=4, ge=1)
    """How often a document may be used. 4 times is nearly as good as new text (Muennighoff et al., 2023)."""
    tolerance: float = Field(default=0.005, gt=0, lt=1)
    """How far a reached share may be off the one asked for, as a part of it."""
    total_tokens: int | None = Field(default=None, ge=1)
    """Tokens in all groups together; unless given, as many as there are (see `heliostat.data.mixing`)."""
    seed: int = 0

    @model_validator(mode="after")
    def _has_weights(self) -> Self:
        without = sorted(name for name, group in self.groups.items() if group.weight is None)
        if without and self.groups.keys() != USUAL_WEIGHTS.keys():
            raise ValueError(
                f"groups: give '{without[0]}' a weight; only 'general' and 'domain' have their own"
            )
        if without and len(without) < len(self.groups):
            raise ValueError(f"groups: give '{without[0]}' a weight, or no group at all")
        if not any(self.weights.values()):
            raise ValueError("groups: all weights are 0; give at least one group a part of the tokens")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each group, in the order of their names."""
        return {
            name: USUAL_WEIGHTS[name] if group.weight is None else group.weight
            for name, group in sorted(self.groups.items())
        }

    def repeats_of(self, group: str) -> int:
        """How often a document of the group may be used."""
        return self.groups[group].max_repeats or self.max_repeats
