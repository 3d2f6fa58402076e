"""The tokenized dataset: encode, fit, pack. Tasks over the parts of the cleaned documents."""

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from heliostat.data.cleaning import DROPPED_FOLDER
from heliostat.data.config import TokenizeConfig
from heliostat.data.documents import Document, Dropped
from heliostat.data.encoding import STEP, Encoded, count_tokens, encode_documents, fit, runs_of
from heliostat.data.packing import pack
from heliostat.data.shards import outcomes_of, parquet_bytes
from heliostat.data.tasks import Runner, Statistics, tokenizer_of
from heliostat.records import Artifact
from heliostat.storage import Storage, artifact_folder, explain_os_errors
from heliostat.tokenized import SPLITS, write_part

NUM_SAMPLES = 3
# The dropped documents themselves are in the dataset this was made from, under the same uid.
TOKENIZED_DROPPED_SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("source", pa.string()),
        ("row", pa.int64()),
        ("domain", pa.string()),
        ("step", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("tokens", pa.int64()),
    ]
)


@dataclass(frozen=True)
class TokenizeTask:
    """Tokenize and pack one part of one split."""

    split: str
    part: str
    config: TokenizeConfig
    dataset: Artifact
    model: Artifact
    scratch: Storage

    @property
    def name(self) -> str:
        """The part's name."""
        return f"tokenize-{self.split}-{Path(self.part).stem}"

    def make(self) -> Statistics:
        """Write the packed part and what was dropped here; returns its index entry and the counts."""
        tokenizer = tokenizer_of(self.model)
        documents = _read_documents(self.dataset, self.part)
        pieces: list[Encoded] = []
        dropped: list[dict[str, Any]] = []
        samples: list[list[tuple[str, bool]]] = []
        lengths, domains, truncated = Counter[int](), Counter[str](), []
        for document, encoded in zip(documents, encode_documents(documents, tokenizer), strict=True):
            if isinstance(encoded, Dropped):
                dropped.append(_dropped_row(encoded, count_tokens([document], tokenizer)[0]))
                continue
            fitted = fit(encoded, bool(document.messages), self.config)
            if fitted.reason:
                refused = Dropped(document, STEP, fitted.reason)
                dropped.append(_dropped_row(refused, len(encoded.input_ids)))
                continue
            if len(samples) < NUM_SAMPLES:
                samples.append(runs_of(encoded, tokenizer))
            pieces += fitted.pieces
            lengths[len(encoded.input_ids)] += 1
            domains[document.domain] += len(encoded.input_ids) - fitted.truncated_tokens
            if fitted.truncated_tokens:
                truncated.append(fitted.truncated_tokens)
        return {
            "split": self.split,
            "entry": self._write(pieces),
            "dropped": _write_dropped(self.scratch, f"{self.split}-{Path(self.part).name}", dropped),
            # What came in, counted before anything was cut or left out: one side of the receipt.
            "tokens_read": sum(length * times for length, times in lengths.items())
            + sum(row["tokens"] for row in dropped),
            "truncated": [len(truncated), sum(truncated)],
            "lengths": sorted(lengths.items()),
            "domain_tokens": dict(domains),
            "samples": samples,
        }

    def _write(self, pieces: list[Encoded]) -> dict[str, Any] | None:
        """The packed part's index entry; None, and no file, when nothing was left to pack."""
        if not pieces:
            return None
        packed = pack(pieces, self.config.max_sequence_length, self.config.packing)
        with explain_os_errors(tempfile.gettempdir()), tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / self.part
            entry = write_part(file, packed)
            self.scratch.write_bytes(self.part, file.read_bytes())
        return entry


