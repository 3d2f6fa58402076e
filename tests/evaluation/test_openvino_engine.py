"""An exported folder answers as the transformers folder that it was made of."""

import pytest
from tests.small_models import exported

from heliostat.evaluation.local_model import LocalModel
from heliostat.evaluation.requests import Choose, Continue, Read

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def models(tiny_model_folder, tmp_path_factory):
    folder = exported(tiny_model_folder, tmp_path_factory.mktemp("exported"))
    return LocalModel(tiny_model_folder), LocalModel(folder)


def test_likelihoods_are_the_same(models):
    requests = [Choose(f"What does {at * 'str '}do?", (" It", " the path is")) for at in (1, 5)]
    theirs, ours = (model.answer(list(requests)) for model in models)
    for one, other in zip(theirs, ours, strict=True):
        assert one["log_likelihoods"] == pytest.approx(other["log_likelihoods"], abs=1e-3)
        assert one["greedy"] == other["greedy"]
    theirs, ours = (model.answer([Read("Return a copy of the string. " * 9, 32)]) for model in models)
    assert theirs[0]["loss"] == pytest.approx(ours[0]["loss"], rel=1e-4)
    assert theirs[0]["tokens"] == ours[0]["tokens"]


def test_greedy_text_is_the_same(models):
    requests = [Continue(f"What does {at * 'str '}do?", ("zzz",), 16) for at in (1, 5)]
    theirs, ours = (model.answer(list(requests)) for model in models)
    assert [one["text"] for one in theirs] == [one["text"] for one in ours]
    assert [one["tokens"] for one in theirs] == [one["tokens"] for one in ours]
    assert all(0 < one["first_token_seconds"] <= one["seconds"] for one in ours)
