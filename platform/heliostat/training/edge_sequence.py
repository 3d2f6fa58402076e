"""Sequence parallel: each worker of a group has a piece of a row, and in attention some heads of the whole.

In front of an attention pieces are exchanged for heads, behind it heads for pieces (DeepSpeed-Ulysses, Jacobs
et al., 2023, arXiv:2309.14509); all else looks at one position at a time. Every worker holds the whole model,
so ZeRO may split its state over all of them, and DeepSpeed need not know of the groups.
"""

import math
from typing import Any

import torch
from deepspeed.sequence.layer import DistributedAttention

from heliostat.errors import TrainingError
from heliostat.training.document_attention import SPECIAL, attend_documents, document_lengths
from heliostat.training.edge_engine import ModelEngine

NAME = "sequence_parallel"


class SequenceEngine(ModelEngine):
    """One worker's model, which reads its piece of each row."""

    def _initialize(self, settings: dict[str, Any]) -> Any:
        engine = super()._initialize(settings)
        split_attention(self.model, self._group())
        return engine

    def _group(self) -> Any:
        """Of this worker and its neighbours that share its rows. All workers make all groups."""
        size, mine = self.config.layout.sequence_parallel, None
        for first in range(0, self.num_workers, size):
            ranks = list(range(first, first + size))
            group = torch.distributed.new_group(ranks)
            mine = group if self.rank in ranks else mine
        return mine


def split_attention(model: Any, group: Any) -> None:
    """Let a transformers model attend to whole rows of which it is given this worker's piece."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, SplitAttention(group))
    AttentionMaskInterface.register(NAME, lambda *_, **__: None)  # positions say where documents end
    model.set_attn_implementation(NAME)


class SplitAttention:
    """An attention as transformers calls it, over rows whose pieces the workers of a group have."""

    def __init__(self, group: Any) -> None:
        self._group = group
        self._size = torch.distributed.get_world_size(group)
        self._seen: tuple[torch.Tensor | None, list[list[int]]] = (None, [])

    def __call__(
        self, module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, _: Any, **options: Any
    ) -> tuple[torch.Tensor, None]:
        """Three of (batch, heads, piece, size) -> (batch, piece, heads, size)."""
        special = [name for name in SPECIAL if options.get(name) is not None]
        if special:
            raise TrainingError(
                f"sequence_parallel: this model's attention has {', '.join(special)}, which it cannot split; "
                "the nearest is tensor_parallel"
            )
        lengths = self._lengths(options["position_ids"], query.shape[0])
        dropout, scale = options.get("dropout", 0.0), options.get("scaling")

        def attend(*heads: torch.Tensor) -> torch.Tensor:
            whole = (each.transpose(1, 2) for each in heads)
            return attend_documents(*whole, lengths=lengths, scale=scale, dropout=dropout)

        parts = (each.transpose(1, 2) for each in (query, self._for_all(key), self._for_all(value)))
        exchange = DistributedAttention(attend, self._group, scatter_idx=2, gather_idx=1)
        return exchange(*parts, batch_dim_idx=0), None

    def _for_all(self, heads: torch.Tensor) -> torch.Tensor:
        """Key or value heads, each as often as it takes for every worker to get as many of them."""
        times = self._size // math.gcd(heads.shape[1], self._size)
        return heads if times == 1 else heads.repeat_interleave(times, dim=1)

    def _lengths(self, position_ids: torch.Tensor, batch_size: int) -> list[list[int]]:
        """Of the documents in each whole row; asked for once a batch, not once a layer."""
        if self._seen[0] is not position_ids:
            mine = position_ids.expand(batch_size, -1).contiguous()
            pieces = [torch.empty_like(mine) for _ in range(self._size)]
            torch.distributed.all_gather(pieces, mine, group=self._group)
            self._seen = position_ids, document_lengths(torch.cat(pieces, dim=1))
        return self._seen[1]
