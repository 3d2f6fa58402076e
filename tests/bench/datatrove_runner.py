"""Runs datatrove over jsonl files: executed by the interpreter of datatrove's own environment.

    python -P datatrove_runner.py dedup|filters|tokenize INPUT OUTPUT WORKERS [TOKENIZER]
    python -P datatrove_runner.py redact INPUT OUTPUT

`OUTPUT/stages.json` says when each stage began and ended, by the clock that all processes share.
"""

import gzip
import json
import sys
import time
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer
from datatrove.pipeline.writers.jsonl import JsonlWriter

BANDS, ROWS, SHINGLE_WORDS = 14, 8, 5


class Stages:
    """Runs one pipeline after the other and writes down when."""

    def __init__(self, source: Path, output: Path, workers: int) -> None:
        self.source, self.output, self.workers = source, output, workers
        self.num_files = len(list(source.glob("*.jsonl")))
        self._times: list[dict[str, object]] = []

    def run(self, name: str, steps: list[object], tasks: int) -> None:
        started = time.monotonic()
        LocalPipelineExecutor(
            steps, tasks=tasks, workers=min(self.workers, tasks), logging_dir=str(self.output / "logs" / name)
        ).run()
        self._times.append({"stage": name, "start": started, "end": time.monotonic()})
        (self.output / "stages.json").write_text(json.dumps(self._times))

    def reader(self) -> JsonlReader:
        return JsonlReader(str(self.source), glob_pattern="*.jsonl")

    def writer(self, name: str) -> JsonlWriter:
        return JsonlWriter(str(self.output / name), compression=None)


def dedup(stages: Stages) -> None:
    """MinHash with 14 bands of 8 rows over word 5-grams, its four stages."""
    config = MinhashConfig(n_grams=SHINGLE_WORDS, num_buckets=BANDS, hashes_per_bucket=ROWS)
    signatures, pairs, removals = (str(stages.output / name) for name in ("signatures", "pairs", "removals"))
    signing = MinhashDedupSignature(output_folder=signatures, config=config)
    stages.run("signatures", [stages.reader(), signing], stages.num_files)
    stages.run(
        "buckets", [MinhashDedupBuckets(input_folder=signatures, output_folder=pairs, config=config)], BANDS
    )
    stages.run("cluster", [MinhashDedupCluster(input_folder=pairs, output_folder=removals, config=config)], 1)
    removing = MinhashDedupFilter(input_folder=removals, exclusion_writer=stages.writer("dropped"))
    stages.run("filter", [stages.reader(), removing, stages.writer("kept")], stages.num_files)


def filters(stages: Stages) -> None:
    """FineWeb's filters in FineWeb's order, then e-mail and IP addresses; all dropped documents are kept."""
    steps = [
        GopherRepetitionFilter(exclusion_writer=stages.writer("dropped/gopher_repetition")),
        GopherQualityFilter(exclusion_writer=stages.writer("dropped/gopher_quality")),
        C4QualityFilter(filter_no_terminal_punct=False, exclusion_writer=stages.writer("dropped/c4")),
        FineWebQualityFilter(exclusion_writer=stages.writer("dropped/fineweb")),
        PIIFormatter(only_remove_public_ips=False),
    ]
    stages.run("filters", [stages.reader(), *steps, stages.writer("kept")], stages.num_files)


def tokenize(stages: Stages, tokenizer: str) -> None:
    """Tokens in files, unshuffled."""
    writing = DocumentTokenizer(str(stages.output / "tokens"), tokenizer, shuffle_documents=False)
    stages.run("tokenize", [stages.reader(), writing], stages.num_files)


def redact(source: Path, output: Path) -> None:
    """Every document with e-mail and IP addresses replaced, whatever the filters would say."""
    formatter = PIIFormatter(only_remove_public_ips=False)
    with gzip.open(output / "redacted.jsonl.gz", "wt", compresslevel=1) as lines:
        for file in sorted(source.glob("*.jsonl")):
            for line in file.open():
                row = json.loads(line)
                lines.write(json.dumps({"id": row["id"], "text": formatter.format(row["text"])}) + "\n")


def main() -> None:
    work, source, output, *further = sys.argv[1:]
    Path(output).mkdir(parents=True, exist_ok=True)
    if work == "redact":
        redact(Path(source), Path(output))
        return
    stages = Stages(Path(source), Path(output), int(further[0]))
    if work == "tokenize":
        tokenize(stages, further[1])
    else:
        {"dedup": dedup, "filters": filters}[work](stages)


if __name__ == "__main__":
    main()
