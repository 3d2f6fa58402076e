"""Heliostat's side: recipes for `heliostat run`, and what the published dataset then holds."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tests.bench.corpus import Corpus, cache_folder
from tests.bench.scoring import contents_hash

DEDUP_STEPS: list[dict[str, Any]] = [
    {"kind": "exact_dedup"},
    {"kind": "near_dedup", "num_bands": 14, "rows_per_band": 8, "shingle_words": 5},
]
FILTER_STEPS: list[dict[str, Any]] = [
    {"kind": "gopher_repetition"},
    {"kind": "gopher_quality"},
    {"kind": "c4", "require_terminal_punctuation": False, "min_words_per_line": 3, "min_sentences": 5},
    {"kind": "fineweb"},
    {"kind": "pii", "find": ["email", "ip"]},
]
"""As datatrove is asked: FineWeb's order, and its C4 rules without the one about line ends."""

_COLUMNS = ["source", "row"]
_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Published:
    """The cleaned documents of a run: ids of the corpus, and what it says of itself."""

    kept: list[str]
    texts: dict[str, str]
    dropped: dict[str, str]
    """The reason of each document that was dropped."""
    facts: dict[str, Any]

    @property
    def contents(self) -> str:
        """A hash over the texts that were kept."""
        return contents_hash(self.texts[name] for name in self.kept)

    @property
    def balances(self) -> bool:
        """Whether all that was read is kept or dropped, by the receipt, and lies in the files as it says."""
        receipt = self.facts["receipt"]
        kept, dropped = (
            sum(count["documents"] for count in receipt[side].values()) for side in ("kept", "dropped")
        )
        in_files = (len(self.kept), len(self.dropped))
        return receipt["read"]["documents"] == kept + dropped and (kept, dropped) == in_files


def dedup_command(corpus: Corpus, workspace: Path, num_cpus: float = 1) -> list[str | Path]:
    """Exact and near dedup; `num_cpus` of each task decides how many run at a time."""
    return _run(corpus, DEDUP_STEPS, workspace, num_cpus)


def filters_command(corpus: Corpus, workspace: Path) -> list[str | Path]:
    """The filters, and e-mail and IP addresses."""
    return _run(corpus, FILTER_STEPS, workspace, 1)


def demo_data_command(workspace: Path) -> list[str | Path]:
    """The data stage of the quick-start recipe, model and tokenizing included."""
    recipe = Path(__file__).parents[2] / "jobs" / "recipes" / "quickstart.yaml"
    return [*_heliostat("run"), recipe, "--until", "data", "--workspace", workspace]


def runner_command(work: str, *arguments: str | Path) -> list[str | Path]:
    """Work in one process, without Ray: see `heliostat_runner.py`."""
    return [sys.executable, "-P", Path(__file__).with_name("heliostat_runner.py"), work, *arguments]


def make_workspace(folder: Path) -> Path:
    """An empty workspace. Its tracking database is there already, as with everybody who has run Heliostat
    once: making one takes some seconds, which belong to no run."""
    template = cache_folder() / "workspace-template"
    if not (template / "mlflow.db").is_file():
        shutil.rmtree(template, ignore_errors=True)
        code = (
            "import sys; from heliostat.tracking import Tracker; from heliostat.workspace import Workspace; "
            "Tracker.of(Workspace.resolve(sys.argv[1]))"
        )
        unfinished = template.with_name(f"workspace-template.{os.getpid()}")
        subprocess.run([sys.executable, "-c", code, unfinished], check=True)
        unfinished.rename(template)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder)
    return folder


def published(corpus: Corpus, workspace: Path) -> Published:
    """What the only dataset of a workspace holds.

    Raises:
        ValueError: it has none, or several.
    """
    (certificate,) = (workspace / "data" / "processed").glob("*/artifact.json")
    folder = certificate.parent
    ids = {(row["shard"], row["row"]): row["id"] for row in corpus.truth()}
    texts: dict[str, str] = {}
    kept: list[str] = []
    for split in _SPLITS:
        for part in sorted((folder / split).glob("*.parquet")):
            for row in pq.read_table(part, columns=[*_COLUMNS, "text"], partitioning=None).to_pylist():
                kept.append(ids[Path(row["source"]).name, row["row"]])
                texts[kept[-1]] = row["text"]
    dropped: dict[str, str] = {}
    for part in sorted((folder / "dropped").glob("*.parquet")):
        for row in pq.read_table(part, columns=[*_COLUMNS, "reason"], partitioning=None).to_pylist():
            dropped[ids[Path(row["source"]).name, row["row"]]] = row["reason"]
    return Published(kept, texts, dropped, json.loads(certificate.read_text())["facts"])


def _run(corpus: Corpus, steps: list[dict[str, Any]], workspace: Path, num_cpus: float) -> list[str | Path]:
    source = {
        "kind": "jsonl",
        "path": str(corpus.folder / "shards"),
        "form": "text",
        "columns": {"domain": "domain"},
    }
    recipe = {
        "name": "bench",
        "data": {
            "name": "bench",
            "sources": [source],
            "steps": steps,
            "split": {"train": 1.0, "validation": 0.0, "test": 0.0},
            "resources": {"num_cpus": num_cpus},
        },
    }
    file = workspace / "recipe.yaml"
    file.write_text(json.dumps(recipe, indent=1))  # JSON is YAML
    return [*_heliostat("run"), file, "--workspace", workspace]


def _heliostat(command: str) -> list[str | Path]:
    return [sys.executable, "-m", "heliostat.cli", command]
