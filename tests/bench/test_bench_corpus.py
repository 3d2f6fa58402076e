"""The truth of the benchmark's corpus is true, and what is planted is what it is called."""

import random
from collections import Counter
from itertools import combinations, islice

import numpy as np
import pytest
from tests.bench import corpus_contents
from tests.bench.corpus import Corpus, build_corpus, shuffled_copy
from tests.bench.corpus_contents import MAXIMUM_FOREIGN
from tests.bench.overlap import foreign_shares, jaccard, largest_jaccard, shingles_of, text_jaccard, words_of
from tests.bench.permuted import permuted_copies
from tests.bench.planted import near_duplicate, with_personal_data
from tests.bench.templates import KINDS
from tests.bench.text_sources import BaseText, find_parts

pytestmark = pytest.mark.slow

TEXT = "\n\n".join(
    f"Paragraph {number} tells of mirror {number * 7}, following the sun over field {number * 3} all day. "
    f"At noon {number * 11} of its motors rest; in the evening they turn back to position {number * 13}."
    for number in range(12)
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    return build_corpus(0.01, say=lambda _: None, cache=tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def texts(corpus) -> dict[str, str]:
    return {row["id"]: row["text"] for row in corpus.rows()}


def of_kind(corpus: Corpus, *kinds: str) -> list[dict]:
    return [row for row in corpus.truth() if row["kind"] in kinds]


def test_the_shares_are_those_asked_for(corpus):
    found = Counter("templated" if row["kind"] in KINDS else row["kind"] for row in corpus.truth())
    assert found.total() >= 500
    assert {kind: found[kind] for kind in ("exact", "near", "templated", "short", "empty")} == {
        "exact": 50,
        "near": 50,
        "templated": 10,
        "short": 5,
        "empty": 2,
    }


def test_the_truth_says_where_each_document_lies(corpus, texts):
    rows = {shard.name: shard.read_text(encoding="utf-8").splitlines() for shard in corpus.shards}
    for row in corpus.truth():
        assert f'"id": "{row["id"]}"' in rows[row["shard"]][row["row"] - 1]
    assert sum(map(len, rows.values())) == len(texts)


def test_exact_copies_are_equal_to_their_originals_and_nothing_else_is_equal(corpus, texts):
    families = {row["id"]: row["family"] for row in corpus.truth() if row["kind"] not in ("near", "empty")}
    by_text: dict[str, set[str]] = {}
    for name, family in families.items():
        by_text.setdefault(texts[name], set()).add(family)
    assert all(len(those) == 1 for those in by_text.values())
    for row in of_kind(corpus, "exact"):
        assert texts[row["id"]] == texts[row["family"]]


def test_near_duplicates_are_as_similar_as_the_truth_says(corpus, texts):
    for row in of_kind(corpus, "near"):
        assert 0.5 <= row["jaccard"] <= 0.95
        assert text_jaccard(texts[row["id"]], texts[row["family"]]) == row["jaccard"]


def test_no_two_other_documents_are_alike(corpus, texts):
    """All pairs one by one, by sets of words and not by the hashes of the proof."""
    sets = {
        row["id"]: five_grams(texts[row["id"]])
        for row in of_kind(corpus, "base")[::3] + of_kind(corpus, *KINDS, "short")
    }
    kinds = {row["id"]: row["kind"] for row in corpus.truth()}
    for (one, first), (other, second) in combinations(sets.items(), 2):
        if first and second and not (kinds[one] == kinds[other] and kinds[one] in KINDS):
            shared = len(first & second)
            limit = corpus.summary["unrelated_jaccard_at_most"]
            assert shared <= limit * (len(first) + len(second) - shared)
    assert corpus.summary["unrelated_jaccard_at_most"] < 0.45


def five_grams(text: str) -> set[tuple[str, ...]]:
    words = words_of(text)
    return set(zip(*(words[start:] for start in range(5)), strict=False))


def test_short_documents_have_one_to_four_words_and_empty_ones_nothing(corpus, texts):
    assert all(1 <= len(texts[row["id"]].split()) <= 4 for row in of_kind(corpus, "short"))
    assert all(texts[row["id"]] == "" for row in of_kind(corpus, "empty"))


def test_personal_data_lies_where_the_truth_says(corpus, texts):
    spans = [(row["id"], span) for row in corpus.truth() for span in row["pii"]]
    assert {span["kind"] for _, span in spans} == {"email", "ipv4", "phone", "credit_card"}
    for name, span in spans:
        assert texts[name][span["start"] : span["end"]] == span["value"]


def test_a_shuffled_copy_has_the_same_documents_in_other_places(corpus, texts):
    shuffled = shuffled_copy(corpus)
    assert {row["id"]: row["text"] for row in shuffled.rows()} == texts
    assert [row["id"] for row in shuffled.rows()] != list(texts)
    places = {(row["shard"], row["row"]): row["id"] for row in shuffled.truth()}
    for shard in shuffled.shards:
        for number, line in enumerate(shard.read_text(encoding="utf-8").splitlines(), 1):
            assert f'"id": "{places[shard.name, number]}"' in line


@pytest.mark.heavy
def test_the_same_seed_builds_the_same_corpus(corpus, texts, tmp_path):
    again = build_corpus(0.01, say=lambda _: None, cache=tmp_path)
    assert list(again.rows()) == list(corpus.rows())
    assert again.truth() == corpus.truth()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_documents_of_a_template_share_less_than_near_duplicates_that_must_be_found(kind):
    chance = random.Random(1)
    shingles = [shingles_of(KINDS[kind](chance)) for _ in range(100)]
    assert 0.4 < largest_jaccard(shingles) < 0.65


def test_jaccard_counts_distinct_five_grams():
    assert text_jaccard("a b c d e", "A, b; c. D! e?") == 1
    assert text_jaccard("a b c d e f", "a b c d e g") == 1 / 3
    assert text_jaccard("1 2 3 4 5", "1 2 3 4 6") == 0
    assert text_jaccard("a b c d", "a b c d") == 0, "too short to have any"
    assert len(shingles_of("a b c d e a b c d e")) == 5


def test_foreign_shares_count_what_stands_in_an_earlier_family():
    shingles = [np.array(values, np.uint64) for values in ([1, 2, 3, 4], [3, 4, 5], [1, 2, 3, 4], [9])]
    assert foreign_shares(shingles, np.array([0, 1, 0, 2])).tolist() == [0, 2 / 3, 0, 0]
    seen = np.array([2, 9], np.uint64)
    assert foreign_shares(shingles, np.array([0, 1, 0, 2]), seen).tolist() == [0.25, 2 / 3, 0.25, 1]
    assert jaccard(shingles[0], shingles[1]) == 2 / 5
    assert largest_jaccard(shingles) == 1
    assert largest_jaccard(shingles[:2]) == pytest.approx(2 / 5)


@pytest.mark.parametrize("target", [0.52, 0.7, 0.93])
def test_a_near_duplicate_comes_close_to_the_similarity_asked_for(target):
    found = near_duplicate(TEXT, ["sun", "mirror", "tower"], random.Random(3), target)
    assert found is not None
    assert found.jaccard == pytest.approx(target, abs=0.05)
    assert found.jaccard == text_jaccard(TEXT, found.text)


def test_a_text_too_short_for_the_range_gives_no_near_duplicate():
    assert near_duplicate("one two three four five", ["six"], random.Random(0), 0.9) is None


def test_planted_personal_data_is_found_at_its_span():
    text, spans = with_personal_data(TEXT, random.Random(5))
    assert 1 <= len(spans) <= 3
    assert all(text[span.start : span.end] == span.value for span in spans)
    assert TEXT.split("\n\n")[0] in text


@pytest.mark.parametrize("group", ["docstrings", "source code"])
def test_too_little_text_is_made_up_for_by_permuted_copies(group, monkeypatch, tmp_path):
    some = list(islice((part for part in find_parts(0) if part.group == group), 60))
    monkeypatch.setattr(corpus_contents, "find_parts", lambda seed: some)
    corpus = build_corpus(0.01, say=lambda _: None, cache=tmp_path)
    assert corpus.summary["with_permuted_words"] > 50
    assert corpus.summary["documents"] >= 500
    assert corpus.summary["unrelated_jaccard_at_most"] < 0.45


def test_permuted_copies_are_as_long_as_real_text_and_share_nothing_with_it():
    words = [f"{chr(97 + n // 26 % 26)}{chr(97 + n % 26)}{chr(97 + n // 676)}fold" for n in range(2000)]
    chance = random.Random(0)
    documents = [BaseText(" ".join(chance.choices(words, k=300)), "made up") for _ in range(20)]
    copies = permuted_copies(documents, seed=0)
    for document in documents:
        copy = next(copies).text
        assert len(copy) == len(document.text)
        assert text_jaccard(copy, document.text) < MAXIMUM_FOREIGN
