"""The engine of cleaning: segments, evidence for every deletion, references, mixtures, and Ray's shuffle."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tests.data.in_process import digest, in_order, prepare, shuffled, texts, write_jsonl
from tests.data.made_up import config, prose, rows_of, with_changed_words

from heliostat.data.cleaning import clean
from heliostat.data.comparison import CHANGED, NOT_READ, Moved, compare_datasets
from heliostat.data.config import CleanConfig
from heliostat.data.near_decision import NearWork, join_clusters, nominate_here
from heliostat.data.segments import segments_of
from heliostat.data.tasks import StepModels
from heliostat.errors import ConfigError, DataError
from heliostat.records import Receipt
from heliostat.storage import Storage, artifact_folder
from heliostat.tokenized import SPLITS, TokenizedDataset

pytestmark = pytest.mark.heavy


def steps(*kinds: str) -> CleanConfig:
    found = [{"kind": "length", "min_words": 1} if kind == "length" else {"kind": kind} for kind in kinds]
    return CleanConfig.model_validate({"sources": ["x.jsonl"], "steps": found})


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["normalise", "pii"], [(["normalise", "pii"], [])]),
        (["exact_dedup"], [([], ["exact_dedup"]), ([], [])]),
        (
            ["normalise", "exact_dedup", "near_dedup", "length", "length"],
            [(["normalise"], ["exact_dedup", "near_dedup"]), (["length", "length_2"], [])],
        ),
        (
            ["near_dedup", "exact_dedup", "near_dedup"],
            [([], ["near_dedup", "exact_dedup"]), ([], ["near_dedup_2"]), ([], [])],
        ),
        (
            ["exact_dedup", "pii", "exact_dedup"],
            [([], ["exact_dedup"]), (["pii"], ["exact_dedup_2"]), ([], [])],
        ),
    ],
)
def test_steps_are_cut_where_all_documents_are_looked_at(kinds, expected):
    found = segments_of(steps(*kinds))
    assert [
        ([name for name, _ in each.steps], [name for name, _ in each.decisions]) for each in found
    ] == expected


def test_a_step_that_learns_from_all_labels_begins_a_segment():
    learning = {"kind": "label_agreement", "method": "dawid_skene"}
    kinds = [{"kind": "normalise"}, learning, {"kind": "pii"}, {"kind": "exact_dedup"}]
    found = segments_of(CleanConfig.model_validate({"sources": ["x.jsonl"], "steps": kinds}))
    assert [[name for name, _ in each.steps] for each in found] == [
        ["normalise"],
        ["label_agreement", "pii"],
        [],
    ]
    assert [each.learning is not None for each in found] == [False, True, False]
    with pytest.raises(ValueError, match="dawid_skene stands twice"):
        CleanConfig.model_validate({"sources": ["x.jsonl"], "steps": [learning, learning]})


@pytest.mark.parametrize("run_all", [in_order, shuffled(1)])
def test_annotators_are_learned_from_what_earlier_steps_left(tmp_path, model, run_all):
    """The third annotator is wrong in all that stays; what dedup drops would say that he is right."""
    right = [("a", "b"), ("b", "a")] * 12
    rows = [{"text": prose(n), "votes": [label, label, other]} for n, (label, other) in enumerate(right)]
    rows += [{"text": prose(100), "votes": ["a", None, "b"]}, {"text": prose(101)}]
    doubles = [{"text": prose(0), "votes": [other, other, label]} for label, other in right * 3]
    paths = [write_jsonl(tmp_path / "a.jsonl", rows), write_jsonl(tmp_path / "b.jsonl", doubles)]
    sources = [
        {"kind": "jsonl", "path": str(path), "columns": {"text": "text"}, "keep_columns": ["votes"]}
        for path in paths
    ]
    learning = {"kind": "label_agreement", "column": "votes", "method": "dawid_skene", "min_agreement": 0.9}
    made = config(tmp_path, sources=sources, steps=[{"kind": "exact_dedup"}, learning])
    dataset, _ = prepare(made, model, tmp_path / "ws", run_all)
    assert dataset.facts["steps"][1:] == [
        {"step": "exact_dedup", "read": 98, "kept": 26, "dropped": {"exact_duplicate": 72}},
        {"step": "label_agreement", "read": 26, "kept": 25, "dropped": {"too_few_annotators": 1}},
    ]
    kept = {
        row["text"]: json.loads(row["metadata"])
        for split in SPLITS
        for row in rows_of(artifact_folder(dataset), f"{split}/*.parquet")
    }
    assert [kept[prose(n)]["label"] for n in range(24)] == [label for label, _ in right]
    assert kept[prose(100)]["label"] == "a"


def test_the_proof_of_a_mixture_counts_no_document_that_was_dropped(tmp_path, model):
    def chats(*sizes: int) -> list[dict]:
        return [
            {
                "messages": [
                    {"role": "user", "content": f"{n}?"},
                    {"role": "assistant", "content": prose(n, size)},
                ]
            }
            for n, size in enumerate(sizes)
        ]

    paths = [
        write_jsonl(tmp_path / "scarce.jsonl", chats(5, 5, 500, 500, 500)),
        write_jsonl(tmp_path / "plenty.jsonl", chats(*[6] * 30)),
    ]
    groups = {path.stem: {"weight": 1, "match": [path.stem], "max_repeats": 20} for path in paths}
    made = config(
        tmp_path,
        sources=[{"kind": "jsonl", "path": str(path), "domain": path.stem} for path in paths],
        steps=[],
        split={"train": 1, "validation": 0, "test": 0},
        mix={"by": "domain", "groups": groups, "tolerance": 0.2},
    )
    _, tokenized = prepare(made, model, tmp_path / "ws")
    [scarce] = [group for group in tokenized.facts["mixture"] if group["name"] == "scarce"]
    assert scarce["documents"] == 2
    assert scarce["left_out_documents"] == 0


def test_clusters_are_joined_whatever_they_are_called():
    cluster = np.array([9, 4, 9, 7, 1], dtype=np.uint64)
    joined = join_clusters(cluster, np.array([[0, 1], [3, 4]]))
    assert joined.tolist() == [4, 4, 4, 1, 1]
    assert join_clusters(cluster, np.zeros((0, 2), dtype=np.int64)).tolist() == cluster.tolist()


def test_steps_learn_from_references_before_anything_is_read(tmp_path, model):
    exam = "What is the name of the tower onto which all mirrors of this field throw their light at noon?"
    write_jsonl(tmp_path / "exam.jsonl", [{"text": exam}])
    rows = [*texts(20), {"text": f"Intro. {exam} Answer: none."}]
    step = {"kind": "decontaminate", "against": [str(tmp_path / "exam.jsonl")]}
    made = config(write_jsonl(tmp_path / "a.jsonl", rows), steps=[step])
    dataset, _ = prepare(made, model, tmp_path / "ws")
    [gone] = rows_of(artifact_folder(dataset), "dropped/*.parquet")
    assert (gone["uid"], gone["reason"]) == ("a.jsonl:21", "contaminated")
    assert "exam.jsonl:1" in gone["detail"]
    wrong = config(tmp_path / "a.jsonl", steps=[step | {"against": [str(tmp_path / "gone.jsonl")]}])
    with pytest.raises(ConfigError, match=r"gone\.jsonl: no such file"):
        prepare(wrong, model, tmp_path / "ws2")


def test_a_mixture_has_the_shares_asked_for_and_the_receipt_says_so(tmp_path, model):
    write_jsonl(tmp_path / "general.jsonl", texts(300))
    write_jsonl(tmp_path / "domain.jsonl", [{"text": f"domain {row['text']}"} for row in texts(150, seed=1)])
    sources = [{"kind": "jsonl", "path": str(tmp_path / f"{name}.jsonl")} for name in ("general", "domain")]
    groups = {name: {"match": [name]} for name in ("general", "domain")}
    made = config("unused", sources=sources, mix={"groups": groups})
    _, tokenized = prepare(made, model, tmp_path / "ws")
    receipt = Receipt.model_validate(tokenized.facts["receipt"])
    shares = {group["name"]: group["used_tokens"] for group in tokenized.facts["mixture"]}
    assert shares["domain"] / sum(shares.values()) == pytest.approx(0.7, abs=0.0035)
    data = TokenizedDataset(artifact_folder(tokenized), "train")
    assert data.num_tokens == sum(shares.values()) == receipt.kept["train"].tokens
    assert receipt.repeated.tokens > 0
    left_out = receipt.dropped.get("over_mixture_share")
    assert (left_out.documents if left_out else 0) == sum(
        group["left_out_documents"] for group in tokenized.facts["mixture"]
    )


def test_a_mixture_that_cannot_be_is_one_line(tmp_path, model):
    groups = {"a": {"match": ["nowhere"], "weight": 1}, "b": {"match": ["d"], "weight": 1}}
    made = config(write_jsonl(tmp_path / "a.jsonl", texts(20)), mix={"groups": groups})
    with pytest.raises(DataError, match="group 'a' has no tokens"):
        prepare(made, model, tmp_path / "ws")


def test_windows_repeat_context_and_teach_each_token_once(tmp_path, model):
    (tmp_path / "long.txt").write_text("阳光 light " * 400, encoding="utf-8")
    made = config(
        "unused",
        sources=[{"kind": "text", "path": str(tmp_path / "long.txt")}],
        tokenize={"max_sequence_length": 64, "window_stride": 16},
    )
    _, tokenized = prepare(made, model, tmp_path / "ws")
    receipt = Receipt.model_validate(tokenized.facts["receipt"])
    kept = receipt.kept["train"].tokens
    assert receipt.read.tokens + receipt.repeated.tokens == kept
    assert receipt.repeated.tokens == 16 * -(-(receipt.read.tokens - 64) // 48)
    data = TokenizedDataset(artifact_folder(tokenized), "train")
    assert sum(int(data[at].loss_mask.sum()) for at in range(len(data))) == receipt.read.tokens


def test_two_datasets_are_compared_document_by_document(tmp_path, model):
    rows = [*texts(20), {"text": "write to a@b.org now"}]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    one, _ = prepare(config(path, steps=[]), model, tmp_path / "one")
    write_jsonl(path, [*rows, {"text": "new"}])
    two, _ = prepare(
        config(path, steps=[{"kind": "pii"}, {"kind": "length", "min_characters": 90}]),
        model,
        tmp_path / "two",
    )
    found = compare_datasets(one, two)
    short = [number for number, row in enumerate(rows, 1) if len(row["text"]) < 90]
    assert (
        sum(each.documents for each in found.moved if each.after == "dropped by length: too_short")
        == len(short) + 1
    )
    assert Moved(NOT_READ, "dropped by length: too_short", 1, ("a.jsonl:22",)) in found.moved
    same = compare_datasets(one, one)
    assert (same.same, same.moved, same.config) == (21, (), ())
    redacted, _ = prepare(config(path, steps=[{"kind": "pii"}]), model, tmp_path / "three")
    changed = [each for each in compare_datasets(one, redacted).moved if each.after == CHANGED]
    assert [each.examples for each in changed] == [("a.jsonl:21",)]


@pytest.mark.ray
@pytest.mark.slow
def test_a_shuffle_of_keys_nominates_the_same_pairs(ray_cluster, tmp_path, monkeypatch):
    from heliostat.data.edge import nominate_by_shuffle

    monkeypatch.setattr("heliostat.data.cleaning_tasks.BYTES_PER_SHARD", 8_000)
    copies = [with_changed_words(prose(seed), 2, turn) for seed in range(20) for turn in range(3)]
    rows = [{"text": text} for text in [*copies, *(prose(seed) for seed in range(60))]]
    made = config(write_jsonl(tmp_path / "a.jsonl", rows), steps=[{"kind": "near_dedup"}])
    seen = []

    def both(near: NearWork):
        here, there = nominate_here(near), nominate_by_shuffle(near)
        seen.append(len(here.pairs))
        assert np.array_equal(here.pairs, there.pairs)
        assert np.array_equal(here.bands, there.bands)
        assert here.giants == there.giants
        return there

    cleaned = clean(made.cleaning, StepModels(), Storage.at(tmp_path / "scratch"), in_order, both)
    assert seen[0] > 60
    assert cleaned.steps[-1]["dropped"]["near_duplicate"] == 60


KILLED = """
import sys, time
from pathlib import Path
from heliostat.data.cleaning import clean
from heliostat.data.config import DataConfig
from heliostat.data import sources, tasks
from heliostat.storage import Storage
sources.BYTES_PER_ITEM = 20_000
def slowly(tasks_, title):
    for task in tasks_:
        time.sleep(0.05)
        yield tasks.run_task(task)
