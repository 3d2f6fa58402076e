"""The short cut through tiktoken: the tokenizer's own ids for every text, or the tokenizer itself."""

import argparse
import asyncio
import collections
import json
import tarfile
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from heliostat.models.fast_tokenizer import BLANKS_IN_A_ROW, SAMPLE, FastEncoder, byte_alphabet

pytestmark = pytest.mark.heavy

ENGLISH = "\n\n".join(
    str(module.__doc__) + "\n".join(str(getattr(module, name).__doc__) for name in sorted(vars(module)))
    for module in (argparse, asyncio, collections, json, tarfile)
)
CHINESE = "\n".join(
    f"第{number}章　天文台的镜子跟着太阳转动，把光聚到同一个点上。今天是2024年{number}月，温度{number}.5度；"
    "他说：“这台机器很安静！”我们把原始文本清洗、去重、切分，再训练一个小模型。"
    for number in range(1, 60)
)
SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>")


def train(pre_tokenizer, normalizer=None, alphabet=None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=1200,
        special_tokens=list(SPECIAL),
        initial_alphabet=byte_alphabet() if alphabet is None else alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator([ENGLISH[:60_000], CHINESE], trainer)
    return tokenizer


def byte_level(**options) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, **options)


def digits() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()])


def split() -> pre_tokenizers.PreTokenizer:
    parts = pre_tokenizers.Split(Regex(SPLIT_PATTERN), "isolated")
    return pre_tokenizers.Sequence([parts, byte_level(use_regex=False)])


def with_all_splits_as_merges(tokenizer: Tokenizer, **model) -> Tokenizer:
    """As tokenizers made from tiktoken's ranks are: each token has all the pairs that make it."""
    rules = json.loads(tokenizer.to_str())
    vocabulary = rules["model"]["vocab"]
    rules["model"]["merges"] = [
        [token[:at], token[at:]]
        for token in sorted(vocabulary, key=vocabulary.get)
        if token not in SPECIAL
        for at in range(1, len(token))
        if token[:at] in vocabulary and token[at:] in vocabulary
    ]
    rules["model"].update(model)
    return Tokenizer.from_str(json.dumps(rules))


COVERED = {
    "gpt2": lambda: train(byte_level()),
    "digits apart": lambda: train(digits()),
    "split by pattern": lambda: train(split()),
    "nfc": lambda: train(split(), normalizers.NFC()),
    "all splits": lambda: with_all_splits_as_merges(train(split())),
    "whole words": lambda: with_all_splits_as_merges(train(split()), ignore_merges=True),
}


@pytest.fixture(scope="module", params=COVERED)
def covered(request) -> tuple[FastEncoder, PreTrainedTokenizerFast]:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=COVERED[request.param]())
    return FastEncoder.of(tokenizer), tokenizer


def ids_of(tokenizer, texts) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []


def lists(arrays) -> list[list[int]]:
    return [array.tolist() for array in arrays]


PIECES = [
    *sorted(set("".join(SAMPLE))),
    *SPECIAL,
    "<|im_end|>",
    "'s",
    "'LL",
    "'ſ",
    " the",
    "The",
    "中文",
    "Å",
    "ﬁ",
]
RARE = ["\U0001d400", "\U000affc0", "\U000e0100", "\ufffd", "\u180e", "न्", "ำ", "한", "0" * 9, " " * 9]
tricky = st.lists(st.sampled_from([*PIECES, *RARE]), max_size=12).map("".join)


@settings(max_examples=60)
@given(texts=st.lists(st.one_of(st.text(max_size=30), tricky), max_size=8))
def test_gives_the_tokenizers_ids_for_any_text(covered, texts):
    encoder, tokenizer = covered
    assert encoder.path == "tiktoken"
    assert lists(encoder.encode_batch(texts)) == ids_of(tokenizer, texts)


@pytest.mark.parametrize(
    "text", [ENGLISH[:50_000].upper(), ENGLISH[:50_000].replace("\n", "\t'"), "\n".join(SAMPLE)]
)
def test_gives_the_tokenizers_ids_for_long_texts(covered, text):
    encoder, tokenizer = covered
    assert lists(encoder.encode_batch([text])) == ids_of(tokenizer, [text])


