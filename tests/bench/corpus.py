"""The benchmark's corpus on disk: jsonl shards, and the truth about every document.

Built once for a seed, a scale and what is installed, and kept outside the repository.
"""

import json
import os
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from tests.bench.corpus_contents import Say, make_documents
from tests.bench.text_sources import installed_fingerprint

_SHARD_BYTES = 9_500_000
_DECIDING = ("corpus", "corpus_contents", "overlap", "permuted", "planted", "templates", "text_sources")
"""The modules that decide what is in a corpus: when one changes, so does the corpus."""
_SPAN = pa.struct([("kind", pa.string()), ("start", pa.int64()), ("end", pa.int64()), ("value", pa.string())])
TRUTH_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "kind", "family", "shard")),
        ("row", pa.int64()),
        ("group", pa.string()),
        ("jaccard", pa.float64()),
        ("edits", pa.string()),
        ("pii", pa.list_(_SPAN)),
    ]
)
"""`kind`: base, exact, near, short, empty or a kind of template. `family`: the id of the document it was
copied from, or its own. `shard` and `row`, from 1, say where it lies."""


@dataclass(frozen=True)
class Corpus:
    """A finished corpus: jsonl shards of id, text and domain; `truth.parquet`; `summary.json`."""

    folder: Path

    @property
    def shards(self) -> list[Path]:
        """The files to read, in order."""
        return sorted((self.folder / "shards").glob("*.jsonl"))

    @property
    def summary(self) -> dict[str, Any]:
        """Counts, bytes, the groups of text, and what the proof came to."""
        return json.loads((self.folder / "summary.json").read_text())

    def truth(self) -> list[dict[str, Any]]:
        """One row of `TRUTH_SCHEMA` a document, in the order of the shards."""
        return pq.read_table(self.folder / "truth.parquet").to_pylist()

    def rows(self) -> Iterator[dict[str, str]]:
        """All documents with id, text and domain, in the order of the shards."""
        for shard in self.shards:
            with shard.open(encoding="utf-8") as lines:
                yield from map(json.loads, lines)


def cache_folder() -> Path:
    """Where corpora, the peers' environments and scratch files lie: never inside the repository."""
    given = os.environ.get("HELIOSTAT_BENCH_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "heliostat-bench"


def build_corpus(scale: float = 1.0, seed: int = 0, say: Say = print, cache: Path | None = None) -> Corpus:
    """The corpus of this scale, found in the cache or built: some minutes at scale 1, once.

    Raises:
        RuntimeError: the proof failed, or there is no text to start from.
    """
    code = b"".join(Path(__file__).with_name(f"{name}.py").read_bytes() for name in _DECIDING)
    key = xxhash.xxh3_64_hexdigest(f"{scale} {seed} {installed_fingerprint()}".encode() + code)
    folder = (cache or cache_folder()) / f"corpus-{scale:g}-{key}"
    if (folder / "summary.json").is_file():
        return Corpus(folder)
    say(f"building the corpus of scale {scale:g} in {folder}")
    started = time.monotonic()
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    documents, summary = make_documents(scale, seed, say)
    _write(unfinished, [(document.row, document.truth) for document in documents])
    summary |= {"scale": scale, "seed": seed, "seconds": round(time.monotonic() - started, 1)}
    (unfinished / "summary.json").write_text(json.dumps(summary, indent=1))
    unfinished.rename(folder)
    return Corpus(folder)


def shuffled_copy(corpus: Corpus, seed: int = 1) -> Corpus:
    """The same documents in another order and other files, with the truth about where each lies now."""
    folder = corpus.folder.with_name(f"{corpus.folder.name}-shuffled-{seed}")
    if (folder / "summary.json").is_file():
        return Corpus(folder)
    shutil.rmtree(folder, ignore_errors=True)
    pairs = list(zip(corpus.rows(), corpus.truth(), strict=True))
    random.Random(seed).shuffle(pairs)
    _write(folder, pairs)
    (folder / "summary.json").write_text(json.dumps(corpus.summary, indent=1))
    return Corpus(folder)


def _write(folder: Path, pairs: Sequence[tuple[dict[str, str], dict[str, Any]]]) -> None:
    """The shards, and the truth with where each row lies now."""
    (folder / "shards").mkdir(parents=True)
    num_shards = max(4, round(sum(len(row["text"]) for row, _ in pairs) / _SHARD_BYTES))
    per_shard = -(-len(pairs) // num_shards)
    truth = []
    for number in range(num_shards):
        name = f"shard-{number:03d}.jsonl"
        with (folder / "shards" / name).open("w", encoding="utf-8") as lines:
            for place, (row, known) in enumerate(pairs[number * per_shard : (number + 1) * per_shard], 1):
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
                truth.append({**known, "shard": name, "row": place})
    pq.write_table(pa.Table.from_pylist(truth, schema=TRUTH_SCHEMA), folder / "truth.parquet")
