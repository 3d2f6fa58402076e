"""Both artifacts, made without Ray: what they hold, that they balance, that only content counts."""

import json
import random
import re
from operator import itemgetter

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.data.in_process import digest, in_order, prepare, shuffled, texts, write_jsonl

from heliostat.data.config import DataConfig
from heliostat.data.documents import Document
from heliostat.data.encoding import Encoder
from heliostat.data.tasks import StepModels, run_task
from heliostat.errors import DataError
from heliostat.records import Receipt
from heliostat.storage import Storage, artifact_folder
from heliostat.text.chat import render_prompt
from heliostat.tokenized import SPLITS, TokenizedDataset

pytestmark = pytest.mark.heavy

GOOD = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "Like this."}]


def config(path, **values) -> DataConfig:
    source = {"kind": "jsonl", "path": str(path)}
    tokenize = {"max_sequence_length": 64}
    return DataConfig.model_validate({"sources": [source], "tokenize": tokenize} | values)


def rows_of(folder, pattern: str) -> list[dict]:
    return [row for file in sorted(folder.glob(pattern)) for row in pq.read_table(file).to_pylist()]


# What lies in the artifacts.


def test_the_dataset_holds_every_document_once_kept_or_dropped(tmp_path, model):
    rows = [*texts(40), {"text": "0: doubled"}, {"text": " 0:  doubled\n"}, "{broken", {"text": "x"}]
    steps = [{"kind": "normalise"}, {"kind": "exact_dedup"}, {"kind": "length", "min_characters": 5}]
    dataset, _ = prepare(config(write_jsonl(tmp_path / "a.jsonl", rows), steps=steps), model, tmp_path / "ws")
    folder = artifact_folder(dataset)
    kept = [row["row"] for split in SPLITS for row in rows_of(folder, f"{split}/*.parquet")]
    assert sorted(kept) == [*range(1, 41), 42]  # of the two the longer one stays
    dropped = rows_of(folder, "dropped/*.parquet")
    assert sorted((row["row"], row["step"], row["reason"]) for row in dropped) == [
        (41, "exact_dedup", "exact_duplicate"),
        (43, "read", "broken_json"),
        (44, "length", "too_short"),
    ]
    by_row = {row["row"]: row for row in dropped}
    assert (by_row[41]["text"], by_row[41]["kept_uid"]) == ("0: doubled", "a.jsonl:42")
    assert (by_row[43]["text"], by_row[43]["source"]) == ("{broken", "a.jsonl")
    assert dataset.facts["documents_read"] == 44
    assert dataset.facts["dropped"] == {"broken_json": 1, "exact_duplicate": 1, "too_short": 1}


def test_the_receipt_is_in_the_certificate_and_in_the_folder(tmp_path, model):
    rows = [
        {"messages": GOOD},
        {"messages": GOOD[:1]},
        {"messages": [*GOOD[:1], {"role": "assistant", "content": "long " * 99}]},
    ]
    split = {"train": 1, "validation": 0, "test": 0}
    made = config(write_jsonl(tmp_path / "a.jsonl", rows), split=split)
    _, tokenized = prepare(made, model, tmp_path / "ws")
    receipt = Receipt.model_validate(tokenized.facts["receipt"])
    assert receipt == Receipt.model_validate_json((artifact_folder(tokenized) / "receipt.json").read_text())
    assert receipt.read.documents == 3
    assert receipt.kept["train"].documents == 1
    assert receipt.dropped["no_answer"].tokens == 0
    assert receipt.dropped["over_max_sequence_length"].tokens > 64
    listed = rows_of(artifact_folder(tokenized), "dropped/*.parquet")
    assert sorted((row["row"], row["step"], row["reason"]) for row in listed) == [
        (2, "read", "no_answer"),
        (3, "tokenize", "over_max_sequence_length"),
    ]