def test_takes_plain_english_and_chinese_by_the_short_cut(covered):
    encoder, tokenizer = covered
    texts, fast = [ENGLISH, CHINESE], encoder.num_fast
    arrays = encoder.encode_batch(texts)
    assert lists(arrays) == ids_of(tokenizer, texts)
    assert encoder.num_fast == fast + 2
    assert {array.dtype for array in arrays} == {np.dtype(np.int32)}


def test_an_added_token_inside_a_text_is_the_tokenizers_to_find(covered):
    encoder, tokenizer = covered
    texts, slow = ["say <|im_start|> now", "plain", "<| im_start |>"], encoder.num_slow
    assert lists(encoder.encode_batch(texts)) == ids_of(tokenizer, texts)
    assert encoder.num_slow == slow + 1


def test_leaves_bytes_without_a_token_to_the_tokenizer():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=train(digits(), alphabet=[]))
    encoder = FastEncoder.of(tokenizer)
    assert encoder.path == "tiktoken"
    text = "= \U000affc0 \x04="
    assert lists(encoder.encode_batch([text])) == ids_of(tokenizer, [text])
    assert (encoder.num_fast, encoder.num_slow) == (0, 1)


def test_a_lone_surrogate_fails_as_with_the_tokenizer(covered):
    encoder, tokenizer = covered
    with pytest.raises(Exception) as expected:  # noqa: PT011 - whichever it is
        tokenizer(["a\ud800"], add_special_tokens=False)
    with pytest.raises(expected.type):
        encoder.encode_batch(["a\ud800"])


def test_nothing_and_blank_texts(covered):
    encoder, tokenizer = covered
    assert encoder.encode_batch([]) == []
    texts = ["", " ", "\n\n", "\u3000"]
    assert lists(encoder.encode_batch(texts)) == ids_of(tokenizer, texts)


@pytest.mark.parametrize("character", ["a", "!", "中", " ", "\n", "\u3000", "1"])
def test_one_character_over_and_over(covered, character):
    encoder, tokenizer = covered
    for count in (1000, 3 * BLANKS_IN_A_ROW):
        text = f"x{character * count}y"
        assert lists(encoder.encode_batch([text])) == ids_of(tokenizer, [text])


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "the": 1, "##re": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def with_merges(merges: list[tuple[str, str]], **options) -> Tokenizer:
    tokens = [*byte_alphabet(), *dict.fromkeys(a + b for a, b in merges), *options.pop("more", [])]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, **options))
    tokenizer.pre_tokenizer = byte_level()
    return tokenizer


def with_normalizer() -> Tokenizer:
    tokenizer = with_merges([("a", "b")])
    tokenizer.normalizer = normalizers.Lowercase()
    return tokenizer


def with_pre_tokenizer(pre_tokenizer) -> Tokenizer:
    tokenizer = with_merges([("a", "b")])
    tokenizer.pre_tokenizer = pre_tokenizer
    return tokenizer


NOT_COVERED = {
    "the model is WordPiece, not BPE": lambda: with_model(word_piece()),
    "the normalizer Lowercase is not covered": with_normalizer,
    "the pre-tokenizer Metaspace is not covered": lambda: with_pre_tokenizer(pre_tokenizers.Metaspace()),
    "the pre-tokenizer ByteLevel is not covered": lambda: with_pre_tokenizer(pre_tokenizers.ByteLevel()),
    "the pre-tokenizer Split is not by a pattern that is covered": lambda: with_pre_tokenizer(
        pre_tokenizers.Sequence([pre_tokenizers.Split(" ", "removed"), byte_level(use_regex=False)])
    ),
    "the BPE model has dropout, or marks on parts of words": lambda: with_merges([("a", "b")], dropout=0.5),
    "the merges of a token are not side by side": lambda: with_merges(
        [("a", "b"), ("b", "c"), ("a", "bc"), ("c", "d"), ("ab", "c")]
    ),
    "a token that merges do not make has parts that tiktoken would join": lambda: with_merges(
        [("a", "b"), ("c", "d")], ignore_merges=True, more=["abcd"]
    ),
    "the vocabulary is not byte-level": lambda: with_merges([("→", "→")], more=["→"]),
}


