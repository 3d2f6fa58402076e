"""Causal attention as plain matrix products, for CPUs and documents of middle length.

torch's CPU kernel works at a third of the speed of a matrix product there, and computes its probabilities
again in the backward pass. Here a block of queries at a time sees the keys in front of it, and its
probabilities are kept: of 64 queries each and 512 tokens a quarter less time, for 2,300 bytes more a head and
token. Very short documents gain nothing, and from some 700 tokens on reading what is kept takes longer than
computing it again.

Imports torch: import it where a model is loaded anyway.
"""

import math
from typing import Any

import torch

BLOCK = 64
"""Queries at a time: of 64, 96, 128 and 256 the fastest up to 640 tokens (9 heads of 64, one thread)."""
LENGTHS = range(160, 641)
"""Of documents that gain by it."""


def attend_causally(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None, dropout: float
) -> torch.Tensor:
    """What `scaled_dot_product_attention` gives for one document, by the faster of both ways.

    (1, heads, length, size), twice (1, fewer heads, length, size) -> (1, heads, length, size).
    """
    if _is_faster(query, dropout):
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        attended: torch.Tensor = CausalAttention.apply(query[0], key[0], value[0], scale)
        return attended[None]
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, dropout_p=dropout, scale=scale, enable_gqa=True
    )


def _is_faster(query: torch.Tensor, dropout: float) -> bool:
    plain = query.device.type == "cpu" and query.dtype == torch.float32 and not dropout
    return plain and query.shape[2] in LENGTHS and torch.is_grad_enabled() and query.requires_grad


class CausalAttention(torch.autograd.Function):
    """softmax(scale q k^T + causal mask) v of one document, and its gradients (as in Dao et al., 2022,
    FlashAttention, arXiv:2205.14135, appendix B, with the probabilities kept).

    (heads, length, size), (groups, length, size), (groups, length, values) -> (heads, length, values). There
    are as many heads for each group, and they are neighbours.
    """

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Block by block; what is kept is each block's probabilities."""
        heads, length, _ = query.shape
        queries = query.unflatten(0, (len(key), -1))
        # in memory as (length, heads, size), which is how it is read behind the attention
        result = query.new_empty(length, heads, value.shape[-1]).transpose(0, 1)
        results = result.unflatten(0, (len(key), -1))
        later = torch.full((BLOCK, BLOCK), -math.inf).triu_(1)
        kept = []
        for begin in range(0, length, BLOCK):
            end = min(begin + BLOCK, length)
            block = queries[:, :, begin:end].flatten(1, 2).mul(scale)
            scores = block @ key[:, :end].transpose(1, 2)
            own = scores.unflatten(1, (-1, end - begin))[..., begin:]
            own.add_(later[: end - begin, : end - begin])
            kept.append(torch.softmax(scores, dim=-1))
            results[:, :, begin:end] = (kept[-1] @ value[:, :end]).unflatten(1, (-1, end - begin))
        ctx.save_for_backward(query, key, value, result, *kept)
        ctx.scale = scale
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients of queries, keys and values."""
        query, key, value, result, *kept = ctx.saved_tensors
        (gradient,) = gradients
        queries, wanted = (each.unflatten(0, (len(key), -1)) for each in (query, gradient))
        mean = (gradient * result).sum(dim=-1, keepdim=True).unflatten(0, (len(key), -1))
        of_query = torch.empty_like(query)
        of_queries = of_query.unflatten(0, (len(key), -1))
        of_key, of_value = torch.zeros_like(key), torch.zeros_like(value)
        for number, probabilities in enumerate(kept):
            begin = number * BLOCK
            end = probabilities.shape[-1]
            pulled = wanted[:, :, begin:end].flatten(1, 2)
            of_value[:, :end].baddbmm_(probabilities.transpose(1, 2), pulled)
            of_scores = pulled @ value[:, :end].transpose(1, 2)
            of_scores.sub_(mean[:, :, begin:end].flatten(1, 2)).mul_(probabilities)
            block = queries[:, :, begin:end].flatten(1, 2)
            of_block = torch.bmm(of_scores, key[:, :end]).mul_(ctx.scale)
            of_queries[:, :, begin:end] = of_block.unflatten(1, (-1, end - begin))
            of_key[:, :end].baddbmm_(of_scores.transpose(1, 2), block, alpha=ctx.scale)
        return of_query, of_key, of_value, None