def test_training_reads_what_serving_will_send(tmp_path, model, tiny_tokenizer):
    rows = [
        {"messages": [{"role": "user", "content": f"第{n}?"}, {"role": "assistant", "content": f"{n}!"}]}
        for n in range(9)
    ]
    split = {"train": 1, "validation": 0, "test": 0}
    made = config(write_jsonl(tmp_path / "a.jsonl", rows), split=split)
    data = TokenizedDataset(artifact_folder(prepare(made, model, tmp_path / "ws")[1]), "train")
    seen = 0
    for sequence in (data[position] for position in range(len(data))):
        start = 0
        for uid, length in zip(sequence.document_ids, sequence.document_lengths, strict=True):
            messages = rows[int(uid.rpartition(":")[2]) - 1]["messages"]
            prompt = render_prompt(messages[:1], tiny_tokenizer)
            answer = tiny_tokenizer.encode(messages[1]["content"] + "<|im_end|>", add_special_tokens=False)
            ids = sequence.input_ids[start : start + length].tolist()
            mask = sequence.loss_mask[start : start + length].tolist()
            assert ids[: len(prompt) + len(answer)] == prompt + answer
            assert mask[: len(prompt) + len(answer)] == [0] * len(prompt) + [1] * len(answer)
            start, seen = start + length, seen + 1
    assert seen == 9


def test_plain_text_is_learned_whole_and_ends_with_the_end_token(tiny_tokenizer):
    document = Document("u", "f", 1, "d", "Mirrors turn. 镜子转动。")
    [encoded] = Encoder(tiny_tokenizer).encode([document])
    assert tiny_tokenizer.decode(encoded.input_ids) == document.text + "<|im_end|>"
    assert set(encoded.loss_mask.tolist()) == {1}


def test_a_huge_document_is_cut_into_pieces_and_counted_once(tmp_path, model):
    (tmp_path / "huge.txt").write_text("阳光 light " * 20_000, encoding="utf-8")
    made = config(
        "unused",
        sources=[{"kind": "text", "path": str(tmp_path / "huge.txt")}],
        split={"train": 1, "validation": 0, "test": 0},
    )
    _, tokenized = prepare(made, model, tmp_path / "ws")
    train = tokenized.facts["splits"]["train"]
    assert train["documents"] == 1
    assert train["packing_efficiency"] > 0.999
    assert tokenized.facts["receipt"]["read"]["tokens"] == train["tokens"] > 20_000


def test_the_tokenizer_and_its_template_travel_along(tmp_path, model, tiny_tokenizer):
    from heliostat.models.loading import load_tokenizer

    made = config(write_jsonl(tmp_path / "a.jsonl", texts(30)))
    _, tokenized = prepare(made, model, tmp_path / "ws")
    folder = artifact_folder(tokenized)
    carried = load_tokenizer(folder / "tokenizer")
    assert carried.chat_template == tiny_tokenizer.chat_template
    assert carried("阳光 x")["input_ids"] == tiny_tokenizer("阳光 x")["input_ids"]
    index = json.loads((folder / "index.json").read_text())
    assert index["tokenizer"] == tokenized.facts["tokenizer"] == model.facts["tokenizer"]
    assert index["max_sequence_length"] == 64
    assert [entry["rows"] for entry in index["splits"]["train"]] == [
        tokenized.facts["splits"]["train"]["rows"]
    ]


# When nothing is left.


@pytest.mark.parametrize(
    ("rows", "values", "message"),
    [
        (
            [{"text": "a"}, {"text": "b"}, "{x"],
            {"steps": [{"kind": "length", "min_characters": 5}]},
            "all 3 were dropped, 2 of them as 'too_short'",
        ),
        (
            [{"messages": [GOOD[0], {"role": "assistant", "content": "long " * 99}]}],
            {},
            "1 of them as 'over_max_sequence_length'",
        ),
    ],
)
def test_a_dataset_with_nothing_to_train_on_is_refused(tmp_path, model, rows, values, message):
    with pytest.raises(DataError, match=message) as caught:
        prepare(config(write_jsonl(tmp_path / "a.jsonl", rows), **values), model, tmp_path / "ws")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "ws").rglob("artifact.json")) or "over_max" in message


# Nothing but content counts.


def many_files(tmp_path, count: int = 150):
    rows = texts(count)
    (tmp_path / "in").mkdir()
    for number in range(6):
        write_jsonl(tmp_path / "in" / f"{number}.jsonl", [*rows[number::6], rows[0]])
    return tmp_path / "in"


DEDUP = [{"kind": "normalise"}, {"kind": "exact_dedup"}, {"kind": "near_dedup"}, {"kind": "pii"}]


