"""Small real artifacts that several rooms' tests start from: a published model, a tokenized dataset."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from heliostat.models.adapters import copy_tokenizer
from heliostat.models.loading import load_tokenizer, tokenizer_fingerprint
from heliostat.records import Artifact
from heliostat.storage import publish, staging
from heliostat.text.chat import render_conversation
from heliostat.tokenized import INDEX_NAME, TOKENIZER_FOLDER, PackedSequence, write_part
from heliostat.workspace import Workspace


def conversations(count: int) -> list[list[dict[str, str]]]:
    """Questions and answers of different lengths about the standard library's own documentation."""
    documented = [name for name in dir(str) + dir(dict) + dir(Path) if not name.startswith("_")]
    owners = {**dict.fromkeys(dir(Path), Path), **dict.fromkeys(dir(dict), dict)}
    owners |= dict.fromkeys(dir(str), str)
    return [
        [
            {"role": "user", "content": f"What does {owners[name].__name__}.{name} do?"},
            {"role": "assistant", "content": " ".join(str(getattr(owners[name], name).__doc__).split())},
        ]
        for name in documented[:count]
    ]


def pack(model_folder: Path, count: int, max_sequence_length: int) -> list[PackedSequence]:
    """The conversations as packed sequences, rendered as in training."""
    tokenizer = load_tokenizer(model_folder)
    packed: list[PackedSequence] = []
    open_documents: list[tuple[str, list[int], list[int]]] = []
    for number, messages in enumerate(conversations(count)):
        rendered = render_conversation(messages, tokenizer)
        ids = rendered.input_ids[:max_sequence_length]
        mask = rendered.loss_mask[:max_sequence_length]
        if open_documents and sum(len(each[1]) for each in open_documents) + len(ids) > max_sequence_length:
            packed.append(_close(open_documents))
            open_documents = []
        open_documents.append((f"doc-{number}", ids, mask))
    return [*packed, _close(open_documents)]


def publish_model(workspace: Workspace, folder: Path, name: str = "tiny") -> Artifact:
    """A model folder as an artifact."""
    key = hashlib.sha256(name.encode()).hexdigest()
    with staging(workspace.storage, workspace.path("model", name, key)) as publication:
        shutil.copytree(folder, publication.folder, dirs_exist_ok=True)
        publication.facts["tokenizer"] = tokenizer_fingerprint(folder)
        return publish(publication, "model", key, {})


def publish_adapter(workspace: Workspace, folder: Path, base: Artifact, name: str) -> Artifact:
    """A folder with a LoRA adapter as an artifact that was trained on `base`."""
    key = hashlib.sha256(f"{name} {base.id}".encode()).hexdigest()
    with staging(workspace.storage, workspace.path("adapter", name, key)) as publication:
        shutil.copytree(folder, publication.folder, dirs_exist_ok=True)
        return publish(publication, "adapter", key, {}, (base,))


def publish_dataset(
    workspace: Workspace, model_folder: Path, count: int = 24, max_sequence_length: int = 128
) -> Artifact:
    """A tokenized dataset whose splits are all the same conversations."""
    key = hashlib.sha256(f"{count} {max_sequence_length}".encode()).hexdigest()
    with staging(workspace.storage, workspace.path("tokenized", "small", key)) as publication:
        sequences = pack(model_folder, count, max_sequence_length)
        write_dataset(publication.folder, model_folder, dict.fromkeys(("train", "test"), sequences))
        publication.facts["tokenizer"] = tokenizer_fingerprint(model_folder)
        return publish(publication, "tokenized", key, {})


def pack_pair(row: dict[str, str], name: str, tokenizer: Any) -> PackedSequence:
    """A preference pair (prompt, chosen, rejected) as a row: two documents, rendered as in training."""
    halves = [
        render_conversation(
            [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row[answer]}],
            tokenizer,
        )
        for answer in ("chosen", "rejected")
    ]
    return _close([(name, half.input_ids, half.loss_mask) for half in halves])


def write_dataset(
    folder: Path, model_folder: Path, splits: dict[str, list[PackedSequence]], pairs: bool = False
) -> Path:
    """A folder with a tokenized dataset."""
    parts = {
        split: [write_part(folder / split / "part-00000.parquet", sequences, pairs)]
        for split, sequences in splits.items()
    }
    (folder / INDEX_NAME).write_text(json.dumps({"splits": parts, "pairs": pairs}))
    copy_tokenizer(model_folder, folder / TOKENIZER_FOLDER)
    return folder


def _close(documents: list[tuple[str, list[int], list[int]]]) -> PackedSequence:
    return PackedSequence(
        input_ids=np.concatenate([ids for _, ids, _ in documents]).astype(np.int64),
        loss_mask=np.concatenate([mask for _, _, mask in documents]).astype(np.int64),
        document_lengths=tuple(len(ids) for _, ids, _ in documents),
        document_ids=tuple(name for name, _, _ in documents),
    )