def with_model(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.pre_tokenizer = byte_level()
    return tokenizer


@pytest.mark.parametrize("reason", NOT_COVERED)
def test_other_tokenizers_are_used_themselves_and_it_says_why(reason):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=NOT_COVERED[reason]())
    encoder = FastEncoder.of(tokenizer)
    assert (encoder.path, encoder.reason) == ("tokenizer", reason)
    texts = ["there abc abcd", "Ab", ""]
    if "dropout" not in reason:
        assert lists(encoder.encode_batch(texts)) == ids_of(tokenizer, texts)
    assert encoder.num_fast == 0


def test_a_token_that_no_merge_order_reaches_gets_no_rank():
    # "ab" joins before "bc" does, so "abc" is never made of a + bc, though both are tokens.
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=with_merges([("a", "b"), ("b", "c"), ("a", "bc"), ("ab", "d"), ("x", "bc")])
    )
    encoder = FastEncoder.of(tokenizer)
    assert encoder.path == "tiktoken"
    texts = ["abc", "xbc", "abcd abd", "aabcbcx"]
    assert lists(encoder.encode_batch(texts)) == ids_of(tokenizer, texts)


@settings(max_examples=100)
@given(
    pairs=st.lists(
        st.tuples(st.text("abc", min_size=1, max_size=3), st.text("abc", min_size=1, max_size=3)), max_size=12
    ),
    texts=st.lists(st.text("abc", max_size=14), min_size=1, max_size=8),
    whole_words=st.booleans(),
)
def test_any_merge_list_is_followed_or_declined(pairs, texts, whole_words):
    known, merges = set("abc"), []
    for left, right in pairs:
        if left in known and right in known:
            merges.append((left, right))
            known.add(left + right)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=with_merges(merges, ignore_merges=whole_words))
    encoder = FastEncoder.of(tokenizer)
    assert lists(encoder.encode_batch(texts)) == ids_of(tokenizer, texts)


def test_the_tiny_model_takes_the_short_cut(tiny_tokenizer):
    encoder = FastEncoder.of(tiny_tokenizer)
    assert (encoder.path, encoder.reason) == ("tiktoken", "")
    assert lists(encoder.encode_batch([ENGLISH])) == ids_of(tiny_tokenizer, [ENGLISH])


@pytest.fixture(scope="module")
def gpt2() -> tuple[FastEncoder, PreTrainedTokenizerFast]:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=COVERED["gpt2"]())
    return FastEncoder.of(tokenizer), tokenizer


def test_is_at_least_twice_as_fast_as_the_tokenizer(gpt2):
    encoder, tokenizer = gpt2
    texts = [ENGLISH[start : start + 3000] for start in range(0, len(ENGLISH), 3000)]

    def seconds_taken(encode) -> float:
        start = time.process_time()
        encode(texts)
        return time.process_time() - start

    ours = min(seconds_taken(encoder.encode_batch) for _ in range(5))
    its_own = min(seconds_taken(lambda batch: ids_of(tokenizer, batch)) for _ in range(5))
    assert ours < its_own / 2


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["word ", "中文没有空格", "a", "\t'", "x\n" + " " * 300])
def test_fifty_megabytes_in_one_text_take_the_short_cut(gpt2, unit):
    encoder, _ = gpt2
    fast, start = encoder.num_fast, time.process_time()
    encoder.encode_batch([unit * (50_000_000 // len(unit.encode()))])
    assert encoder.num_fast == fast + 1
    assert time.process_time() - start < 120


def test_a_run_of_blanks_that_would_overflow_goes_to_the_tokenizer(gpt2):
    encoder, tokenizer = gpt2
    text, slow = "a" + " " * 1_000_000 + "b", encoder.num_slow
    assert lists(encoder.encode_batch([text])) == ids_of(tokenizer, [text])
    assert encoder.num_slow == slow + 1
