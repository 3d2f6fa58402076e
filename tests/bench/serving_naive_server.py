"""The server that tutorials show: FastAPI, and `model.generate` inside the handler.

Knows nothing of Heliostat.

    python serving_naive_server.py FOLDER PORT

    @app.post("/generate")
    async def generate(prompt: str):
        inputs = tokenizer(prompt, return_tensors="pt").to(device)
        outputs = model.generate(**inputs, max_length=200)
        return tokenizer.decode(outputs[0])

Ours differs in what the comparison needs: greedy, exactly so many new tokens, and their count in the answer.
"""

import sys
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from transformers import AutoModelForCausalLM, AutoTokenizer

MAX_TOKENS = 64


def build(folder: str) -> FastAPI:
    """The application: one request at a time, for the handler holds the event loop."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    app = FastAPI()

    @app.post("/generate")
    async def generate(prompt: str, max_tokens: int = MAX_TOKENS) -> dict[str, Any]:
        inputs = tokenizer(prompt, return_tensors="pt")
        outputs = model.generate(
            **inputs, max_new_tokens=max_tokens, min_new_tokens=max_tokens, do_sample=False
        )
        given = inputs["input_ids"].shape[1]
        usage = {"prompt_tokens": given, "completion_tokens": outputs.shape[1] - given}
        return {"text": tokenizer.decode(outputs[0]), "usage": usage}

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


if __name__ == "__main__":
    uvicorn.run(build(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
