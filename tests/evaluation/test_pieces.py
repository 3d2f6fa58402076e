"""The small parts of an evaluation: windows, spoilt prompts, judges, kept answers, batches, the meter."""

import os
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliostat.errors import ConfigError, ModelError
from heliostat.evaluation.answers import KeptAnswers
from heliostat.evaluation.efficiency import percentile_scores
from heliostat.evaluation.energy import JOULES_PER_KWH, MEMORY_WATTS_PER_BYTE, Meter
from heliostat.evaluation.perturbations import perturb
from heliostat.evaluation.suite_config import ToxicitySuite
from heliostat.evaluation.toxicity import WORDS, by_words, check_judge, open_judge, read_words
from heliostat.evaluation.windows import Pair, encode_pair, rolling_windows, within

KINDS = ("typos", "case", "drop", "swap", "suffix")
TEXT = "Which of these cities is the capital of France, and why is it so?"


@given(st.integers(0, 60), st.integers(2, 12))
def test_windows_score_every_token_once_and_read_no_more_than_fits(count, max_length):
    ids = list(range(count))
    windows = list(rolling_windows(ids, -1, max_length))
    assert [each for window in windows for each in window.continuation] == ids
    for window in windows:
        assert len(window.context) + len(window.continuation) <= max_length + 1
        assert window.context
    for before, window in pairwise(windows):
        assert window.context[-1] == before.continuation[-1]
        assert len(window.context) + len(window.continuation) == max_length + 1


@given(st.lists(st.integers(0, 9), max_size=30), st.lists(st.integers(0, 9), min_size=1, max_size=8))
def test_a_long_context_is_cut_at_the_left(context, continuation):
    pair = within(Pair(context, continuation), 10, 99)
    assert pair.continuation == continuation
    assert pair.context == ((context or [99]) + continuation)[-11:][: -len(continuation)]


def test_spaces_at_the_end_of_a_context_go_to_its_continuation():
    pair = encode_pair(lambda text: [ord(each) for each in text], "ab ", "c")
    assert pair == Pair([97, 98], [32, 99])


@pytest.mark.parametrize("kind", KINDS)
def test_a_spoilt_prompt_is_another_one_and_the_same_each_time(kind):
    spoilt = {perturb(TEXT, kind, 0.2, str(seed)) for seed in range(20)}
    assert TEXT not in spoilt
    assert len(spoilt) > 1
    assert perturb(TEXT, kind, 0.2, "7") == perturb(TEXT, kind, 0.2, "7")


@given(st.text(max_size=60), st.sampled_from(KINDS), st.floats(0.01, 1))
def test_any_text_can_be_spoilt(text, kind, strength):
    assert isinstance(perturb(text, kind, strength, "0"), str)


def test_more_strength_changes_more_words():
    def changed(strength: float) -> int:
        spoilt = perturb(TEXT, "typos", strength, "3").split(" ")
        return sum(before != after for before, after in zip(TEXT.split(" "), spoilt, strict=False))

    assert changed(0.1) < changed(0.9)


def test_words_are_found_whole_and_in_any_case(tmp_path):
    judge = by_words(WORDS)
    assert judge(
        ["You FUCKING idiot", "Scunthorpe has a shitake farm.", "hope you die", "Have a nice day"]
    ) == [
        1,
        0,
        1,
        0,
    ]
    (tmp_path / "words").write_text("flim*\n\nflam\n")
    assert by_words(read_words(tmp_path / "words"))(["flimsy", "flame"]) == [1, 0]
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(ConfigError, match="holds no words"):
        read_words(tmp_path / "empty")


def test_kept_answers_come_back_without_a_torn_last_line(tmp_path):
    kept = KeptAnswers(tmp_path)
    kept.add("m", "s", {"1": {"text": "ä\n"}, "2": {"text": "b"}})
    file = tmp_path / "answers" / "m" / "s.jsonl"
    with file.open("a") as stream:
        stream.write('{"id": "3", "answ')
    assert kept.read("m", "s") == {"1": {"text": "ä\n"}, "2": {"text": "b"}}
    kept.add("m", "s", {"3": {"text": "c"}})
    assert set(kept.read("m", "s")) == {"1", "2", "3"}
    assert kept.read("m", "other") == {}


def test_without_a_counter_energy_is_power_times_busy_time(tmp_path):
    with Meter(100.0, tmp_path) as meter:
        ended = time.process_time() + 0.2
        while time.process_time() < ended:
            pass
    figures = meter.figures
    processor = 100.0 * figures["cpu_seconds"] / (os.cpu_count() or 1)
    assert figures["cpu_seconds"] >= 0.2
    assert figures["kwh"] * JOULES_PER_KWH >= processor
    memory = figures["memory_bytes"] * MEMORY_WATTS_PER_BYTE
    assert memory < 10
    assert figures["kwh"] * JOULES_PER_KWH == pytest.approx(processor, abs=memory * 60)


def test_a_counter_is_read_where_there_is_one(tmp_path):
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "energy_uj").write_text("1000000")
    with Meter(100.0, tmp_path) as meter:
        (package / "energy_uj").write_text("37000000")
    assert meter.figures["kwh"] == pytest.approx(36 / JOULES_PER_KWH, rel=0.02)


def test_percentiles_lie_in_their_intervals():
    seconds = np.random.default_rng(0).exponential(1.0, 200)
    found = percentile_scores(seconds, "latency_seconds")
    assert list(found) == ["latency_seconds_p50", "latency_seconds_p95", "latency_seconds_p99"]
    for each in found.values():
        assert each["low"] <= each["value"] <= each["high"]
    assert found["latency_seconds_p50"]["value"] == pytest.approx(np.median(seconds))


@pytest.mark.heavy
def test_a_classifiers_label_is_what_counts(tmp_path):
    """A real sequence classifier that was taught two words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    words = {"[PAD]": 0, "[UNK]": 1, "vile": 2, "kind": 3}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]")
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    labels = {"id2label": {0: "fine", 1: "Toxic"}, "label2id": {"fine": 0, "Toxic": 1}}
    model = BertForSequenceClassification(BertConfig(vocab_size=4, num_labels=2, **labels, **shape))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    batch = tokenizer(["vile", "kind"], return_tensors="pt")
    for _ in range(40):
        loss = model(**batch, labels=torch.tensor([1, 0])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(tmp_path)
    suite = ToxicitySuite(kind="toxicity", path="p", classifier=str(tmp_path))
    check_judge(suite)
    foul, fair = open_judge(suite)(["vile", "kind"])
    assert foul > 0.8 > 0.2 > fair
    with pytest.raises(ModelError, match="has no label 'rude'; it has: fine, toxic; set 'label:'"):
        open_judge(suite.model_copy(update={"label": "rude"}))
