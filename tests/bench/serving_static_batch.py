"""transformers' generate over a padded batch: everybody starts together and waits for the slowest.

    python -m tests.bench.serving_static_batch FOLDER

Reads a cell as a line of JSON, writes its samples as one. A batch's texts come when the batch is done, so the
first text comes with the last.
"""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tests.bench.serving_load import Sample

from heliostat.models.loading import load_model, load_tokenizer


def main() -> None:
    """Answer cells until standard input ends."""
    folder = Path(sys.argv[1])
    tokenizer, model = load_tokenizer(folder), load_model(folder)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        cell = json.loads(line)
        prompts, size = cell["prompts"], cell["streams"]
        samples = []
        for at in range(0, len(prompts), size):
            samples += answer(model, tokenizer, prompts[at : at + size], cell["max_tokens"])
        print(json.dumps({"samples": [asdict(sample) for sample in samples]}), flush=True)


def answer(model: Any, tokenizer: Any, prompts: list[str], max_tokens: int) -> list[Sample]:
    """One batch, in fp32, greedy."""
    sent = time.monotonic()
    batch = tokenizer(prompts, return_tensors="pt", padding=True)
    with torch.inference_mode():
        whole = model.generate(
            **batch,
            max_new_tokens=max_tokens,
            min_new_tokens=max_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
    texts = tokenizer.batch_decode(whole[:, batch["input_ids"].shape[1] :])
    ended = time.monotonic()
    count = whole.shape[1] - batch["input_ids"].shape[1]
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    return [
        Sample(sent, ended, ended, length, count, status=200)
        for length, _ in zip(lengths, texts, strict=True)
    ]


if __name__ == "__main__":
    main()
