"""Building a model from its sizes: random weights from a seed, a tokenizer, and a folder like any other's.

The result is a model artifact, so data, training, evaluation and serving need not know where it came from.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heliostat.errors import ModelError
from heliostat.models.adapters import copy_tokenizer
from heliostat.models.bpe_training import learn_tokenizer
from heliostat.models.importing import check_reference, import_model, model_folder_facts
from heliostat.models.loading import load_tokenizer, silence_transformers
from heliostat.models.safety import check_model_folder
from heliostat.models.scratch_config import (
    DeepseekMoeModel,
    LlamaModel,
    ModelTokenizer,
    ScratchModel,
    TrainedTokenizer,
)
from heliostat.records import Artifact
from heliostat.stage import Request, StageRun, find_or_make
from heliostat.storage import Publication, artifact_folder
from heliostat.workspace import Workspace

GIGA = 1_000_000_000
BYTES_PER_WEIGHT = 4  # weights are made in float32
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Description:
    """How big a model will be."""

    num_parameters: int
    """As the files will hold them: tied embeddings once."""
    active_parameters: int
    """Those a token goes through: of the routed experts only as many as it takes."""

    def __str__(self) -> str:
        if self.active_parameters == self.num_parameters:
            return f"{self.num_parameters:,} parameters"
        return f"{self.num_parameters:,} parameters, {self.active_parameters:,} active per token"


def learns_tokenizer(config: ScratchModel) -> bool:
    """Whether the model's tokenizer is learned, so that documents must be cleaned before it is made."""
    return isinstance(config.tokenizer, TrainedTokenizer)


def describe(config: ScratchModel, vocab_size: int) -> Description:
    """How big the model will be, without taking the memory for it, at any size; some seconds at 8192 x 48."""
    import torch

    with torch.device("meta"):
        return _describe(_build(config, vocab_size, {}), config)


def check_scratch(config: ScratchModel, count: Callable[[ScratchModel, int], Description] = describe) -> str:
    """What `make_model` will make, on one line; `count` says how big, for a vocabulary of so many tokens.

    Raises:
        ModelError: the model whose tokenizer is taken is unknown or unsafe.
    """
    tokenizer = config.tokenizer
    if isinstance(tokenizer, ModelTokenizer):
        said = check_reference(tokenizer.model)
        folder = Path(tokenizer.model).expanduser()
        if not folder.is_dir():  # a package: its vocabulary is not known before it is fetched
            return f"{config.kind} with the tokenizer of {said}; {count(config, 0)} beside the embeddings"
        size, source = len(load_tokenizer(folder)), f"the tokenizer of {tokenizer.model}"
    else:
        size, source = tokenizer.vocab_size, f"a tokenizer of {tokenizer.vocab_size:,} tokens to be learned"
    return f"{config.kind} {config.hidden_size} x {config.num_layers}, {count(config, size)}, {source}"


def make_model(
    config: ScratchModel, dataset: Artifact | None, workspace: Workspace, force: bool = False
) -> Artifact:
    """The model of a config with random weights, found or made; `dataset` holds cleaned documents.

    Only a tokenizer that is learned needs the dataset, and depends on it. Weights are drawn from
    `config.seed`: the same config and documents give the same model.

    Returns:
        A model artifact with the facts of an imported one, and `active_parameters`.

    Raises:
        ModelError: the weights would not fit into this machine's memory, or the model whose tokenizer is
            taken is not to be had.
        DataError: there are no documents to learn a tokenizer from.
    """
    tokenizer = config.tokenizer
    if isinstance(tokenizer, ModelTokenizer):
        parent = import_model(tokenizer.model, workspace)
    else:
        assert dataset is not None, "a tokenizer is learned from documents"
        parent = dataset

    def work(publication: Publication, run: StageRun) -> None:
        folder = publication.folder
        if isinstance(tokenizer, TrainedTokenizer):
            learned = learn_tokenizer(tokenizer, artifact_folder(parent), folder)
            if learned < tokenizer.vocab_size:
                logger.info("%s: the documents give only %d tokens", config.name, learned)
        else:
            copy_tokenizer(artifact_folder(parent), folder)
        publication.facts |= _fill(config, folder)

    return find_or_make(workspace, Request("build", "model", config.name, config, (parent,)), work, force)


