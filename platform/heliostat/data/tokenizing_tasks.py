"""The tasks of tokenizing: encode parts of the cleaned documents and pack them.

For a mixture they are encoded first, and packed when it is known how often each document is used.
"""

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from heliostat.data.cleaning_tasks import DROPPED_FOLDER
from heliostat.data.config import TokenizeConfig
from heliostat.data.documents import READ_STEP, Document, Dropped
from heliostat.data.encoding import STEP, Encoded, fit, runs_of
from heliostat.data.keys import keys_of, read_array, write_array
from heliostat.data.packing import pack
from heliostat.data.shards import FATE_COLUMNS, arrow_bytes, documents_of, open_shard, parquet_bytes
from heliostat.data.tasks import Statistics, TaskOfWork, encoder_of
from heliostat.records import Artifact
from heliostat.storage import Storage, artifact_folder, explain_os_errors
from heliostat.tokenized import write_part

NUM_SAMPLES = 3
LEFT_OUT = "over_mixture_share"
"""The reason of documents for which a mixture has no room."""
# The dropped documents themselves are in the dataset this was made from, under the same uid.
TOKENIZED_DROPPED_SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("source", pa.string()),
        ("row", pa.int64()),
        ("domain", pa.string()),
        ("step", pa.string()),
        ("reason", pa.string()),
        ("score", pa.float64()),
        ("kept_uid", pa.string()),
        ("detail", pa.string()),
        ("tokens", pa.int64()),
    ]
)
_ENCODED_SCHEMA = pa.schema(
    [
        ("document", pa.int64()),
        ("input_ids", pa.list_(pa.int32())),
        ("loss_mask", pa.list_(pa.int8())),
        ("rejected_at", pa.int32()),
    ]
)
# What a mixture must know of a document: the tokens it takes at each use, and how many of those are repeats.
MIXED = np.dtype([("key", np.uint64), ("tokens", np.int64), ("repeated", np.int64), ("truncated", np.int64)])


@dataclass(frozen=True)
class TokenizeWork:
    """What all tokenizing tasks of one run share."""

    config: TokenizeConfig
    dataset: Artifact
    model: Artifact
    scratch: Storage


@dataclass
class Tally:
    """What a task counts on its way."""

    dropped: list[dict[str, Any]] = field(default_factory=list)
    lengths: Counter[int] = field(default_factory=Counter)
    domains: Counter[str] = field(default_factory=Counter)
    truncated: list[int] = field(default_factory=list)
    repeated: list[int] = field(default_factory=list)
    samples: list[list[tuple[str, bool]]] = field(default_factory=list)

    def statistics(self, scratch: Storage, split: str, part: str) -> Statistics:
        """The counts, and the name of the file with the documents dropped here."""
        name = f"{DROPPED_FOLDER}/{split}-{Path(part).name}" if self.dropped else None
        if name:
            table = pa.Table.from_pylist(self.dropped, schema=TOKENIZED_DROPPED_SCHEMA)
            scratch.write_bytes(name, parquet_bytes(table))
        reasons = Counter(row["reason"] for row in self.dropped)
        return {
            "split": split,
            "dropped": {STEP: dict(reasons)} if reasons else {},
            "dropped_file": name,
            "truncated": [len(self.truncated), sum(self.truncated)],
            "repeated": [len(self.repeated), sum(self.repeated)],
            "lengths": sorted(self.lengths.items()),
            "domain_tokens": dict(self.domains),
            "samples": self.samples,
        }


@dataclass(frozen=True)
class TokenizeTask(TaskOfWork):
    """Encode some parts of one split; pack them, unless a mixture has to be decided first."""

    split: str
    parts: tuple[str, ...]
    """Of the cleaned documents. What is packed is named after the first."""
    mixed: bool
    work: TokenizeWork

    @property
    def name(self) -> str:
        """The part's name."""
        return f"tokenize-{self.split}-{Path(self.parts[0]).stem}"

    def make(self) -> Statistics:
        """Write the packed part, or what a mixture needs; returns its index entry and the counts."""
        encoder = encoder_of(self.work.model)
        documents = documents_of(parts_of(self.work.dataset, self.parts))
        tally, tokens_read = Tally(), 0
        kept: list[tuple[int, tuple[Encoded, ...]]] = []
        known = np.zeros(len(documents), dtype=MIXED)
        for number, (document, encoded) in enumerate(zip(documents, encoder.encode(documents), strict=True)):
            if isinstance(encoded, Dropped):
                tally.dropped.append(dropped_row(encoded, encoder.count_tokens([document])[0]))
                tokens_read += tally.dropped[-1]["tokens"]
                continue
            length = len(encoded.input_ids)
            tokens_read += length
            fitted = fit(encoded, bool(document.messages), self.work.config)
            if fitted.reason:
                tally.dropped.append(dropped_row(Dropped(document, STEP, fitted.reason), length))
                continue
            if len(tally.samples) < NUM_SAMPLES:
                tally.samples.append(runs_of(encoded, encoder.tokenizer))
            tally.lengths[length] += 1
            kept.append((number, fitted.pieces))
            tokens = length - fitted.truncated_tokens + fitted.repeated_tokens
            known[number] = (0, tokens, fitted.repeated_tokens, fitted.truncated_tokens)
            if not self.mixed:
                count_use(tally, document, known[number], 1)
        entry = None
        if self.mixed:
            known["key"] = keys_of(documents)["content"][:, 0]
            write_array(self.scratch, f"{self.name}.known.npy", known)
            self.scratch.write_bytes(f"{self.name}.arrow", arrow_bytes(_pieces_table(kept)))
        else:
            pieces = [piece for _, of_document in kept for piece in of_document]
            entry = write_packed(self.scratch, self.parts[0], pieces, self.work.config)
        return {
            "entry": entry,
            "documents": len(documents),
            "characters": sum(len(text) for document in documents for text in document.contents),
            # What came in, counted before anything was cut or left out: one side of the receipt.
            "tokens_read": tokens_read,
        } | tally.statistics(self.scratch, self.split, self.parts[0])


