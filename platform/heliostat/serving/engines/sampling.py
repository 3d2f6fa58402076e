"""Choosing the next token from logits, for engines that have logits in hand."""

from typing import Any

from heliostat.serving.engines.interface import SamplingParameters


def next_token(logits: Any, parameters: SamplingParameters, generator: Any) -> int:
    """The next token's id from float logits of shape (vocabulary,).

    Temperature first, then top-k, then top-p over what is left: transformers' and vLLM's order. Top-p keeps
    the smallest set of likeliest tokens whose probabilities add up to at least `top_p`.
    """
    import torch

    if parameters.temperature == 0:
        return int(logits.argmax())
    values, ids = (logits.float() / parameters.temperature).sort(descending=True)
    if parameters.top_k:
        values, ids = values[: parameters.top_k], ids[: parameters.top_k]
    probabilities = values.softmax(dim=0)
    before = probabilities.cumsum(dim=0) - probabilities
    probabilities = probabilities.masked_fill(before >= parameters.top_p, 0)
    return int(ids[torch.multinomial(probabilities, 1, generator=generator)])
