"""What lies in the two artifacts of this room, and what their certificates say of it.

A dataset holds `<split>/part-*.parquet`, `dropped/part-*.parquet` and the report. A tokenized dataset holds
what `heliostat.tokenized` describes, `receipt.json`, the report, and in `dropped/` a list of all documents
that were read and not kept, with their tokens.
"""

import json
from pathlib import Path
from typing import Any

from heliostat.data.accounting import (
    check_steps,
    count_documents,
    count_domains,
    count_dropped,
    make_receipt,
    require_documents,
)
from heliostat.data.before_after import quality_before_and_after
from heliostat.data.cleaning import clean
from heliostat.data.config import DataConfig
from heliostat.data.encoding import STEP
from heliostat.data.found import found_in
from heliostat.data.near_decision import Nominate, nominate_here
from heliostat.data.report import cleaning_report, tokenized_report
from heliostat.data.report_page import write_report
from heliostat.data.tasks import Runner, StepModels, collect
from heliostat.data.tokenizing import Tokenized, tokenize
from heliostat.models.adapters import copy_tokenizer
from heliostat.models.loading import tokenizer_fingerprint
from heliostat.records import Artifact, Count, Receipt
from heliostat.storage import Storage, artifact_folder
from heliostat.tokenized import INDEX_NAME, SPLITS, TOKENIZER_FOLDER

RECEIPT_NAME = "receipt.json"


def fill_dataset(
    config: DataConfig,
    models: StepModels,
    folder: Path,
    scratch: Storage,
    run_all: Runner,
    nominate: Nominate = nominate_here,
) -> dict[str, Any]:
    """Make the cleaned documents in `folder`; returns the facts.

    Raises:
        ConfigError, DataError: a source is not there or not readable, or no document was kept.
    """
    cleaned = clean(config.cleaning, models, scratch, run_all, nominate)
    collect(scratch, cleaned.files, folder)
    kept = {split: count_documents(folder, split) for split in SPLITS}
    require_documents(kept, folder)
    check_steps(cleaned.steps, folder)
    dropped = {reason: count.documents for reason, count in count_dropped(folder).items()}
    receipt = Receipt(  # balances, or raises
        read=Count(documents=cleaned.documents_read),
        kept={split: Count(documents=number) for split, number in kept.items()},
        dropped={reason: Count(documents=number) for reason, number in dropped.items()},
    )
    facts = {
        "documents_read": cleaned.documents_read,
        "characters_read": cleaned.characters_read,
        "receipt": receipt.model_dump(mode="json"),
        "documents": kept,
        "dropped": dropped,
        "steps": cleaned.steps,
        "seconds": cleaned.seconds,
        "decisions": cleaned.decisions,
        "domains": count_domains(folder),
        "found": found_in(folder, config.steps),
        "quality": quality_before_and_after(config.cleaning, folder),
        "sources": cleaned.origins,
    }
    write_report(folder, cleaning_report(config.name, facts, folder))
    return facts


def fill_tokenized(
    config: DataConfig, parents: tuple[Artifact, Artifact], folder: Path, scratch: Storage, run_all: Runner
) -> dict[str, Any]:
    """Make the tokenized dataset in `folder` from its parents, dataset and model; returns the facts.

    Raises:
        DataError: no document was kept.
    """
    dataset, model = parents
    done = tokenize(config.packing, dataset, model, scratch, run_all)
    collect(scratch, done.files, folder)
    copy_tokenizer(artifact_folder(model), folder / TOKENIZER_FOLDER)
    fingerprint = tokenizer_fingerprint(folder / TOKENIZER_FOLDER)
    read = Count(documents=dataset.facts["documents_read"], tokens=done.tokens_read)
    receipt = make_receipt(folder, read, done.truncated, done.repeated)
    require_documents({split: count.documents for split, count in receipt.kept.items()}, folder)
    (folder / RECEIPT_NAME).write_text(receipt.model_dump_json(indent=2))
    _write_index(folder, config, done, fingerprint)
    facts = {
        "receipt": receipt.model_dump(mode="json"),
        "steps": [*dataset.facts["steps"], _tokenize_step(dataset, done)],
        "splits": _split_facts(config, done, receipt),
        "max_sequence_length": config.tokenize.max_sequence_length,
        "tokenizer": fingerprint,
        "pairs": done.pairs,
        "domains": dataset.facts["domains"],
        "domain_tokens": done.domain_tokens,
        "decisions": dataset.facts["decisions"],
        "found": dataset.facts["found"],
        "quality": dataset.facts["quality"],
        "mixture": done.mixture,
        "dataset": dataset.id,
    }
    check_steps(facts["steps"], folder)
    write_report(folder, tokenized_report(config.name, facts, done))
    return facts


def _tokenize_step(dataset: Artifact, done: Tokenized) -> dict[str, Any]:
    """The last row of the steps' account."""
    read = sum(dataset.facts["documents"].values())
    dropped = dict(sorted(done.dropped.items()))
    kept = read - sum(dropped.values())
    return {"step": STEP, "read": read, "kept": kept, "dropped": dropped}


def _split_facts(config: DataConfig, done: Tokenized, receipt: Receipt) -> dict[str, dict[str, Any]]:
    """For each split: documents, tokens, labels, rows, and the part of its rows that is not padding."""
    facts = {}
    room = config.tokenize.max_sequence_length * (2 if done.pairs else 1)
    for split, entries in done.splits.items():
        rows = sum(entry["rows"] for entry in entries)
        tokens = receipt.kept[split].tokens
        facts[split] = {
            "documents": receipt.kept[split].documents,
            "tokens": tokens,
            "labels": sum(entry["labels"] for entry in entries),
            "rows": rows,
            "packing_efficiency": round(tokens / (rows * room), 4) if rows else 0.0,
        }
    return facts


def _write_index(folder: Path, config: DataConfig, done: Tokenized, fingerprint: str) -> None:
    index = {
        "splits": done.splits,
        "max_sequence_length": config.tokenize.max_sequence_length,
        "packing": config.tokenize.packing and not done.pairs,
        "pairs": done.pairs,
        "tokenizer": fingerprint,
    }
    (folder / INDEX_NAME).write_text(json.dumps(index, indent=2))