@dataclass(frozen=True)
class PackTask(TaskOfWork):
    """Pack encoded parts, each document as often as the mixture says."""

    split: str
    parts: tuple[str, ...]
    encoded: str
    """The name of the task that encoded it."""
    work: TokenizeWork

    @property
    def name(self) -> str:
        """The part's name."""
        return f"pack-{self.split}-{Path(self.parts[0]).stem}"

    def make(self) -> Statistics:
        """Write the packed part and the documents left out; returns its index entry and the counts."""
        documents = documents_of(parts_of(self.work.dataset, self.parts))
        known = read_array(self.scratch, f"{self.encoded}.known.npy")
        uses = read_array(self.scratch, f"{self.encoded}.uses.npy")
        tally = Tally()
        for number in np.flatnonzero(known["tokens"]).tolist():
            document, of_document = documents[number], known[number]
            if uses[number]:
                count_use(tally, document, of_document, int(uses[number]))
            else:
                length = int(of_document["tokens"] - of_document["repeated"] + of_document["truncated"])
                tally.dropped.append(dropped_row(Dropped(document, STEP, LEFT_OUT), length))
        pieces: list[Encoded] = []
        with open_shard(self.scratch, f"{self.encoded}.arrow") as reader:
            table = reader.read_all()
        columns = [table[name] for name in _ENCODED_SCHEMA.names]
        numbers, starts = columns[0].to_pylist(), columns[3].to_pylist()
        for number, ids, mask, start in zip(numbers, *columns[1:3], starts, strict=True):
            uid = documents[number].uid
            piece = Encoded(uid, ids.values.to_numpy(), mask.values.to_numpy(), rejected_at=start)
            pieces += [piece] * int(uses[number])
        entry = write_packed(self.scratch, self.parts[0], pieces, self.work.config)
        mixed = f"mixed-{Path(self.parts[0]).name}"
        return {"entry": entry} | tally.statistics(self.scratch, self.split, mixed)


@dataclass(frozen=True)
class CountDroppedTask(TaskOfWork):
    """Count the tokens of documents that cleaning dropped, as they were when it did."""

    part: str
    work: TokenizeWork

    @property
    def name(self) -> str:
        """The part's name."""
        return f"count-{Path(self.part).stem}"

    def make(self) -> Statistics:
        """Write the list of dropped documents with their tokens; returns the sum."""
        table = parts_of(self.work.dataset, (self.part,))
        became_documents = pc.not_equal(table["step"], READ_STEP).to_numpy()
        counts = np.zeros(table.num_rows, dtype=np.int64)
        documents = documents_of(table.filter(pa.array(became_documents)))
        counts[became_documents] = encoder_of(self.work.model).count_tokens(documents)
        rows = table.append_column("tokens", pa.array(counts)).select(TOKENIZED_DROPPED_SCHEMA.names)
        name = f"{DROPPED_FOLDER}/cleaning-{Path(self.part).name}"
        self.scratch.write_bytes(name, parquet_bytes(rows.cast(TOKENIZED_DROPPED_SCHEMA)))
        return {"dropped_file": name, "documents": table.num_rows, "tokens_read": int(counts.sum())}


def parts_of(dataset: Artifact, parts: Sequence[str]) -> pa.Table:
    """Parts of the cleaned documents, one behind the other."""
    tables = []
    for part in parts:
        with pq.ParquetFile(artifact_folder(dataset) / part) as file:
            tables.append(file.read())
    return pa.concat_tables(tables)


def count_use(tally: Tally, document: Document, known: np.void, uses: int) -> None:
    """Note what a document takes when it is used so often: an entry of MIXED."""
    once = int(known["tokens"] - known["repeated"])
    tally.domains[document.domain] += uses * int(known["tokens"])
    if known["truncated"]:
        tally.truncated.append(int(known["truncated"]))
    if uses * int(known["tokens"]) > once:
        tally.repeated.append(uses * int(known["tokens"]) - once)


def dropped_row(dropped: Dropped, tokens: int) -> dict[str, Any]:
    """A row of TOKENIZED_DROPPED_SCHEMA."""
    identity = {name: getattr(dropped.document, name) for name in ("uid", "source", "row", "domain")}
    fate = {name: getattr(dropped, name) or None for name in FATE_COLUMNS}
    return identity | fate | {"tokens": tokens}


def write_packed(
    scratch: Storage, part: str, pieces: list[Encoded], config: TokenizeConfig
) -> dict[str, Any] | None:
    """Pack and write a part; its index entry, or None, and no file, when there is nothing to pack."""
    if not pieces:
        return None
    packed = pack(pieces, config.max_sequence_length, config.packing)
    with explain_os_errors(tempfile.gettempdir()), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / part
        entry = write_part(file, packed, pairs=bool(pieces[0].rejected_at))
        scratch.write_bytes(part, file.read_bytes())
    return entry


def _pieces_table(kept: list[tuple[int, tuple[Encoded, ...]]]) -> pa.Table:
    rows = [(number, piece) for number, pieces in kept for piece in pieces]
    columns = [
        [number for number, _ in rows],
        [piece.input_ids for _, piece in rows],
        [piece.loss_mask for _, piece in rows],
        [piece.rejected_at for _, piece in rows],
    ]
    arrays = [pa.array(values, type=each.type) for values, each in zip(columns, _ENCODED_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=_ENCODED_SCHEMA)
