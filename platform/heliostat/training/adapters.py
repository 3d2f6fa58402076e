"""Which parameters of a model are trained."""

from collections.abc import Sequence
from typing import Any

from heliostat.errors import ConfigError
from heliostat.training.adapter_config import VIRTUAL_TOKENS, PrefixTuningAdapter, PromptTuningAdapter
from heliostat.training.config import Adapter, FreezeAdapter, LoraAdapter


def apply_adapter(model: Any, adapter: Adapter, added_token_ids: Sequence[int] = ()) -> Any:
    """The model with the adapter's parameters trainable and all others frozen.

    Tokens that were added to the model have embeddings that say nothing yet: LoRA trains those rows as well.

    Raises:
        ConfigError: the adapter names layers that the model does not have, freezes all there are, or would
            leave added tokens as they are.
    """
    if added_token_ids and isinstance(adapter, (FreezeAdapter, *VIRTUAL_TOKENS)):
        raise ConfigError(
            f"train.adapter: {adapter.kind} freezes the embeddings, and the model has {len(added_token_ids)} "
            "added tokens that are to be learned; use lora or full"
        )
    if isinstance(adapter, LoraAdapter):
        return _with_lora(model, adapter, added_token_ids)
    if isinstance(adapter, (PromptTuningAdapter, PrefixTuningAdapter)):
        return _with_virtual_tokens(model, adapter)
    if isinstance(adapter, FreezeAdapter):
        _freeze_bottom(model, adapter.num_layers)
    return model


def _with_lora(model: Any, adapter: LoraAdapter, added_token_ids: Sequence[int]) -> Any:
    from peft import LoraConfig, get_peft_model

    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    unknown = sorted(set(adapter.target_modules) - names)
    if unknown:
        raise ConfigError(
            f"train.adapter.target_modules: this model has no layer called {', '.join(unknown)}; "
            f"its linear layers are {', '.join(linear_layers(model))}"
        )
    # PEFT trains and saves the layer that scores beside the matrices when it knows what the model is for.
    scores = type(model).__name__.endswith("ForSequenceClassification")
    lora = LoraConfig(
        r=adapter.r,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=list(adapter.target_modules),
        use_dora=adapter.use_dora,
        use_rslora=adapter.use_rslora,
        task_type="SEQ_CLS" if scores else "CAUSAL_LM",
        trainable_token_indices=_rows_of(model, added_token_ids),
    )
    return get_peft_model(model, lora)


def _with_virtual_tokens(model: Any, adapter: PromptTuningAdapter | PrefixTuningAdapter) -> Any:
    """A soft prompt begins as tokens drawn from the vocabulary (Lester et al., 2021, section 3.2), a prefix
    as zeros: PEFT's own beginning, standard normal numbers, drowns what an embedding of size 0.02 says."""
    from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model

    shared = {"task_type": "CAUSAL_LM", "num_virtual_tokens": adapter.num_virtual_tokens}
    if isinstance(adapter, PromptTuningAdapter):
        return get_peft_model(model, PromptTuningConfig(prompt_tuning_init="SAMPLE_VOCAB", **shared))
    return get_peft_model(model, PrefixTuningConfig(init_weights="zero", **shared))


def _freeze_bottom(model: Any, num_layers: int) -> None:
    """Freeze all embeddings, an output layer tied to them too, and the layers next to them."""
    import torch

    there = int(model.config.num_hidden_layers)
    if num_layers >= there:
        raise ConfigError(
            f"train.adapter.num_layers: {num_layers} of the model's {there} layers would stay as they are, "
            f"which leaves none to train; give at most {there - 1}"
        )
    modules = list(model.modules())  # outermost first
    layers = next(m for m in modules if isinstance(m, torch.nn.ModuleList) and len(m) == there)
    embeddings = [module for module in modules if isinstance(module, torch.nn.Embedding)]
    for frozen in (*embeddings, *layers[:num_layers]):
        frozen.requires_grad_(False)


def _rows_of(model: Any, token_ids: Sequence[int]) -> dict[str, list[int]] | None:
    """The rows of these tokens, by layer. Of tied embeddings PEFT follows the one to the other."""
    if not token_ids:
        return None
    layers = [model.get_input_embeddings()]
    if not model.config.tie_word_embeddings:
        layers.append(model.get_output_embeddings())
    names = {id(module): name for name, module in model.named_modules()}
    return {names[id(layer)]: list(token_ids) for layer in layers if layer is not None}


def linear_layers(model: Any) -> list[str]:
    """The names of the model's linear layers, without their paths."""
    import torch

    layers = {name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    return sorted(layers)


def count_parameters(model: Any) -> tuple[int, int]:
    """(trainable, all) parameters; counted before DeepSpeed splits them."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, trainable in sizes if trainable), sum(size for size, _ in sizes)