@dataclass(frozen=True)
class CountDroppedTask:
    """Count the tokens of documents that cleaning dropped, as they were when it did."""

    part: str
    dataset: Artifact
    model: Artifact
    scratch: Storage

    @property
    def name(self) -> str:
        """The part's name."""
        return f"count-{Path(self.part).stem}"

    def make(self) -> Statistics:
        """Write the list of dropped documents with their tokens; returns the sum."""
        tokenizer = tokenizer_of(self.model)
        table = pq.read_table(artifact_folder(self.dataset) / self.part, partitioning=None)
        outcomes = [outcome for outcome in outcomes_of(table) if isinstance(outcome, Dropped)]
        counts = count_tokens(outcomes, tokenizer)
        rows = [_dropped_row(dropped, tokens) for dropped, tokens in zip(outcomes, counts, strict=True)]
        name = _write_dropped(self.scratch, f"cleaning-{Path(self.part).name}", rows)
        return {"dropped": name, "tokens_read": sum(counts)}


@dataclass(frozen=True)
class Tokenized:
    """What tokenizing left in the scratch folder, and counts made on the way."""

    files: tuple[str, ...]
    splits: dict[str, list[dict[str, Any]]]
    """The index entries of each split's parts."""
    tokens_read: int
    truncated: tuple[int, int]
    """Documents that were truncated, and the tokens cut off them."""
    lengths: dict[int, int]
    """How many documents have so many tokens, before truncation."""
    domain_tokens: dict[str, int]
    samples: list[list[tuple[str, bool]]]


def tokenize(
    config: TokenizeConfig, dataset: Artifact, model: Artifact, scratch: Storage, run_all: Runner
) -> Tokenized:
    """Tokenize and pack a dataset artifact below `scratch`."""
    parts = sorted(entry.path for entry in dataset.files if entry.path.endswith(".parquet"))
    packing = [
        TokenizeTask(split, part, config, dataset, model, scratch)
        for split in SPLITS
        for part in parts
        if part.startswith(f"{split}/")
    ]
    dropped = [
        CountDroppedTask(part, dataset, model, scratch)
        for part in parts
        if part.startswith(f"{DROPPED_FOLDER}/")
    ]
    statistics = sorted(
        run_all([*packing, *dropped], "Tokenizing and packing"), key=lambda each: each["name"]
    )
    packed = [each for each in statistics if "split" in each]
    entries = {
        split: [each["entry"] for each in packed if each["split"] == split and each["entry"]]
        for split in SPLITS
    }
    lengths: Counter[int] = Counter()
    for each in packed:
        lengths.update(dict(each["lengths"]))
    names = [entry["file"] for split in entries.values() for entry in split]
    return Tokenized(
        files=tuple(names + [each["dropped"] for each in statistics if each["dropped"]]),
        splits=entries,
        tokens_read=sum(each["tokens_read"] for each in statistics),
        truncated=(
            sum(each["truncated"][0] for each in packed),
            sum(each["truncated"][1] for each in packed),
        ),
        lengths=dict(sorted(lengths.items())),
        domain_tokens=dict(
            sorted(sum((Counter[str](each["domain_tokens"]) for each in packed), Counter[str]()).items())
        ),
        samples=[sample for each in packed if each["split"] == "train" for sample in each["samples"]],
    )


def _read_documents(dataset: Artifact, part: str) -> list[Document]:
    table = pq.read_table(artifact_folder(dataset) / part, partitioning=None)
    return [outcome for outcome in outcomes_of(table) if isinstance(outcome, Document)]


def _dropped_row(dropped: Dropped, tokens: int) -> dict[str, Any]:
    values = dropped.row_values() | {"tokens": tokens}
    return {name: values[name] for name in TOKENIZED_DROPPED_SCHEMA.names}


def _write_dropped(scratch: Storage, name: str, rows: list[dict[str, Any]]) -> str | None:
    """The file's name below the scratch folder; None when there is nothing to write."""
    if not rows:
        return None
    path = f"{DROPPED_FOLDER}/{name}"
    scratch.write_bytes(path, parquet_bytes(rows, TOKENIZED_DROPPED_SCHEMA))
    return path
