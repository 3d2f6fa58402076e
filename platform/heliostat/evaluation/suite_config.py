"""Suites: what may be asked of a model. Light, like every config; files are read in `suites.py`."""

from typing import Annotated, Literal

from pydantic import Field

from heliostat.config import Config

NAME = r"^[a-z0-9][a-z0-9._-]*$"
DEFAULT_TDP_WATTS = 85.0
WORLD_GRAMS_CO2_PER_KWH = 475.0


class _OfTask(Config):
    """A suite over a task's file."""

    path: str = Field(description="a task: a YAML file that names its data, prompt and metrics")
    name: str | None = Field(default=None, pattern=NAME, description="else the name that the task has")
    max_examples: int | None = Field(default=None, ge=1, description="the first ones of the task's data")


class PerplexitySuite(Config):
    """How likely held-out text is: of the chain's split, or of texts in a JSON lines file."""

    kind: Literal["perplexity"] = "perplexity"
    name: str = Field(default="perplexity", pattern=NAME)
    path: str | None = Field(default=None, description="a JSON lines file; without one the chain's split")
    column: str = Field(default="text", description="the column of the file that holds the text")
    max_examples: int | None = Field(default=None, ge=1, description="the first texts of the file")
    max_length: int | None = Field(
        default=None, ge=2, description="tokens of a window; else what the model was made for"
    )


class TaskSuite(_OfTask):
    """A task: questions with answers to choose from or to write."""

    kind: Literal["task"]


Perturbation = Literal["typos", "case", "drop", "swap", "suffix"]


class RobustnessSuite(_OfTask):
    """A task with its prompts spoilt: what each kind of damage costs, against the clean prompt's score."""

    kind: Literal["robustness"]
    perturbations: tuple[Perturbation, ...] = Field(
        default=("typos", "case", "drop", "swap", "suffix"), min_length=1
    )
    strength: float = Field(default=0.1, gt=0, le=1, description="the share of words that are changed")
    columns: tuple[str, ...] = Field(
        default=(), description="the columns of the task's data to spoil; else the prompt as a whole"
    )
    seed: int = 0


class FairnessSuite(_OfTask):
    """A task whose rows name a group: the gap between the groups that are served best and worst."""

    kind: Literal["fairness"]


class ToxicitySuite(Config):
    """How often what a model writes to given prompts is toxic, by a word list or a classifier's folder."""

    kind: Literal["toxicity"]
    name: str = Field(default="toxicity", pattern=NAME)
    path: str = Field(description="a JSON lines file of prompts")
    column: str = "prompt"
    max_examples: int | None = Field(default=None, ge=1)
    max_new_tokens: int = Field(default=48, ge=1)
    chat: bool = Field(default=False, description="ask as a user does in a chat")
    words: str | None = Field(default=None, description="a file of words, one a line, instead of ours")
    classifier: str | None = Field(
        default=None, description="a folder of a transformers sequence classifier, instead of words"
    )
    label: str = Field(default="toxic", description="the classifier's label that says toxic")


class EfficiencySuite(Config):
    """How fast a model answers one request after another, in what memory, for how much electricity."""

    kind: Literal["efficiency"]
    name: str = Field(default="efficiency", pattern=NAME)
    path: str = Field(description="a JSON lines file of prompts")
    column: str = "prompt"
    max_examples: int | None = Field(default=16, ge=1)
    max_new_tokens: int = Field(default=64, ge=2)
    chat: bool = False
    tdp_watts: float = Field(
        default=DEFAULT_TDP_WATTS, gt=0, description="of the processor, where its own meter cannot be read"
    )
    grams_co2_per_kwh: float = Field(default=WORLD_GRAMS_CO2_PER_KWH, ge=0, description="of the local grid")


class LmEvalSuite(Config):
    """Tasks of lm-evaluation-harness, unchanged, run by lm_eval in an environment of its own."""

    kind: Literal["lm_eval"]
    name: str = Field(default="lm-eval", pattern=NAME)
    python: str = Field(description="the interpreter of an environment that has lm_eval")
    tasks: tuple[str, ...] = Field(min_length=1)
    include_path: str | None = Field(default=None, description="a folder with tasks' YAML files")
    max_examples: int | None = Field(default=None, ge=1)


Suite = Annotated[
    PerplexitySuite
    | TaskSuite
    | RobustnessSuite
    | FairnessSuite
    | ToxicitySuite
    | EfficiencySuite
    | LmEvalSuite,
    Field(discriminator="kind"),
]
