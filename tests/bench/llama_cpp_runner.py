"""Greedy answers of llama.cpp to rendered prompts, in an environment of its own; knows nothing of Heliostat.

    PYTHON llama_cpp_runner.py FILE.gguf < requests.json

Reads `{"prompts": [text, ...], "max_tokens": n, "num_threads": n}`, writes `{"texts": [...],
"tokens_per_second": x}`: what it says, and how fast one stream is.
"""

import json
import sys
from typing import Any

import xllamacpp


def main() -> None:
    """Answer all prompts, one after the other."""
    asked: dict[str, Any] = json.load(sys.stdin)
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.n_ctx = 1024
    params.n_parallel = 1
    params.warmup = True
    params.cpuparams.n_threads = asked["num_threads"]
    params.cpuparams_batch.n_threads = asked["num_threads"]
    server = xllamacpp.Server(params)
    texts, seconds, count = [], 0.0, 0
    for prompt in asked["prompts"]:
        said = server.handle_completions(
            {"prompt": prompt, "n_predict": asked["max_tokens"], "temperature": 0, "cache_prompt": False}
        )
        texts.append(said["content"] if "content" in said else said["choices"][0]["text"])
        seconds += said["timings"]["predicted_ms"] / 1000
        count += said["timings"]["predicted_n"]
    json.dump({"texts": texts, "tokens_per_second": count / seconds}, sys.stdout)


if __name__ == "__main__":
    main()
