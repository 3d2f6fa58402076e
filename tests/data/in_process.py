"""Files to read, and both artifacts of the data room made in this process, without Ray."""

import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from heliostat.data.artifacts import fill_dataset, fill_tokenized
from heliostat.data.config import DataConfig
from heliostat.data.tasks import StepModels, Task, run_task
from heliostat.records import Artifact
from heliostat.storage import Storage, publish, staging


def in_order(tasks: Sequence[Task], title: str) -> Iterator[dict[str, Any]]:
    """Run tasks in this process, one after the other."""
    return map(run_task, tasks)


def shuffled(seed: int) -> Callable[[Sequence[Task], str], Iterator[dict[str, Any]]]:
    """Run tasks in a random order, each twice, as after a retry."""

    def run_all(tasks: Sequence[Task], title: str) -> Iterator[dict[str, Any]]:
        mixed = random.Random(seed).sample(list(tasks), len(tasks))
        for task in mixed:
            task.make()
            yield run_task(task)

    return run_all


def publish_in(root: Path, kind: Any, fill: Callable[[Path, Storage], dict[str, Any]]) -> Artifact:
    """An artifact below `root`, made without the frame of a stage: no lock, no tracking."""
    storage = Storage.at(root)
    scratch = Storage.at(root / f"scratch-{kind}")
    with staging(storage, kind) as publication:
        publication.facts |= fill(publication.folder, scratch)
        artifact = publish(publication, kind, "key", {})
    shutil.rmtree(scratch.root)
    return artifact


def prepare(
    config: DataConfig, model: Artifact, root: Path, run_all: Any = in_order
) -> tuple[Artifact, Artifact]:
    """The dataset and the tokenized artifact of a config, through the room's own code, without Ray."""
    dataset = publish_in(root, "dataset", lambda *to: fill_dataset(config, StepModels(model), *to, run_all))
    parents = (dataset, model)
    return dataset, publish_in(root, "tokenized", lambda *to: fill_tokenized(config, parents, *to, run_all))


def write_jsonl(file: Path, rows: Sequence[Any]) -> Path:
    """A jsonl file; a row that is a string is written as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def texts(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Rows of plain text, all different, of some ten to sixty words."""
    words = (
        "heliostat",
        "mirror",
        "focus",
        "阳光",
        "反射",
        "light",
        "field",
        "角度",
        "motor",
        "cloud",
        "steam",
    )
    chance = random.Random(seed)
    return [
        {"text": f"{number}: " + " ".join(chance.choices(words, k=chance.randint(10, 60)))}
        for number in range(count)
    ]


def digest(folder: Path, pattern: str = "**/*.parquet") -> str:
    """A hash over the names and bytes of the files that match."""
    found = hashlib.sha256()
    for file in sorted(folder.glob(pattern)):
        found.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return found.hexdigest()