def test_order_of_tasks_and_retries_change_no_byte(tmp_path, model, monkeypatch):
    monkeypatch.setattr("heliostat.data.sources.BYTES_PER_ITEM", 6_000)
    monkeypatch.setattr("heliostat.data.tokenizing.BYTES_PACKED_TOGETHER", 20_000)
    made = config(many_files(tmp_path), steps=DEDUP)
    found = [prepare(made, model, tmp_path / f"ws{seed}", shuffled(seed)) for seed in range(2)]
    found.append(prepare(made, model, tmp_path / "ws", in_order))
    assert len({dataset.content for dataset, _ in found}) == 1
    assert len({tokenized.content for _, tokenized in found}) == 1
    folder = artifact_folder(found[0][1])
    assert len(list(folder.glob("train/*.parquet"))) > 2


def test_small_parts_are_packed_together(tmp_path, model, monkeypatch):
    monkeypatch.setattr("heliostat.data.sources.BYTES_PER_ITEM", 6_000)
    split = {"train": 1, "validation": 0, "test": 0}
    made = config(many_files(tmp_path), steps=DEDUP, split=split)
    dataset, together = prepare(made, model, tmp_path / "together")
    num_parts = len(list(artifact_folder(dataset).glob("train/*.parquet")))
    assert num_parts > 2
    assert len(list(artifact_folder(together).glob("train/*.parquet"))) == 1
    monkeypatch.setattr("heliostat.data.tokenizing.BYTES_PACKED_TOGETHER", 0)
    _, apart = prepare(made, model, tmp_path / "apart")
    assert len(list(artifact_folder(apart).glob("train/*.parquet"))) == num_parts
    trains = [each.facts["splits"]["train"] for each in (together, apart)]
    assert trains[0]["documents"] == trains[1]["documents"] == 150
    assert trains[0]["packing_efficiency"] > trains[1]["packing_efficiency"]


def test_how_the_work_is_cut_does_not_change_who_stays_where(tmp_path, model, monkeypatch):
    made = config(many_files(tmp_path), steps=DEDUP)
    whole = artifact_folder(prepare(made, model, tmp_path / "whole")[0])
    monkeypatch.setattr("heliostat.data.sources.BYTES_PER_ITEM", 1)
    monkeypatch.setattr("heliostat.data.cleaning_tasks.BYTES_PER_SHARD", 2_000)
    monkeypatch.setattr("heliostat.data.cleaning_tasks.DOCUMENTS_PER_BATCH", 7)
    cut = artifact_folder(prepare(made, model, tmp_path / "cut")[0])
    for place in (*SPLITS, "dropped"):
        rows = [sorted(rows_of(each, f"{place}/*.parquet"), key=itemgetter("uid")) for each in (whole, cut)]
        assert rows[0] == rows[1]
    assert digest(whole) != digest(cut)
    dropped = rows_of(cut, "dropped/*.parquet")
    assert {(row["step"], row["reason"]) for row in dropped} == {("exact_dedup", "exact_duplicate")}
    assert len({row["kept_uid"] for row in dropped}) == 1
    assert len(dropped) == 6


def test_what_was_done_before_a_crash_is_not_done_again(tmp_path, model, monkeypatch):
    from heliostat.data.cleaning import clean

    monkeypatch.setattr("heliostat.data.sources.BYTES_PER_ITEM", 1)
    made, scratch = config(many_files(tmp_path)), Storage.at(tmp_path / "scratch")
    done: list[str] = []

    def dies(tasks, title):
        for task in tasks:
            if len(done) == 4:
                raise KeyboardInterrupt
            done.append(task.name)
            yield run_task(task)

    with pytest.raises(KeyboardInterrupt):
        clean(made.cleaning, StepModels(model), scratch, dies)
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "scratch").iterdir()}
    resumed = clean(made.cleaning, StepModels(model), scratch, in_order)
    after = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "scratch").glob("*.*")}
    assert len([name for name in before if name.endswith(".json")]) == 4
    assert {name: after[name] for name in before} == before
    assert resumed == clean(made.cleaning, StepModels(model), Storage.at(tmp_path / "fresh"), in_order)
    assert digest(tmp_path / "scratch") == digest(tmp_path / "fresh")


