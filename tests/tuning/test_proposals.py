"""What is tried next: every point once, the same for the same seed, also after an interruption."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliostat.tuning.config import TuneConfig
from heliostat.tuning.proposals import Proposal, searcher_of

LIST = {"train.learning_rate": [0.1, 0.01, 0.001], "train.adapter.target_modules": [["q_proj"], ["v_proj"]]}
RANGES = {
    "train.learning_rate": {"kind": "log_uniform", "low": 1e-5, "high": 1e-2},
    "train.weight_decay": {"kind": "uniform", "low": 0.0, "high": 0.1},
    "train.adapter.r": {"kind": "integer", "low": 4, "high": 64, "step": 4},
    "train.adapter.target_modules": [["q_proj"], ["q_proj", "v_proj"]],
}


def points(config, results=lambda point: None):
    proposer = searcher_of(config)
    found = []
    while (proposal := proposer.propose(len(found))) is not None:
        proposer.tell(len(found), results(proposal.point))
        found.append(proposal.point)
    return found


def config(space, **searcher):
    return TuneConfig.model_validate({"search_space": space, "searcher": searcher})


@given(st.integers(0, 1000))
def test_a_grid_has_every_combination_once(seed):
    found = points(config(LIST, kind="grid", seed=seed))
    assert sorted(map(json.dumps, found)) == sorted(
        json.dumps({"train.learning_rate": rate, "train.adapter.target_modules": names})
        for rate in LIST["train.learning_rate"]
        for names in LIST["train.adapter.target_modules"]
    )


@pytest.mark.parametrize("kind", ["random", "tpe"])
def test_points_lie_in_their_ranges_and_are_the_same_for_the_same_seed(kind):
    def result(point):
        return point["train.learning_rate"] + point["train.weight_decay"]

    settings = config(RANGES, kind=kind, num_trials=12, seed=3)
    found = points(settings, result)
    assert len(found) == 12
    assert found == points(settings, result)
    for point in found:
        assert 1e-5 <= point["train.learning_rate"] <= 1e-2
        assert 0 <= point["train.weight_decay"] <= 0.1
        assert point["train.adapter.r"] in range(4, 65, 4)
        assert point["train.adapter.target_modules"] in (["q_proj"], ["q_proj", "v_proj"])


def test_random_draws_no_point_twice_and_ends_when_there_are_no_others():
    found = points(config({"train.adapter.r": [1, 2, 3]}, kind="random", num_trials=10))
    assert sorted(point["train.adapter.r"] for point in found) == [1, 2, 3]


def test_tpe_goes_where_good_trials_were():
    space = {"train.learning_rate": {"kind": "log_uniform", "low": 1e-6, "high": 1.0}}
    settings = config(space, kind="tpe", num_trials=60, num_startup_trials=12)

    def result(point):
        import math

        return abs(math.log10(point["train.learning_rate"]) + 3)

    found = [result(point) for point in points(settings, result)]
    assert sum(found[-20:]) / 20 < sum(found[:12]) / 12 / 2


@pytest.mark.parametrize("kind", ["grid", "random", "tpe"])
def test_a_sweep_that_goes_on_tries_what_it_would_have_tried(kind):
    space = LIST if kind == "grid" else RANGES
    searcher = {"kind": kind} if kind == "grid" else {"kind": kind, "num_trials": 6, "seed": 5}
    settings = config(space, **searcher)

    def result(point):
        return point["train.learning_rate"]

    whole = points(settings, result)
    proposer = searcher_of(settings)
    for number, point in enumerate(whole[:3]):
        proposer.take(number, Proposal(json.loads(json.dumps(point))))  # as the record of trials has it
        proposer.tell(number, result(point))
    rest = []
    for number in range(3, len(whole)):
        rest.append(proposer.propose(number).point)
        proposer.tell(number, result(rest[-1]))
    assert rest == whole[3:]
