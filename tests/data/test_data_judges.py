"""Steps that ask a model: what it says of a text alone counts, and one that is not there is one line."""

import math

import numpy as np
import pytest
from tests.data.in_process import in_order, write_jsonl

from heliostat.data.config import DataConfig
from heliostat.data.references import check_references
from heliostat.data.run import prepare_data
from heliostat.errors import ModelError
from heliostat.models.embedding import load_embedder
from heliostat.models.text_scoring import load_text_scorer

ROWS = [{"text": "light mirror " * (1 + n % 5) + str(n)} for n in range(20)]
ROWS += [{"text": "光 光 光 光"}, {"text": "光 光"}]


@pytest.fixture
def rows(tmp_path):
    return write_jsonl(tmp_path / "rows.jsonl", ROWS)


def config(rows, step) -> DataConfig:
    split = {"train": 1, "validation": 0, "test": 0}
    return DataConfig.model_validate({"sources": [str(rows)], "steps": [step], "split": split})


@pytest.mark.ray
def test_documents_that_point_elsewhere_than_the_reference_go(
    ray_cluster, rows, tmp_path, tiny_encoder, workspace
):
    taught = [{"text": "light mirror"}, {"text": "mirror light light"}]
    reference = write_jsonl(tmp_path / "reference.jsonl", taught)
    vectors = load_embedder(tiny_encoder)([each["text"] for each in taught + ROWS])
    centroid = vectors[:2].mean(axis=0) / np.linalg.norm(vectors[:2].mean(axis=0))
    cosines = vectors[2:] @ centroid
    step = {"kind": "embedding_topic", "reference": str(reference), "embedder": str(tiny_encoder)}
    step |= {"scale": "cosine", "min_similarity": float(cosines[:20].min() + cosines[20:].max()) / 2}
    made = prepare_data(config(rows, step), None, workspace)
    assert made.facts["dropped"] == {"off_topic": 2}
    figures = {row["figure"]: row for row in made.facts["quality"]}
    assert figures["topic_consistency"]["before"] == pytest.approx(20 / 22)
    assert figures["topic_consistency"]["after"] == 1
    assert set(made.facts["found"]["scores"]) == {"embedding_topic"}


def test_a_language_model_scores_each_text_on_its_own(rows, workspace, tiny_model_folder, monkeypatch):
    monkeypatch.setattr("heliostat.data.run._runner", lambda config, run: in_order)
    model = {"kind": "model", "reference": str(tiny_model_folder), "max_tokens": 16}
    step = {"kind": "perplexity", "model": model, "max_perplexity": None}
    measured = prepare_data(config(rows, step), None, workspace)
    assert measured.facts["dropped"] == {}
    median = measured.facts["found"]["scores"]["perplexity"]["p50"]
    assert 100 < median < 2000  # a model of 600 tokens that learned nothing
    limited = prepare_data(config(rows, step | {"max_perplexity": median}), None, workspace)
    assert set(limited.facts["dropped"]) == {"high_perplexity"}


def test_the_perplexity_is_exp_of_the_mean_loss_whatever_stands_beside(tiny_model_folder, tiny_tokenizer):
    import torch
    from transformers import AutoModelForCausalLM

    score = load_text_scorer(tiny_model_folder, 12)
    text = "The mirrors of the field follow the sun."
    ids = torch.tensor([tiny_tokenizer(text, add_special_tokens=False)["input_ids"][:12]])
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder).eval()
    with torch.inference_mode():
        expected = math.exp(model(input_ids=ids, labels=ids).loss)
    assert score([text]) == pytest.approx([expected], rel=1e-4)
    texts = [text, "light mirror light", "光 光", "light " * 1000, "\ud800 lone"]
    assert [score([each])[0] for each in texts] == score(texts)
    assert math.isnan(score([""])[0])


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"kind": "embedding_topic", "embedder": "pypi:no-such"}, "no known embedder"),
        ({"kind": "embedding_topic", "embedder": "/no/such"}, "/no/such"),
        ({"kind": "perplexity", "model": {"kind": "model", "reference": "pypi:llm-smollm"}}, "did you mean"),
        ({"kind": "perplexity", "model": {"kind": "model", "reference": "/no/such"}}, "/no/such"),
    ],
)
def test_a_model_that_is_not_there_is_refused_before_work(rows, step, message):
    if step["kind"] == "embedding_topic":
        step = step | {"reference": str(rows)}
    with pytest.raises(ModelError, match=message) as refused:
        check_references(config(rows, step).cleaning)
    assert "\n" not in str(refused.value)
