"""The tokenized dataset: encode, fit, mix, pack. Tasks over the parts of the cleaned documents."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from heliostat.data.cleaning_tasks import DROPPED_FOLDER
from heliostat.data.config import PackConfig
from heliostat.data.encoding import STEP
from heliostat.data.keys import read_array, write_array
from heliostat.data.mix_config import MixConfig
from heliostat.data.mixing import group_codes, mix
from heliostat.data.tasks import Runner, Statistics
from heliostat.data.tokenizing_tasks import CountDroppedTask, PackTask, TokenizeTask, TokenizeWork, parts_of
from heliostat.errors import DataError
from heliostat.records import Artifact, Count, FileEntry
from heliostat.storage import Storage, artifact_folder
from heliostat.tokenized import SPLITS

BYTES_PACKED_TOGETHER = 4 * 2**20
"""Of Parquet: less than most parts of the train split have, so that a task holds no more than before."""
MIXED_SPLIT = "train"
"""Copies in the other splits would count some documents twice when a model is scored."""


@dataclass(frozen=True)
class Tokenized:
    """What tokenizing left in the scratch folder, and counts made on the way."""

    files: tuple[str, ...]
    splits: dict[str, list[dict[str, Any]]]
    """The index entries of each split's parts."""
    tokens_read: int
    truncated: Count
    """Documents that were truncated, and the tokens cut off them."""
    repeated: Count
    """Documents whose tokens lie in the parts more than once, and how many more."""
    lengths: dict[int, int]
    """How many documents have so many tokens, before truncation."""
    domain_tokens: dict[str, int]
    samples: list[list[tuple[str, bool]]]
    dropped: dict[str, int]
    """Documents that tokenizing dropped, by reason."""
    mixture: list[dict[str, Any]]
    """What each group of the mixture was to have and has."""
    pairs: bool
    """Whether the documents are preference pairs."""


def tokenize(
    config: PackConfig, dataset: Artifact, model: Artifact, scratch: Storage, run_all: Runner
) -> Tokenized:
    """Tokenize, mix and pack a dataset artifact below `scratch`.

    Raises:
        DataError: the mixture asked for cannot be reached; or only some documents are preference pairs.
    """
    pairs = _hold_pairs(dataset)
    work = TokenizeWork(config.tokenize, dataset, model, scratch)
    encoding = [
        TokenizeTask(split, parts, config.mix is not None and split == MIXED_SPLIT, work)
        for split in SPLITS
        for parts in _grouped(_parts_in(dataset, split))
    ]
    counting = [CountDroppedTask(part.path, work) for part in _parts_in(dataset, DROPPED_FOLDER)]
    statistics = _run([*encoding, *counting], "Tokenizing and packing", run_all)
    mixture: list[dict[str, Any]] = []
    if config.mix is not None:
        mixed = [task for task in encoding if task.mixed]
        mixture = _mix(config.mix, mixed, work)
        packing = [PackTask(task.split, task.parts, task.name, work) for task in mixed]
        statistics += _run(packing, "Packing the mixture", run_all)
    return _sum_up(statistics, mixture, pairs)


def _hold_pairs(dataset: Artifact) -> bool:
    """Whether the documents are preference pairs: all of them, or none."""
    pairs = documents = 0
    for part in (part for split in SPLITS for part in _parts_in(dataset, split)):
        with pq.ParquetFile(artifact_folder(dataset) / part.path) as file:
            documents += file.metadata.num_rows
            # one leaf of the messages: what they say need not be read to see that there are some
            pairs += sum(map(bool, file.read(columns=["rejected.list.element.role"])["rejected"].to_pylist()))
    if 0 < pairs < documents:
        raise DataError(
            f"{dataset.uri}: {pairs} of {documents} documents are preference pairs and the others are not; "
            "prepare them as two datasets, each with its own sources"
        )
    return pairs > 0


def _parts_in(dataset: Artifact, folder: str) -> list[FileEntry]:
    found = [entry for entry in dataset.files if Path(entry.path).parts[0] == folder]
    return sorted((entry for entry in found if entry.path.endswith(".parquet")), key=lambda entry: entry.path)


def _grouped(parts: Sequence[FileEntry]) -> Iterator[tuple[str, ...]]:
    """Neighbours to be packed together: a part of a few documents alone would leave its last rows empty."""
    group: list[FileEntry] = []
    for part in parts:
        if group and sum(each.bytes for each in group) + part.bytes > BYTES_PACKED_TOGETHER:
            yield tuple(each.path for each in group)
            group = []
        group.append(part)
    if group:
        yield tuple(each.path for each in group)


def _run(tasks: Sequence[Any], title: str, run_all: Runner) -> list[Statistics]:
    return sorted(run_all(tasks, title), key=lambda each: str(each["name"]))


def _mix(config: MixConfig, tasks: Sequence[TokenizeTask], work: TokenizeWork) -> list[dict[str, Any]]:
    """Decide how often each document is used, and leave that beside the encoded parts."""
    names: list[str] = []
    known = []
    for task in tasks:
        names += parts_of(work.dataset, task.parts)[config.by].to_pylist()
        known.append(read_array(work.scratch, f"{task.name}.known.npy"))
    documents = np.concatenate(known)
    different, which = np.unique(np.array(names, dtype=object), return_inverse=True)
    groups = group_codes(different.tolist(), config)[which]
    there = documents["tokens"] > 0  # what tokenizing dropped is in no group
    uses = np.zeros(len(documents), dtype=np.int64)
    uses[there], proof = mix(groups[there], documents["tokens"][there], documents["key"][there], config)
    start = 0
    for task, of_part in zip(tasks, known, strict=True):
        write_array(work.scratch, f"{task.name}.uses.npy", uses[start : start + len(of_part)])
        start += len(of_part)
    return [asdict(group) for group in proof]


def _sum_up(statistics: list[Statistics], mixture: list[dict[str, Any]], pairs: bool) -> Tokenized:
    made = [each for each in statistics if "split" in each]
    entries = {
        split: [each["entry"] for each in made if each["split"] == split and each["entry"]]
        for split in SPLITS
    }
    lengths: Counter[int] = Counter()
    domains: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    for each in made:
        lengths.update(dict(each["lengths"]))
        domains.update(each["domain_tokens"])
        dropped.update(each["dropped"].get(STEP, {}))
    names = [entry["file"] for split in entries.values() for entry in split]
    return Tokenized(
        files=tuple(names + [each["dropped_file"] for each in statistics if each["dropped_file"]]),
        splits=entries,
        tokens_read=sum(each.get("tokens_read", 0) for each in statistics),
        truncated=_count(made, "truncated"),
        repeated=_count(made, "repeated"),
        lengths=dict(sorted(lengths.items())),
        domain_tokens=dict(sorted(domains.items())),
        samples=[sample for each in made if each["split"] == "train" for sample in each["samples"]],
        dropped=dict(sorted(dropped.items())),
        mixture=mixture,
        pairs=pairs,
    )


def _count(statistics: list[Statistics], name: str) -> Count:
    documents, tokens = (sum(each[name][at] for each in statistics) for at in (0, 1))
    return Count(documents=documents, tokens=tokens)
