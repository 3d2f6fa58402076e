"""Dedup as the stage does it: which of two stays, with what evidence, and on which side of the split."""

import json

import pyarrow.parquet as pq
import pytest
from tests.data.in_process import in_order, prepare, write_jsonl
from tests.data.made_up import clean_only, config, prose, rows_of, with_changed_words

from heliostat.data.cleaning import clean
from heliostat.data.config import DataConfig
from heliostat.data.tasks import StepModels
from heliostat.storage import Storage, artifact_folder
from heliostat.tokenized import SPLITS

pytestmark = pytest.mark.heavy


def test_a_near_duplicate_goes_with_its_evidence_and_what_only_looks_alike_stays(tmp_path, model):
    base = [prose(seed) for seed in range(12)]
    shorter = with_changed_words(base[3], 2).rsplit(" ", 5)[0]
    invoices = [
        f"Invoice {n} for customer {n * 7} due on day {n + 1}: {n * 13} euros. " * 6 for n in range(1, 6)
    ]
    rows = [{"text": text} for text in [*base, shorter, *invoices, "too short to tell"]]
    made = config(
        write_jsonl(tmp_path / "a.jsonl", rows), steps=[{"kind": "exact_dedup"}, {"kind": "near_dedup"}]
    )
    dataset, _ = prepare(made, model, tmp_path / "ws")
    [gone] = rows_of(artifact_folder(dataset), "dropped/*.parquet")
    assert (gone["uid"], gone["kept_uid"]) == ("a.jsonl:13", "a.jsonl:4")
    assert (gone["step"], gone["reason"], gone["text"]) == ("near_dedup", "near_duplicate", shorter)
    assert 0.7 <= gone["score"] < 1
    assert "containment" in gone["detail"]
    assert "band" in gone["detail"]
    told = dataset.facts["decisions"]["near_dedup"]
    assert told["examples"][0]["kept_uid"] == "a.jsonl:4"
    assert dataset.facts["steps"][-1] == {
        "step": "near_dedup", "read": 19, "kept": 18, "dropped": {"near_duplicate": 1},
    }  # fmt: skip


def call(name: str) -> dict:
    function = {"name": name, "arguments": '{"place": "Paris"}'}
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "1", "type": "function", "function": function}],
    }


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ([{"role": "assistant", "content": "Yes."}], [{"role": "assistant", "content": "No."}], 2),
        ([{"role": "assistant", "content": "对。"}], [{"role": "assistant", "content": "不对。"}], 2),
        ([call("weather")], [call("delete")], 2),
        ([call("weather")], [call("weather")], 1),
        ([{"role": "assistant", "content": "Yes."}], [{"role": "assistant", "content": " Yes.\n"}], 1),
        ([{"role": "assistant", "content": prose(8)}], [{"role": "assistant", "content": prose(9)}], 2),
        (
            [{"role": "assistant", "content": prose(8)}],
            [{"role": "assistant", "content": with_changed_words(prose(8), 3)}],
            1,
        ),
    ],
)
def test_a_long_question_with_another_answer_is_another_example(tmp_path, first, second, kept):
    asked = [prose(7, 900), with_changed_words(prose(7, 900), 3)]
    rows = [
        {"messages": [{"role": "user", "content": question}, *answer]}
        for question, answer in zip(asked, (first, second), strict=True)
    ]
    source = {"kind": "jsonl", "path": str(write_jsonl(tmp_path / "a.jsonl", rows))}
    made = DataConfig.model_validate({"sources": [source], "steps": [{"kind": "near_dedup"}]})
    assert clean_only(made, tmp_path) == {"read": 2, "kept": kept}


def test_preferences_that_contradict_each_other_both_stay(tmp_path):
    answers = [prose(1), prose(2)]
    rows = [
        {"prompt": prose(3), "chosen": answers[0], "rejected": answers[1]},
        {"prompt": prose(3), "chosen": answers[1], "rejected": answers[0]},
        {"prompt": prose(3), "chosen": answers[0], "rejected": with_changed_words(answers[1], 3)},
    ]
    source = {"kind": "jsonl", "path": str(write_jsonl(tmp_path / "a.jsonl", rows))}
    made = DataConfig.model_validate({"sources": [source], "steps": [{"kind": "near_dedup"}]})
    assert clean_only(made, tmp_path) == {"read": 3, "kept": 2}


