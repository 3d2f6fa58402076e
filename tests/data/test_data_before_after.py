"""Quality before and after cleaning: from the published files, document by document."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.in_process import in_order, write_jsonl

from heliostat.data.artifacts import fill_dataset
from heliostat.data.before_after import character_counts
from heliostat.data.config import DataConfig
from heliostat.data.documents import Document
from heliostat.data.references import check_references, fingerprint_references
from heliostat.data.shards import table_of
from heliostat.data.tasks import StepModels
from heliostat.errors import ConfigError
from heliostat.storage import Storage

SENTENCE = "the mirrors of the field follow the sun and throw its light onto one tower where salt melts. "
content = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8)
turns = st.lists(content.map(lambda text: {"role": "user", "content": text}), max_size=3).map(tuple)


def figures_of(tmp_path, rows, **values) -> dict[str, dict]:
    source = {"kind": "jsonl", "path": str(write_jsonl(tmp_path / "rows.jsonl", rows)), "domain": "d"}
    config = DataConfig.model_validate(
        {"sources": [source], "split": {"train": 1, "validation": 0, "test": 0}} | values
    )
    (tmp_path / "out").mkdir()
    facts = fill_dataset(config, StepModels(), tmp_path / "out", Storage.at(tmp_path / "scratch"), in_order)
    return {row["figure"]: row for row in facts["quality"]}


@given(st.lists(st.tuples(content, turns, turns), max_size=5))
def test_characters_are_those_of_all_contents(given_documents):
    documents = [
        Document("u", "s", 1, "d", text, messages, rejected if messages else ())
        for text, messages, rejected in given_documents
    ]
    expected = [sum(map(len, document.contents)) for document in documents]
    assert character_counts(table_of(documents)).tolist() == expected


def test_lengths_and_noise_before_and_after(tmp_path):
    rows = [{"text": "a" * 100}, {"text": "b" * 100}, {"text": "badword " + "c" * 292}, "{broken"]
    steps = [{"kind": "blocklist", "words": ["badword"]}]
    found = figures_of(tmp_path, rows, steps=steps)
    assert found["noise"]["before"] == pytest.approx(1 / 3)
    assert found["noise"]["after"] == 0
    assert (found["noise"]["bound"], found["noise"]["target"], found["noise"]["met"]) == (
        "at most",
        0.003,
        True,
    )
    lengths = [100, 100, 300]
    mean = sum(lengths) / 3
    deviation = math.sqrt(sum((length - mean) ** 2 for length in lengths) / 3) / mean
    assert found["length_deviation"]["before"] == pytest.approx(deviation)
    assert (found["length_deviation"]["after"], found["length_deviation"]["met"]) == (0, True)
    assert set(found) == {"length_deviation", "noise"}


def test_what_no_step_looked_for_is_not_claimed(tmp_path):
    assert set(figures_of(tmp_path, [{"text": "a"}, {"text": "bb"}])) == {"length_deviation"}


def test_the_coverage_of_the_domains_terms(tmp_path):
    terms = tmp_path / "terms.txt"
    terms.write_text("Mirror\nsolar tower\ntower\n熔盐\n\n", encoding="utf-8")
    rows = [{"text": "One mirror and a SOLAR\n tower."}, {"text": "mirrors; 热的熔盐"}, {"text": "熔盐 x"}]
    steps = [{"kind": "length", "max_characters": 11, "min_characters": 1}]
    found = figures_of(tmp_path, rows, steps=steps, domain_terms=str(terms))
    assert found["coverage"]["before"] == 1
    assert found["coverage"]["after"] == 0.25
    assert found["coverage"]["met"] is False


def test_topics_and_perplexity_before_and_after(tmp_path):
    reference = write_jsonl(
        tmp_path / "reference.jsonl", [{"text": SENTENCE * (1 + n % 7)} for n in range(60)]
    )
    rows = [{"text": SENTENCE * 3}] * 3 + [
        {"text": "quarterly earnings rose sharply amid inflation fears " * 5}
    ]
    model = {"kind": "ngram", "reference": str(reference)}
    steps = [{"kind": "perplexity", "model": model, "max_perplexity": 100}]
    found = figures_of(tmp_path, rows, steps=steps)
    perplexity = found["median_perplexity"]
    assert 1 <= perplexity["after"] <= perplexity["before"] < 100
    assert found["noise"]["before"] == 0.25


def test_how_far_annotators_agree(tmp_path):
    rows = [{"text": f"row {n}", "labels": ["a", "a"]} for n in range(4)]
    rows += [{"text": f"other {n}", "labels": ["b", "b"]} for n in range(3)] + [
        {"text": "x", "labels": ["a", "b"]}
    ]
    source = {"kind": "jsonl", "path": str(tmp_path / "rows.jsonl"), "keep_columns": ["labels"]}
    steps = [{"kind": "label_agreement", "min_agreement": 0.8}]
    found = figures_of(tmp_path, rows, sources=[source], steps=steps)
    assert found["cohen_kappa"]["before"] < found["cohen_kappa"]["after"] == 1
    assert found["krippendorff_alpha"]["after"] == 1


def test_terms_that_are_not_there_are_refused_before_work(tmp_path):
    source = {"kind": "jsonl", "path": str(write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}]))}
    config = DataConfig.model_validate({"sources": [source], "domain_terms": str(tmp_path / "no.txt")})
    with pytest.raises(ConfigError, match=r"domain_terms: .*no\.txt: no such file"):
        check_references(config.cleaning)
    (tmp_path / "no.txt").write_text("sun\n")
    first = fingerprint_references(config.cleaning)
    (tmp_path / "no.txt").write_text("sun\nmirror\n")
    assert fingerprint_references(config.cleaning) != first
