"""The same greedy answers from transformers and from llama.cpp, which runs in an environment of its own."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.bench.peers import Peer

from heliostat.models.loading import load_model, load_tokenizer
from heliostat.text.chat import render_prompt

LLAMA_CPP = Peer("llama-cpp", ("xllamacpp==2026.10.11549",), ("xllamacpp",))
"""Python bindings with llama.cpp inside, as a wheel for any x86-64."""
RUNNER = Path(__file__).with_name("llama_cpp_runner.py")
MAX_TOKENS = 32
QUESTIONS = (
    "What does `str.lower()` do?",
    "What is the capital of France?",
    "How do I open a file in Python?",
    "What does `os.path.join` return?",
    "Write a sentence about the sea.",
    "What is 12 + 30?",
    "Explain what a dictionary is in Python.",
    "Name three colours.",
    "What does `len([1, 2, 3])` return?",
    "Who wrote Romeo and Juliet?",
)


@dataclass(frozen=True)
class Answers:
    """What was said to each of QUESTIONS, and how fast a single stream was."""

    texts: list[str]
    tokens_per_second: float | None


def prompts(folder: Path) -> list[list[int]]:
    """The questions as token ids, as they are served."""
    tokenizer = load_tokenizer(folder)
    return [render_prompt([{"role": "user", "content": question}], tokenizer) for question in QUESTIONS]


def answers_of_transformers(folder: Path) -> Answers:
    """Greedy, float32."""
    import torch

    tokenizer, model, texts = load_tokenizer(folder), load_model(folder), []
    for ids in prompts(folder):
        given = torch.tensor([ids])
        with torch.inference_mode():
            said = model.generate(
                given, attention_mask=torch.ones_like(given), max_new_tokens=MAX_TOKENS, do_sample=False
            )
        texts.append(tokenizer.decode(said[0, len(ids) :], skip_special_tokens=True))
    return Answers(texts, None)


def answers_of_llama_cpp(python: Path, file: Path, folder: Path, num_threads: int = 2) -> Answers:
    """Greedy, of a GGUF file; its own tokenizer reads the prompts, as text."""
    tokenizer = load_tokenizer(folder)
    asked = {
        "prompts": [tokenizer.decode(ids) for ids in prompts(folder)],
        "max_tokens": MAX_TOKENS,
        "num_threads": num_threads,
    }
    done = subprocess.run(
        [python, RUNNER, file], input=json.dumps(asked), capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout.splitlines()[-1])
    return Answers(said["texts"], said["tokens_per_second"])


def num_equal(one: Answers, other: Answers) -> int:
    """How many answers are the same text."""
    return sum(a.strip() == b.strip() for a, b in zip(one.texts, other.texts, strict=True))