made = DataConfig.model_validate_json(Path(sys.argv[1]).read_text())
print(clean(made.cleaning, tasks.StepModels(), Storage.at(sys.argv[2]), slowly).files, flush=True)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_half_way_and_run_again_it_comes_to_the_same_files(tmp_path):
    rows = [
        {"text": prose(seed % 150) if seed % 3 else with_changed_words(prose(seed % 150), 2)}
        for seed in range(300)
    ]
    kinds = ("normalise", "exact_dedup", "near_dedup", "pii")
    made = config(write_jsonl(tmp_path / "a.jsonl", rows), steps=[{"kind": kind} for kind in kinds])
    (tmp_path / "config.json").write_text(made.model_dump_json())
    command = [sys.executable, "-c", KILLED, tmp_path / "config.json"]
    scratch = tmp_path / "scratch"
    for moment in itertools.count():  # noqa: B007
        process = subprocess.Popen([*command, scratch], stdout=subprocess.PIPE, env=dict(os.environ))
        records = len(list(scratch.glob("*.json"))) if scratch.exists() else 0
        while process.poll() is None and len(list(scratch.glob("*.json"))) < records + 6:
            time.sleep(0.01)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert moment > 1
    subprocess.run([*command, tmp_path / "fresh"], check=True, capture_output=True)
    assert digest(scratch) == digest(tmp_path / "fresh")
    assert digest(scratch, "**/*.npy") == digest(tmp_path / "fresh", "**/*.npy")
