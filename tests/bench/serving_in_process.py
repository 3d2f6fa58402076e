"""openvino-genai's continuous batching without a server: the engine in its own process, stepped in a loop.

    python -m tests.bench.serving_in_process FOLDER STREAMS

The same folder and the same settings of the scheduler as our endpoint's. Reads a cell as a line of JSON,
writes its samples as one.
"""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai
from tests.bench.serving_load import Sample

from heliostat.models.loading import load_tokenizer
from heliostat.serving.config import OpenVINOEngineConfig
from heliostat.serving.engines.openvino_pipeline import Pipeline


def main() -> None:
    """Answer cells until standard input ends."""
    folder = sys.argv[1]
    tokenizer = load_tokenizer(Path(folder))
    pipeline = Pipeline(folder, OpenVINOEngineConfig().model_dump()).batching
    print(json.dumps({"ready": True}), flush=True)
    numbers = iter(range(1_000_000_000))
    for line in sys.stdin:
        cell = json.loads(line)
        prompts = [tokenizer.encode(prompt) for prompt in cell["prompts"]]
        samples = answer(pipeline, prompts, cell["streams"], cell["max_tokens"], numbers)
        print(json.dumps({"samples": [asdict(sample) for sample in samples]}), flush=True)


def answer(
    pipeline: Any, prompts: list[list[int]], streams: int, max_tokens: int, numbers: Any
) -> list[Sample]:
    """All prompts, `streams` at a time."""
    config = genai.GenerationConfig()
    config.max_new_tokens = max_tokens
    config.ignore_eos = True
    waiting, running, samples = list(reversed(prompts)), [], []
    while waiting or running:
        while waiting and len(running) < streams:
            ids = waiting.pop()
            tensor = ov.Tensor(np.array([ids], dtype=np.int64))
            handle = pipeline.add_request(next(numbers), tensor, config)
            running.append({"handle": handle, "prompt": len(ids), "sent": time.monotonic(), "count": 0})
        pipeline.step()
        now = time.monotonic()
        for request in list(running):
            while request["handle"].can_read():
                (output,) = request["handle"].read().values()
                request.setdefault("first", now)
                request["count"] += len(output.generated_ids)
            if request["count"] >= max_tokens or request["handle"].get_status() in ENDED:
                running.remove(request)
                first = request.get("first", now)
                samples.append(
                    Sample(request["sent"], first, now, request["prompt"], request["count"], status=200)
                )
    return samples


ENDED = {genai.GenerationStatus.FINISHED, genai.GenerationStatus.IGNORED}


if __name__ == "__main__":
    main()
