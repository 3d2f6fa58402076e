"""Attention over packed rows, document by document.

The dense mask of a packed row makes attention compute, and throw away, what lies between documents, and keeps
torch from its causal kernel. Here each document is a causal attention of its own: the same numbers, in less
time the shorter the documents are. Made for CPUs, where a call costs little beside what it computes.
"""

from typing import Any

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
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    lengths = None
    special = any(options.get(name) is not None for name in SPECIAL)
    if attention_mask is not None and query.shape[2] == key.shape[2] and not special:
        lengths = _document_lengths(options.get("position_ids"), query.shape[0])
    if lengths is None:
        dense: tuple[Any, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return dense
    dropout, scale = options.get("dropout", 0.0), options.get("scaling")
    rows = []
    for row, documents in enumerate(lengths):
        parts = (each[row : row + 1].split(documents, dim=2) for each in (query, key, value))
        attended = [
            torch.nn.functional.scaled_dot_product_attention(
                *document, is_causal=True, dropout_p=dropout, scale=scale, enable_gqa=True
            )
            for document in zip(*parts, strict=True)
        ]
        rows.append(torch.cat(attended, dim=2))
    return torch.cat(rows).transpose(1, 2).contiguous(), None


def _document_lengths(position_ids: Any, batch_size: int) -> list[list[int]] | None:
    """Of each row; None when no row has a second document, as then the mask says something else."""
    if position_ids is None or position_ids.shape[0] != batch_size:
        return None
    found = []
    for positions in position_ids.tolist():
        starts = [at for at, position in enumerate(positions) if position == 0]
        if not starts or starts[0]:
            return None
        ends = [*starts[1:], len(positions)]
        found.append([end - start for start, end in zip(starts, ends, strict=True)])
    return found if any(len(documents) > 1 for documents in found) else None
