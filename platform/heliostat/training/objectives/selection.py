"""From a config to what the loop needs: the model as its objective wants it, and the objective."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heliostat.models.loading import load_model, load_tokenizer
from heliostat.models.reward_model import load_reward_model
from heliostat.preference_pairs import TokenizedPairs
from heliostat.tokenized import TokenizedDataset
from heliostat.training.adapter_config import VIRTUAL_TOKENS
from heliostat.training.adapters import apply_adapter
from heliostat.training.config import (
    DistillationObjective,
    DpoObjective,
    LoraAdapter,
    PretrainingObjective,
    RewardObjective,
    TrainConfig,
)
from heliostat.training.fp8 import use_fp8
from heliostat.training.objectives.distillation import Distillation
from heliostat.training.objectives.dpo import Dpo
from heliostat.training.objectives.interface import Objective
from heliostat.training.objectives.preflight import require_same_vocabulary
from heliostat.training.objectives.pretraining import Pretraining
from heliostat.training.objectives.reward import Reward
from heliostat.training.objectives.sft import Sft
from heliostat.training.tied_embedding import use_sparse_lookup


@dataclass(frozen=True)
class ObjectiveInputs:
    """What a model and its objective are made from."""

    config: TrainConfig
    base_folder: Path
    dataset_folder: Path
    split: str = "train"
    dtype: str = "float32"
    added_token_ids: tuple[int, ...] = ()
    teacher_folder: Path | None = None
    reference_folder: Path | None = None
    """What preferences are compared with, where that is not the model in `base_folder`."""


@dataclass(frozen=True)
class Prepared:
    """A model with its adapter, on the CPU, and the objective over a split."""

    model: Any
    objective: Objective


def prepare(inputs: ObjectiveInputs) -> Prepared:
    """Load the base model as the objective needs it, apply the adapter, make the objective.

    The dataset is opened first, as that takes no time.

    Raises:
        ConfigError: the adapter does not fit the model, or the teacher has another vocabulary.
        DataError: the dataset is of the wrong kind, or the split holds nothing.
        ModelError: a model cannot be loaded.
    """
    objective = inputs.config.objective
    if isinstance(objective, DpoObjective):
        return _dpo(inputs, objective)
    if isinstance(objective, RewardObjective):
        return _reward(inputs, objective)
    dataset = TokenizedDataset(inputs.dataset_folder, inputs.split)
    if isinstance(objective, DistillationObjective):
        return _distillation(inputs, objective, dataset)
    made = Pretraining if isinstance(objective, PretrainingObjective) else Sft
    unpack = isinstance(inputs.config.adapter, VIRTUAL_TOKENS)
    return Prepared(_adapted(inputs), made(dataset, padding_id_of(inputs.base_folder), unpack))


def padding_id_of(folder: Path) -> int:
    """The id that fills rows: the tokenizer's own, else that which ends a text."""
    tokenizer = load_tokenizer(folder)
    ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return int(next(each for each in ids if each is not None))


def _adapted(inputs: ObjectiveInputs) -> Any:
    model = _loaded(inputs, inputs.base_folder)
    if inputs.config.layout.precision == "fp8":
        use_fp8(model)
    adapted = apply_adapter(model, inputs.config.adapter, inputs.added_token_ids)
    layout = inputs.config.layout
    if not inputs.config.use_gpu:
        use_sparse_lookup(model, layout)
        if layout.zero.stage < 3 and isinstance(inputs.config.adapter, LoraAdapter):
            from heliostat.training.fast_lora import use_fast_lora  # imports torch

            use_fast_lora(adapted)
    return adapted


def _frozen(inputs: ObjectiveInputs, folder: Path) -> Any:
    return _loaded(inputs, folder).eval().requires_grad_(False)


def _loaded(inputs: ObjectiveInputs, folder: Path) -> Any:
    model = load_model(folder, inputs.dtype)
    if not inputs.config.use_gpu:
        from heliostat.training.document_attention import use_document_attention  # imports torch
        from heliostat.training.fast_norm import use_fast_norms  # so do these
        from heliostat.training.fast_rotary import use_fast_rotary

        use_document_attention(model)
        use_fast_norms(model)
        use_fast_rotary(model)
    return model


def _dpo(inputs: ObjectiveInputs, config: DpoObjective) -> Prepared:
    dataset = TokenizedPairs(inputs.dataset_folder, inputs.split)
    switched_off = isinstance(inputs.config.adapter, LoraAdapter)
    needs_copy = not (config.reference_free or switched_off)
    reference = _frozen(inputs, inputs.reference_folder or inputs.base_folder) if needs_copy else None
    padding_id = padding_id_of(inputs.base_folder)
    return Prepared(_adapted(inputs), Dpo(config, dataset, padding_id, reference))


def _reward(inputs: ObjectiveInputs, config: RewardObjective) -> Prepared:
    dataset = TokenizedPairs(inputs.dataset_folder, inputs.split)
    padding_id = padding_id_of(inputs.base_folder)
    model = load_reward_model(inputs.base_folder, inputs.dtype, padding_id)
    adapted = apply_adapter(model, inputs.config.adapter, inputs.added_token_ids)
    return Prepared(adapted, Reward(config, dataset, padding_id))


def _distillation(
    inputs: ObjectiveInputs, config: DistillationObjective, dataset: TokenizedDataset
) -> Prepared:
    assert inputs.teacher_folder is not None, "a distillation is given its teacher"
    require_same_vocabulary(inputs.base_folder, inputs.teacher_folder)
    teacher = _frozen(inputs, inputs.teacher_folder)
    padding_id = padding_id_of(inputs.base_folder)
    return Prepared(_adapted(inputs), Distillation(config, dataset, padding_id, teacher))
