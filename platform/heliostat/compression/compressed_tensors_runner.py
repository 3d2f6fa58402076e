"""Runs in the environment that has llm-compressor: PYTHON compressed_tensors_runner.py JOB.json

Nobody imports this. The job names a model folder, where to write, a scheme, calibration documents as token
ids, and a dataset to score. What it has to say comes as lines of JSON behind MARK on standard output: steps
as they begin, then scores. Layers compute with their activations rounded, too, where the scheme does so.
"""

import json
import sys
from pathlib import Path
from typing import Any

MARK = "heliostat: "


def main() -> None:
    """Do the job."""
    job = json.loads(Path(sys.argv[1]).read_text())
    sys.path.insert(0, job["package"])
    _say({"step": "load"})
    from llmcompressor import oneshot
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(job["source"], dtype="float32", local_files_only=True)
    _say({"step": "compress"})
    documents = job["documents"]
    calibration = {
        "dataset": _dataset(documents),
        "num_calibration_samples": len(documents),
        "max_seq_length": max(len(each) for each in documents),
    }
    oneshot(model=model, recipe=_recipe(job), **(calibration if job["scheme"] != "fp8" else {}))
    _say({"step": "save"})
    model.save_pretrained(job["target"], save_compressed=True)
    _score(job)


def _recipe(job: dict[str, Any]) -> Any:
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier

    if job["scheme"] == "int4":
        weights = QuantizationArgs(num_bits=4, strategy="group", group_size=job["group_size"])
        group = QuantizationScheme(targets=["Linear"], weights=weights)
        return GPTQModifier(config_groups={"group_0": group}, ignore=["lm_head"])
    scheme = {"int8": "W8A8", "fp8": "FP8_DYNAMIC"}[job["scheme"]]
    return QuantizationModifier(scheme=scheme, targets="Linear", ignore=["lm_head"])


def _dataset(documents: list[list[int]]) -> Any:
    from datasets import Dataset

    return Dataset.from_list([{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in documents])


def _score(job: dict[str, Any]) -> None:
    from heliostat.models.perplexity import Limits, running_score
    from heliostat.tokenized import TokenizedDataset

    dataset = TokenizedDataset(Path(job["dataset"]), job["split"])
    for score in running_score(Path(job["target"]), dataset, Limits(**job["limits"])):
        _say({"score": vars(score)})


def _say(line: dict[str, Any]) -> None:
    print(MARK + json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
