"""What a single core does, by the same functions that Heliostat's tasks call, without Ray. Prints JSON.

heliostat_runner.py signatures SHARDS
heliostat_runner.py filters SHARDS STEPS
heliostat_runner.py redact SHARDS OUTPUT
heliostat_runner.py tokenize SHARDS TOKENIZER
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}

from heliostat.data.documents import Document

BATCH = 256


def documents_in(shards: Path) -> Iterator[list[Document]]:
    """The documents as the readers make them, in batches of the size the tasks work with."""
    for shard in sorted(shards.glob("*.jsonl")):
        with shard.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        documents = [
            Document(row["id"], shard.name, number, row["domain"], row["text"])
            for number, row in enumerate(rows, 1)
        ]
        for start in range(0, len(documents), BATCH):
            yield documents[start : start + BATCH]


def signatures(shards: Path) -> dict[str, Any]:
    """MinHash signatures and band keys, reading included as it is in the peer's figure."""
    from heliostat.data.dedup_config import NearDedupStep
    from heliostat.data.near_dedup import near_keys

    config = NearDedupStep(num_bands=14, rows_per_band=8, shingle_words=5)
    near_keys([Document("", "", 0, "", "five words to warm up with")], config)
    started, size = time.process_time(), 0
    for batch in documents_in(shards):
        near_keys(batch, config)
        size += sum(len(document.text.encode()) for document in batch)
    return {"bytes": size, "cpu_seconds": time.process_time() - started}


def filters(shards: Path, steps: str) -> dict[str, Any]:
    """The steps of a recipe over all documents, and what became of each."""
    row = _step_row(json.loads(steps))
    batches = list(documents_in(shards))
    started = time.process_time()
    outcomes = [row.apply(batch) for batch in batches]
    seconds = time.process_time() - started
    kept = [found.uid for batch in outcomes for found in batch if isinstance(found, Document)]
    return {
        "documents": sum(map(len, batches)),
        "cpu_seconds": seconds,
        "seconds_by_step": dict(row.seconds),
        "kept": kept,
        "reasons": {step: dict(Counter(reasons)) for step, reasons in row.dropped.items()},
    }


def redact(shards: Path, output: Path) -> dict[str, Any]:
    """All documents with all kinds of personal data redacted that were planted, one JSON object a line."""
    row = _step_row([{"kind": "pii", "find": ["email", "ip", "phone", "credit_card"]}])
    started = time.process_time()
    with output.open("w", encoding="utf-8") as lines:
        for batch in documents_in(shards):
            for document in row.apply(batch):
                assert isinstance(document, Document)
                lines.write(json.dumps({"id": document.uid, "text": document.text}) + "\n")
    return {"cpu_seconds": time.process_time() - started}


def tokenize(shards: Path, tokenizer_folder: Path) -> dict[str, Any]:
    """Encoding by `encode_batch`, then by the data stage, whose memory of words is empty as in a new task's
    process; whether the ids are the same, but for the token that ends a document."""
    from heliostat.data.encoding import Encoder
    from heliostat.models.loading import load_tokenizer

    tokenizer = load_tokenizer(tokenizer_folder)
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    batches = list(documents_in(shards))
    texts = [[document.text for document in batch] for batch in batches]
    theirs, encodings = _timed(
        lambda: [backend.encode_batch(batch, add_special_tokens=False) for batch in texts]
    )
    expected = [encoding.ids for batch in encodings for encoding in batch]
    ours, found = _timed(lambda: _encode(Encoder(tokenizer), batches))
    ids = [each.input_ids.tolist() for batch in found for each in batch]
    ending = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return {
        "bytes": sum(len(text.encode()) for batch in texts for text in batch),
        "cpu_seconds": ours,
        "encode_batch_cpu_seconds": theirs,
        "same_ids": ids == [[*of_document, *ending] for of_document in expected],
    }


def _encode(encoder: Any, batches: list[list[Document]]) -> list[Any]:
    return [encoder.encode(batch) for batch in batches]


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def _step_row(steps: list[dict[str, Any]]) -> Any:
    from heliostat.data.config import CleanConfig
    from heliostat.data.segments import segments_of
    from heliostat.data.step_row import StepContext, make_steps

    config = CleanConfig.model_validate({"sources": [{"kind": "jsonl", "path": "unused"}], "steps": steps})
    (segment,) = segments_of(config)
    return make_steps(segment.steps, StepContext(*[_no_tokenizer] * 4))


def _no_tokenizer(_: Any) -> Any:
    raise AssertionError("none of these steps counts tokens or was fitted")


def main() -> None:
    work, shards, *further = sys.argv[1:]
    if work == "signatures":
        result = signatures(Path(shards))
    elif work == "filters":
        result = filters(Path(shards), further[0])
    elif work == "redact":
        result = redact(Path(shards), Path(further[0]))
    else:
        result = tokenize(Path(shards), Path(further[0]))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
