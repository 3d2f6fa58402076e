"""From a TrainConfig to DeepSpeed's JSON. Pure: DeepSpeed itself is met in `edge_worker.py`."""

from typing import Any

from heliostat.training.config import TrainConfig

ALMOST_NEVER = 1_000_000_000


def deepspeed_config(config: TrainConfig) -> dict[str, Any]:
    """The settings `deepspeed.initialize` gets.

    The learning rate is set by our own schedule before each step. `torch_adam` avoids compiling an op at the
    first step; `overlap_comm` needs CUDA streams.
    """
    return {
        "train_micro_batch_size_per_gpu": config.micro_batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "gradient_clipping": config.max_gradient_norm,
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": config.learning_rate,
                "weight_decay": config.weight_decay,
                "torch_adam": True,
            },
        },
        "zero_optimization": {
            "stage": config.zero.stage,
            "overlap_comm": config.use_gpu,
            "contiguous_gradients": True,
        },
        "bf16": {"enabled": config.precision == "bf16"},
        "steps_per_print": ALMOST_NEVER,
    }
