"""What the loop asks of an objective. One objective is one file; it knows nothing of DeepSpeed or of Ray."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Loss:
    """What one micro batch says: sums, so that the loop can add them up over micro batches and workers."""

    summed: "torch.Tensor"
    """The loss to minimise, summed over the micro batch's items: float32, no dimensions, differentiable."""
    metrics: dict[str, "torch.Tensor"] = field(default_factory=dict)
    """Further figures by name, each summed as the loss is; detached. The loop divides all by `weight`."""


class Objective(Protocol):
    """Batches, loss and metrics of one objective over one split of a dataset."""

    def __len__(self) -> int:
        """Positions there are: packed sequences, or pairs."""

    def weight(self, positions: Sequence[int]) -> float:
        """What the sums of these positions are divided by: their learned tokens, or their pairs."""

    def num_tokens(self, positions: Sequence[int]) -> int:
        """Tokens the model reads for these positions, padding not counted."""

    def document_ids(self, positions: Sequence[int]) -> list[str]:
        """The documents at these positions, to say where a fault came from."""

    def for_split(self, split: str) -> Self:
        """The same objective over another split of the dataset; it shares a reference model or a teacher.

        Raises:
            DataError: the split holds nothing.
        """

    def loss(self, model: Any, positions: Sequence[int], device: Any) -> Loss:
        """The micro batch's loss under a model: a transformers or PEFT model, or DeepSpeed's engine."""
