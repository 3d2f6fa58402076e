"""A plain DeepSpeed loop over the same rows, as one would write it without Heliostat: no Ray, no metrics.

torchrun --nproc-per-node 2 training_bare_deepspeed.py SETTINGS_JSON MODEL_FOLDER DATASET_FOLDER OUTPUT_FOLDER
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator

from heliostat.models.loading import load_model
from heliostat.models.scoring import summed_loss, to_tensors
from heliostat.tokenized import TokenizedDataset, collate
from heliostat.tracking import METRICS_FILE
from heliostat.training.schedule import batch_positions


def build(settings: dict[str, Any], model_folder: Path) -> Any:
    """The engine around the model, with gloo adding gradients up as in Heliostat's workers."""
    builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
    if builder is not None:
        deepspeed.ops.__compatible_ops__[builder.NAME] = False
    model = load_model(model_folder)
    if settings["lora"]:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings["lora"]))
    engine, *_ = deepspeed.initialize(
        model=model,
        model_parameters=[parameter for parameter in model.parameters() if parameter.requires_grad],
        config={
            "train_micro_batch_size_per_gpu": settings["micro_batch_size"],
            "gradient_clipping": 1.0,
            "optimizer": {
                "type": "AdamW",
                "params": {
                    "lr": settings["learning_rate"],
                    "weight_decay": 0.0,
                    "torch_adam": True,
                    "fused": True,
                },
            },
            "zero_optimization": {
                "stage": settings["zero_stage"],
                "overlap_comm": False,
                "contiguous_gradients": True,
            },
        },
    )
    engine.train()
    return engine


def main(settings: dict[str, Any], model_folder: Path, dataset_folder: Path, output: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(settings["seed"])
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    engine = build(settings, model_folder)
    dataset = TokenizedDataset(dataset_folder, "train")
    rows = settings["micro_batch_size"] * size
    losses = []
    for step in range(settings["steps"]):
        positions = batch_positions(step, len(dataset), rows, settings["seed"])
        weight = float(dataset.num_labels[positions].sum())
        own = positions[rank * settings["micro_batch_size"] : (rank + 1) * settings["micro_batch_size"]]
        batch = to_tensors(collate([dataset[position] for position in own], padding_id=0))
        loss = summed_loss(engine, batch)
        engine.backward(loss * size / weight)
        engine.step()
        losses.append(loss.detach() / weight)
        if rank == 0:  # which steps are done, for the clock outside
            with (output / METRICS_FILE).open("a") as lines:
                lines.write(json.dumps({"step": step + 1, "loss": float(losses[-1])}) + "\n")
    total = torch.stack(losses)
    torch.distributed.all_reduce(total)
    if rank == 0:
        (output / METRICS_FILE).write_text(
            "".join(
                json.dumps({"step": at, "loss": loss}) + "\n" for at, loss in enumerate(total.tolist(), 1)
            )
        )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), *map(Path, sys.argv[2:5]))
