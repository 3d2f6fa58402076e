"""Which parameters of a model are trained."""

from collections.abc import Sequence
from typing import Any

from heliostat.errors import ConfigError
from heliostat.training.config import Adapter, LoraAdapter


def apply_adapter(model: Any, adapter: Adapter, added_token_ids: Sequence[int] = ()) -> Any:
    """The model with the adapter's parameters trainable and all others frozen.

    Tokens that were added to the model have embeddings that say nothing yet: LoRA trains those rows as well.

    Raises:
        ConfigError: the adapter names layers that the model does not have.
    """
    if not isinstance(adapter, LoraAdapter):
        return model
    from peft import LoraConfig, get_peft_model

    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    unknown = sorted(set(adapter.target_modules) - names)
    if unknown:
        raise ConfigError(
            f"train.adapter.target_modules: this model has no layer called {', '.join(unknown)}; "
            f"its linear layers are {', '.join(linear_layers(model))}"
        )
    lora = LoraConfig(
        r=adapter.r,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=list(adapter.target_modules),
        task_type="CAUSAL_LM",
        trainable_token_indices=_rows_of(model, added_token_ids),
    )
    return get_peft_model(model, lora)


def _rows_of(model: Any, token_ids: Sequence[int]) -> dict[str, list[int]] | None:
    """The rows of these tokens, by layer. Of tied embeddings PEFT follows the one to the other."""
    if not token_ids:
        return None
    layers = [model.get_input_embeddings()]
    if not model.config.tie_word_embeddings:
        layers.append(model.get_output_embeddings())
    names = {id(module): name for name, module in model.named_modules()}
    return {names[id(layer)]: list(token_ids) for layer in layers}


def linear_layers(model: Any) -> list[str]:
    """The names of the model's linear layers, without their paths."""
    import torch

    layers = {name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    return sorted(layers)


def count_parameters(model: Any) -> tuple[int, int]:
    """(trainable, all) parameters; counted before DeepSpeed splits them."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, trainable in sizes if trainable), sum(size for size, _ in sizes)
