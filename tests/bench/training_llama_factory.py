"""LLaMA-Factory's side: its configs, the commands that run them, and the ids it made of the documents."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from tests.bench.training_inputs import SEED, Document, Material

from heliostat.tokenized import IGNORED
from heliostat.training.config import LoraAdapter


@dataclass(frozen=True)
class Setting:
    """How it is started: processes, threads of each, and whether activations are computed again in the
    backward pass, which it does unless it is told not to."""

    name: str
    num_processes: int
    gradient_checkpointing: bool = False

    @property
    def environment(self) -> dict[str, str]:
        """Threads: as many as there are cores, divided among the processes."""
        threads = max(1, (os.cpu_count() or 1) // self.num_processes)
        return {
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "DISABLE_VERSION_CHECK": "0",
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }


ONE_PROCESS = Setting("llama-factory, one process of two threads", 1)
TWO_PROCESSES = Setting("llama-factory, two processes of one thread", 2)
AS_INSTALLED = Setting("llama-factory, as installed", 1, gradient_checkpointing=True)


def train_config(
    material: Material, model_folder: Path, data_folder: Path, output: Path, lora: LoraAdapter | None
) -> dict[str, Any]:
    """What all settings have in common: the same rows in the same order, optimizer and learning rate."""
    longest = max(len(document.input_ids) for document in material.documents)
    adapter = {"finetuning_type": "full"}
    if lora:
        adapter = {
            "finetuning_type": "lora",
            "lora_rank": lora.r,
            "lora_alpha": lora.alpha,
            "lora_dropout": lora.dropout,
            "lora_target": ",".join(lora.target_modules),
        }
    return {
        "model_name_or_path": str(model_folder),
        "stage": "sft",
        "do_train": True,
        **adapter,
        "template": "empty",  # the prompts are rendered already
        "dataset_dir": str(data_folder),
        "dataset": "train",
        "tokenized_path": str(data_folder / "tokenized"),
        "cutoff_len": longest,
        "disable_shuffling": True,
        "output_dir": str(output),
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "seed": SEED,
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
    }


def command(
    python: Path, config: dict[str, Any], setting: Setting, micro_batch_size: int, per_step: int
) -> list[str | Path]:
    """What starts a run, its config written beside its output."""
    at_once = micro_batch_size * setting.num_processes
    output = Path(config["output_dir"])
    output.mkdir(parents=True)
    file = output / "train.yaml"
    whole = config | {
        "per_device_train_batch_size": micro_batch_size,
        "gradient_accumulation_steps": per_step // at_once,
        "disable_gradient_checkpointing": not setting.gradient_checkpointing,
    }
    if setting.num_processes > 1:
        whole["ddp_backend"] = "gloo"
    file.write_text(json.dumps(whole))  # JSON is YAML
    runner = Path(__file__).with_name("training_llama_factory_runner.py")
    if setting.num_processes == 1:
        return [python, "-P", runner, file]
    torchrun = [python, "-P", "-m", "torch.distributed.run", "--standalone"]
    return [*torchrun, "--nproc-per-node", str(setting.num_processes), runner, file]


def same_ids(data_folder: Path, documents: Sequence[Document]) -> bool:
    """Whether it made the same ids of the documents, learned at the same places, in the same order."""
    found = [
        row for file in sorted((data_folder / "tokenized" / "train").glob("*.arrow")) for row in _rows(file)
    ]
    expected = [(document.input_ids, _labels(document)) for document in documents]
    return [(row["input_ids"], row["labels"]) for row in found] == expected


def _labels(document: Document) -> list[int]:
    pairs = zip(document.input_ids, document.loss_mask, strict=True)
    return [token if learned else IGNORED for token, learned in pairs]


def _rows(file: Path) -> list[dict[str, Any]]:
    with pa.memory_map(str(file)) as source:
        table = pa.ipc.open_stream(source).read_all()
    found: list[dict[str, Any]] = table.select(["input_ids", "labels"]).to_pylist()
    return found