def test_rows_in_another_order_come_to_the_same_documents_in_the_same_splits(tmp_path, model, monkeypatch):
    monkeypatch.setattr("heliostat.data.sources.BYTES_PER_ITEM", 4_000)
    monkeypatch.setattr("heliostat.data.cleaning_tasks.BYTES_PER_SHARD", 3_000)
    rows = [*texts(120), *texts(30), *({"text": f"  {row['text']}"} for row in texts(10))]
    steps = [{"kind": "exact_dedup"}, {"kind": "near_dedup", "min_words": 8}, {"kind": "pii"}]
    found = []
    for seed in range(3):
        mixed = random.Random(seed).sample(rows, len(rows)) if seed else rows
        made = config(write_jsonl(tmp_path / f"{seed}.jsonl", mixed), steps=steps)
        made = made.model_copy(update={"sources": (made.sources[0].model_copy(update={"domain": "d"}),)})
        folder = artifact_folder(prepare(made, model, tmp_path / f"ws{seed}")[0])
        found.append(
            {split: sorted(row["text"] for row in rows_of(folder, f"{split}/*.parquet")) for split in SPLITS}
        )
    assert found[0] == found[1] == found[2]
    assert sum(map(len, found[0].values())) < 130


# The receipt balances whatever comes in.

words = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["same", "a@b.org", "8.8.8.8", "镜子 " * 30]
)
message = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool"]), "content": words | st.none()}
)
row = st.one_of(
    st.fixed_dictionaries({"text": words}),
    st.fixed_dictionaries({"text": st.none() | st.integers()}),
    st.tuples(words, words).map(
        lambda pair: {
            "messages": [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
        }
    ),
    st.fixed_dictionaries({"messages": st.lists(message, max_size=4)}),
    st.sampled_from(["{broken", "[]", "null", '{"text": "\\udfff"}']),
)
step = st.sampled_from(
    [
        {"kind": "normalise"},
        {"kind": "length", "min_characters": 3},
        {"kind": "length", "max_tokens": 60},
        {"kind": "pii"},
        {"kind": "pii", "action": "drop"},
    ]
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chats=st.lists(row, min_size=1, max_size=12),
    plain=st.lists(row, min_size=1, max_size=12),
    steps=st.tuples(st.lists(step, max_size=2), st.booleans(), st.lists(step, max_size=2)),
    tokenize=st.fixed_dictionaries(
        {
            "max_sequence_length": st.sampled_from([8, 32, 64]),
            "packing": st.booleans(),
            "too_long": st.sampled_from(["drop", "truncate"]),
        }
    ),
    seed=st.integers(0, 5),
)
def test_the_receipt_balances_for_any_input(tmp_path_factory, model, chats, plain, steps, tokenize, seed):
    root = tmp_path_factory.mktemp("receipt")
    write_jsonl(root / "chats.jsonl", [{"messages": GOOD}, *chats])
    write_jsonl(
        root / "plain.jsonl", [{"text": "one document that stays whatever comes, 8 tokens or more"}, *plain]
    )
    before, dedup, behind = steps
    made = DataConfig.model_validate(
        {
            "sources": [
                {"kind": "jsonl", "path": str(root / "chats.jsonl"), "form": "messages"},
                {"kind": "jsonl", "path": str(root / "plain.jsonl"), "form": "text"},
            ],
            "steps": [*before, *([{"kind": "exact_dedup"}] if dedup else []), *behind],
            "split": {"train": 0.98, "validation": 0.01, "test": 0.01, "seed": seed},
            "tokenize": tokenize,
        }
    )
    try:
        dataset, tokenized = prepare(made, model, root / "ws")
    except DataError as error:
        if not re.search("no document was kept|train split is empty", str(error)):
            raise
        return
    receipt = Receipt.model_validate(tokenized.facts["receipt"])  # validates the balance
    assert receipt.read.documents == len(chats) + len(plain) + 2
    tokens = sum(
        TokenizedDataset(artifact_folder(tokenized), split).num_tokens
        for split in SPLITS
        if receipt.kept[split].documents
    )
    assert tokens == sum(count.tokens for count in receipt.kept.values())
    assert dataset.facts["documents_read"] == receipt.read.documents
