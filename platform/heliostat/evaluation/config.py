"""What an evaluation is told. Light: nothing here imports torch or ray."""

from typing import ClassVar, Literal

from pydantic import Field

from heliostat.config import Config, Resources


class EvaluateConfig(Config):
    """Score models on the first documents of a split."""

    not_in_fingerprint: ClassVar[frozenset[str]] = frozenset({"micro_batch_size", "resources"})

    name: str = Field(default="evaluation", pattern=r"^[a-z0-9][a-z0-9._-]*$")
    split: Literal["train", "validation", "test"] = "test"
    max_tokens: int = Field(default=20_000, ge=1, description="tokens scored of each model, whole sequences")
    micro_batch_size: int = Field(default=1, ge=1, description="packed sequences scored at once")
    resources: Resources = Field(default=Resources(num_cpus=1), description="for each model")
