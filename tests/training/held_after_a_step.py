"""Print what lives after one DeepSpeed step, for each ZeRO stage and precision, with one worker.

A line each: HELD, stage, precision, number of parameters, bytes of all tensors that live. Argument: a port.
"""

import gc
import os
import sys

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator
from transformers import LlamaConfig, LlamaForCausalLM

from heliostat.training.config import TrainConfig
from heliostat.training.layout import deepspeed_config

SIZES = {"vocab_size": 2000, "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4}


def main() -> None:
    builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
    if builder is not None:  # it would be compiled first
        deepspeed.ops.__compatible_ops__[builder.NAME] = False
    for precision in ("fp32", "bf16"):
        for stage in (0, 1, 2, 3):
            before = live_bytes()
            engine = train_a_step(stage, precision)
            size = sum(each.ds_numel if stage == 3 else each.numel() for each in engine.module.parameters())
            print("HELD", stage, precision, size, live_bytes() - before, flush=True)
            engine.destroy()
            del engine


def train_a_step(stage: int, precision: str):
    layout = {"zero": {"stage": stage}, "precision": precision}
    config = TrainConfig.model_validate({"adapter": {"kind": "full"}, "layout": layout})
    settings = deepspeed_config(config)
    settings["zero_optimization"]["reduce_bucket_size"] = 10_000  # whole buckets would hide the rest
    model = LlamaForCausalLM(LlamaConfig(num_attention_heads=4, **SIZES))
    if precision == "bf16":
        model = model.bfloat16()
    engine, *_ = deepspeed.initialize(model=model, model_parameters=list(model.parameters()), config=settings)
    ids = torch.arange(8)[None]
    engine.backward(engine(input_ids=ids, labels=ids, use_cache=False).loss)
    engine.step()
    return engine


def live_bytes() -> int:
    gc.collect()
    storages = {}
    for each in gc.get_objects():
        if isinstance(each, torch.Tensor):
            for tensor in (each, each.grad if each.is_leaf else None):
                if tensor is not None:
                    storage = tensor.untyped_storage()
                    storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


if __name__ == "__main__":
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    os.environ["MASTER_PORT"] = sys.argv[1]
    main()
