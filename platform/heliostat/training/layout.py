"""From a TrainConfig to DeepSpeed's JSON. Pure: DeepSpeed itself is met in `edge_engine.py`."""

from typing import Any

from heliostat.training.config import TrainConfig
from heliostat.training.layout_config import ZeroConfig

ALMOST_NEVER = 1_000_000_000
FIRST_LOSS_SCALE_POWER = 15
BUCKET_SIZE = 50_000_000
EXPERT_PRESETS = {
    "deepseek_v2": "deepseek_v2",
    "deepseek_v3": "deepseek_v3",
    "mixtral": "mixtral",
    "qwen2_moe": "qwen2_moe",
    "qwen3_moe": "qwen3_moe",
}
"""AutoEP's name for a model type."""


def deepspeed_config(
    config: TrainConfig, num_workers: int | None = None, model_type: str = ""
) -> dict[str, Any]:
    """The settings `deepspeed.initialize` gets, for so many workers (the most, unless told).

    The learning rate is set by our own schedule before each step. `torch_adam` avoids compiling an op at the
    first step; DeepSpeed's CPU Adam is what steps where the optimizer's state is offloaded. `overlap_comm`
    needs CUDA streams.
    """
    layout, workers = config.layout, num_workers or config.max_workers
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": config.micro_batch_size,
        "gradient_accumulation_steps": config.micro_batches(workers),
        "gradient_clipping": config.max_gradient_norm,
        "optimizer": {"type": "AdamW", "params": _adam(config)},
        "zero_optimization": _zero(layout.zero, config.use_gpu),
        "bf16": {"enabled": layout.precision in ("bf16", "fp8")},
        "fp16": {"enabled": layout.precision == "fp16", "initial_scale_power": FIRST_LOSS_SCALE_POWER},
        "steps_per_print": ALMOST_NEVER,
    }
    if layout.tensor_parallel > 1 and layout.pipeline_parallel == 1:
        # The loss takes whole logits, and only where a label is: a head that is split by words gives others.
        settings["tensor_parallel"] = {
            "autotp_size": layout.tensor_parallel,
            "vocab_parallel_lm_head": False,
        }
    if layout.pipeline_parallel > 1:
        settings["pipeline"] = {"pipe_partitioned": False, "grad_partitioned": False}
    if layout.expert_parallel > 1:
        settings["expert_parallel"] = {
            "enabled": True,
            "autoep_size": layout.expert_parallel,
            "preset_model": EXPERT_PRESETS[model_type or "deepseek_v3"],
            "use_grouped_mm": config.use_gpu,
        }
    return settings


def _adam(config: TrainConfig) -> dict[str, Any]:
    """torch's own AdamW, in one pass over the weights, or DeepSpeed's that steps where the state is kept."""
    settings: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.layout.zero.offload_optimizer:
        return settings | {"torch_adam": False}
    return settings | {"torch_adam": True, "fused": True}


def _zero(zero: ZeroConfig, use_gpu: bool) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "stage": zero.stage,
        "overlap_comm": use_gpu,
        "contiguous_gradients": True,
        # A fifth of a gigabyte in fp32; DeepSpeed's own 5e8 numbers are reserved whatever the model's size.
        "reduce_bucket_size": BUCKET_SIZE,
        "allgather_bucket_size": BUCKET_SIZE,
    }
    place = {"device": "nvme", "nvme_path": zero.nvme_path} if zero.nvme_path else {"device": "cpu"}
    if zero.offload_optimizer:
        settings["offload_optimizer"] = place
    if zero.offload_parameters:
        settings["offload_param"] = place
    return settings
