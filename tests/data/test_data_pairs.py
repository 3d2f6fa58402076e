"""Preference pairs as a tokenized dataset: a pair a row, rendered as in serving, all tokens accounted for."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.data.in_process import prepare, write_jsonl

from heliostat.data.config import DataConfig
from heliostat.data.encoding import Encoded, fit, join
from heliostat.errors import DataError
from heliostat.preference_pairs import TokenizedPairs
from heliostat.records import Receipt
from heliostat.storage import artifact_folder
from heliostat.text.chat import render_conversation, render_prompt
from heliostat.tokenized import IGNORED, SPLITS, TokenizedDataset

pytestmark = pytest.mark.heavy


MIX = {"mix": {"groups": {"all": {"match": ["*"], "weight": 1}}}}


def config(path, **values) -> DataConfig:
    source = {"kind": "jsonl", "path": str(path)}
    tokenize = {"max_sequence_length": 64} | values.pop("tokenize", {})
    return DataConfig.model_validate({"sources": [source], "tokenize": tokenize} | values)


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def rows(count: int) -> list[dict[str, str]]:
    return [
        {"prompt": f"Question {n}?", "chosen": f"Yes, {n} mirrors.", "rejected": f"No {n}, and go away."}
        for n in range(count)
    ]


def open_pairs(tokenized, split: str = "train") -> TokenizedPairs:
    return TokenizedPairs(artifact_folder(tokenized), split)


def test_each_row_is_one_pair_with_both_answers_rendered_as_in_serving(tmp_path, model, tiny_tokenizer):
    path = write_jsonl(tmp_path / "a.jsonl", rows(12))
    _, tokenized = prepare(config(path, split={"train": 1, "validation": 0, "test": 0}), model, tmp_path)
    pairs = open_pairs(tokenized)
    assert sorted(pairs[at].document_id for at in range(len(pairs))) == sorted(
        f"a.jsonl:{n}" for n in range(1, 13)
    )
    for at in range(len(pairs)):
        pair = pairs[at]
        row = rows(12)[int(pair.document_id.split(":")[1]) - 1]
        prompt = [turn("user", row["prompt"])]
        shared = len(render_prompt(prompt, tiny_tokenizer))
        for half, answer in ((pair.chosen, row["chosen"]), (pair.rejected, row["rejected"])):
            rendered = render_conversation([*prompt, turn("assistant", answer)], tiny_tokenizer)
            assert half.input_ids.tolist() == rendered.input_ids
            assert half.loss_mask.tolist() == rendered.loss_mask
            assert not half.loss_mask[:shared].any()


def test_earlier_answers_in_the_prompt_are_not_compared(tmp_path, model, tiny_tokenizer):
    earlier = [turn("user", "One?"), turn("assistant", "First."), turn("user", "Two?")]
    row = {
        "chosen": [*earlier, turn("assistant", "Good")],
        "rejected": [*earlier, turn("assistant", "Bad"), turn("user", "?"), turn("assistant", "Worse")],
    }
    path = write_jsonl(tmp_path / "a.jsonl", [row])
    _, tokenized = prepare(config(path, split={"train": 1, "validation": 0, "test": 0}), model, tmp_path)
    [pair] = [open_pairs(tokenized)[0]]
    learned = tiny_tokenizer.decode(pair.chosen.labels()[pair.chosen.labels() != IGNORED])
    assert learned == "Good<|im_end|>"
    learned = tiny_tokenizer.decode(pair.rejected.labels()[pair.rejected.labels() != IGNORED])
    assert learned == "Bad<|im_end|>Worse<|im_end|>"
    whole = [*earlier, *row["rejected"][3:]]
    assert pair.rejected.input_ids.tolist() == render_conversation(whole, tiny_tokenizer).input_ids


def test_where_the_answers_part_is_kept_when_one_has_more_turns(tmp_path, model, tiny_tokenizer):
    """[u a u a] against [u b]: the rejected answer stands at the second place, not at the last."""
    chosen = [turn("user", "One?"), turn("assistant", "A"), turn("user", "Two?"), turn("assistant", "B")]
    rejected = [turn("user", "One?"), turn("assistant", "No")]
    path = write_jsonl(tmp_path / "a.jsonl", [{"chosen": chosen, "rejected": rejected}])
    _, tokenized = prepare(config(path, split={"train": 1, "validation": 0, "test": 0}), model, tmp_path)
    ids = open_pairs(tokenized)[0].rejected.input_ids.tolist()
    assert ids == render_conversation(rejected, tiny_tokenizer).input_ids


def test_read_as_packed_sequences_pairs_are_their_chosen_answers(tmp_path, model):
    path = write_jsonl(tmp_path / "a.jsonl", rows(6))
    _, tokenized = prepare(config(path, split={"train": 1, "validation": 0, "test": 0}), model, tmp_path)
    pairs, chosen = open_pairs(tokenized), TokenizedDataset(artifact_folder(tokenized), "train")
    assert len(chosen) == len(pairs)
    for at in range(len(chosen)):
        assert chosen[at].input_ids.tolist() == pairs[at].chosen.input_ids.tolist()
        assert chosen.num_labels[at] == pairs[at].chosen.num_labels
    assert chosen.num_tokens == sum(len(chosen[at].input_ids) for at in range(len(chosen)))


def test_a_dataset_without_pairs_is_no_dataset_of_pairs(tmp_path, model):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "plain text"}])
    _, tokenized = prepare(config(path, split={"train": 1, "validation": 0, "test": 0}), model, tmp_path)
    with pytest.raises(DataError, match="holds no preference pairs, which objectives dpo and reward"):
        open_pairs(tokenized)


@pytest.mark.parametrize("values", [{}, MIX])
def test_pairs_beside_other_documents_are_refused(tmp_path, model, values):
    pairs = write_jsonl(tmp_path / "pairs.jsonl", rows(3))
    plain = write_jsonl(tmp_path / "plain.jsonl", [{"text": "one"}, {"text": "two"}])
    sources = [{"kind": "jsonl", "path": str(path)} for path in (pairs, plain)]
    made = DataConfig.model_validate({"sources": sources} | values)
    with pytest.raises(DataError, match=r"3 of 5 documents are preference pairs and the others are not"):
        prepare(made, model, tmp_path / "ws")


def test_a_mixture_repeats_whole_pairs(tmp_path, model):
    few = write_jsonl(tmp_path / "few.jsonl", rows(2))
    many = write_jsonl(tmp_path / "many.jsonl", rows(8)[2:])
    sources = [{"kind": "jsonl", "path": str(path), "domain": path.stem} for path in (few, many)]
    mix = {"groups": {name: {"match": [name], "weight": 1} for name in ("few", "many")}}
    split = {"train": 1, "validation": 0, "test": 0}
    made = DataConfig.model_validate({"sources": sources, "mix": mix, "split": split})
    _, tokenized = prepare(made, model, tmp_path / "ws")
    pairs = open_pairs(tokenized)
    found = Counter(pairs[at].document_id for at in range(len(pairs)))
    assert found == {f"few.jsonl:{n}": 3 for n in (1, 2)} | {f"many.jsonl:{n}": 1 for n in range(1, 7)}
    assert all(len(pairs[at].both.document_lengths) == 2 for at in range(len(pairs)))


def encoded_pair(prompt: int, chosen: int, rejected: int) -> Encoded:
    def half(start: int, answer: int) -> Encoded:
        ids = np.concatenate([np.arange(prompt), start + np.arange(answer)]).astype(np.int32)
        return Encoded("d", ids, (ids >= 100).astype(np.int8))

    return join(half(100, chosen), half(500, rejected))


def test_a_long_answer_is_dropped_or_truncated_as_a_conversation_is():
    limits = {"max_sequence_length": 16}
    drop = DataConfig.model_validate({"sources": [{"path": "x", "kind": "text"}], "tokenize": limits})
    cut = drop.tokenize.model_copy(update={"too_long": "truncate"})
    long = encoded_pair(8, 12, 4)
    assert fit(long, True, drop.tokenize).reason == "over_max_sequence_length"
    fitted = fit(long, True, cut)
    [pair] = fitted.pieces
    assert [len(half.input_ids) for half in pair.halves] == [16, 12]
    assert fitted.truncated_tokens == 4
    assert fit(encoded_pair(16, 4, 4), True, cut).reason == "answer_beyond_max_sequence_length"


def test_answers_that_are_the_same_where_they_are_cut_off_are_dropped():
    tokenize = DataConfig.model_validate(
        {
            "sources": [{"path": "x", "kind": "text"}],
            "tokenize": {"max_sequence_length": 16, "too_long": "truncate"},
        }
    ).tokenize
    ids = np.arange(20, dtype=np.int32)
    mask = (ids >= 4).astype(np.int8)
    other = np.concatenate([ids[:18], [77, 78]]).astype(np.int32)
    assert fit(join(Encoded("d", ids, mask), Encoded("d", other, mask)), True, tokenize).reason == (
        "same_answers"
    )


words = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(["same", "镜子 " * 30])
some_pair = st.fixed_dictionaries({"prompt": words, "chosen": words, "rejected": words})


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    found=st.lists(some_pair, min_size=1, max_size=12),
    too_long=st.sampled_from(["drop", "truncate"]),
    length=st.sampled_from([16, 32, 64]),
    mixed=st.booleans(),
)
def test_the_receipt_counts_both_answers_and_balances(
    tmp_path_factory, model, found, too_long, length, mixed
):
    root = tmp_path_factory.mktemp("pairs")
    good = [{"prompt": "a", "chosen": "b", "rejected": letter} for letter in "cdefgh"]
    path = write_jsonl(root / "a.jsonl", [*good, *found])
    tokenize = {"max_sequence_length": length, "too_long": too_long}
    split = {"train": 1, "validation": 0, "test": 0}
    made = config(path, tokenize=tokenize, split=split, **(MIX if mixed else {}))
    _, tokenized = prepare(made, model, root / "ws")
    receipt = Receipt.model_validate(tokenized.facts["receipt"])  # validates the balance
    assert receipt.read.documents == len(found) + 6
    pairs = open_pairs(tokenized)
    assert receipt.kept["train"].tokens == sum(len(pairs[at].both.input_ids) for at in range(len(pairs)))
    assert all(max(pairs[at].both.document_lengths) <= length for at in range(len(pairs)))
    index = json.loads((artifact_folder(tokenized) / "index.json").read_text())
    assert index["pairs"]
    assert not any(index["splits"][split] for split in SPLITS if split != "train")
