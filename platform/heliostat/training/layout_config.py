"""How one model and its training state are spread over the workers, and what does not go together.

What can be told from the numbers alone is refused here, before a cluster is asked for anything; what depends
on the model (heads, layers, experts) is refused in `placement.py`.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from heliostat.config import Config

Precision = Literal["fp32", "bf16", "fp16", "fp8"]


class ZeroConfig(Config):
    """How DeepSpeed spreads the training state over the workers (Rajbhandari et al., 2020, arXiv:1910.02054).

    Stage 0 copies everything, 1 splits the optimizer state, 2 the gradients too, 3 the weights too.
    """

    stage: Literal[0, 1, 2, 3] = 0
    offload_optimizer: bool = Field(
        default=False, description="keep the optimizer's state in the host's memory and step there"
    )
    offload_parameters: bool = Field(
        default=False, description="keep weights in the host's memory until they are used; stage 3"
    )
    nvme_path: str | None = Field(
        default=None, description="a folder on a fast disk; what is offloaded goes there, not to memory"
    )

    @model_validator(mode="after")
    def _check_offload(self) -> Self:
        if self.offload_optimizer and self.stage == 0:
            raise ValueError(
                "offload_optimizer needs a stage that splits the optimizer's state; set stage: 1"
            )
        if self.offload_parameters and self.stage != 3:
            raise ValueError(
                f"offload_parameters needs stage: 3, got stage: {self.stage}; stages below keep "
                "all weights on each device, and offload_optimizer is what they can do"
            )
        if self.nvme_path is not None and not (self.offload_optimizer or self.offload_parameters):
            raise ValueError("nvme_path is where offloaded state goes; add offload_optimizer: true")
        if self.nvme_path is not None and self.stage != 3:
            raise ValueError(
                f"nvme_path needs stage: 3, got stage: {self.stage}; without it, stage "
                f"{self.stage} offloads to memory"
            )
        return self


class LayoutConfig(Config):
    """Data parallel over all workers unless more is said; the products are checked in `TrainConfig`."""

    zero: ZeroConfig = ZeroConfig()
    tensor_parallel: int = Field(default=1, ge=1, description="workers that share each layer's matrices")
    pipeline_parallel: int = Field(default=1, ge=1, description="workers that share the layers, in stages")
    expert_parallel: int = Field(default=1, ge=1, description="workers that share each layer's experts")
    sequence_parallel: int = Field(default=1, ge=1, description="workers that share each row")
    precision: Precision = "fp32"
    activation_checkpointing: bool = Field(
        default=False, description="compute activations again in the backward pass instead of keeping them"
    )

    @property
    def model_parallel(self) -> int:
        """Workers that hold one copy of the model between them."""
        return self.tensor_parallel * self.pipeline_parallel * self.sequence_parallel

    @property
    def splits_model(self) -> bool:
        """Whether a worker has only a part of the model's layers, matrices or experts, even without ZeRO."""
        return self.tensor_parallel * self.pipeline_parallel * self.expert_parallel > 1

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        stage = self.zero.stage
        if self.pipeline_parallel > 1 and stage > 1:
            raise ValueError(
                f"pipeline_parallel keeps gradients over all micro batches, which zero.stage: {stage} splits "
                "away at each; the nearest is zero.stage: 1"
            )
        if self.tensor_parallel > 1 and stage == 3:
            raise ValueError(
                "tensor_parallel splits the weights already and does not work with zero.stage: 3; the "
                "nearest is zero.stage: 2"
            )
        if self.pipeline_parallel > 1 and self.zero.offload_optimizer:
            raise ValueError("offload_optimizer does not work with pipeline_parallel; leave one of them out")
        for other in ("pipeline_parallel", "tensor_parallel", "sequence_parallel"):
            if self.expert_parallel > 1 and getattr(self, other) > 1:
                raise ValueError(
                    f"expert_parallel works with data parallel only, not with {other}; set {other}: 1"
                )
        if self.expert_parallel > 1 and stage == 3:
            raise ValueError("expert_parallel splits the experts already; the nearest is zero.stage: 2")
        if self.sequence_parallel > 1 and self.splits_model:
            raise ValueError(
                "sequence_parallel works with data parallel and ZeRO only; the nearest is zero: {stage: 3}, "
                "which splits the weights too, with tensor_parallel: 1 and pipeline_parallel: 1"
            )
        if self.precision == "fp16" and stage == 0:
            raise ValueError(
                "precision: fp16 needs a loss scale, which DeepSpeed applies where it splits the optimizer's "
                "state; the nearest is zero.stage: 1, or precision: bf16"
            )
        if self.precision == "fp8" and (self.tensor_parallel > 1 or stage == 3):
            raise ValueError(
                "precision: fp8 works on whole matrices, which tensor_parallel and zero.stage: 3 split; the "
                "nearest is zero.stage: 2 with tensor_parallel: 1"
            )
        return self