def test_the_same_words_with_other_tools_are_another_document(tmp_path):
    def tool(name: str) -> dict:
        return {"type": "function", "function": {"name": name, "description": "", "parameters": {}}}

    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    rows = [
        {"messages": said, "tools": [tool("weather")]},
        {"messages": said},
        {"messages": said, "tools": [tool("other")]},
    ]
    rows.append(rows[0])
    source = {"kind": "jsonl", "path": str(write_jsonl(tmp_path / "a.jsonl", rows))}
    made = DataConfig.model_validate({"sources": [source], "steps": [{"kind": "exact_dedup"}]})
    assert clean_only(made, tmp_path) == {"read": 4, "kept": 3}


def test_a_second_near_dedup_goes_by_its_own_settings(tmp_path):
    short = prose(5, 24)
    rows = [
        {"text": prose(1)},
        {"text": with_changed_words(prose(1), 3)},
        {"text": short},
        {"text": f"{short} ends"},
    ]
    source = {"kind": "jsonl", "path": str(write_jsonl(tmp_path / "a.jsonl", rows))}
    second = {"kind": "near_dedup", "min_words": 10, "num_bands": 20, "rows_per_band": 4}
    made = DataConfig.model_validate({"sources": [source], "steps": [{"kind": "near_dedup"}, second]})
    found = clean(made.cleaning, StepModels(), Storage.at(tmp_path / "scratch"), in_order)
    assert [(step["step"], step["read"], step["kept"]) for step in found.steps] == [
        ("read", 4, 4), ("near_dedup", 4, 3), ("near_dedup_2", 3, 2),
    ]  # fmt: skip


def test_what_a_later_step_makes_equal_lies_in_one_split(tmp_path, model):
    rows = [
        {"text": f"Write to {name}@example.org about the mirror number {number}.", "domain": name}
        for number in range(60)
        for name in ("anna", "bert")
    ]
    source = {
        "kind": "jsonl",
        "path": str(write_jsonl(tmp_path / "a.jsonl", rows)),
        "columns": {"domain": "domain"},
    }
    split = {"train": 0.5, "validation": 0.25, "test": 0.25}
    made = config("unused", sources=[source], steps=[{"kind": "exact_dedup"}, {"kind": "pii"}], split=split)
    dataset, _ = prepare(made, model, tmp_path / "ws")
    places: dict[str, set[str]] = {}
    for place in SPLITS:
        for row in rows_of(artifact_folder(dataset), f"{place}/*.parquet"):
            places.setdefault(row["text"], set()).add(place)
    assert len(places) == 60
    assert all(len(found) == 1 for found in places.values())


@pytest.mark.parametrize("order", [1, -1])
def test_of_equal_texts_the_same_one_stays_whatever_comes_first(tmp_path, order):
    rows = [{"text": "the same text", "label": label} for label in ("spam", "ham")][::order]
    source = {
        "kind": "jsonl",
        "path": str(write_jsonl(tmp_path / "a.jsonl", rows)),
        "keep_columns": ["label"],
    }
    made = DataConfig.model_validate({"sources": [source], "steps": [{"kind": "exact_dedup"}]})
    scratch = Storage.at(tmp_path / "scratch")
    (file,) = [
        name for name in clean(made.cleaning, StepModels(), scratch, in_order).files if "train" in name
    ]
    (row,) = pq.read_table(scratch.uri(file)).to_pylist()
    assert json.loads(row["metadata"])["label"] == "spam"


def test_near_duplicates_that_both_stay_lie_in_one_split(tmp_path, model):
    """A longer document of a later source may not push out an earlier one, and is longer than it."""
    for name, extra in (("first", ""), ("second", " and so on, page after page, for some more lines")):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"text": prose(seed) + extra} for seed in range(40)])
    sources = [{"kind": "jsonl", "path": str(tmp_path / f"{name}.jsonl")} for name in ("first", "second")]
    split = {"train": 0.5, "validation": 0.25, "test": 0.25}
    made = config("unused", sources=sources, steps=[{"kind": "near_dedup"}], split=split)
    dataset, _ = prepare(made, model, tmp_path / "ws")
    assert dataset.facts["dropped"] == {}
    place = {
        row["uid"]: split
        for split in SPLITS
        for row in rows_of(artifact_folder(dataset), f"{split}/*.parquet")
    }
    assert all(place[f"first.jsonl:{row}"] == place[f"second.jsonl:{row}"] for row in range(1, 41))
    assert set(place.values()) == set(SPLITS)