def _fill(config: ScratchModel, folder: Path) -> dict[str, Any]:
    """Write the model beside the tokenizer in a folder; returns the facts."""
    import torch

    tokenizer = load_tokenizer(folder)
    _require_memory(config, describe(config, len(tokenizer)))
    # The embedding of a padding token gets no gradient, so the one that ends texts cannot be it.
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id != tokenizer.eos_token_id else None
    ids = {
        "pad_token_id": padding,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    silence_transformers()
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = _build(config, len(tokenizer), ids)
    model.save_pretrained(str(folder))
    check_model_folder(folder)
    facts = model_folder_facts(folder, f"built: {config.kind}", None)
    return facts | {"active_parameters": _describe(model, config).active_parameters}


def _require_memory(config: ScratchModel, described: Description) -> None:
    needed = described.num_parameters * BYTES_PER_WEIGHT
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise ModelError(
            f"model {config.name}: its {described.num_parameters:,} weights take {needed / GIGA:,.0f} GB, "
            f"and this machine has {there / GIGA:,.0f} GB; make it on a larger one, or take fewer layers "
            "or experts"
        )


def config_json(config: ScratchModel, vocab_size: int) -> dict[str, Any]:
    """What the model's config.json will say of its sizes; without transformers, which takes seconds."""
    kind = "deepseek_v3" if isinstance(config, DeepseekMoeModel) else "llama"
    return {"model_type": kind, **_values(config), "vocab_size": vocab_size}


def _transformers_config(config: ScratchModel, vocab_size: int) -> Any:
    from transformers import DeepseekV3Config, LlamaConfig

    kind = DeepseekV3Config if isinstance(config, DeepseekMoeModel) else LlamaConfig
    return kind(**_values(config), vocab_size=vocab_size)


def _values(config: ScratchModel) -> dict[str, Any]:
    """What the model's config.json says beyond transformers' defaults."""
    return _deepseek(config) if isinstance(config, DeepseekMoeModel) else _llama(config)


def _build(config: ScratchModel, vocab_size: int, ids: dict[str, int | None]) -> Any:
    from transformers import AutoModelForCausalLM

    values = _transformers_config(config, vocab_size)
    for name, value in ids.items():
        setattr(values, name, value)
    return AutoModelForCausalLM.from_config(values, attn_implementation="sdpa")


def _deepseek(config: DeepseekMoeModel) -> dict[str, Any]:
    return dict(
        **_shared(config),
        num_key_value_heads=config.num_heads,
        intermediate_size=config.dense_hidden_size,
        moe_intermediate_size=config.expert_hidden_size,
        n_routed_experts=config.num_experts,
        n_shared_experts=config.num_shared_experts,
        num_experts_per_tok=config.num_experts_per_token,
        n_group=config.num_groups,
        topk_group=config.topk_groups,
        first_k_dense_replace=config.num_dense_layers,
        routed_scaling_factor=config.routed_scaling_factor,
        q_lora_rank=config.q_lora_rank,
        kv_lora_rank=config.kv_lora_rank,
        qk_nope_head_dim=config.head_dim,
        qk_rope_head_dim=config.rope_head_dim,
        v_head_dim=config.value_head_dim,
        num_mtp_layers=0,
    )


def _llama(config: LlamaModel) -> dict[str, Any]:
    return dict(
        **_shared(config),
        num_key_value_heads=config.num_key_value_heads,
        intermediate_size=config.feed_forward_size,
    )


def _shared(config: ScratchModel) -> dict[str, Any]:
    return {
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "max_position_embeddings": config.max_position,
        "initializer_range": config.initializer_range,
        "tie_word_embeddings": config.tie_embeddings,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
    }


def _describe(model: Any, config: ScratchModel) -> Description:
    kept = model.state_dict().keys()
    buffers = [each.numel() for name, each in model.named_buffers() if name in kept]
    total = sum(each.numel() for each in model.parameters()) + sum(buffers)
    idle = 0
    if isinstance(config, DeepseekMoeModel):
        routed = sum(each.numel() for name, each in model.named_parameters() if ".mlp.experts." in name)
        idle = routed // config.num_experts * (config.num_experts - config.num_experts_per_token)
    return Description(total, total - idle)
