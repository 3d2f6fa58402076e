"""Attention over packed rows, document by document.

The dense mask of a packed row makes attention compute, and throw away, what lies between documents, and keeps
torch from its causal kernel. Here each document is a causal attention of its own: the same numbers, in less
time the shorter the documents are. Made for CPUs, where a call costs little beside what it computes.

Imports torch: import it where a model is loaded anyway.
"""

from typing import Any

import torch

from heliostat.training.causal_attention import attend_causally

NAME = "sdpa_by_document"
SPECIAL = ("sliding_window", "position_bias", "softcap", "cache")
"""What an attention may be given that changes what is attended to, or how."""


def use_document_attention(model: Any) -> None:
    """Let a transformers model with SDPA attention attend document by document.

    Documents begin where `position_ids` start again. Whatever else a mask may say, padding, a window, cached
    keys, is left to transformers' own SDPA.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    if model.config._attn_implementation != "sdpa":
        return
    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def _attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any
) -> tuple[Any, None]:
    """As transformers calls it: three of (batch, heads, length, size) -> (batch, length, heads, size)."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    special = any(options.get(name) is not None for name in SPECIAL)
    lengths = None
    if query.shape[2] == key.shape[2] and not special:
        if attention_mask is not None:
            lengths = _packed_lengths(options.get("position_ids"), query.shape[0])
        elif getattr(module, "is_causal", True):
            lengths = [[query.shape[2]]] * query.shape[0]
    if lengths is None:
        dense: tuple[Any, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return dense
    dropout, scale = options.get("dropout", 0.0), options.get("scaling")
    return attend_documents(query, key, value, lengths=lengths, scale=scale, dropout=dropout), None


def attend_documents(
    *parts: torch.Tensor, lengths: list[list[int]], scale: float | None, dropout: float
) -> torch.Tensor:
    """Causal attention within each document: queries, keys and values, each (batch, heads, length, size), and
    the lengths of each row's documents -> (batch, length, heads, size)."""
    rows = []
    for row, documents in enumerate(lengths):
        pieces = (each[row : row + 1].split(documents, dim=2) for each in parts)
        attended = [attend_causally(q, k, v, scale, dropout) for q, k, v in zip(*pieces, strict=True)]
        # as it lies in memory already, so that one document in one row is not copied
        rows.append(_joined([each.transpose(1, 2) for each in attended], 1))
    return _joined(rows, 0).contiguous()


def _joined(parts: list[torch.Tensor], dimension: int) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=dimension)


def document_lengths(position_ids: torch.Tensor) -> list[list[int]]:
    """Of each row's documents, which begin where positions do: (batch, length)."""
    found = []
    for positions in position_ids.tolist():
        starts = sorted({0, *(at for at, position in enumerate(positions) if position == 0)})
        ends = [*starts[1:], len(positions)]
        found.append([end - start for start, end in zip(starts, ends, strict=True)])
    return found


def _packed_lengths(position_ids: torch.Tensor | None, batch_size: int) -> list[list[int]] | None:
    """None when no row has a second document, or one begins elsewhere: then a mask says something else."""
    if position_ids is None or position_ids.shape[0] != batch_size or bool(position_ids[:, 0].any()):
        return None
    found = document_lengths(position_ids)
    return found if any(len(documents) > 1 for documents in found) else None
