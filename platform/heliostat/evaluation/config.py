"""What an evaluation is told. Light: nothing here imports torch or ray."""

from collections import Counter
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from heliostat.config import Config, Resources
from heliostat.evaluation.suite_config import EfficiencySuite, PerplexitySuite, Suite

NAME = r"^[a-zA-Z0-9][a-zA-Z0-9._-]*$"


class ServedModel(Config):
    """A model behind an OpenAI-compatible endpoint. It writes; likelihoods it cannot be asked for."""

    url: str = Field(pattern=r"^https?://", description="the base URL, up to /v1")
    model: str = Field(description="the model's name there")
    key_variable: str | None = Field(default=None, description="the environment variable with the API key")
    timeout_seconds: float = Field(default=120.0, gt=0)


class EvaluateConfig(Config):
    """Score models: on the first documents of a split, and by suites."""

    not_in_fingerprint: ClassVar[frozenset[str]] = frozenset({"micro_batch_size", "resources"})

    name: str = Field(default="evaluation", pattern=r"^[a-z0-9][a-z0-9._-]*$")
    suites: tuple[Suite, ...] = Field(
        default=(), description="what is asked; without any, the perplexity of the chain's split"
    )
    models: dict[str, str] = Field(
        default={}, description="more models by name: a folder, an artifact's id or its folder's name"
    )
    endpoints: dict[str, ServedModel] = Field(default={}, description="served models, by name")
    split: Literal["train", "validation", "test"] = "test"
    max_tokens: int = Field(default=20_000, ge=1, description="tokens scored of each model, whole sequences")
    micro_batch_size: int = Field(default=1, ge=1, description="sequences or prompts worked on at once")
    resources: Resources = Field(default=Resources(num_cpus=1), description="for each model's share of work")

    @property
    def asked(self) -> tuple[Suite, ...]:
        """The suites, with the one that is meant where none is named."""
        return self.suites or (PerplexitySuite(),)

    @property
    def needs_dataset(self) -> bool:
        """Whether a suite reads the chain's split."""
        return any(isinstance(suite, PerplexitySuite) and suite.path is None for suite in self.asked)

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        named = Counter(suite.name for suite in self.suites if suite.name)
        if twice := [name for name, times in named.items() if times > 1]:
            raise ValueError(
                f"suites: {twice[0]!r} is the name of two; give one of them a 'name:' of its own"
            )
        speed = [suite for suite in self.suites if isinstance(suite, EfficiencySuite)]
        if self.endpoints and speed and any(suite.chat is False for suite in speed):
            raise ValueError("an endpoint's speed is measured in a chat; set 'chat: true' in efficiency")
        if both := set(self.models) & set(self.endpoints):
            raise ValueError(f"'models:' and 'endpoints:' both call one {min(both)!r}; rename it")
        return self
