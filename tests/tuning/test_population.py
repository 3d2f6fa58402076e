"""Who goes on from whom in population based training."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliostat.errors import ConfigError
from heliostat.training.config import LoraAdapter, TrainConfig
from heliostat.tuning.config import TuneConfig
from heliostat.tuning.population import proposer_of
from heliostat.tuning.settings import Settings, Space
from heliostat.tuning.trials import Trials, changes_on

RATES = {"train.learning_rate": {"kind": "log_uniform", "low": 1e-5, "high": 1e-1}}
STEPS = 40


def config(space=RATES, members=8, **changes):
    values = {
        "search_space": space,
        "searcher": {"kind": "random", "num_trials": members},
        "scheduler": {"kind": "pbt", "every_steps": 10},
    }
    return TuneConfig.model_validate(values | changes)


def bred(tune, result, steps=STEPS):
    """All proposals, each told its result once all of its generation are there."""
    proposer, found = proposer_of(tune, steps), []
    while True:
        while proposer.is_ready(len(found)):
            proposal = proposer.propose(len(found))
            if proposal is None:
                return found
            found.append(proposal)
        known = [number for number, each in enumerate(found) if each.piece.until == found[-1].piece.until]
        for number in reversed(known):
            proposer.tell(number, result(number, found[number]))


def off(number, proposal):
    return abs(math.log10(proposal.point["train.learning_rate"]) + 3)


@given(st.integers(1, 9), st.integers(0, 50), st.floats(0.1, 0.5))
def test_each_member_makes_every_piece_and_nobody_makes_the_same_twice(members, seed, quantile):
    searcher = {"kind": "random", "num_trials": members, "seed": seed}
    scheduler = {"kind": "pbt", "every_steps": 15, "quantile": quantile}
    found = bred(config(searcher=searcher, scheduler=scheduler), off)
    assert [each.piece.until for each in found] == [15] * members + [30] * members + [40] * members
    assert len({(each.piece.after, str(each.point)) for each in found}) == 3 * members
    for number, each in enumerate(found[members:], members):
        former = found[each.piece.after]
        assert former.piece.until == each.piece.start
        if each.piece.after != number - members:
            assert each.point != former.point
            assert off(each.piece.after, former) < off(number - members, found[number - members])
    assert found == bred(config(searcher=searcher, scheduler=scheduler), off)


def test_the_worst_quarter_goes_on_from_the_best_quarter_with_values_near_theirs():
    found = bred(config(scheduler={"kind": "pbt", "every_steps": 20, "resample_probability": 0}), off)
    ranked = sorted(range(8), key=lambda number: off(number, found[number]))
    for number, each in enumerate(found[8:]):
        if number in ranked[-2:]:
            assert each.piece.after in ranked[:2]
            ratio = each.point["train.learning_rate"] / found[each.piece.after].point["train.learning_rate"]
            assert ratio == pytest.approx(1.25) or ratio == pytest.approx(0.8)
        else:
            assert each.piece.after == number
            assert each.point == found[number].point


def test_a_population_comes_nearer_than_its_beginning():
    found = bred(config(), off, steps=200)
    assert min(off(0, each) for each in found[-8:]) < min(off(0, each) for each in found[:8])


def test_who_fails_goes_on_from_another_and_when_all_fail_nobody_does():
    found = bred(config(members=4), lambda number, each: None if number in (0, 1) else off(number, each))
    assert {each.piece.after for each in found[4:8]} <= {2, 3}
    assert len(found) == 16
    assert len(bred(config(members=4), lambda number, each: None)) == 4


@pytest.mark.parametrize("rates", [["1e-4", "3e-4", 1e-3], [0, 1, 2]])
def test_values_of_a_list_are_numbers_however_they_are_written(rates):
    space = {"train.weight_decay": rates}
    found = bred(
        config(space, searcher={"kind": "grid"}), lambda number, each: each.point["train.weight_decay"]
    )
    assert {each.point["train.weight_decay"] for each in found} == set(map(float, rates))
    assert len({(each.piece.after, str(each.point)) for each in found}) == len(found)


def test_a_value_that_is_written_twice_is_one_member():
    twice = config({"train.learning_rate": ["1e-1", 0.1, 0.2]}, searcher={"kind": "grid"})
    assert len(bred(twice, lambda number, each: 1.0)) == 2 * 4


def test_a_run_of_pieces_is_said_as_changes_and_trains_the_same_in_one_go(tmp_path, workspace):
    tune = config(scheduler={"kind": "pbt", "every_steps": 10, "resample_probability": 0})
    space = Space(tune, _start(max_steps=STEPS))
    trials = Trials(workspace.storage, "trials")
    found = bred(tune, off)
    for number, each in enumerate(found):
        trials.begin(number, each)
    moved = next(n for n, each in enumerate(found[8:16], 8) if each.piece.after != n - 8)
    path = trials.path_to(trials.get(moved))
    assert [trial.number for trial in path] == [found[moved].piece.after, moved]
    train = space.settings_of(trials.get(moved), trials).train
    assert train.learning_rate == path[0].point["train.learning_rate"]
    assert [change.after_step for change in train.changes] == [10]
    assert train.changes[0].learning_rate == path[1].point["train.learning_rate"]
    assert train.checkpoint.every_steps == 10
    assert changes_on(trials.path_to(trials.get(0))) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"space": {"train.adapter.r": [4, 8]}}, "'train.adapter.r' cannot change while a run goes on"),
        ({"searcher": {"kind": "tpe", "num_trials": 4}}, "take searcher: {kind: random, num_trials: 4}"),
        ({"held_out": {"every_steps": 3}}, "held_out.every_steps: 3 does not divide"),
        ({"space": {"train.learning_rate": [0.1, "much"]}}, "'train.learning_rate': 'much' is no number"),
    ],
)
def test_what_a_population_cannot_do_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        config(**changes)


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({}, "train.max_steps: scheduler pbt .* needs to know their end; give it"),
        ({"max_steps": 8}, "every_steps: 10 is no piece of a run of 8 steps; the nearest is 2"),
        (
            {"max_steps": 40, "changes": [{"after_step": 3, "learning_rate": 0.1}]},
            "train.changes: scheduler pbt finds them itself",
        ),
    ],
)
def test_a_run_that_cannot_be_made_in_pieces_is_refused(train, said):
    with pytest.raises(ConfigError, match=said):
        Space(config(), _start(**train)).check()


def _start(**train):
    return Settings(train=TrainConfig(adapter=LoraAdapter(r=4), **train), model="tiny")
